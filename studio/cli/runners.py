"""The commands ``runners``: what jobs run on, what it costs, and the sweep of rented machines by hand."""

from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from studio.cli.common import Json
from studio.cli.output import open_output
from studio.cli.tables import new_table
from studio.core.domain import plain
from studio.core.language import say
from studio.core.settings import load_settings
from studio.core.units import dollars

runners = typer.Typer(
    help="What jobs run on: is it alive, what does it cost, what is rented right now.", invoke_without_command=True
)

_ALIVE = {True: ("yes", "green"), False: ("NO", "red"), None: ("not known", "yellow")}


@runners.callback()
def show_runners(context: typer.Context, as_json: Json = False) -> None:
    """Show what jobs run on; nothing is started and nothing is rented."""
    if context.invoked_subcommand is not None:
        return
    from studio.jobs.runners import inventory

    found = plain(inventory.look(load_settings()))
    open_output(as_json).result(found, lambda console: _show(console, found))


@runners.command("sweep")
def sweep(as_json: Json = False) -> None:
    """Give back every rented machine that belongs to no running job; a server does so by itself."""
    from studio.jobs.runners import inventory

    swept = inventory.sweep_now(load_settings())

    def show(console: Console) -> None:
        words = say("{gone} machines given back, {kept} belong to jobs that run.")
        console.print(words.format(gone=len(swept["given_back"]), kept=len(swept["kept"])))
        for name, why in swept["left"].items():
            console.print(f"{say('the list') if name == '*' else name}: {why}", style="red")

    open_output(as_json).result(swept, show)
    if swept["left"]:
        raise typer.Exit(1)


def _show(console: Console, found: dict[str, Any]) -> None:
    table = new_table("runner", "jobs for a GPU", "reached", "at once", "device", "price", names=True)
    for row in found["runners"]:
        word, style = _ALIVE[row["alive"]]
        goes = say("go there") if row["chosen"] else ""
        table.add_row(row["name"], goes, Text(say(word), style=style), str(row["slots"]), row["device"], row["price"])
    console.print(table)
    for row in found["runners"]:
        if row["cause"]:
            console.print(f"{row['name']}: {row['cause']}", style="yellow", soft_wrap=True)
    for row in found["rented"]:
        hourly = row["price_per_hour"]
        price = "" if hourly is None else say(", {price} an hour").format(price=dollars(hourly))
        name = row["machine"] or say("a machine that nobody has seen")
        words = say("rented: {machine} for {job}, {state}{price}")
        console.print(words.format(machine=name, job=row["job"], state=row["state"], price=price), soft_wrap=True)
    money = found["money"]
    if money is not None:
        amounts = {name: dollars(money[name]) for name in ("spent", "budget", "reserved")}
        words = say("{month}: {spent} of {budget} spent, {reserved} reserved for machines that run")
        console.print(words.format(month=money["month"], **amounts))
