"""Commands that run a verb on folders of this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from studio.cli.common import (
    ClassNoun,
    Consent,
    Json,
    Seed,
    SetAny,
    Subject,
    app,
    given_options,
    help_of,
    message,
    note_consent,
    open_runner,
    published_folder,
    require_folder,
    require_pack,
    require_pictures,
    train_config_of,
)
from studio.cli.foreign import foreign_output_apart
from studio.cli.output import JsonLinesOutput, TerminalOutput, open_output
from studio.cli.shown import Raw, before_and_after
from studio.cli.tables import show_dataset, show_export, show_finished, show_pictures, show_published, show_run
from studio.core import machine, reach
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import Dataset, ExportResult, FinishResult, GenerateResult, PublishResult, TrainResult, plain
from studio.core.errors import InputError, Problem
from studio.core.files import read_json
from studio.core.finish_config import FinishConfig
from studio.core.language import say
from studio.core.machine import DEMO_TIME
from studio.core.names import all_of
from studio.core.presets import finish_config, load_chain, parse_assignments
from studio.core.settings import Settings, load_settings
from studio.core.train_config import TrainConfig
from studio.core.units import duration_text
from studio.pocket.samples import SAMPLE_CLASS_NOUN
from studio.service import Studio


@app.command(help=f"Try the whole studio on a drawn sample person: check, train, generate; {DEMO_TIME}.")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")],
    seed: Annotated[
        int, typer.Option(help="Seed of the person; another seed draws another one.", min=0, max=2**31)
    ] = 0,
    class_noun: Annotated[str, typer.Option(help="woman or man.")] = SAMPLE_CLASS_NOUN,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Run ``studio.cli.demo``."""
    from studio.cli.demo import demo as run_demo

    here = load_settings()
    output = open_output(as_json)
    with open_runner(output, here) as run:
        result = run_demo(
            run, out, seed=seed, class_noun=class_noun, presets_dir=here.presets_dir, on_event=output.event
        )

    def show(console: Console) -> None:
        console.print(before_and_after(plain(result)))
        console.print(say("It took {time} in all").format(time=duration_text(result.seconds)))
        console.print(say("Look at {sheet}").format(sheet=result.contact_sheet))

    output.result(result, show)


