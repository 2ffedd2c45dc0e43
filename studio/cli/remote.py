"""Commands that talk to a studio on another machine."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from studio.cli.common import (
    Consent,
    Json,
    SetAny,
    given_options,
    help_of,
    local_runner,
    require_folder,
    stop_on_interrupt,
    train_config_of,
)
from studio.cli.jobs import SURE, Everything, ForgottenJob, ForgottenSubject, Yes, require_one
from studio.cli.output import JsonLinesOutput, TerminalOutput, open_output
from studio.cli.shown import Raw, before_and_after, likeness_sentence
from studio.cli.tables import capital, job_words, jobs_table, show_count
from studio.core.config import GenerateConfig
from studio.core.domain import plain
from studio.core.language import say
from studio.core.presets import parse_assignments
from studio.core.settings import load_settings
from studio.core.train_config import TrainConfig
from studio.core.units import bytes_text, caveat_after

if TYPE_CHECKING:
    from studio.remote.client import Server

remote = typer.Typer(
    help="Use a studio on another machine: photos are prepared here, trained there, and the run comes back.",
    no_args_is_help=True,
)


CONTACT_S, PATIENCE_S = 8.0, 120.0
"""Seconds that a command tries to find the server, and to find it again while a job runs there."""


RemoteJob = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job; `remote list` names them.")]


@dataclass(frozen=True)
class RemoteOptions:
    """The options before the name of a remote command."""

    url: str
    patience_s: float | None
    """None: 120 seconds, but eight until the first answer."""
    insecure: bool


@remote.callback()
def remote_options(
    context: typer.Context,
    server: Annotated[
        str, typer.Option(help="Address of the studio; default: STUDIO_REMOTE_SERVER.", show_default=False)
    ] = "",
    patience_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds to keep trying while the server is silent; default: 8 until its first answer, then 120.",
            min=0,
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over plain http to another machine.")
    ] = False,
) -> None:
    """Keep the address of the other studio."""
    context.obj = RemoteOptions(server, patience_s, insecure)


@contextlib.contextmanager
def open_server(context: typer.Context, output: TerminalOutput | JsonLinesOutput) -> Iterator["Server"]:
    """Yield the other studio; STUDIO_REMOTE_TOKEN opens it, or the token in the home if it runs on this machine."""
    from studio.core.server_token import known_token
    from studio.remote.client import Server

    settings, options = load_settings(), context.obj
    address = options.url or settings.remote_server
    insecure = options.insecure or settings.remote_insecure
    asked = {} if options.patience_s is None else {"patience_s": options.patience_s, "contact_s": options.patience_s}
    patience = {"patience_s": PATIENCE_S, "contact_s": CONTACT_S, **asked}
    token = known_token(settings, address)
    with Server(address, token=token, insecure=insecure, on_event=output.event, **patience) as server:
        yield server


@remote.command("train")
def remote_train(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photos, or a dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for the run; the same command goes on there.")],
    subject: Annotated[str | None, typer.Option(help=help_of(TrainConfig, "subject"))] = None,
    class_noun: Annotated[str | None, typer.Option(help=help_of(TrainConfig, "class_noun"))] = None,
    consent: Consent = None,
    base: Annotated[str | None, typer.Option(help=help_of(TrainConfig, "base"))] = None,
    preset: Annotated[str | None, typer.Option(help="Training preset of the server; default: the base's own.")] = None,
    settings: SetAny = None,
    exports: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORMAT", help="Export it there too, into OUT/exports/FORMAT; repeatable."),
    ] = None,
    local_fallback: Annotated[
        bool, typer.Option("--local-fallback", help="Train here if the server cannot be reached.")
    ] = False,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Check and shrink photos here, train on the server, and download the run."""
    from studio.remote import run as far_studio

    here = load_settings()
    changes = parse_assignments(settings or ())
    request = far_studio.TrainRequest(subject, class_noun, base, preset, changes, consent=bool(consent))
    fallback = None
    if local_fallback:
        about = given_options(subject=subject, class_noun=class_noun)
        own = train_config_of(here, base, preset, settings or (), **about)  # refused now, not when it is needed
        fallback = lambda: own  # noqa: E731
    require_folder(source, "photos")
    output = open_output(as_json)
    with open_server(context, output) as server, output, stop_on_interrupt(output) as should_stop:
        verb = local_runner(output, here, should_stop)
        result = far_studio.train(
            verb,
            server,
            request,
            source,
            out,
            exports=exports or (),
            fallback=fallback,
            on_event=output.event,
            should_stop=should_stop,
        )

    def show(console: Console) -> None:
        trained = result.train
        here = say("Trained here, because the server could not be reached; best: step {best} of {steps}")
        there = say("Trained on {server}; best: step {best} of {steps}")
        best = {"best": trained["best_step"], "steps": trained["steps"]}
        console.print(there.format(server=result.server, **best) if result.server else here.format(**best))
        console.print(before_and_after(trained))
        sent, of = bytes_text(result.sent_bytes), bytes_text(result.original_bytes)
        console.print(say("Sent {size} of {total}").format(size=sent, total=of))
        console.print(say("The adapter is in {place}").format(place=out / trained["adapter"]))
        for folder in result.exports:
            console.print(say("Exported to {place}").format(place=out / folder))

    output.result(result, show)


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
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Make pictures on the server and download them."""
    from studio.remote import run as far_studio

    changes = parse_assignments(settings or ())
    GenerateConfig.parse({**changes, **given_options(pack=pack, prompts=prompt), "count": count, "seed": seed})
    parameters = {**plain(changes), **given_options(pack=pack, prompts=prompt), "count": count, "seed": seed}
    output = open_output(as_json)
    with open_server(context, output) as server, output, stop_on_interrupt(output) as should_stop:
        result = far_studio.generate(
            server, run_or_job, parameters, out, on_event=output.event, should_stop=should_stop
        )

    def show(console: Console) -> None:
        console.print(say("{count} pictures in {out}").format(count=len(result["images"]), out=out))
        if summary := result.get("likeness_summary"):
            console.print(capital(likeness_sentence(summary)) + "." + caveat_after(summary))

    output.result(result, show)


@remote.command("status")
def remote_status(
    context: typer.Context,
    job: RemoteJob,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Show the state of a job."""
    from studio.remote import run as far_studio

    output = open_output(as_json)
    with open_server(context, output) as server, output, stop_on_interrupt(output) as should_stop:
        if watch:
            view = far_studio.watch(server, job, on_event=output.event, should_stop=should_stop)
        else:
            view = server.job(job)
    output.result(view, lambda console: console.print(job_words(view)))


