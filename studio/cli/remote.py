"""Commands that talk to a studio on another machine."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from studio.cli.common import (
    Json,
    SetAny,
    given_options,
    help_of,
    local_runner,
    require_folder,
    stop_on_interrupt,
    train_config_of,
)
from studio.cli.output import JsonLinesOutput, TerminalOutput, open_output, score_text
from studio.cli.tables import new_table
from studio.core.config import GenerateConfig
from studio.core.domain import plain
from studio.core.presets import parse_assignments
from studio.core.settings import load_settings
from studio.core.train_config import TrainConfig

if TYPE_CHECKING:
    from studio.remote.client import Server

remote = typer.Typer(
    help="Use a studio on another machine: photos are prepared here, trained there, and the run comes back.",
    no_args_is_help=True,
)


RemoteJob = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job; `remote list` names them.")]


@dataclass(frozen=True)
class RemoteOptions:
    """What the options before the name of a remote command say."""

    url: str
    patience_s: float
    insecure: bool


@remote.callback()
def far(
    context: typer.Context,
    server: Annotated[
        str, typer.Option(help="Address of the studio; default: STUDIO_REMOTE_SERVER.", show_default=False)
    ] = "",
    patience_s: Annotated[float, typer.Option(help="Try again for so long when nobody answers, seconds.", min=0)] = 120,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over plain http to another machine, too.")
    ] = False,
) -> None:
    """Keep where the other studio is."""
    context.obj = RemoteOptions(server, patience_s, insecure)


@contextlib.contextmanager
def _server(context: typer.Context, talker: TerminalOutput | JsonLinesOutput) -> Iterator["Server"]:
    """Yield the other studio; STUDIO_REMOTE_TOKEN opens it, or the token in the home if it runs on this machine."""
    from studio.core.server_token import known_token
    from studio.remote.client import Server

    here, said = load_settings(), context.obj
    address = said.url or here.remote_server
    insecure = said.insecure or here.remote_insecure
    token = known_token(here, address)
    with Server(address, token=token, insecure=insecure, patience_s=said.patience_s, on_event=talker.event) as server:
        yield server


@remote.command("train")
def remote_train(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photos, or a dataset.")],
    subject: Annotated[str, typer.Option(help=help_of(TrainConfig, "subject"))],
    class_noun: Annotated[str, typer.Option(help=help_of(TrainConfig, "class_noun"))],
    out: Annotated[Path, typer.Option(help="Folder for the run; the same command goes on there.")],
    base: Annotated[str | None, typer.Option(help=help_of(TrainConfig, "base"))] = None,
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
    from studio.remote import run as far_studio

    here = load_settings()
    changes = parse_assignments(settings or ())
    request = far_studio.TrainRequest(subject, class_noun, base, preset, changes)
    subject_words = {"subject": subject, "class_noun": class_noun}
    fallback = None
    if local_fallback:
        own = train_config_of(here, base, preset, settings or (), **subject_words)  # refused now, not when it is needed
        fallback = lambda: own  # noqa: E731
    require_folder(source, "photos")
    talker = open_output(as_json)
    with _server(context, talker) as server, talker, stop_on_interrupt(talker) as should_stop:
        verb = local_runner(talker, here, should_stop)
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
        likeness = f"{score_text(trained['likeness_before'])} before, {score_text(trained['likeness_after'])} after"
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
    pack: Annotated[str | None, typer.Option(help=help_of(GenerateConfig, "pack"))] = None,
    prompt: Annotated[list[str] | None, typer.Option(help=help_of(GenerateConfig, "prompts") + " Repeatable.")] = None,
    count: Annotated[int, typer.Option(help=help_of(GenerateConfig, "count"))] = 1,
    seed: Annotated[int, typer.Option(help=help_of(GenerateConfig, "seed"))] = 0,
    settings: SetAny = None,
    as_json: Json = False,
) -> None:
    """Make pictures on the server and bring them home."""
    from studio.remote import run as far_studio

    changes = parse_assignments(settings or ())
    GenerateConfig.parse({**changes, **given_options(pack=pack, prompts=prompt), "count": count, "seed": seed})
    parameters = {
        "pack": pack or "", "prompts": prompt or [], "count": count, "seed": seed, "settings": plain(changes)
    }  # fmt: skip
    talker = open_output(as_json)
    with _server(context, talker) as server, talker, stop_on_interrupt(talker) as should_stop:
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
    from studio.remote import run as far_studio

    talker = open_output(as_json)
    with _server(context, talker) as server, talker, stop_on_interrupt(talker) as should_stop:
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
    talker = open_output(as_json)
    with _server(context, talker) as server:
        rows = server.call("jobs", limit=limit)

    def show(console: Console) -> None:
        table = new_table("job", "state", "title", names=True)
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
    from studio.remote import run as far_studio

    talker = open_output(as_json)
    with _server(context, talker) as server, talker:
        paths = far_studio.download(server, job, out, on_event=talker.event)
    talker.result({"files": paths}, lambda console: console.print(f"{len(paths)} files in {out}"))


@remote.command("cancel")
def remote_cancel(context: typer.Context, job: RemoteJob, as_json: Json = False) -> None:
    """Cancel a job; what it has done so far is kept there."""
    talker = open_output(as_json)
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