@app.command()
def check(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photos.")],
    subject: Subject = None,
    class_noun: ClassNoun = None,
    consent: Consent = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the dataset; default: DIR-dataset.")] = None,
    settings: SetAny = None,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Check a folder of photos: a verdict and a cure for each, crops, and a dataset to train on."""
    about = given_options(subject=subject, class_noun=class_noun, consent=consent)
    given = {**parse_assignments(settings or ()), **about}
    config, source = all_of(lambda: CheckConfig.parse(given), lambda: require_folder(photos, "photos"))
    target = out or Path(f"{source.resolve()}-dataset")
    output = open_output(as_json)
    if out is None:
        output.event(message(f"The dataset goes beside the photos, into {target}; --out names another folder."))
    with open_runner(output, load_settings()) as run:
        dataset: Dataset = run("check", config, source, target)
    if dataset.drawn is False and not reach.has_photo_base(machine.look(load_settings().device)):
        output.event(message(f"These are real photos. {reach.CARTOONS} Train them {'; or '.join(reach.ways())}."))
    output.result(dataset, show_dataset(dataset, target))


@app.command()
def train(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of photos (they are checked first), or a dataset.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the run; a stopped run there goes on.")],
    subject: Annotated[str | None, typer.Option(help=help_of(TrainConfig, "subject"))] = None,
    class_noun: Annotated[str | None, typer.Option(help=help_of(TrainConfig, "class_noun"))] = None,
    consent: Consent = None,
    base: Annotated[str | None, typer.Option(help=help_of(TrainConfig, "base"))] = None,
    preset: Annotated[str | None, typer.Option(help="Training preset; default: the base's own.")] = None,
    settings: SetAny = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what the run will take, from a few real steps.")
    ] = False,
    publish_to: Annotated[
        str | None,
        typer.Option("--publish", metavar="OWNER/NAME", help="Publish it afterwards; the token is checked first."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help=help_of(PublishConfig, "public"))] = False,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Train an adapter on a subject and choose its best checkpoint by likeness."""
    here = load_settings()
    about = given_options(subject=subject, class_noun=class_noun)
    after, config, _ = all_of(
        lambda: PublishConfig.parse({"repo": publish_to, "public": public}) if publish_to else None,
        lambda: train_config_of(here, base, preset, settings or (), **about),
        lambda: require_folder(source, "photos"),
    )
    output = open_output(as_json)
    if after is not None and not plan:  # not after an hour of training
        Studio(here).check_publishing(config, after, owner=here.owner)
    with open_runner(output, here) as run:
        dataset_dir = source
        if not (source / "dataset.json").is_file():
            dataset_dir = Path(f"{out.resolve()}-dataset")
            # Again when a run goes on, too: the same photos give the same dataset, byte for byte.
            dataset: Dataset = run(
                "check", CheckConfig.parse({**about, **given_options(consent=consent)}), source, dataset_dir
            )
            if not as_json:
                output.result(dataset, show_dataset(dataset, dataset_dir))
        elif consent and not plan:
            note_consent(dataset_dir)
        _require_photo_base(here, dataset_dir, is_named=base is not None or preset is not None)
        if not plan:
            result: TrainResult = run("train", config, dataset_dir, out)
            if after is not None:
                if not as_json:
                    output.result(result, show_run(result, out))
                target = published_folder(out, after)
                published: PublishResult = run("publish", after, out, target)
    if plan:
        _show_plan(here, output, config, dataset_dir)
    elif after is not None:
        output.result(published, show_published(published, target))
    else:
        output.result(result, show_run(result, out))


def _require_photo_base(settings: Settings, dataset_dir: Path, *, is_named: bool) -> None:
    drawn = (read_json(dataset_dir / "dataset.json") or {}).get("drawn")
    reach.require_photo_base(is_named=is_named, drawn=drawn, here=machine.look(settings.device))


def _show_plan(
    settings: Settings, output: TerminalOutput | JsonLinesOutput, config: TrainConfig, dataset_dir: Path
) -> None:
    # Outside of the runner: there is nothing to keep, so that Ctrl-C may end it at once.
    with foreign_output_apart(output, settings.home), output:
        plan = Studio(settings).measure_plan(config, dataset_dir, on_event=output.event)
    answer = {**plain(plan), "fits": plan.fits, "words": plan.words()}
    output.result(answer, lambda console: console.print(plan.words()))


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    run_dir: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Folder of a finished run; or give --adapter.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help=help_of(GenerateConfig, "adapter"))] = None,
    pack: Annotated[str | None, typer.Option(help=help_of(GenerateConfig, "pack"))] = None,
    prompt: Annotated[list[str] | None, typer.Option(help=help_of(GenerateConfig, "prompts") + " Repeatable.")] = None,
    count: Annotated[int | None, typer.Option(help=help_of(GenerateConfig, "count"))] = None,
    keep: Annotated[int | None, typer.Option(help=help_of(GenerateConfig, "keep"))] = None,
    seed: Seed = None,
    cache: Annotated[bool | None, typer.Option(help=help_of(GenerateConfig, "use_cache"))] = None,
    settings: SetAny = None,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Make pictures of the subject, ranked by likeness, with a contact sheet."""
    here = load_settings()
    given = {
        **parse_assignments(settings or ()),
        **given_options(adapter=adapter, pack=pack, prompts=tuple(prompt) if prompt else None),
        **given_options(count=count, keep=keep, seed=seed, use_cache=cache),
    }
    config, _, source = all_of(
        lambda: GenerateConfig.parse(given),
        lambda: require_pack(here, str(given.get("pack") or ""), run_dir),
        lambda: _run_or_adapter(run_dir, given.get("adapter"), out),
    )
    output = open_output(as_json)
    with open_runner(output, here) as run:
        result: GenerateResult = run("generate", config, source, out)
    output.result(result, show_pictures(result, out))


def _run_or_adapter(run_dir: Path | None, adapter: str | None, out: Path) -> Path:
    """Return what the verb reads: the run, or beside an adapter any folder, since it does not look at it."""
    if (run_dir is None) == (adapter is None):
        problem = "and --adapter exclude each other, and one of them is needed"
        raise InputError.of([Problem("RUN", problem, "give RUN or --adapter", "no_run")])
    return out if run_dir is None else require_folder(run_dir, "a run")


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[str | None, typer.Option(help=help_of(ExportConfig, "format"))] = None,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Write the adapter for ComfyUI, A1111, kohya or diffusers, or merged into its base, and prove that it works."""
    given = {**parse_assignments(settings or ()), **given_options(format=format)}
    config, source = all_of(lambda: ExportConfig.parse(given), lambda: require_folder(run_dir, "a run"))
    output = open_output(as_json)
    with open_runner(output, load_settings()) as run:
        result: ExportResult = run("export", config, source, out)
    output.result(result, show_export(result, out))


