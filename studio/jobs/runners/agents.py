"""Runners whose machines do not share the disk: a launcher puts the attempt's agent there, which talks to the desk."""

import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

from studio.core.domain import plain
from studio.core.errors import (
    ResourceError,
    StudioError,
)
from studio.jobs.events import Outcome
from studio.jobs.runners.base import Attempt, Report, Runner, log_lines
from studio.jobs.runners.desk import AgentDesk, Box, GoneError
from studio.jobs.runners.local import LOG_FILE
from studio.jobs.runners.ticket import (
    Ending,
    FileRow,
    Ticket,
)
from studio.jobs.storage.base import DamagedObjectError

logger = logging.getLogger(__name__)

_LOST_S = 30.0
"""An agent that is silent for so long is looked after."""
_LOOK_S = 10.0


class Launcher(Protocol):
    """Brings an agent to a machine."""

    name: str
    address: str
    """What the ticket says of the way to the server."""
    unknown_s: float = math.inf
    """An agent that is silent for so long, and of which nobody can tell whether it runs, is lost."""

    def launch(self, ticket: Ticket) -> str:
        """Start the attempt's agent, which needs nobody's presence from then on; return where it is.

        Raises:
            InputError, MissingExtraError: it can never be started like this. ResourceError: it cannot now.
        """

    def waits(self, place: str) -> bool:
        """Tell whether the agent still waits there to be started; raises ResourceError if that cannot be told."""
        return False

    def reach(self) -> None:
        """See that there is a way to the machines; raises InputError, MissingExtraError or ResourceError."""
        return

    def hang_up(self) -> None:
        """End what was started here to reach them; agents go on."""
        return

    def is_alive(self, place: str) -> bool:
        """Tell whether the agent runs, and mend the way to it.

        Raises:
            ResourceError: that cannot be told. InputError, MissingExtraError: it can never run like this.
        """

    def words(self, place: str) -> str:
        """Say what is known of an agent that does not run any more, as a full sentence for the owner."""
        return "The job's process on the other machine is gone."

    def kill(self, place: str) -> None:
        """End the agent and everything that it started, and delete what it wrote; raises ResourceError."""


