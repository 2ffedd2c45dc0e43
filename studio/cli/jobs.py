"""Commands that look after the jobs of this machine, and the one that deletes them."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from studio.cli.common import Json, app
from studio.cli.output import open_output
from studio.cli.tables import job_words, jobs_table
from studio.core.domain import plain
from studio.core.errors import InputError, Problem
from studio.core.language import say
from studio.core.settings import load_settings
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
