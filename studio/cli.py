"""The command line: ``python -m studio VERB``.

An edge like the web page: it turns arguments into the config models, hands them to ``Studio.run`` and shows the
events. Without ``--json`` a person sees progress bars and tables; with it every event is one JSON line on standard
output and the last line is the result. Exit codes: 0 done, 1 failed, 2 wrong input, 130 stopped by Ctrl-C.

Imports neither torch nor gradio: verbs run where ``Studio.run`` runs them.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from studio import machine
from studio.config import (
    CheckConfig,
    ExportConfig,
    FinishConfig,
    GenerateConfig,
    PublishConfig,
    StrictModel,
    TrainConfig,
)
from studio.core.progress import stopped
from studio.domain import (
    Dataset,
    Event,
    ExportResult,
    FinishResult,
    GenerateResult,
    PublishResult,
    TrainResult,
    plain,
)
from studio.errors import InputError, JobCancelled, NotFoundError, Problem, StudioError
from studio.presets import finish_config, load_chain, override, parse_assignments
from studio.samples import SAMPLE_CLASS_NOUN
from studio.service import Studio
from studio.settings import Settings, load_settings

if TYPE_CHECKING:
    from studio.remote import Server

app = typer.Typer(
    name="studio",
    help="From photos of a person, pet or thing to a trained adapter and finished pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


# What arguments say


def _says(model: type[StrictModel], field: str) -> str:
    """Return a config field's own sentence, so that no help text is written twice."""
    return model.model_fields[field].description or ""


Json = Annotated[bool, typer.Option("--json", help="Events as JSON lines; the last line is the result.")]
Subject = Annotated[str | None, typer.Option(help=_says(CheckConfig, "subject"))]
ClassNoun = Annotated[str | None, typer.Option(help=_says(CheckConfig, "class_noun"))]
SetAny = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; repeatable.")]
Seed = Annotated[int | None, typer.Option(help=_says(GenerateConfig, "seed"))]


# What people and programs see


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s left" if minutes else f"{rest} s left"


class _Eta(ProgressColumn):
    """The verb's own estimate, not one from the bar's speed."""

    def render(self, task: Task) -> Text:
        return Text(_eta(task.fields["eta_s"]), style="dim")


