"""Commands that list what is there: chains, presets, packs, bases and the doctor's report."""

from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from studio.cli.common import Json, app
from studio.cli.output import open_output
from studio.cli.tables import Entry, new_table, show_entries
from studio.core import listings
from studio.core.settings import load_settings
from studio.core.units import gigabytes_text


@app.command()
def chains(as_json: Json = False) -> None:
    """List the finish chains."""
    rows = listings.chains(load_settings())
    entries = [Entry(row["name"], ", ".join(step["do"] for step in row["steps"]), row["description"]) for row in rows]
    open_output(as_json).result({"chains": rows}, show_entries(entries))


@app.command()
def presets(as_json: Json = False) -> None:
    """List the training presets."""
    rows = listings.presets(load_settings())
    entries = [Entry(row["name"], f"base {row['base']}, {_hardware(row)}", row["description"]) for row in rows]
    open_output(as_json).result({"presets": rows}, show_entries(entries))


def _hardware(row: Mapping[str, Any]) -> str:
    memory = row["hardware"].removesuffix("gb")
    return "no GPU needed" if memory == "cpu" else f"a GPU with {gigabytes_text(float(memory))}"


@app.command()
def packs(as_json: Json = False) -> None:
    """List the prompt packs."""
    rows = listings.packs(load_settings())
    entries = []
    for row in rows:
        bases = f"; written for {', '.join(row['bases'])}" if row["bases"] else ""
        facts = f"{len(row['shots'])} shots, for {', '.join(row['subjects'])}{bases}"
        entries.append(Entry(row["name"], facts, row["description"]))
    open_output(as_json).result({"packs": rows}, show_entries(entries))


@app.command()
def bases(as_json: Json = False) -> None:
    """List the base models of the catalog."""
    rows = listings.bases(load_settings())
    entries = []
    for row in rows:
        memory = f"a GPU with {gigabytes_text(row['vram_gb'])}" if row["vram_gb"] else "no GPU needed"
        memory += ", which this machine lacks" if row["lacks"] else ""
        default = "the default here; " if row["default"] else ""
        facts = f"{default}{row['title']}, {row['resolution_px']} px, {memory}, licence {row['licence']}"
        entries.append(Entry(row["name"], facts, row["description"]))
    open_output(as_json).result({"bases": rows}, show_entries(entries))


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
