"""Named places at which a process kills itself with SIGKILL; used by the kill loops.

A place is armed by a file of its name in a folder: the first process that comes there takes the file away and dies, and
nobody else does. Servers of the tests call ``arm`` themselves. Agents and their children are found by their command
line, on whatever machine they run: ``site_folder`` writes what Python imports first of all.
"""

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

DIED = "died.txt"
"""File of the folder that lists the places at which somebody has died."""

When = Literal["before", "after", "with"]


@dataclass(frozen=True)
class Place:
    where: str
    """``module:Class.method`` or ``module:function``."""
    when: When
    """Before or after it; ``with``: after it has returned something."""


SERVER = {
    "a job is claimed": Place("studio.jobs.store:Store.claim", "with"),
    "events are to be stored": Place("studio.jobs.store:Store.append", "before"),
    "events are stored": Place("studio.jobs.store:Store.append", "after"),
    "an end is to be stored": Place("studio.jobs.store:Store.finish", "before"),
    "an end is stored": Place("studio.jobs.store:Store.finish", "after"),
    "waiting jobs are surveyed": Place("studio.jobs.store:Store.survey", "after"),
    "the jobs of a dead server are adopted": Place("studio.jobs.store:Store.adopt", "after"),
    "the jobs of a dead server wait again": Place("studio.jobs.store:Store.recover", "after"),
}
"""Of any server; the last two while it starts."""
LOSS = {
    "a loss is to be stored": Place("studio.jobs.store:Store.lose", "before"),
    "a loss is stored": Place("studio.jobs.store:Store.lose", "after"),
}
"""Of any server, when an attempt was lost."""
DESK = {
    "a ticket is to be made": Place("studio.jobs.runners.desk:AgentDesk.ticket", "before"),
    "an agent is launched": Place("studio.jobs.runners.agents:AgentRunner._launch", "after"),
    "a place is noted": Place("studio.jobs.store:Store.place", "after"),
    "an object is written and has no name": Place("studio.jobs.storage.folder:sync_file", "before"),
    "an object has its name": Place("studio.jobs.storage.folder:sync_folder", "after"),
    "files are to be read back": Place("studio.jobs.runners.desk:AgentDesk._verify", "before"),
    "a snapshot is kept": Place("studio.jobs.runners.desk:AgentDesk.snapshot", "after"),
    "a last word is kept": Place("studio.jobs.runners.desk:AgentDesk.end", "after"),
    "a file is to come home": Place("studio.jobs.storage.folder:FolderStorage.get", "before"),
    "a file is home": Place("studio.jobs.storage.folder:FolderStorage.get", "after"),
    "a result is to be committed": Place("studio.jobs.runners.desk:AgentDesk.commit", "before"),
    "a result is committed": Place("studio.jobs.runners.desk:AgentDesk.commit", "after"),
}
"""Of a server whose attempts have agents."""
AGENT = {
    "an input is fetched": Place("studio.jobs.runners.agent:_Line.fetch", "after"),
    "events are told": Place("studio.jobs.runners.agent:_Teller.tell", "after"),
    "files are to be brought": Place("studio.jobs.runners.agent:_Bringer.bring", "before"),
    "a file is brought": Place("studio.jobs.runners.agent:_Line.bring", "after"),
    "a snapshot is told": Place("studio.jobs.runners.agent:_Bringer.snapshot", "after"),
    "the last word is to be told": Place("studio.jobs.runners.agent:_say_end", "before"),
    "the last word is told": Place("studio.jobs.runners.agent:_say_end", "after"),
}
CHILD = {
    "a step is written and not told": Place("fake_verbs:_progress", "before"),
    "the outcome is to be told": Place("studio.jobs.events:outcome_line", "before"),
}
STARTING = ("the jobs of a dead server are adopted", "the jobs of a dead server wait again")


def arm(folder: Path, places: dict[str, Place]) -> None:
    """Make this process die at these places, each when a file of its name lies in the folder."""
    for name, place in places.items():
        module, _, path = place.where.partition(":")
        *outer, last = path.split(".")
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        setattr(owner, last, _deadly(getattr(owner, last), place.when, name, folder))


def arm_by_command_line(folder: Path) -> None:
    """Arm this process if it is an agent or a child of one; called before anything else of it runs."""
    words = sys.orig_argv
    if words[-2:-1] == ["attempt"] and "studio" in words:
        arm(folder, AGENT)
    elif "studio.jobs.child" in words:
        arm(folder, CHILD)


def site_folder(folder: Path, places: Path) -> str:
    """Write a folder for PYTHONPATH that arms agents and children; return what the path needs."""
    folder.mkdir()
    places.mkdir(exist_ok=True)
    text = f"import pathlib, places\nplaces.arm_by_command_line(pathlib.Path({str(places)!r}))\n"
    (folder / "sitecustomize.py").write_text(text)
    return os.pathsep.join([str(folder), str(Path(__file__).parent)])


def _deadly(function: Callable[..., Any], when: When, name: str, folder: Path) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            _die_if_armed(folder, name)
        answer = function(*args, **kwargs)
        if when == "after" or (when == "with" and answer is not None):
            _die_if_armed(folder, name)
        return answer

    return call


def _die_if_armed(folder: Path, name: str) -> None:
    try:
        (folder / name).unlink()
    except FileNotFoundError:
        return
    with (folder / DIED).open("a") as file:
        file.write(f"{name}\n")
    os.kill(os.getpid(), signal.SIGKILL)