class AgentRunner(Runner):
    """Runs attempts with agents on other machines.

    Args:
        desk: answers them.
        launcher: brings them there.
        grace_s: how long a verb may take to stop by itself.
        lost_s: an agent that is silent for so long, and does not run any more, is lost.
        patience_s: one that runs and is silent for so long is lost, too.
    """

    survives = True

    def __init__(
        self,
        desk: AgentDesk,
        launcher: Launcher,
        *,
        grace_s: float = 20.0,
        lost_s: float = _LOST_S,
        patience_s: float = 3600.0,
    ) -> None:
        self.name = launcher.name
        self._desk = desk
        self._launcher = launcher
        self._grace_s = grace_s
        self._lost_s = lost_s
        self._patience_s = patience_s

    def start(self, attempt: Attempt) -> str:
        """Bring the attempt's inputs and its agent on their way, from a thread of its own."""
        handle = f"{attempt.claim.id}.{attempt.claim.attempt}"
        box, is_new = self._desk.open(attempt)
        if is_new:
            with (attempt.job_dir / LOG_FILE).open("ab") as log:
                log.write(f"--- attempt {attempt.claim.attempt}, {self.name}\n".encode())
            threading.Thread(target=self._told, args=(box, self._launch), daemon=True).start()
        return handle

    def poll(self, handle: str, wait_s: float) -> Report:
        """Return what the agent has told; look after one that is silent."""
        box = self._desk.box(handle)
        if box.end is None:
            box.changed.wait(wait_s)
        with box.lock:
            box.changed.clear()
            events, box.events = tuple(box.events), []
            ending, box.ending = box.ending, None
        if box.end is not None:
            return replace(box.end, events=events)
        now_s = time.monotonic()
        if ending is not None:
            box.kill_s = math.inf
            threading.Thread(target=self._told, args=(box, self._finish, ending), daemon=True).start()
            box.heard_s = math.inf
        elif now_s >= box.kill_s:
            self._end(box, Report("ended", reason="The job was stopped on the other machine.", told_to_stop=True))
        elif (
            box.place and now_s >= box.look_s and now_s - box.heard_s > (self._lost_s if box.state == "running" else 0)
        ):
            box.look_s = now_s + min(self._lost_s, _LOOK_S)
            self._told(box, self._look_after, now_s)
        return replace(box.end, events=events) if box.end else Report(box.state, events)

    def cancel(self, handle: str, grace_s: float) -> None:
        """Let the agent know with its next call, and end it after the grace."""
        box = self._desk.box(handle)
        box.stop = True
        if grace_s <= 0:
            box.void = True
            box.kill_s = 0.0
        else:
            box.kill_s = min(box.kill_s, time.monotonic() + grace_s)
        box.changed.set()

    def logs(self, handle: str, cursor: int) -> tuple[list[str], int]:
        """Return lines of the job's log, as far as the agent has told them."""
        return log_lines(self._desk.box(handle).attempt.job_dir / LOG_FILE, cursor)

    def leave(self, handle: str) -> None:
        """End the agent, delete what it wrote there, and what a completed job has no more use for in the storage."""
        box = self._desk.box(handle)
        self._desk.close(box)
        self._kill(box)
        if box.end is not None and box.end.outcome is not None and box.end.outcome.state == "completed":
            try:
                self._desk.drop_files(box.job_id)
            except ResourceError:
                logger.exception("job %s: its files stay in the storage", box.job_id)

    def place(self, handle: str) -> str | None:
        """Return where the agent is, once it has been launched."""
        return self._desk.box(handle).place

    def adopt(self, attempt: Attempt, place: str) -> str:
        """Answer the agent of an attempt that another server has begun."""
        box, is_new = self._desk.open(attempt)
        if is_new:
            box.place, box.seen = place, None
            threading.Thread(target=self._told, args=(box, self._resume), daemon=True).start()
        return box.handle

    def part(self, handle: str) -> None:
        """Let the agent go on; it waits for the next server."""
        self._desk.part(self._desk.box(handle))

    # Below: what takes long

    def _told(self, box: Box, do: Any, *arguments: Any) -> None:
        """Do something in a thread; what fails becomes the end of the attempt, in words."""
        try:
            do(box, *arguments)
        except GoneError as error:
            self._end(box, Report("lost", reason=str(error)))
        except StudioError as error:
            if isinstance(error, ResourceError | DamagedObjectError):
                self._end(box, Report("lost", reason=f"The other machine could not be used: {error}"))
            else:
                problems = tuple(asdict(problem) for problem in error.problems)
                self._end(box, Report("ended", outcome=Outcome("stalled", cause=str(error), problems=problems)))
        except Exception:
            logger.exception("job %s: its runner failed", box.job_id)
            self._end(box, Report("lost", reason="The studio's runner failed; details are in the server's log."))

    def _launch(self, box: Box) -> None:
        known = self._desk.result(box.job_id)
        if known is not None:  # an earlier attempt came so far before its server went
            self._bring_home(box, known)
            return
        ticket = self._desk.ticket(box, self._launcher.address, grace_s=self._grace_s)
        if box.stop:
            self._end(box, Report("ended", outcome=Outcome("cancelled")))
            return
        box.heard_s = math.inf  # not looked after before it is there
        box.place = self._launcher.launch(ticket)
        box.heard_s = time.monotonic()
        if box.void:
            self._kill(box)

    def _resume(self, box: Box) -> None:
        ending = self._desk.ending(box)
        if ending is not None:
            box.ending = ending
            box.changed.set()
        else:
            box.state, box.heard_s = "running", time.monotonic()
            self._look_after(box, box.heard_s)

    def _finish(self, box: Box, ending: Ending) -> None:
        """Bring the output here and make it the job's; of an attempt without result only what it has come to."""
        outcome = ending.outcome()
        if outcome is not None and outcome.state == "completed":
            self._desk.bring(box, ending.files)
            self._bring_home(box, self._desk.commit(box, ending))
        else:
            self._end(box, Report("ended", (), outcome, ending.reason, ending.told_to_stop))

    def _bring_home(self, box: Box, ending: Ending) -> None:
        self._desk.bring(box, ending.files)
        self._end(box, Report("ended", (), ending.outcome()))

    def _look_after(self, box: Box, now_s: float) -> None:
        """Find out how an agent stands that is silent, or was not heard of yet."""
        assert box.place is not None
        patience_s, is_alive = self._patience_s, True
        try:
            if box.state == "queued":
                if not self._launcher.waits(box.place) and box.state == "queued":
                    box.state, box.heard_s = "running", now_s
                return
            is_alive = self._launcher.is_alive(box.place)
        except ResourceError as error:  # nobody knows
            logger.warning("job %s: %s", box.job_id, error)
            patience_s = min(patience_s, self._launcher.unknown_s)
        if not is_alive:
            self._end(box, Report("lost", reason=self._launcher.words(box.place)))
        elif box.state == "running" and now_s - box.heard_s > patience_s:
            self._end(box, Report("lost", reason="The other machine has not been heard of for too long."))

    def _end(self, box: Box, report: Report) -> None:
        with box.lock:
            box.end = box.end or report
        box.changed.set()

    def _kill(self, box: Box) -> None:
        place, box.place = box.place, None
        if place is not None:
            try:
                self._launcher.kill(place)
            except ResourceError as error:
                # It is fenced, and its own patience ends it.
                logger.warning("job %s: what is left of it on the other machine is not reached: %s", box.job_id, error)


def ending_of(report: Report, files: Iterable[FileRow]) -> Ending:
    """Return the end of an attempt as an agent tells it."""
    told: Mapping[str, Any] = {} if report.outcome is None else plain(report.outcome)
    return Ending.parse(
        {**told, "reason": report.reason, "told_to_stop": report.told_to_stop}
        | {"files": [row.model_dump(mode="json") for row in files]}
    )