@remote.command("list")
def remote_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="Most jobs to name.", min=1, max=1000)] = 20,
    as_json: Json = False,
) -> None:
    """List the jobs, newest first."""
    output = open_output(as_json)
    with open_server(context, output) as server:
        rows = server.jobs(limit)
    output.result({"jobs": rows}, lambda console: console.print(jobs_table(rows)))


@remote.command("download")
def remote_download(
    context: typer.Context,
    job: RemoteJob,
    out: Annotated[Path, typer.Option(help="Folder for the files; a download that was cut goes on.")],
    as_json: Json = False,
) -> None:
    """Bring a completed job's files here, each verified by its digest."""
    from studio.remote import run as far_studio

    output = open_output(as_json)
    with open_server(context, output) as server, output:
        paths = far_studio.download(server, job, out, on_event=output.event)
    output.result({"files": paths}, show_count(len(paths), out))


@remote.command("cancel")
def remote_cancel(context: typer.Context, job: RemoteJob, as_json: Json = False) -> None:
    """Cancel a job; what it has done so far is kept there."""
    output = open_output(as_json)
    with open_server(context, output) as server:
        view = server.cancel(job)
    output.result(view, lambda console: console.print(job_words(view)))


@remote.command("retry")
def remote_retry(context: typer.Context, job: RemoteJob, as_json: Json = False) -> None:
    """Let a stalled or cancelled job of any kind go on there from where it was."""
    output = open_output(as_json)
    with open_server(context, output) as server:
        view = server.retry(job)
    output.result(view, lambda console: console.print(job_words(view)))


@remote.command("forget")
def remote_forget(
    context: typer.Context,
    job: ForgottenJob = "",
    subject: ForgottenSubject = "",
    everything: Everything = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete a job or a subject of yours there with everything made from it. Without --yes only say what."""
    require_one(job, subject, everything)
    output = open_output(as_json)
    with open_server(context, output) as server:
        receipt = server.forget(job=job, subject=subject, everything=everything, dry_run=not yes)
    is_left = not yes and (receipt["jobs"] or receipt["files"])

    def show(console: Console) -> None:
        console.print(receipt["words"], soft_wrap=True)  # as the server says it, in its language
        if is_left:
            console.print(say(SURE), soft_wrap=True)

    output.result(receipt, show)