class Screen:
    """Shows events to a person: one bar per stage on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.out = Console(highlight=False, markup=False)
        self.err = Console(stderr=True, highlight=False, markup=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _Eta(),
            TextColumn("{task.fields[metrics]}", style="cyan", markup=False),
            console=self.err,
            disable=not self.err.is_terminal,
            transient=True,
        )
        self._task: Any = None
        self._stage = ""
        self._entered = 0

    def __enter__(self) -> "Screen":
        self._entered += 1
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered:  # a verb that runs inside of a longer road must not end its bars
            self._progress.stop()

    def event(self, event: Event) -> None:
        """Show one event."""
        data = event.data
        if event.kind == "stage":
            self._begin(str(data.get("message") or data.get("name", "")))
        elif event.kind == "progress":
            if self._task is None:
                self._begin(str(data.get("message") or "working"))
            self._progress.update(
                self._task, completed=data.get("step", 0), total=data.get("total"), eta_s=data.get("eta_s")
            )
        elif event.kind == "metrics":
            self._measure(data)
        elif event.kind == "message":
            style = "yellow" if data.get("level") == "warning" else None
            self._progress.console.print(str(data.get("text", "")), style=style)

    def _begin(self, title: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(title, total=None, eta_s=None, metrics="")
        if title != self._stage and not self.err.is_terminal:
            self.err.print(title)
        self._stage = title

    def _measure(self, data: Mapping[str, Any]) -> None:
        shown = [f"{key} {data[key]:.3f}" for key in ("loss", "likeness", "bleed") if data.get(key) is not None]
        if self._task is not None:
            self._progress.update(self._task, metrics="  ".join(shown))
        if data.get("likeness") is not None:
            self._progress.console.print(f"step {data.get('step', 0)}: " + ", ".join(shown))

    def error(self, error: StudioError) -> None:
        """Say what went wrong."""
        self.err.print(str(error), style="red")

    def interrupted(self) -> None:
        """Answer the first Ctrl-C."""
        self._progress.console.print("Stopping after this step; press Ctrl-C again to stop at once.", style="yellow")

    def result(self, value: Any, show: Callable[[Console], None]) -> None:
        """Show a result with ``show``."""
        show(self.out)


class Lines:
    """Writes events to a program: JSON lines on standard output."""

    def __init__(self) -> None:
        self._stream = sys.stdout

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _write(self, value: Any) -> None:
        self._stream.write(json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n")
        self._stream.flush()

    def event(self, event: Event) -> None:
        """Write one event as an object with ``kind`` and ``data``."""
        self._write(event)

    def error(self, error: StudioError) -> None:
        """Write an object with ``error`` and ``problems``."""
        self._write({"error": str(error), "problems": error.problems})

    def interrupted(self) -> None:
        """Say nothing: this is called in the middle of anything, a line included. The error comes soon enough."""

    def result(self, value: Any, show: Callable[[Console], None]) -> None:
        """Write the result itself, the last line."""
        self._write(value)


def _talker(as_json: bool) -> Screen | Lines:
    return Lines() if as_json else Screen()


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# Running verbs


@contextlib.contextmanager
def _stoppable(talker: Screen | Lines) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop; the second one interrupts at once."""
    asked = False

    def heard(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        talker.interrupted()

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


Runner = Callable[[str, StrictModel, Path, Path], Any]
"""``(verb, config, source, out) -> result``."""


@contextlib.contextmanager
def _runner(talker: Screen | Lines, settings: Settings) -> Iterator[Runner]:
    """Yield a function that runs one verb here and now and shows its events."""
    with _stoppable(talker) as should_stop:
        yield _here(talker, settings, should_stop)


def _here(talker: Screen | Lines, settings: Settings, should_stop: Callable[[], bool]) -> Runner:
    studio = Studio(settings)

    def run(verb: str, config: StrictModel, source: Path, out: Path) -> Any:
        try:
            # What a foreign library prints must not get between the lines of ours.
            with talker, contextlib.redirect_stdout(sys.stderr):
                return studio.run(verb, config, source, out, on_event=talker.event, should_stop=should_stop)
        except JobCancelled:
            raise stopped(f"what was done so far is kept in {out}, and the same command goes on from there") from None

    return run


def _folder(path: Path, what: str) -> Path:
    if not path.is_dir():
        cure = "give an existing folder" if not path.exists() else "give the folder, not a file in it"
        raise InputError.of([Problem(str(path), f"is not a folder of {what}", cure, "no_folder")])
    return path


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


# Results as tables


def _table(*columns: str, names: bool = False) -> Table:
    """Return an empty table; with ``names`` the first column holds names to type again, which are never broken."""
    table = Table(header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=names and index == 0)
    return table


_STATUS_STYLE = {"good": "green", "usable": "yellow", "rejected": "red"}


def _show_dataset(dataset: Dataset, out: Path) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        table = _table("photo", "verdict", "likeness", "what to do")
        for verdict in dataset.verdicts:
            advice = "\n".join(f"{problem['message']}; {problem['cure']}." for problem in verdict.problems)
            table.add_row(
                Text(verdict.name),
                Text(verdict.status, style=_STATUS_STYLE[verdict.status]),
                _score(verdict.likeness),
                Text(advice),
            )
        console.print(table)
        for problem in dataset.set_problems:
            console.print(f"The set: {problem['message']}; {problem['cure']}.", style="yellow")
        console.print(f"{len(dataset.photos)} of {len(dataset.verdicts)} photos are ready in {out}")

    return show


def _show_run(result: TrainResult, out: Path) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        if result.checkpoints:
            table = _table("step", "likeness", "bleed", "validation loss")
            for row in result.checkpoints:
                best = row.get("step") == result.best_step
                loss = row.get("val_loss")
                table.add_row(
                    f"{row.get('step')}{' (best)' if best else ''}",
                    _score(row.get("likeness")),
                    _score(row.get("bleed")),
                    "-" if loss is None else f"{loss:.4f}",
                    style="green" if best else None,
                )
            console.print(table)
        console.print(f"Best: step {result.best_step} of {result.steps} ({result.best_reason})")
        console.print(f"Likeness {_score(result.likeness_before)} before, {_score(result.likeness_after)} after")
        console.print(f"The adapter is in {out / result.adapter}")

    return show


def _show_pictures(result: GenerateResult, out: Path) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        table = _table("rank", "likeness", "picture", "prompt")
        for image in sorted(result.images, key=lambda image: image.rank):
            table.add_row(str(image.rank), _score(image.likeness), Text(image.file), Text(image.prompt))
        console.print(table)
        if result.left_out:
            twins = sum(image.duplicate_of is not None for image in result.left_out)
            console.print(
                f"Kept {len(result.images)} of {len(result.images) + len(result.left_out)} pictures: mean likeness "
                f"{_score(result.likeness_mean)} instead of {_score(result.likeness_mean_made)}; "
                f"{twins} of the others nearly repeat a better one; all of them are in {out / 'left_out'}"
            )
        if result.from_cache:
            console.print(f"{result.from_cache} pictures were made before and came from the result cache")
        console.print(f"{len(result.images)} pictures in {out}; contact sheet: {out / result.contact_sheet}")

    return show


def _show_export(result: ExportResult, out: Path) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        for file in result.files:
            console.print(str(out / file))
        console.print(
            f"{result.bytes / 1e6:.1f} MB, read back by plain diffusers in a fresh process; "
            f"its pictures differ from the trained model's by at most {result.difference_max} of 255"
        )

    return show


def _show_finished(result: FinishResult, out: Path) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        table = _table("picture", "from", "pixels", "bytes", "worth knowing")
        for picture in result.pictures:
            size = f"{picture.size_hw[1]} x {picture.size_hw[0]}"
            notes = Text("\n".join(picture.notes))
            table.add_row(Text(picture.file), Text(picture.source), size, f"{picture.size_bytes:,}", notes)
        console.print(table)
        for problem in result.failed:
            console.print(f"{problem['where']}: {problem['message']}; {problem['cure']}.", style="red")
        count = len(result.pictures)
        console.print(f"{count} of {count + len({row['where'] for row in result.failed})} pictures are in {out}")

    return show


def _published_folder(run_dir: Path, config: PublishConfig) -> Path:
    return Path(f"{run_dir.resolve()}-{config.repo.replace('/', '--')}")


def _show_published(result: PublishResult, out: Path) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        for file in result.files:
            console.print(file)
        size = f"{len(result.files)} files, {result.bytes / 1e6:.1f} MB, licence {result.licence}"
        if result.commit is None:
            console.print(f"{size}: what would be published is in {out / 'repo'}; run it without --dry-run to do it")
        else:
            seen = "everybody" if result.public else "you and those you allow"
            console.print(f"{size}: published at {result.url} for {seen}, commit {result.commit}")

    return show


# The commands


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")],
    seed: Annotated[int, typer.Option(help="Another seed draws another person.", min=0, max=2**31)] = 0,
    class_noun: Annotated[str, typer.Option(help="woman or man.")] = SAMPLE_CLASS_NOUN,
    as_json: Json = False,
) -> None:
    """Show the whole studio on a drawn sample person: check, train, generate; about five minutes on two cores."""
    from studio import demo as road

    here = load_settings()
    talker = _talker(as_json)
    with _runner(talker, here) as run:
        result = road.demo(
            run, out, seed=seed, class_noun=class_noun, presets_dir=here.presets_dir, on_event=talker.event
        )

    def show(console: Console) -> None:
        console.print(
            f"Likeness {_score(result.likeness_before)} before, {_score(result.likeness_after)} after training; "
            f"{result.seconds:.0f} s in all"
        )
        console.print(f"Look at {result.contact_sheet}")

    talker.result(result, show)


