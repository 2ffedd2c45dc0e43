"""The command ``dev up``: everything of a shared studio on this machine, ended by one Ctrl-C."""

import contextlib
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from studio.cli import dev_postgres
from studio.cli.common import Json
from studio.cli.output import open_output
from studio.cli.serve import ports, shares_of
from studio.cli.tables import new_table
from studio.cli.together import Part, Together, told_to_end
from studio.core.domain import Event
from studio.core.errors import ResourceError
from studio.core.language import say
from studio.core.private import TABLE_NAME, make_home
from studio.core.server_token import kept_secret, server_token
from studio.core.settings import Settings, load_settings

dev = typer.Typer(help="Everything of a shared studio on this machine, to try it and to work on it.")

_HOME = ".likeness-studio-dev"
"""Below the user's folder, where STUDIO_HOME says nothing: jobs of a studio that is in use stay apart."""
_SECRETS_KEY = "secrets-key"
_READY_S = 120.0
_LOOK_S = 0.3
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""A proxy of the environment is not for this machine, and must not see the token."""


@dataclass(frozen=True, slots=True)
class _Database:
    url: str | None
    """None: a file in the home."""
    kind: str
    """given, here, or why it is a file: psycopg, program, root, file."""


@dev.callback()
def develop() -> None:
    """Hold the commands below."""


@dev.command("up")
def up(
    workers: Annotated[
        int, typer.Option(min=1, max=16, help="Servers that run jobs, beside the one that answers; with Postgres only.")
    ] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="End everything again as soon as it is there and a job could run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start page, queue, storage and what runs jobs, with one command.

    With Postgres (STUDIO_DATABASE_URL, or installed here) a server answers and others run jobs; else one does both.
    """
    settings = load_settings()
    home = settings.home if "home" in settings.model_fields_set else Path.home() / _HOME
    settings = settings.model_copy(update={"home": home.expanduser().absolute()})
    output = open_output(as_json)
    with contextlib.suppress(KeyboardInterrupt), told_to_end(_end), _database(settings) as database:
        together = Together(
            _parts(settings, database, workers),
            lambda words: output.event(Event("message", {"level": "warning", "text": words})),
        )
        addresses = together.start()
        try:
            _await(settings, next(iter(addresses.values())))
        except BaseException:
            together.stop()
            raise
        storage = settings.storage_url.get_secret_value() if settings.storage_url else str(settings.home / "storage")
        told = {
            "servers": addresses,
            "database": database.kind,
            "home": str(settings.home),
            "storage": storage.partition("?")[0],
            "runner": settings.runner,
        }
        output.result(told, lambda console: _show(console, told, addresses, settings))
        if check:
            together.stop()
        else:
            together.watch()


def _end(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes may say so twice
    raise KeyboardInterrupt


def _parts(settings: Settings, database: _Database, workers: int) -> list[Part]:
    common = {"STUDIO_HOME": str(settings.home)}
    if database.url is None:
        return [Part("studio", common)]
    shares = shares_of(settings, workers)
    common["STUDIO_DATABASE_URL"] = database.url
    if settings.secrets_key is None:  # a token that comes with a request is opened by another server
        common["STUDIO_SECRETS_KEY"] = kept_secret(settings.home, _SECRETS_KEY)
    page, *others = ports(settings, workers + 1, "servers")
    parts = [Part("page", {**common, "STUDIO_PORT": str(page), "STUDIO_WORKS": "never"})]
    for number, (port, share) in enumerate(zip(others, shares, strict=True), 1):
        variables = {**common, **share, "STUDIO_PORT": str(port), "STUDIO_WORKS": "always"}
        parts.append(Part(f"worker {number}", variables))
    return parts


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[_Database]:
    """Give the database: what the settings name, one of this home's own, or a file; raises ResourceError."""
    try:
        make_home(settings.home)
    except OSError as error:
        raise ResourceError(f"the folder {settings.home} cannot be used ({error.strerror}).") from error
    if settings.database_url is not None:
        yield _Database(settings.database_url.get_secret_value(), "given")
        return
    lack = "file" if (settings.home / TABLE_NAME).exists() else dev_postgres.lacks()
    if lack is not None:
        yield _Database(None, lack)
        return
    with dev_postgres.serving(settings.home / "postgres") as url:
        yield _Database(url, "here")


def _await(settings: Settings, address: str) -> None:
    """Wait until a job could be taken and would run; raises ResourceError."""
    token = server_token(settings)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{address.partition('/?')[0]}/v1/ready", headers=headers)
    end_s, why = time.monotonic() + _READY_S, ""
    while time.monotonic() < end_s:
        try:
            with _OPEN(request, timeout=10):
                return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):  # it answers, and opens to logins or keys only
                return
            why = error.read().decode("utf-8", "replace")[:300]
        except OSError as error:
            why = str(error)
        time.sleep(_LOOK_S)
    raise ResourceError(f"the studio was not ready in time ({why}).")


def _show(console: Console, told: Mapping[str, object], addresses: dict[str, str], settings: Settings) -> None:
    table = new_table("part", "where", names=True)
    for name, address in addresses.items():
        table.add_row(name, address)
    table.add_row(say("jobs"), _words(str(told["database"]), settings.home))
    table.add_row(say("storage"), str(told["storage"]))
    table.add_row(say("runner"), settings.runner)
    console.print(table)
    console.print(say("Ctrl-C ends all of it; jobs go on at the next start."))


def _words(kind: str, home: Path) -> str:
    file = home / TABLE_NAME
    words = {
        "given": say("Postgres, of STUDIO_DATABASE_URL"),
        "here": say("Postgres, in {folder}"),
        "psycopg": say("{file}; for several servers: pip install 'psycopg[binary]'"),
        "program": say("{file}; for several servers install Postgres"),
        "root": say("{file}; Postgres does not run as root"),
        "file": say("{file}, as before"),
    }
    return words[kind].format(folder=home / "postgres", file=file)
