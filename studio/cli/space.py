"""Commands that build a Space and push it to the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.common import Json
from studio.cli.output import open_output
from studio.cli.tables import show_count

space = typer.Typer(help="Build the studio as a Space of the Hugging Face Hub, and push it.", no_args_is_help=True)


SpaceName = Annotated[str, typer.Argument(metavar="NAME", help="A folder of spaces/: demo (free CPU), gpu or zerogpu.")]


@space.command("build")
def space_build(
    name: SpaceName,
    out: Annotated[Path, typer.Option(help="Empty folder for exactly what would be pushed.")],
    as_json: Json = False,
) -> None:
    """Write what a push would send, to look at or to start."""
    from studio.web import spaces

    files = spaces.build(name, out)
    result = {"space": name, "files": files}
    open_output(as_json).result(result, show_count(len(files), out))


@space.command("push")
def space_push(
    name: SpaceName,
    repo: Annotated[str, typer.Option(help="Id on the Hub, like ada/likeness-studio.")],
    public: Annotated[bool, typer.Option("--public", help="Make it public: all visitors share one studio.")] = False,
    as_json: Json = False,
) -> None:
    """Build a Space and push it to the Hub, private by default; needs `hf auth login`."""
    from studio.web import spaces

    address = spaces.push(name, repo, private=not public)
    open_output(as_json).result({"address": address}, lambda console: console.print(address))
