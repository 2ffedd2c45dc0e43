"""Commands that list what is there: chains, presets, packs, bases and the doctor's report."""

import typer
from rich.console import Console
from rich.text import Text

from studio.cli.common import Json, app
from studio.cli.output import open_output
from studio.cli.tables import new_table
from studio.core import listings
from studio.core.settings import load_settings
from studio.core.units import gigabytes_text


@app.command()
def chains(as_json: Json = False) -> None:
    """List the finish chains."""
    rows = listings.chains(load_settings())

    def show(console: Console) -> None:
        table = new_table("chain", "steps", "description", names=True)
        for row in rows:
            table.add_row(row["name"], ", ".join(step["do"] for step in row["steps"]), Text(row["description"]))
        console.print(table)

    open_output(as_json).result({"chains": rows}, show)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the training presets."""
    rows = listings.presets(load_settings())

    def show(console: Console) -> None:
        table = new_table("preset", "base", "hardware", "for whom, and what it costs", names=True)
        for row in rows:
            table.add_row(row["name"], row["base"], row["hardware"], Text(row["description"]))
        console.print(table)

    open_output(as_json).result({"presets": rows}, show)


@app.command()
def packs(as_json: Json = False) -> None:
    """List the prompt packs."""
    rows = listings.packs(load_settings())

    def show(console: Console) -> None:
        table = new_table("pack", "shots", "for", "bases", "description", names=True)
        for row in rows:
            bases = ", ".join(row["bases"]) or "any"
            table.add_row(
                row["name"], str(len(row["shots"])), ", ".join(row["subjects"]), bases, Text(row["description"])
            )
        console.print(table)

    open_output(as_json).result({"packs": rows}, show)


@app.command()
def bases(as_json: Json = False) -> None:
    """List the base models of the catalog."""
    rows = listings.bases(load_settings())

    def show(console: Console) -> None:
        table = new_table("base", "title", "pixels", "GPU memory", "licence", "description", names=True)
        for row in rows:
            memory = gigabytes_text(row["vram_gb"]) if row["vram_gb"] else "none needed"
            name = f"{row['name']} (default)" if row["default"] else row["name"]
            table.add_row(
                name, row["title"], str(row["resolution_px"]), memory, row["licence"], Text(row["description"])
            )
        console.print(table)

    open_output(as_json).result({"bases": rows}, show)


_MARK = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this installation; every finding comes with its cure."""
    from studio.doctor import examine

    load_settings()  # a bad variable is an error here, not one failed probe after the other
    findings = examine()

    def show(console: Console) -> None:
        table = new_table("", "what", "finding", "cure")
        for finding in findings:
            word, style = _MARK[finding.status]
            table.add_row(Text(word, style=style), finding.name, Text(finding.message), Text(finding.cure))
        console.print(table)

    failed = any(finding.status == "fail" for finding in findings)
    open_output(as_json).result({"ok": not failed, "findings": findings}, show)
    if failed:
        raise typer.Exit(1)
