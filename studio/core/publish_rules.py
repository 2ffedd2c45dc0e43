"""Reasons why a run cannot be published that are known before it is trained."""

from studio.core.catalog import BASES, published_licence
from studio.core.config import PublishConfig
from studio.core.errors import Problem
from studio.core.path_rules import paths_in_publishing
from studio.core.train_config import TrainConfig


def publishing_problems(config: TrainConfig, publish: PublishConfig, token: str | None = None) -> list[Problem]:
    """Return why a run with the settings ``config`` cannot be published as ``publish`` says; empty if it can.

    Args:
        config: settings of the run.
        publish: what is to be published.
        token: of the Hub; a text of the model card must not hold it.
    """
    problems = paths_in_publishing(publish)
    if problems:
        return problems
    if publish.form == "adapter" and config.method.name != "lora":
        message = f"method {config.method.name} does not train a LoRA, so there will be no adapter"
        problems.append(Problem("form", message, "publish with form merged", "no_format"))
    if publish.choose:
        cure = "leave it out, or publish once there are pictures"
        problems.append(Problem("choose", "names pictures, but there are none before the run", cure, "no_pictures"))
    for name, text in (("title", publish.title or ""), ("about", publish.about)):
        if token and token in text:
            problems.append(Problem(name, "contains your token", "remove it", "secret"))
    row = BASES.get(config.base)
    problems += published_licence(config.base, row.licence if row else "unknown", publish.licence)[1]
    return problems
