"""Settings that name paths on this machine. Jobs may come from anybody, so their settings must not."""

import re
from pathlib import Path

from studio.core.catalog import BASES
from studio.core.config import PublishConfig
from studio.core.errors import Problem
from studio.core.finish_config import HUB_FILE, BackgroundStep, FaceStep, FinishConfig, UpscaleStep
from studio.core.train_config import TrainConfig

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def paths_in_training(config: TrainConfig) -> list[Problem]:
    """Return a problem for each setting of a training that names a path on this machine.

    Only the machine's owner may do that: the files there may belong to somebody else.
    """
    problems = []
    cure = "give a base of the catalog, a Hub id (owner/name) or civitai:MODEL"
    by_name = config.base in BASES or config.base.startswith("civitai:") or _HUB_NAME.fullmatch(config.base)
    # owner/name may also be a folder below the server's working folder, which would win over the Hub.
    if not by_name or (config.base not in BASES and Path(config.base).exists()):
        problems.append(_path_of_this_machine("base", cure))
    if config.method.start_from is not None:
        problems.append(_path_of_this_machine("method.start_from", "leave it out"))
    return problems


def paths_in_publishing(config: PublishConfig) -> list[Problem]:
    """Return a problem if a publish job names a folder of pictures."""
    if config.pictures is None:
        return []
    return [_path_of_this_machine("pictures", "give a generate or finish job")]


def paths_in_finishing(config: FinishConfig) -> list[Problem]:
    """Return a problem for each finish step that names a file outside of the job's own folder."""
    problems = []
    for step in config.steps:
        given = {}
        if isinstance(step, UpscaleStep | FaceStep):
            given[f"{step.do}.model"] = (step.model, "give a known name, a file of the weights folder, or hf:…")
        elif isinstance(step, BackgroundStep) and step.picture:
            given["background.picture"] = (step.picture, "upload it with the pictures and give its name")
        for where, (text, cure) in given.items():
            on_hub = where.endswith(".model") and HUB_FILE.fullmatch(text)
            if not on_hub and (re.search(r"[/\\]", text) or text.startswith((".", "~"))):
                problems.append(Problem(where, "is a path", cure, "path"))
    return problems


def _path_of_this_machine(where: str, cure: str) -> Problem:
    return Problem(where, "is a path on this machine", cure, "path")
