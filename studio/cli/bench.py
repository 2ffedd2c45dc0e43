"""Commands that measure what measures: how well a likeness engine tells subjects apart, on anybody's pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.text import Text

from studio.cli.common import Json, require_folder, stop_on_interrupt
from studio.cli.foreign import foreign_output_apart
from studio.cli.output import open_output
from studio.cli.shown import Raw, likeness_text, mean_text
from studio.cli.tables import new_table
from studio.core.config import CheckConfig
from studio.core.errors import InputError, Problem
from studio.core.language import say
from studio.core.names import all_of, choice_cure
from studio.core.settings import load_settings
from studio.core.strict import LikenessName
from studio.service import Studio

bench = typer.Typer(help="Measure what measures, on pictures of your own.", no_args_is_help=True)


@bench.command("likeness")
def bench_likeness(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with one folder of pictures for each person, pet or thing.")
    ],
    engine: Annotated[str, typer.Option(help="Likeness engine; auto chooses one that suits the pictures.")] = "auto",
    class_noun: Annotated[str, typer.Option(help="What the subjects are; chooses the scale.")] = "person",
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Measure a likeness engine: floor, ceiling, look-alikes, spread, and whether it scores unreadable faces."""
    source, config = all_of(
        lambda: require_folder(folder, "subjects"),
        lambda: _noun(class_noun),
        lambda: _require_engine(engine),
    )[:2]
    here = load_settings()
    output = open_output(as_json)
    with stop_on_interrupt(output) as should_stop, foreign_output_apart(output, here.home), output:
        result = Studio(here).bench_likeness(
            source, engine, config.class_noun, on_event=output.event, should_stop=should_stop
        )
    output.result(result, _show(result))


def _noun(class_noun: str) -> CheckConfig:
    if not class_noun.strip():  # a photo check may guess it; a scale must be named
        cure = "say what the subjects are, for example woman or dog"
        raise InputError.of([Problem("class_noun", "is empty", cure, "no_class_noun")])
    return CheckConfig.parse({"class_noun": class_noun})


def _require_engine(name: str) -> None:
    engines = [known for known in get_args(LikenessName) if known != "none"]
    if name not in engines:
        problem = Problem("--engine", f"{name!r} is not there", choice_cure(name, engines), "unknown_name")
        raise InputError.of([problem])


def _show(result: Any) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        table = new_table("subject", "n", "ceiling", "floor", "nearest other", "beats it", "mosaic", "blur")
        for row in (*result.subjects, result.total):
            nearest = "-" if row.nearest is None else f"{likeness_text(row.nearest_likeness)} {row.nearest}"
            table.add_row(
                Text(row.name),
                f"{row.measured}/{row.pictures}",
                mean_text(row.ceiling, row.spread),
                likeness_text(row.floor),
                Text(nearest),
                _share(row.beats_nearest),
                _share(row.mosaic.not_measured),
                _share(row.blur.not_measured),
                style="bold" if row is result.total else None,
            )
        console.print(table)
        told = say("Engine {engine}, version {version}, scale of a {noun}.")
        console.print(told.format(engine=result.engine, version=result.version, noun=say(result.class_noun)))
        console.print(
            say(
                "n: pictures measured, of all. Ceiling: a picture against the others of its subject. Floor: pictures "
                "of others. Beats it: pairs in which the subject's picture scores above the nearest other's. Mosaic, "
                "blur: faces made unreadable that are rightly not measured."
            )
        )
        for how in ("mosaic", "blur"):
            spoilt = getattr(result.total, how)
            if spoilt.likeness is not None:
                told = say("Careful: the faces spoilt by {how} that it measures all the same score {likeness}")
                likeness = likeness_text(spoilt.likeness)
                console.print(told.format(how=say(how), likeness=likeness), style="yellow")
        if result.measured_other is not None and result.measured_same is not None:
            told = say(
                "Cosines here: other {other:.3f}, same {same:.3f}; the engine's scale: {scale_other:.3f}, "
                "{scale_same:.3f}."
            )
            measured = {"other": result.measured_other, "same": result.measured_same}
            console.print(told.format(**measured, scale_other=result.scale_other, scale_same=result.scale_same))

        if result.caveat:
            console.print(say(result.caveat), style="dim")

    return show


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
