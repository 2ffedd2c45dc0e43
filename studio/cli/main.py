"""The command line: ``python -m studio VERB``.

Like the web page, it turns arguments into configs, hands them to ``Studio.run`` and shows the events. Without
``--json`` a person sees progress bars and tables; with it, every event is one JSON line on standard output and the last
line is the result. Exit codes: 0 done, 1 failed, 2 wrong input, 130 stopped by Ctrl-C.

Imports neither torch nor gradio: verbs run where ``Studio.run`` runs them.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from studio.cli import (  # noqa: F401  (their commands are registered when they are imported)
    attempt,
    lists,
    mcp,
    serve,
    settings,
    verbs,
)
from studio.cli.bench import bench
from studio.cli.common import app
from studio.cli.dev import dev
from studio.cli.jobs import jobs
from studio.cli.keys import keys
from studio.cli.output import open_output
from studio.cli.remote import remote
from studio.cli.runners import runners
from studio.cli.space import space
from studio.core import language
from studio.core.errors import InputError, JobCancelled, NotFoundError, StudioError
from studio.core.private import LAST_ERROR, make_home
from studio.core.progress import stopped
from studio.core.settings import language_of, load_settings

app.add_typer(bench, name="bench")


app.add_typer(dev, name="dev")


app.add_typer(jobs, name="jobs")


app.add_typer(keys, name="keys")


app.add_typer(remote, name="remote")


app.add_typer(runners, name="runners")


app.add_typer(space, name="space")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become a message, never a stack trace."""
    as_json = "--json" in arguments
    output = open_output(as_json)
    try:
        code = _command()(list(arguments), prog_name="python -m studio", standalone_mode=not as_json)
        return code if isinstance(code, int) else 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except JobCancelled as error:
        output.error(error)
        return 130
    except StudioError as error:
        output.error(error)
        return 2 if isinstance(error, InputError | NotFoundError) else 1
    except KeyboardInterrupt:
        output.error(stopped("what was written is kept", "at once"))
        return 130
    except typer.TyperException as error:
        output.error(InputError(error.format_message()))
        return error.exit_code
    except BrokenPipeError:
        # The reader is gone (as in `... | head`): nothing more can be written, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        output.error(StudioError(_bug_report(error)))
        return 1


def _command() -> Any:
    """Return the command line with its help in the language of the settings."""
    command = typer.main.get_command(app)
    # Help is for those, too, whose settings are wrong. What verbs write and programs read stays English, and with it
    # what is said while they work; results are shown in the language again.
    with contextlib.suppress(StudioError), language.speaking(language_of(load_settings())):
        _translate(command)
    return command


def _translate(command: Any) -> None:
    for part in (command, *command.params):
        if getattr(part, "help", None):
            part.help = language.say(part.help)
    for inner in getattr(command, "commands", {}).values():
        _translate(inner)


def _bug_report(error: Exception) -> str:
    """Keep the stack trace of a bug in a file and return what to tell the user."""
    said = f"Unexpected error ({type(error).__name__}: {error})."
    try:
        home = load_settings().home
        make_home(home)
        path = home / LAST_ERROR
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except (OSError, StudioError):
        return f"{said} Please report it."
    return f"{said} Please report it with {path}."


def main() -> None:
    """Run the command line and end the process."""
    sys.exit(run(sys.argv[1:]))