@app.command()
def check(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photos.")],
    subject: Subject = None,
    class_noun: ClassNoun = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the dataset; default: DIR-dataset.")] = None,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Check a folder of photos: a verdict and a cure for each, crops, and a dataset to train on."""
    config = CheckConfig.parse({**parse_assignments(settings or ()), **_given(subject=subject, class_noun=class_noun)})
    source = _folder(photos, "photos")
    target = out or Path(f"{source.resolve()}-dataset")
    talker = _talker(as_json)
    with _runner(talker, load_settings()) as run:
        dataset: Dataset = run("check", config, source, target)
    talker.result(dataset, _show_dataset(dataset, target))


@app.command()
def train(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of photos (they are checked first), or a dataset.")
    ],
    subject: Annotated[str, typer.Option(help=_says(TrainConfig, "subject"))],
    class_noun: Annotated[str, typer.Option(help=_says(TrainConfig, "class_noun"))],
    out: Annotated[Path, typer.Option(help="Folder for the run; a stopped run there goes on.")],
    base: Annotated[str | None, typer.Option(help=_says(TrainConfig, "base"))] = None,
    preset: Annotated[str | None, typer.Option(help="Training preset; default: the base's own.")] = None,
    settings: SetAny = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what it will take, from a few real steps.")] = False,
    publish_to: Annotated[
        str | None, typer.Option("--publish", metavar="OWNER/NAME", help="Publish it then; the token is asked first.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help=_says(PublishConfig, "public"))] = False,
    as_json: Json = False,
) -> None:
    """Train an adapter on a subject and choose its best checkpoint by likeness."""
    here = load_settings()
    after = PublishConfig.parse({"repo": publish_to, "public": public}) if publish_to else None
    config = _train_config(here, base, preset, settings or (), subject=subject, class_noun=class_noun)
    _folder(source, "photos")
    talker = _talker(as_json)
    if after is not None and not plan:  # not after an hour of training
        Studio(here).check_publishing(config, after, owner=here.owner)
    with _runner(talker, here) as run:
        dataset_dir = source
        if not (source / "dataset.json").is_file():
            dataset_dir = Path(f"{out.resolve()}-dataset")
            # Again when a run goes on, too: the same photos give the same dataset, byte for byte.
            dataset: Dataset = run("check", CheckConfig(subject=subject, class_noun=class_noun), source, dataset_dir)
            if not as_json:
                talker.result(dataset, _show_dataset(dataset, dataset_dir))
        if not plan:
            result: TrainResult = run("train", config, dataset_dir, out)
            if after is not None:
                if not as_json:
                    talker.result(result, _show_run(result, out))
                target = _published_folder(out, after)
                published: PublishResult = run("publish", after, out, target)
    if plan:
        _tell_plan(here, talker, config, dataset_dir)
    elif after is not None:
        talker.result(published, _show_published(published, target))
    else:
        talker.result(result, _show_run(result, out))


def _tell_plan(settings: Settings, talker: Screen | Lines, config: TrainConfig, dataset_dir: Path) -> None:
    # Outside of the runner: there is nothing to keep, so that Ctrl-C may end it at once.
    with talker, contextlib.redirect_stdout(sys.stderr):
        plan = Studio(settings).measure_plan(config, dataset_dir, on_event=talker.event)
    answer = {**plain(plan), "fits": plan.fits, "words": plan.words()}
    talker.result(answer, lambda console: console.print(plan.words()))


def _train_config(
    settings: Settings, base: str | None, preset: str | None, assignments: Sequence[str], **given: str
) -> TrainConfig:
    """Return the preset's numbers with everything that was asked for put in.

    Raises:
        InputError: a base that no preset is made for, without a preset; unknown settings.
    """
    base, chosen = machine.choose(base, preset, machine.look(settings.device), settings.presets_dir)
    return override(chosen.config, {**parse_assignments(assignments), **given, "base": base})


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    run_dir: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Folder of a finished run; or give --adapter.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help=_says(GenerateConfig, "adapter"))] = None,
    pack: Annotated[str | None, typer.Option(help=_says(GenerateConfig, "pack"))] = None,
    prompt: Annotated[list[str] | None, typer.Option(help=_says(GenerateConfig, "prompts") + " Repeatable.")] = None,
    count: Annotated[int | None, typer.Option(help=_says(GenerateConfig, "count"))] = None,
    keep: Annotated[int | None, typer.Option(help=_says(GenerateConfig, "keep"))] = None,
    seed: Seed = None,
    cache: Annotated[bool | None, typer.Option(help=_says(GenerateConfig, "use_cache"))] = None,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Make pictures of the subject, ranked by likeness, with a contact sheet."""
    config = GenerateConfig.parse(
        {
            **parse_assignments(settings or ()),
            **_given(adapter=adapter, pack=pack, prompts=tuple(prompt) if prompt else None),
            **_given(count=count, keep=keep, seed=seed, use_cache=cache),
        }
    )
    if (run_dir is None) == (config.adapter is None):
        raise InputError.of([Problem("RUN", "comes from two places or from none", "give RUN or --adapter", "no_run")])
    source = out if run_dir is None else _folder(run_dir, "a run")  # the verb does not look at it beside an adapter
    talker = _talker(as_json)
    with _runner(talker, load_settings()) as run:
        result: GenerateResult = run("generate", config, source, out)
    talker.result(result, _show_pictures(result, out))


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[str | None, typer.Option(help=_says(ExportConfig, "format"))] = None,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Write the adapter for ComfyUI, A1111, kohya or diffusers, or merged into its base, and prove that it works."""
    config = ExportConfig.parse({**parse_assignments(settings or ()), **_given(format=format)})
    source = _folder(run_dir, "a run")
    talker = _talker(as_json)
    with _runner(talker, load_settings()) as run:
        result: ExportResult = run("export", config, source, out)
    talker.result(result, _show_export(result, out))