@app.command()
def publish(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    repo: Annotated[str, typer.Option(help=help_of(PublishConfig, "repo"))],
    out: Annotated[Path | None, typer.Option(help="Folder for what is pushed; default: RUN-OWNER--NAME.")] = None,
    public: Annotated[bool, typer.Option("--public", help=help_of(PublishConfig, "public"))] = False,
    pictures: Annotated[str | None, typer.Option(metavar="DIR", help=help_of(PublishConfig, "pictures"))] = None,
    update: Annotated[bool, typer.Option("--update", help=help_of(PublishConfig, "update"))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=help_of(PublishConfig, "dry_run"))] = False,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Publish a run on the Hugging Face Hub: one commit, private by default; STUDIO_HUB_TOKEN or `hf auth login`."""
    given = {"repo": repo, "public": public, "update": update, "dry_run": dry_run, **given_options(pictures=pictures)}
    asked = {**parse_assignments(settings or ()), **given}
    config, source = all_of(lambda: PublishConfig.parse(asked), lambda: require_folder(run_dir, "a run"))
    target = out or published_folder(source, config)
    output = open_output(as_json)
    with open_runner(output, load_settings()) as run:
        result: PublishResult = run("publish", config, source, target)
    output.result(result, show_published(result, target))


@app.command()
def unpublish(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete it, with all its history; this cannot be undone.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a repository from the Hub, with all its history."""
    if not yes:
        raise InputError.of(
            [Problem("--yes", f"{repo} would be deleted for good", "add --yes to delete it", "not_sure")]
        )
    output = open_output(as_json)
    Studio(load_settings()).unpublish(PublishConfig.parse({"repo": repo}).repo)
    output.result(
        {"deleted": repo}, lambda console: console.print(say("{repo} is deleted from the Hub").format(repo=repo))
    )


@app.command()
def finish(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A picture, a folder of pictures, or a zip of them.")],
    chain: Annotated[str, typer.Option(help="A chain of steps; `chains` lists them.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; stopped work there goes on.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A step's setting, like fit.max_bytes=5000000; `settings finish` lists them; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Finish pictures: cut out, replace the background, upscale, restore faces, fit to a size and a number of bytes."""
    here = load_settings()
    changes = parse_assignments(settings or ())
    config: FinishConfig
    config, _ = all_of(
        lambda: finish_config(load_chain(chain, here.presets_dir), changes), lambda: require_pictures(source)
    )
    output = open_output(as_json)
    with open_runner(output, here) as run:
        result: FinishResult = run("finish", config, source, out)
    output.result(result, show_finished(result, out))
