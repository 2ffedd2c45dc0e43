"""Commands that look after the jobs of this machine, and the one that deletes them."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from studio.cli.common import Json, app
from studio.cli.output import open_output
from studio.cli.tables import event_line, job_details, job_words, jobs_table
from studio.core.domain import TERMINAL_STATES, plain
from studio.core.errors import InputError, Problem
from studio.core.language import say
from studio.core.settings import load_settings
from studio.jobs.runners.base import log_lines
from studio.jobs.runners.local import LOG_FILE
from studio.service import Studio

jobs = typer.Typer(help="Look after the jobs that the page and programs have started here.", no_args_is_help=True)


Job = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job; `jobs list` names them.")]


ForgottenJob = Annotated[
    str, typer.Argument(metavar="[JOB]", show_default=False, help="Id of a job; `jobs list` names them.")
]


ForgottenSubject = Annotated[
    str, typer.Option("--subject", metavar="NAME", help="All jobs of this subject.", show_default=False)
]


Everything = Annotated[bool, typer.Option("--everything", help="All jobs, uploads and files.")]


Yes = Annotated[bool, typer.Option("--yes", help="Delete it; this cannot be undone.")]


Follow = Annotated[bool, typer.Option("--follow", help="Go on until the job has ended, or until Ctrl-C.")]


JsonRows = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


_LOOK_S = 0.5


@contextlib.contextmanager
def _table_of_jobs() -> Iterator[tuple[Studio, str]]:
    """Yield a studio that runs nothing by itself, and its owner; a server on the same home sees what it writes."""
    here = load_settings()
    studio = Studio(here)
    try:
        yield studio, here.owner
    finally:
        studio.close()


@jobs.command("list")
def jobs_list(
    limit: Annotated[int, typer.Option(help="Most jobs.", min=1, max=1000)] = 20, as_json: Json = False
) -> None:
    """List your jobs, newest first."""
    with _table_of_jobs() as (studio, owner):
        views = studio.list(owner=owner, limit=limit)
    rows = [plain(view) for view in views]
    open_output(as_json).result({"jobs": rows}, lambda console: console.print(jobs_table(rows)))


@jobs.command("retry")
def jobs_retry(job: Job, as_json: Json = False) -> None:
    """Let a stalled or cancelled job of any kind go on from where it was, as soon as a server runs."""
    with _table_of_jobs() as (studio, owner):
        view = plain(studio.retry(job, owner=owner))
    open_output(as_json).result(view, lambda console: console.print(job_words(view)))


@jobs.command("show")
def jobs_show(job: Job, as_json: Json = False) -> None:
    """Show how a job stands, what is wrong with it, and where its files are."""
    with _table_of_jobs() as (studio, owner):
        view = plain(studio.get(job, owner=owner))
        folder = studio.out_dir(job, owner=owner)
    view |= {"folder": str(folder) if folder.is_dir() else None}
    open_output(as_json).result(view, lambda console: console.print(job_details(view), soft_wrap=True))


@jobs.command("fetch")
def jobs_fetch(job: Job, as_json: Json = False) -> None:
    """Fetch the weights of a job that are in the backup alone (STUDIO_WEIGHTS_MAX_BYTES), to use its folder."""
    with _table_of_jobs() as (studio, owner):
        count = studio.bring_weights(job, owner=owner)
    said = say("{count} files came back.").format(count=count) if count else say("All of its weights are here.")
    open_output(as_json).result({"job": job, "fetched": count}, lambda console: console.print(said))


@jobs.command("cancel")
def jobs_cancel(job: Job, as_json: Json = False) -> None:
    """Cancel a job; one that runs stops within seconds, and what it has done so far is kept."""
    with _table_of_jobs() as (studio, owner):
        view = plain(studio.cancel(job, owner=owner))
    asked = view["state"] not in TERMINAL_STATES
    said = say("{job}; it was asked to stop").format(job=job_words(view)) if asked else job_words(view)
    open_output(as_json).result(view, lambda console: console.print(said, soft_wrap=True))


@jobs.command("logs")
def jobs_logs(job: Job, follow: Follow = False, as_json: JsonRows = False) -> None:
    """Print what the job's process has written, of all its attempts, wherever they ran."""
    cursor = 0
    with _table_of_jobs() as (studio, owner), _stopped_by_interrupt():
        path = studio.out_dir(job, owner=owner).with_name(LOG_FILE)
        for _ in _looks(studio, job, owner, follow=follow):
            lines = [""]
            while lines:
                lines, cursor = log_lines(path, cursor)
                for line in lines:
                    typer.echo(json.dumps({"line": line}, ensure_ascii=False) if as_json else line)


@jobs.command("events")
def jobs_events(
    job: Job,
    after: Annotated[int, typer.Option(help="Only those with a higher number.", min=0)] = 0,
    follow: Follow = False,
    as_json: JsonRows = False,
) -> None:
    """Print what the job has told, in order; of its progress only the newest."""
    with _table_of_jobs() as (studio, owner), _stopped_by_interrupt():
        for _ in _looks(studio, job, owner, follow=follow):
            for seq, event in studio.events(job, owner=owner, after=after):
                after = seq
                row = {"seq": seq, **plain(event)}
                typer.echo(json.dumps(row, ensure_ascii=False, allow_nan=False) if as_json else event_line(seq, event))


def _looks(studio: Studio, job: str, owner: str, *, follow: bool) -> Iterator[None]:
    """Yield whenever it is time to look at a job: once, or until it has ended."""
    while True:
        ended = studio.get(job, owner=owner).state in TERMINAL_STATES  # asked first: then nothing comes any more
        yield
        if ended or not follow:
            return
        time.sleep(_LOOK_S)


@contextlib.contextmanager
def _stopped_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end what only watches, without a word."""
    with contextlib.suppress(KeyboardInterrupt):
        yield


@app.command()
def forget(
    job: ForgottenJob = "",
    subject: ForgottenSubject = "",
    everything: Everything = False,
    owner: Annotated[
        str,
        typer.Option(
            help="Of this owner of a server where people log in (hf:ID); yours otherwise.", show_default=False
        ),
    ] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete a job or a subject with everything made from it, wherever it is kept. Without --yes only say what."""
    require_one(job, subject, everything)
    with _table_of_jobs() as (studio, own):
        receipt = studio.forget(
            owner=owner or own, job=job or None, subject=subject or None, everything=everything, dry_run=not yes
        )

    def show(console: Console) -> None:
        console.print(receipt.words(), soft_wrap=True)
        if not yes and (receipt.jobs or receipt.files):
            console.print(say(SURE), soft_wrap=True)

    open_output(as_json).result(receipt, show)


def require_one(job: str, subject: str, everything: bool) -> None:
    """Refuse to forget nothing in particular, or two things at once.

    Raises:
        InputError: not exactly one of the three is given.
    """
    if sum((bool(job), bool(subject), everything)) != 1:
        raise InputError.of([Problem("forget", "is not told what, or told it twice", _WHAT, "what")])


_WHAT = "give the id of a job, --subject NAME or --everything"
SURE = "Nothing is deleted yet; add --yes to delete it."
