"""The command ``settings``: what ``--set`` takes for a verb, and the variables of this installation."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from studio.cli.common import Json, app
from studio.cli.output import open_output
from studio.core.config import CONFIGS
from studio.core.described import Setting, settings_of, variables
from studio.core.errors import NotFoundError
from studio.core.names import choice_cure

_NOTES = {
    "train": "The preset sets many of these; `presets` lists the presets.",
    "finish": "The chain sets many of these, and only its own steps have settings; `chains` lists the chains.",
}

_PAGE = """# Settings

An installation is set up with environment variables, which are read at the start. `None` stands for a variable that is
not set, `PROJECT` for the folder that holds this project. `python -m studio settings` shows the same on a terminal;
`python -m studio settings VERB` shows what `--set` takes for a verb.

| variable | values | default | meaning |
|---|---|---|---|
"""


@app.command("settings")
def show_settings(
    verb: Annotated[
        str | None, typer.Argument(help=f"One of: {', '.join(CONFIGS)}. Without it: the STUDIO_* variables.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what --set takes for a verb, or the variables that set up this installation."""
    if verb is not None and verb not in CONFIGS:
        raise NotFoundError(f"there is no verb {verb!r}; {choice_cure(verb, CONFIGS)}.")
    rows = variables() if verb is None else settings_of(verb)

    def show(console: Console) -> None:
        for row in rows:
            console.print(Text(row.name, style="bold"), soft_wrap=True)
            console.print(Padding(Text(row.about), (0, 0, 0, 4), expand=False))
            default = f"; default: {row.default}" if row.default else "; must be given"
            console.print(Padding(Text(row.values + default, style="dim"), (0, 0, 0, 4), expand=False))
        console.print(f"\n{_NOTES[verb]}" if verb in _NOTES else "", soft_wrap=True)

    open_output(as_json).result({"verb": verb, "settings": [asdict(row) for row in rows]}, show)


def markdown(rows: Sequence[Setting]) -> str:
    """Return the page docs/SETTINGS.md for the variables of an installation."""
    lines = [
        f"| `{row.name}` | {row.values} | {f'`{row.default}`' if row.default else ''} | {row.about} |" for row in rows
    ]
    return _PAGE + "\n".join(" ".join(line.split()) for line in lines) + "\n"
