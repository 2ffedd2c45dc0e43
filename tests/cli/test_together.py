"""Processes that begin and end together; small programs stand for the servers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.cli import together
from studio.cli.together import Part, Together
from studio.core.errors import ResourceError

SERVER = """
import json, os, sys
from pathlib import Path
from studio.cli.together import end_with_input
place = Path(os.environ["PLACE"])
if os.environ.get("REFUSES"):
    print(json.dumps({"error": "The port is taken."}))
    sys.exit(1)
end_with_input()
with place.open("a") as file:
    file.write(f"{os.getpid()}\\n")
print(json.dumps({"address": f"http://{place.name}"}), flush=True)
import time
time.sleep(600)
"""


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Together, list[str]]]:
    """Return a function that makes servers of these names, and the list of what is told of them."""
    monkeypatch.setattr(together, "_COMMAND", ("-c", SERVER))
    monkeypatch.setattr(together, "_AGAIN_S", 0.1)

    def make(*names: str, refuses: str = "") -> tuple[Together, list[str]]:
        told: list[str] = []
        parts = [
            Part(name, {"PLACE": str(tmp_path / name), **({"REFUSES": "1"} if name == refuses else {})})
            for name in names
        ]
        return Together(parts, told.append), told

    return make


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(is_so: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_they_begin_together_one_that_dies_is_begun_anew_and_all_end_when_told(
    new: Callable[..., tuple[Together, list[str]]], tmp_path: Path
) -> None:
    both, told = new("a", "b")
    assert both.start() == {"a": "http://a", "b": "http://b"}

    def kill_one_and_end() -> None:
        os.kill(pids(tmp_path / "b")[0], signal.SIGKILL)
        until(lambda: len(pids(tmp_path / "b")) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=kill_one_and_end)
    thread.start()
    both.watch()
    thread.join()
    assert told == ["b has ended (status -9) and is begun anew."]
    assert len(pids(tmp_path / "a")) == 1
    assert not any(is_alive(pid) for name in "ab" for pid in pids(tmp_path / name))


def test_where_one_does_not_start_none_runs(new: Callable[..., tuple[Together, list[str]]], tmp_path: Path) -> None:
    both, _ = new("a", "b", refuses="b")
    with pytest.raises(ResourceError, match=r"b did not start: The port is taken\."):
        both.start()
    assert not any(is_alive(pid) for pid in pids(tmp_path / "a"))


def test_none_of_them_outlives_who_started_it(new: Callable[..., tuple[Together, list[str]]], tmp_path: Path) -> None:
    starter = os.fork()
    if starter == 0:
        try:
            new("a")[0].start()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(starter, 0)
    (pid,) = pids(tmp_path / "a")
    until(lambda: not is_alive(pid))


ENDS = "from studio.cli.together import end_with_input; end_with_input(); import time; time.sleep(0.2)"


def test_one_that_ends_by_itself_while_it_is_attached_ends_without_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDS], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        assert (process.wait(30), said) == (0, b"")


def test_a_terminal_that_closes_ends_them_too_and_may_say_so_twice() -> None:
    lost: list[int] = []
    late: list[str] = []
    over = threading.Event()

    def close() -> None:
        give_up_s = time.monotonic() + 5
        while not over.wait(0.05) and time.monotonic() < give_up_s:
            os.kill(os.getpid(), signal.SIGHUP)
        if not over.is_set():
            late.append("it went on")
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGHUP, lambda number, frame: lost.append(number))  # else it would end the tests
    try:
        thread = threading.Thread(target=close)
        thread.start()
        Together([], late.append).watch()
        over.set()
        thread.join()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert late == []
