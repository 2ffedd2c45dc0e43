"""The command ``serve``: the web page, from one server or from several on one database."""

import contextlib
from typing import Annotated

import typer
from rich.console import Console

from studio.cli.common import Json, app
from studio.cli.output import JsonLinesOutput, TerminalOutput, open_output
from studio.cli.together import Part, Together, end_with_input
from studio.core import machine
from studio.core.domain import Event
from studio.core.errors import InputError, Problem
from studio.core.language import say
from studio.core.settings import Settings, load_settings
from studio.jobs.slots import device_of, slots_of

_LAST_PORT = 65535


@app.command()
def serve(
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Servers on one database (STUDIO_DATABASE_URL), on this port and those after it."
        ),
    ] = 1,
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Serve the web page until Ctrl-C; the same as ``python app.py``. STUDIO_HOST and STUDIO_PORT say where."""
    output = open_output(as_json)
    settings = load_settings()
    if workers > 1:
        _serve_many(settings, workers, output)
        return
    from studio.web import server

    if attached:
        end_with_input()

    def ready(address: str) -> None:
        output.result(
            {"address": address}, lambda console: console.print(f"Likeness Studio is at {address}", soft_wrap=True)
        )

    with contextlib.suppress(KeyboardInterrupt):
        server.serve(settings, on_ready=ready)


def ports(settings: Settings, count: int, what: str) -> list[int]:
    """Return a port for each of several servers, the settings' own first; 0 lets the system choose each.

    Raises:
        InputError: there are not so many.
    """
    last = settings.port + count - 1
    if settings.port and last > _LAST_PORT:
        cure = f"set it to {_LAST_PORT - count + 1} at most, or ask for fewer"
        raise InputError.of([Problem("STUDIO_PORT", f"leaves no ports for {count} {what}", cure, "ports")])
    return [settings.port + number if settings.port else 0 for number in range(count)]


def shares_of(settings: Settings, workers: int) -> list[dict[str, str]]:
    """Return the variables by which each of several servers that run jobs has GPUs of its own.

    Without a GPU several share the processor. Ray and services that rent machines give each job a GPU themselves.

    Raises:
        InputError: there are fewer GPUs, or all would send their jobs to one machine.
    """
    if workers > 1 and settings.runner.startswith("ssh:"):
        words = f"asks for {workers}, and each would take {settings.runner.removeprefix('ssh:')} to be free"
        raise InputError.of([Problem("--workers", words, "ask for 1: it knows what runs there", "workers")])
    if workers == 1 or settings.runner != "local":
        return [{}] * workers
    names = [name for slot in slots_of(settings) if (name := device_of(slot))]
    if not names and machine.look(settings.device).kind == "cpu":
        return [{}] * workers
    count = max(1, len(names))
    if workers > count:
        words = f"asks for {workers}, and jobs may use {count} GPU{'s' * (count > 1)} here: each worker has its own"
        cure = f"ask for {count} at most, or set STUDIO_DEVICE=cpu"
        raise InputError.of([Problem("--workers", words, cure, "workers")])
    return [{"STUDIO_GPUS": ",".join(names[number::workers])} for number in range(workers)]


def _serve_many(settings: Settings, count: int, output: TerminalOutput | JsonLinesOutput) -> None:
    if settings.database_url is None:
        words = "needs a database that servers share; with the table of jobs in a file one server answers and runs them"
        cure = "set STUDIO_DATABASE_URL to a Postgres database, or leave it out: one server runs a job on each GPU, too"
        raise InputError.of([Problem("--workers", words, cure, "workers")])
    shares = shares_of(settings, count) if settings.works == "always" else [{}] * count
    parts = [
        Part(f"server {number}", {"STUDIO_PORT": str(port), **share})
        for number, (port, share) in enumerate(zip(ports(settings, count, "servers"), shares, strict=True), 1)
    ]
    together = Together(parts, lambda words: output.event(Event("message", {"level": "warning", "text": words})))
    found = list(together.start().values())

    def show(console: Console) -> None:
        for address in found:
            console.print(f"Likeness Studio is at {address}", soft_wrap=True)
        words = {
            "lead": say(
                "One of them leads and runs the jobs; when it dies, another one does. A page keeps to its server."
            ),
            "always": say("Each of them runs jobs. A page keeps to its server."),
            "never": say("None of them runs jobs: servers with STUDIO_WORKS=always do. A page keeps to its server."),
        }
        console.print(words[settings.works])

    output.result({"addresses": found}, show)
    together.watch()
