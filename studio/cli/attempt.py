"""The command ``attempt``: what a server starts on another machine to carry out one attempt of one job."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.common import app
from studio.core.logs import log_to_stderr
from studio.core.settings import load_settings
from studio.jobs.runners import agent


@app.command()
def attempt(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="File that a server has sent.", show_default=False)],
) -> None:
    """Carry out one attempt of a job of another machine's server; a server starts this by itself."""
    log_to_stderr()
    raise typer.Exit(agent.run(ticket, load_settings()))