@app.command()
def publish(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    repo: Annotated[str, typer.Option(help=_says(PublishConfig, "repo"))],
    out: Annotated[Path | None, typer.Option(help="Folder for what is pushed; default: RUN-OWNER--NAME.")] = None,
    public: Annotated[bool, typer.Option("--public", help=_says(PublishConfig, "public"))] = False,
    pictures: Annotated[str | None, typer.Option(metavar="DIR", help=_says(PublishConfig, "pictures"))] = None,
    update: Annotated[bool, typer.Option("--update", help=_says(PublishConfig, "update"))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_says(PublishConfig, "dry_run"))] = False,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Publish a run on the Hugging Face Hub: one commit, private unless asked; STUDIO_HUB_TOKEN or `hf auth login`."""
    given = {"repo": repo, "public": public, "update": update, "dry_run": dry_run, **_given(pictures=pictures)}
    config = PublishConfig.parse({**parse_assignments(settings or ()), **given})
    source = _folder(run_dir, "a run")
    target = out or _published_folder(source, config)
    talker = _talker(as_json)
    with _runner(talker, load_settings()) as run:
        result: PublishResult = run("publish", config, source, target)
    talker.result(result, _show_published(result, target))


@app.command()
def unpublish(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete it, with all its history; this cannot be undone.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a repository from the Hub, with all its history."""
    if not yes:
        raise InputError.of([Problem("--yes", f"{repo} would be gone for good", "add --yes to delete it", "not_sure")])
    talker = _talker(as_json)
    Studio(load_settings()).unpublish(PublishConfig.parse({"repo": repo}).repo)
    talker.result({"deleted": repo}, lambda console: console.print(f"{repo} is deleted from the Hub"))


