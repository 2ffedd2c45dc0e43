"""What all commands share: option types, how a verb is run and stopped, how settings are put together."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from studio import __version__
from studio.cli.foreign import VERBOSE, foreign_output_apart
from studio.cli.output import JsonLinesOutput, TerminalOutput
from studio.core import machine
from studio.core.adapters import INFO_NAME, read_info
from studio.core.config import CheckConfig, GenerateConfig, PublishConfig
from studio.core.domain import Event
from studio.core.errors import InputError, JobCancelled, NotFoundError, Problem
from studio.core.files import read_json, write_json
from studio.core.names import all_of, require_base
from studio.core.packs import require_kind
from studio.core.presets import TrainPreset, load_pack, load_preset, override, parse_assignments
from studio.core.progress import stopped
from studio.core.settings import Settings
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.service import Studio

app = typer.Typer(
    name="studio",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"likeness-studio {__version__}")
        raise typer.Exit


@app.callback()
def studio(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show what libraries print; otherwise it goes to command.log in the home.")
    ] = False,
) -> None:
    """From photos of a person, pet or thing to a trained adapter and finished pictures."""
    VERBOSE.set(verbose)


def help_of(model: type[StrictModel], field: str) -> str:
    """Return a config field's own sentence, so that no help text is written twice."""
    return model.model_fields[field].description or ""


Json = Annotated[bool, typer.Option("--json", help="Events as JSON lines; the last line is the result.")]


Subject = Annotated[str | None, typer.Option(help=help_of(CheckConfig, "subject"))]


ClassNoun = Annotated[str | None, typer.Option(help=help_of(CheckConfig, "class_noun"))]


Consent = Annotated[bool | None, typer.Option("--consent", help=help_of(CheckConfig, "consent"))]


SetAny = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; `settings VERB` lists them; repeatable."),
]


Seed = Annotated[int | None, typer.Option(help=help_of(GenerateConfig, "seed"))]


@contextlib.contextmanager
def stop_on_interrupt(output: TerminalOutput | JsonLinesOutput) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop; the second one interrupts at once."""
    asked = False

    def heard(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        output.interrupted()

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


Runner = Callable[[str, StrictModel, Path, Path], Any]
"""``(verb, config, source, out) -> result``."""


@contextlib.contextmanager
def open_runner(output: TerminalOutput | JsonLinesOutput, settings: Settings) -> Iterator[Runner]:
    """Yield a function that runs one verb here and now and shows its events."""
    with stop_on_interrupt(output) as should_stop:
        yield local_runner(output, settings, should_stop)


def local_runner(
    output: TerminalOutput | JsonLinesOutput, settings: Settings, should_stop: Callable[[], bool]
) -> Runner:
    """Return a function that runs one verb in this process and shows its events."""
    studio = Studio(settings)

    def run(verb: str, config: StrictModel, source: Path, out: Path) -> Any:
        try:
            with foreign_output_apart(output, settings.home), output:
                return studio.run(verb, config, source, out, on_event=output.event, should_stop=should_stop)
        except JobCancelled:
            raise stopped(f"what was done so far is kept in {out}, and the same command goes on from there") from None

    return run


def require_folder(path: Path, what: str) -> Path:
    """Return ``path``; raises InputError if it is not a folder, ``what`` says of what."""
    if not path.is_dir():
        cure = "give an existing folder" if not path.exists() else "give the folder, not a file in it"
        raise InputError.of([Problem(str(path), f"is not a folder of {what}", cure, "no_folder")])
    return path


def require_pack(settings: Settings, name: str, run_dir: Path | None) -> None:
    """Refuse a pack that is not there, or that is not for the subject of the run.

    Raises:
        NotFoundError: no such pack. InputError: it is written for other kinds of subject.
    """
    if not name:
        return
    pack = load_pack(name, settings.presets_dir)
    if run_dir is not None and (run_dir / "adapter" / INFO_NAME).is_file():
        require_kind(pack, read_info(run_dir / "adapter").class_noun)


def require_pictures(path: Path) -> None:
    """Refuse a path where nothing is; what is there is looked at when it is read."""
    if not path.exists():
        raise InputError.of([Problem(str(path), "is not there", "give a picture, a folder or a zip", "no_pictures")])


def message(text: str, level: str = "info") -> Event:
    """Return a line for the reader of a command."""
    return Event("message", {"level": level, "text": text})


def given_options(**values: Any) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {key: value for key, value in values.items() if value is not None}


def published_folder(run_dir: Path, config: PublishConfig) -> Path:
    """Return the default output folder of ``publish``: beside the run, named after the repository."""
    return Path(f"{run_dir.resolve()}-{config.repo.replace('/', '--')}")


def train_config_of(
    settings: Settings, base: str | None, preset: str | None, assignments: Sequence[str], **given: str
) -> TrainConfig:
    """Return the preset's numbers with everything that was asked for put in.

    Raises:
        InputError: a base that no preset is made for, without a preset; unknown names or settings, all at once.
    """
    changes = {**parse_assignments(assignments), **given}
    base = base or changes.get("base")

    def chosen() -> tuple[str, TrainPreset]:
        if base:
            require_base(str(base))
        return machine.choose(base, preset, machine.look(settings.device), settings.presets_dir)

    try:
        name, numbers = chosen()
    except (InputError, NotFoundError):
        # Whatever else is wrong is told as well; the defaults stand in for the numbers of the preset.
        preset_too = [lambda: load_preset(preset, settings.presets_dir)] if preset else []
        all_of(chosen, *preset_too, lambda: override(TrainConfig(), changes))
        raise
    return override(numbers.config, {**changes, "base": name})


def note_consent(dataset_dir: Path) -> None:
    """Write into a dataset that the person in its photos agrees; raises InputError where it is damaged.

    Its photos stay what they are, and with them a run that goes on.
    """
    path = dataset_dir / "dataset.json"
    dataset = read_json(path)
    if not isinstance(dataset, dict):
        raise InputError.of([Problem("dataset.json", "cannot be read", "check the photos again", "no_dataset")])
    if dataset.get("consent") is not True:
        rest = [problem for problem in dataset.get("set_problems", ()) if problem.get("code") != "no_consent"]
        write_json(path, {**dataset, "consent": True, "set_problems": rest}, ensure_ascii=False)
