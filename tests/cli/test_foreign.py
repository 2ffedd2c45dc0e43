"""What libraries print goes to a log; seen from outside, since it is about the streams of a whole process."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, os, sys, warnings
from pathlib import Path
handler = logging.StreamHandler()  # keeps the stream of today, as libraries do that configure logging on import
from studio.cli.foreign import VERBOSE, foreign_output_apart
from studio.cli.output import open_output
from studio.core.domain import Event

as_json, verbose, home = sys.argv[1] == "json", sys.argv[2] == "verbose", Path(sys.argv[3])
VERBOSE.set(verbose)
output = open_output(as_json)
for number in (1, 2):
    with foreign_output_apart(output, home), output:
        output.event(Event("message", {"level": "info", "text": f"ours {number}"}))
        print("foreign print")
        warnings.warn(f"foreign warning {number}", DeprecationWarning, stacklevel=1)
        handler.emit(logging.makeLogRecord({"msg": "foreign handler"}))
        for descriptor in (1, 2):
            os.write(descriptor, b"foreign native\\n")
output.result({"done": True}, lambda console: console.print("result"))
handler.emit(logging.makeLogRecord({"msg": "afterwards"}))
"""
KINDS = ("print", "warning 1", "warning 2", "handler", "native")


def run(form: str, verbosity: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "always", "-c", PROGRAM, form, verbosity, str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_sees_our_lines_only_and_the_log_keeps_the_others(form: str, tmp_path: Path) -> None:
    done = run(form, "quiet", tmp_path / "home")
    assert "foreign" not in done.stdout + done.stderr
    ours = done.stdout if form == "json" else done.stderr
    assert ours.index("ours 1") < ours.index("ours 2")
    assert "afterwards" in done.stderr and done.stdout.splitlines()[-1] in ("result", '{"done": true}')
    log = (tmp_path / "home" / "command.log").read_text()
    assert [kind for kind in KINDS if f"foreign {kind}" not in log] == [] and "ours" not in log


def test_with_verbose_all_is_shown_and_not_between_the_lines_of_a_result(tmp_path: Path) -> None:
    done = run("text", "verbose", tmp_path / "home")
    assert [kind for kind in KINDS if f"foreign {kind}" not in done.stderr] == []
    assert "foreign print" not in done.stdout
    assert not (tmp_path / "home" / "command.log").exists()


def test_a_home_that_cannot_be_written_takes_no_command_away(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    done = run("text", "quiet", tmp_path / "home")
    assert "foreign print" in done.stderr and done.stdout.splitlines()[-1] == "result"