@app.command()
def finish(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A picture, a folder of pictures, or a zip of them.")],
    chain: Annotated[str, typer.Option(help="A chain of steps; `chains` lists them.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; stopped work there goes on.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A step's setting, like fit.max_bytes=5000000; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Finish pictures: cut out, lay a background, enlarge, restore faces, fit to size and bytes."""
    here = load_settings()
    changes = parse_assignments(settings or ())
    config: FinishConfig = finish_config(load_chain(chain, here.presets_dir), changes)
    talker = _talker(as_json)
    with _runner(talker, here) as run:
        result: FinishResult = run("finish", config, source, out)
    talker.result(result, _show_finished(result, out))


@app.command()
def chains(as_json: Json = False) -> None:
    """List the finish chains."""
    rows = Studio(load_settings()).chains()

    def show(console: Console) -> None:
        table = _table("chain", "steps", "description", names=True)
        for row in rows:
            table.add_row(row["name"], ", ".join(step["do"] for step in row["steps"]), Text(row["description"]))
        console.print(table)

    _talker(as_json).result({"chains": rows}, show)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the training presets."""
    rows = Studio(load_settings()).presets()

    def show(console: Console) -> None:
        table = _table("preset", "base", "hardware", "for whom, and what it costs", names=True)
        for row in rows:
            table.add_row(row["name"], row["base"], row["hardware"], Text(row["description"]))
        console.print(table)

    _talker(as_json).result({"presets": rows}, show)


@app.command()
def packs(as_json: Json = False) -> None:
    """List the prompt packs."""
    rows = Studio(load_settings()).packs()

    def show(console: Console) -> None:
        table = _table("pack", "shots", "for", "bases", "description", names=True)
        for row in rows:
            bases = ", ".join(row["bases"]) or "any"
            table.add_row(
                row["name"], str(len(row["shots"])), ", ".join(row["subjects"]), bases, Text(row["description"])
            )
        console.print(table)

    _talker(as_json).result({"packs": rows}, show)


@app.command()
def bases(as_json: Json = False) -> None:
    """List the base models of the catalog."""
    rows = Studio(load_settings()).bases()

    def show(console: Console) -> None:
        table = _table("base", "title", "pixels", "GPU memory", "licence", "description", names=True)
        for row in rows:
            memory = f"{row['vram_gb']:g} GB" if row["vram_gb"] else "none needed"
            name = f"{row['name']} (default)" if row["default"] else row["name"]
            table.add_row(
                name, row["title"], str(row["resolution_px"]), memory, row["licence"], Text(row["description"])
            )
        console.print(table)

    _talker(as_json).result({"bases": rows}, show)


_MARK = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look over this installation; every finding comes with its cure."""
    from studio.doctor import examine

    load_settings()  # a bad variable is an error here, not one failed probe after the other
    findings = examine()

    def show(console: Console) -> None:
        table = _table("", "what", "finding", "cure")
        for finding in findings:
            word, style = _MARK[finding.status]
            table.add_row(Text(word, style=style), finding.name, Text(finding.message), Text(finding.cure))
        console.print(table)

    failed = any(finding.status == "fail" for finding in findings)
    _talker(as_json).result({"ok": not failed, "findings": findings}, show)
    if failed:
        raise typer.Exit(1)


@app.command()
def serve(as_json: Json = False) -> None:
    """Serve the web page until Ctrl-C; the same as ``python app.py``. STUDIO_HOST and STUDIO_PORT say where."""
    from studio import server

    talker = _talker(as_json)

    def ready(address: str) -> None:
        talker.result({"address": address}, lambda console: console.print(f"Likeness Studio is at {address}"))

    with contextlib.suppress(KeyboardInterrupt):
        server.serve(load_settings(), on_ready=ready)


# A studio on another machine

remote = typer.Typer(
    help="Use a studio on another machine: photos are prepared here, trained there, and the run comes back.",
    no_args_is_help=True,
)
app.add_typer(remote, name="remote")

RemoteJob = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job; `remote list` names them.")]


@dataclass(frozen=True)
class _Far:
    """What the options before the name of a remote command say."""

    url: str
    patience_s: float


@remote.callback()
def far(
    context: typer.Context,
    server: Annotated[
        str, typer.Option(help="Address of the studio; default: STUDIO_REMOTE_SERVER.", show_default=False)
    ] = "",
    patience_s: Annotated[float, typer.Option(help="Try again for so long when nobody answers, seconds.", min=0)] = 120,
) -> None:
    """Keep where the other studio is."""
    context.obj = _Far(server, patience_s)


@contextlib.contextmanager
def _server(context: typer.Context, talker: Screen | Lines) -> Iterator["Server"]:
    """Yield the other studio; STUDIO_REMOTE_TOKEN is sent to it."""
    from studio.remote import Server

    here, said = load_settings(), context.obj
    token = here.remote_token.get_secret_value() if here.remote_token else None
    address = said.url or here.remote_server
    with Server(address, token=token, patience_s=said.patience_s, on_event=talker.event) as server:
        yield server


@remote.command("train")
def remote_train(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photos, or a dataset.")],
    subject: Annotated[str, typer.Option(help=_says(TrainConfig, "subject"))],
    class_noun: Annotated[str, typer.Option(help=_says(TrainConfig, "class_noun"))],
    out: Annotated[Path, typer.Option(help="Folder for the run; the same command goes on there.")],
    base: Annotated[str | None, typer.Option(help=_says(TrainConfig, "base"))] = None,
    preset: Annotated[str | None, typer.Option(help="Training preset of the server; default: the base's own.")] = None,
    settings: SetAny = None,
    exports: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORMAT", help="Export it there too, into OUT/exports/FORMAT; repeatable."),
    ] = None,
    local_fallback: Annotated[
        bool, typer.Option("--local-fallback", help="Train here when the server or the network is gone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check and shrink photos here, train on the server, bring the run home."""
    from studio import remote as far_studio

    here = load_settings()
    changes = parse_assignments(settings or ())
    request = far_studio.TrainRequest(subject, class_noun, base, preset, changes)
    subject_words = {"subject": subject, "class_noun": class_noun}
    fallback = None
    if local_fallback:
        own = _train_config(here, base, preset, settings or (), **subject_words)  # refused now, not when it is needed
        fallback = lambda: own  # noqa: E731
    _folder(source, "photos")
    talker = _talker(as_json)
    with _server(context, talker) as server, talker, _stoppable(talker) as should_stop:
        verb = _here(talker, here, should_stop)
        result = far_studio.train(
            verb,
            server,
            request,
            source,
            out,
            exports=exports or (),
            fallback=fallback,
            on_event=talker.event,
            should_stop=should_stop,
        )

    def show(console: Console) -> None:
        trained = result.train
        where = f"on {result.server}" if result.server else "here, because the server was gone"
        console.print(f"Trained {where}; best: step {trained['best_step']} of {trained['steps']}")
        likeness = f"{_score(trained['likeness_before'])} before, {_score(trained['likeness_after'])} after"
        console.print(f"Likeness {likeness}; sent {result.sent_bytes:,} bytes of {result.original_bytes:,}")
        console.print(f"The adapter is in {out / trained['adapter']}")
        for folder in result.exports:
            console.print(f"Exported to {out / folder}")

    talker.result(result, show)


@remote.command("generate")
def remote_generate(
    context: typer.Context,
    run_or_job: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run from there, or a train job's id.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; the same command goes on there.")],
    pack: Annotated[str | None, typer.Option(help=_says(GenerateConfig, "pack"))] = None,
    prompt: Annotated[list[str] | None, typer.Option(help=_says(GenerateConfig, "prompts") + " Repeatable.")] = None,
    count: Annotated[int, typer.Option(help=_says(GenerateConfig, "count"))] = 1,
    seed: Annotated[int, typer.Option(help=_says(GenerateConfig, "seed"))] = 0,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Make pictures on the server and bring them home."""
    from studio import remote as far_studio

    changes = parse_assignments(settings or ())
    GenerateConfig.parse({**changes, **_given(pack=pack, prompts=prompt), "count": count, "seed": seed})
    parameters = {
        "pack": pack or "", "prompts": prompt or [], "count": count, "seed": seed, "settings": plain(changes)
    }  # fmt: skip
    talker = _talker(as_json)
    with _server(context, talker) as server, talker, _stoppable(talker) as should_stop:
        result = far_studio.generate(
            server, run_or_job, parameters, out, on_event=talker.event, should_stop=should_stop
        )
    talker.result(result, lambda console: console.print(f"{len(result['images'])} pictures in {out}"))


@remote.command("status")
def remote_status(
    context: typer.Context,
    job: RemoteJob,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Tell how a job stands."""
    from studio import remote as far_studio

    talker = _talker(as_json)
    with _server(context, talker) as server, talker, _stoppable(talker) as should_stop:
        if watch:
            view = far_studio.watch(server, job, on_event=talker.event, should_stop=should_stop)
        else:
            view = server.call("job", job_id=job, files=False)
    talker.result(_without_events(view), lambda console: console.print(_job_words(view)))


@remote.command("list")
def remote_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="Most jobs to name.", min=1, max=1000)] = 20,
    as_json: Json = False,
) -> None:
    """List the jobs, newest first."""
    talker = _talker(as_json)
    with _server(context, talker) as server:
        rows = server.call("jobs", limit=limit)

    def show(console: Console) -> None:
        table = _table("job", "state", "title", names=True)
        for row in rows:
            table.add_row(row["id"], row["state"], Text(row["title"]))
        console.print(table)

    talker.result({"jobs": rows}, show)


@remote.command("download")
def remote_download(
    context: typer.Context,
    job: RemoteJob,
    out: Annotated[Path, typer.Option(help="Folder for the files; a download that was cut goes on.")],
    as_json: Json = False,
) -> None:
    """Bring a completed job's files here, each verified by its digest."""
    from studio import remote as far_studio

    talker = _talker(as_json)
    with _server(context, talker) as server, talker:
        paths = far_studio.download(server, job, out, on_event=talker.event)
    talker.result({"files": paths}, lambda console: console.print(f"{len(paths)} files in {out}"))


@remote.command("cancel")
def remote_cancel(context: typer.Context, job: RemoteJob, as_json: Json = False) -> None:
    """Cancel a job; what it has done so far is kept there."""
    talker = _talker(as_json)
    with _server(context, talker) as server:
        view = server.call("cancel", job_id=job)
    talker.result(view, lambda console: console.print(_job_words(view)))


def _without_events(view: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name not in ("events", "files")}


def _job_words(view: Mapping[str, Any]) -> str:
    progress = view["progress"]
    done = f", {progress['step']} of {progress['total']}" if progress.get("total") else ""
    cause = f": {view['cause']}" if view["cause"] else ""
    return f"{view['id']} ({view['title']}) is {view['state']}{done}{cause}"


# Spaces

space = typer.Typer(help="Build the studio as a Space of the Hugging Face Hub, and push it.", no_args_is_help=True)
app.add_typer(space, name="space")

SpaceName = Annotated[str, typer.Argument(metavar="NAME", help="A folder of spaces/: demo (free CPU), gpu or zerogpu.")]


@space.command("build")
def space_build(
    name: SpaceName,
    out: Annotated[Path, typer.Option(help="Empty folder for exactly what would be pushed.")],
    as_json: Json = False,
) -> None:
    """Write what a push would send, to look at or to start."""
    from studio import spaces

    files = spaces.build(name, out)
    result = {"space": name, "files": files}
    _talker(as_json).result(result, lambda console: console.print(f"{len(files)} files in {out}"))


@space.command("push")
def space_push(
    name: SpaceName,
    repo: Annotated[str, typer.Option(help="Id on the Hub, like ada/likeness-studio.")],
    public: Annotated[bool, typer.Option("--public", help="Make it public: all visitors share one studio.")] = False,
    as_json: Json = False,
) -> None:
    """Build a Space and push it to the Hub, private unless asked; wants `hf auth login`."""
    from studio import spaces

    address = spaces.push(name, repo, private=not public)
    _talker(as_json).result({"address": address}, lambda console: console.print(address))


# The door


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become a message, never a stack trace."""
    as_json = "--json" in arguments
    talker = _talker(as_json)
    try:
        code = app(list(arguments), prog_name="python -m studio", standalone_mode=not as_json)
        return code if isinstance(code, int) else 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except JobCancelled as error:
        talker.error(error)
        return 130
    except StudioError as error:
        talker.error(error)
        return 2 if isinstance(error, InputError | NotFoundError) else 1
    except KeyboardInterrupt:
        talker.error(stopped("what was written stays", "at once"))
        return 130
    except typer.TyperException as error:
        talker.error(InputError(error.format_message()))
        return error.exit_code
    except BrokenPipeError:
        # The reader is gone (as in `... | head`): nothing more can be said, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        talker.error(StudioError(_bug_report(error)))
        return 1


def _bug_report(error: Exception) -> str:
    """Keep the stack trace of a bug in a file and return what to tell the user."""
    said = f"Something went wrong that should not have ({type(error).__name__}: {error})."
    try:
        home = load_settings().home
        home.mkdir(parents=True, exist_ok=True)
        path = home / "last_error.txt"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except (OSError, StudioError):
        return f"{said} Please report it."
    return f"{said} Please report it with {path}."


def main() -> None:
    """Run the command line and end the process."""
    sys.exit(run(sys.argv[1:]))
