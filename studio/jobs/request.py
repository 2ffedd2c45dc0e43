"""A request before it becomes a job: what it is about, and how it is told from another one with the same key."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import JobFacts, JobKind, JobView
from studio.core.errors import ConflictError, InputError, Problem
from studio.core.files import sync_folder, write_json
from studio.core.finish_config import FinishConfig
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.jobs import intake
from studio.jobs.child import PHOTOS_FOLDER, REQUEST_FILE


def facts_of(config: StrictModel, source: JobFacts | None = None, *, preset: str | None = None) -> JobFacts:
    """Return the facts of a request.

    Args:
        config: its settings, of any verb.
        source: facts of the job whose output it reads.
        preset: name of the preset that the settings of a training come from.
    """
    known = source or JobFacts()
    about = JobFacts(subject=known.subject, class_noun=known.class_noun, base=known.base)
    match config:
        case CheckConfig():
            return replace(about, subject=config.subject, class_noun=config.class_noun or None)
        case TrainConfig():
            subject, class_noun = config.subject or about.subject, config.class_noun or about.class_noun
            return JobFacts(subject=subject, class_noun=class_noun, base=config.base, preset=preset)
        case GenerateConfig():
            prompt = config.prompts[0] if config.prompts else None
            return replace(about, adapter=config.adapter, pack=config.pack, prompt=prompt)
        case ExportConfig():
            return replace(about, format=config.format)
        case FinishConfig():
            return replace(about, chain=config.chain, steps=tuple(step.do for step in config.steps))
        case PublishConfig():
            return replace(about, repo=config.repo)
    return about


def known_facts(source: JobView) -> JobFacts:
    """Return the facts of a job; of a check that nobody told the class noun, the one that it has guessed since."""
    if source.kind == "check" and not source.facts.class_noun and source.result:
        return replace(source.facts, class_noun=source.result.get("class_noun"))
    return source.facts


def fingerprint(kind: str, config: StrictModel, source: str | None, files: Sequence[Sequence[str]]) -> str:
    """Return the hash of a whole request; ``files`` holds the name and the SHA-256 of each upload, in order.

    Of the settings those count that differ from their defaults: one that a later version adds changes no request.
    """
    return _hash([kind, config.model_dump(mode="json", exclude_defaults=True), source, [list(file) for file in files]])


def fingerprints(kind: str, config: StrictModel, source: str | None, files: Sequence[Sequence[str]]) -> frozenset[str]:
    """Return each hash that may be stored of a request: ``fingerprint``, and the one before it, of all settings."""
    earlier = _hash([kind, config.model_dump(mode="json"), source, [list(file) for file in files]])
    return frozenset({fingerprint(kind, config, source, files), earlier})


def _hash(request: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def write_request(
    job_dir: Path,
    kind: str,
    config: StrictModel,
    source: str | None,
    uploads: Sequence[intake.Upload],
    *,
    max_bytes: int,
    own_token: bool,
) -> str:
    """Make a job's folder, copy its uploads into it, and see request.json safely on the disk.

    Args:
        job_dir: the folder; the caller removes it after an error.
        kind: kind of the job.
        config: its settings.
        source: the job whose output it reads.
        uploads: files of the user.
        max_bytes: maximum size of one of them.
        own_token: the job must not use this machine's token for the Hub.

    Returns:
        The fingerprint of the request.

    Raises:
        InputError: an upload cannot be read. ResourceError: the disk is full.
    """
    with intake.disk_errors():
        job_dir.mkdir(mode=0o700)
    copied = intake.copy(uploads, job_dir / PHOTOS_FOLDER, max_bytes=max_bytes) if uploads else []
    request: dict[str, Any] = {"kind": kind, "config": config.model_dump(mode="json"), "source": source}
    if copied:  # what else holds one of these files is forgotten with the job
        request["uploads"] = [sha256 for _, sha256 in copied]
    if own_token:
        request["own_token"] = True
    with intake.disk_errors():
        write_json(job_dir / REQUEST_FILE, request)
        sync_folder(job_dir.parent)
    return fingerprint(kind, config, source, copied)


def require_kind(job: JobView, where: str, *wanted: JobKind) -> None:
    """Refuse a job that is of none of the kinds; the first one is the one to give.

    Raises:
        InputError: it is of another kind, ``where`` names the argument.
    """
    if job.kind not in wanted:
        raise InputError.of(
            [Problem(where, f"job {job.id} is a {job.kind} job", f"give a {wanted[0]} job", "wrong_kind")]
        )


def require_may_complete(source: JobView) -> None:
    """Raise ConflictError if a source has ended without a result: a job behind it would wait in vain."""
    if source.state in ("stalled", "cancelled"):
        raise ConflictError(f"job {source.id} is {source.state}; retry it first, then submit this again.")


def then_key(run: str) -> str:
    """Return the key of the job that publishes a run once it is trained."""
    return f"publish-{run}"


def require_names(*, owner: str, key: str | None) -> None:
    """Refuse an owner or a key that cannot be stored and shown.

    Raises:
        InputError: each that is not 1 to 200 printable characters.
    """
    problems = []
    for where, text in (("owner", owner), ("key", key)):
        if text is not None and not (0 < len(text) <= 200 and text.isprintable()):
            problems.append(Problem(where, "is not 1 to 200 printable characters", "choose another", "invalid_text"))
    if problems:
        raise InputError.of(problems)
