"""Commands that make and revoke API keys, for a server with STUDIO_AUTH=keys."""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from studio.cli.common import Json, parse_assignments
from studio.cli.output import open_output
from studio.cli.tables import new_table
from studio.core.domain import plain
from studio.core.keys import SCOPES, ApiKey, scopes_of
from studio.core.language import say
from studio.core.settings import load_settings
from studio.service import open_keys

keys = typer.Typer(help="Make and revoke API keys, for a server with STUDIO_AUTH=keys.", no_args_is_help=True)


@contextlib.contextmanager
def _table_of_keys() -> Iterator[Any]:
    """Yield the keys of this installation; a server on the same home or database sees what is written at once."""
    found = open_keys(load_settings())
    try:
        yield found
    finally:
        found.close()


@keys.command("create")
def keys_create(
    owner: Annotated[str, typer.Option(help="Whose jobs it opens; the same name again is the same owner.")],
    name: Annotated[str, typer.Option(help="What its owner calls it.")] = "",
    scopes: Annotated[str, typer.Option(help=f"Some of {', '.join(SCOPES)}, separated by commas.")] = "jobs",
    days: Annotated[
        float | None, typer.Option(help="Days until it expires; default: never.", show_default=False)
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="NAME=VALUE",
            help="A limit of its own instead of STUDIO_QUOTA_NAME: requests_per_minute, body_bytes, photos, jobs,"
            " gpu_minutes; null lifts one; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once: only a digest of it is kept."""
    chosen, quota = scopes_of(scopes.split(",")), parse_assignments(limits or ())
    with _table_of_keys() as table:
        key, text = table.create(owner=owner, name=name, scopes=chosen, days=days, quota=quota)

    def show(console: Console) -> None:
        console.print(text, soft_wrap=True)
        told = say("Keep it now: it is shown this once. It opens what is {owner}'s, with {scopes}.")
        console.print(told.format(owner=owner, scopes=say(" and ").join(chosen)), soft_wrap=True)

    open_output(as_json).result({**plain(key), "key": text}, show)


@keys.command("list")
def keys_list(
    owner: Annotated[str, typer.Option(help="Of this owner only.", show_default=False)] = "", as_json: Json = False
) -> None:
    """List the keys, the oldest first; their secret parts are not known here."""
    with _table_of_keys() as table:
        found = table.of(owner or None)
    rows = {"keys": [plain(key) for key in found]}
    open_output(as_json).result(rows, lambda console: console.print(_table(found)))


@keys.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its beginning, as `keys list` shows it.")],
    as_json: Json = False,
) -> None:
    """Let a key open nothing from now on."""
    with _table_of_keys() as table:
        revoked = table.revoke("_".join(key.split("_")[:2]))  # of a whole key only the beginning
    open_output(as_json).result(
        plain(revoked), lambda console: console.print(say("{key} opens nothing any more.").format(key=revoked.id))
    )


@keys.command("accesses")
def keys_accesses(
    limit: Annotated[int, typer.Option(help="Most rows.", min=1, max=10000)] = 100, as_json: Json = False
) -> None:
    """List what administrators asked in the name of other owners, the newest first."""
    with _table_of_keys() as table:
        rows = table.accesses(limit)
    open_output(as_json).result({"accesses": rows}, lambda console: console.print(_accesses(rows)))


def _table(found: Sequence[ApiKey]) -> Table | str:
    if not found:
        return say("There are no keys yet; `python -m studio keys create --owner NAME` makes one.")
    table = new_table("key", "owner", "name", "may", "last used", "state", names=True)
    now = datetime.now(UTC).timestamp()
    for key in found:
        state = say("open")
        if key.revoked_s is not None:
            state = say("revoked {day}").format(day=_day(key.revoked_s))
        elif key.expires_s is not None:
            state = say("expired {day}" if key.expires_s <= now else "until {day}").format(day=_day(key.expires_s))
        table.add_row(key.id, key.owner, key.name, ", ".join(key.scopes), key.last_used_day or say("never"), state)
    return table


def _accesses(rows: Sequence[dict[str, Any]]) -> Table | str:
    if not rows:
        return say("No administrator has asked anything in the name of another owner.")
    table = new_table("when (UTC)", "key", "as", "request")
    for row in rows:
        when = datetime.fromtimestamp(row["at_s"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, row["key"], row["owner"], f"{row['method']} {row['path']}")
    return table


def _day(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d")
