"""The launcher for a Ray cluster: each attempt's agent is a detached actor with one GPU, which Ray gives its node.

Ray finds the node and keeps the queue there; nothing of ours schedules. The actor is found by its name, whoever asks,
so that an attempt outlives the server. It is never started again by Ray: the queue here owns what is done about a loss.
"""

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.core.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.core.settings import PROJECT_ROOT
from studio.jobs.inherited import inherited
from studio.jobs.runners.agents import Launcher
from studio.jobs.runners.ticket import Ticket

logger = logging.getLogger(__name__)

_DRIVER = ["-P", "-m", "studio.jobs.runners.ray_driver"]
_CONNECT_S = 90.0
"""So long the driver may take to find the cluster and to pack the code, before another one is started."""
_LOOK_S, _CHANGE_S = 15.0, 60.0
"""So long an answer is waited for; whoever looks after an attempt must not wait for long."""
_PATIENCE_S = 60.0
"""So long a launch waits for a cluster that cannot be reached, for example while its head restarts."""
_PAUSE_S = 2.0


class RayLauncher(Launcher):
    """Brings agents to the nodes of a cluster.

    Args:
        address: of this server, as the nodes reach it.
        python: Python on the nodes that has what the studio needs; empty takes the one that Ray runs with.
        environment: of the process that speaks with the cluster, such as ``RAY_ADDRESS``.
        patience_s: how long a launch waits for a cluster that cannot be reached.
    """

    name = "ray"
    unknown_s = 120.0
    """Nodes that have lost their head for a minute end what runs on them."""

    def __init__(
        self, address: str, *, python: str = "", environment: Mapping[str, str], patience_s: float = _PATIENCE_S
    ) -> None:
        self.address = address
        self._python = python
        self._environment = environment
        self._patience_s = patience_s
        self._driver: subprocess.Popen[bytes] | None = None
        self._connect_until_s: float | None = None
        """When it is given up; None once it is connected."""
        self._asking = threading.Lock()
        self._words: dict[str, str] = {}

    def launch(self, ticket: Ticket) -> str:
        """Make the attempt's actor; it may wait in the cluster until a GPU is free."""
        name = f"{ticket.job}-{ticket.attempt}"
        give_up_s = time.monotonic() + self._patience_s
        while True:
            try:
                self._ask("launch", _CHANGE_S, name=name, ticket=ticket.model_dump_json(), python=self._python)
                return name
            except ResourceError:
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(_PAUSE_S)

    def reach(self) -> None:
        """See that the cluster answers; raises ResourceError, or MissingExtraError without the package."""
        self._ask("look", _CONNECT_S, name="nothing")

    def waits(self, place: str) -> bool:
        """Tell whether the actor has not been given a node yet."""
        return bool(self._ask("look", _LOOK_S, name=place)["state"] == "silent")

    def is_alive(self, place: str) -> bool:
        """Tell whether the agent runs.

        Raises:
            MissingExtraError: the node's Python lacks what the studio needs. InputError: the node does not reach this
                server. ResourceError: nobody knows.
        """
        found = self._ask("look", _LOOK_S, name=place)
        if found["state"] == "gone":
            why = found["why"]
            node_is_gone = "node has died" in why or "node is dead" in why or "node was terminated" in why
            what = "The node of the cluster on which the job ran" if node_is_gone else "The job's actor in the cluster"
            self._words[place] = f"{what} is gone."
            logger.warning("%s: %s", place, " ".join(why.split())[:1000] or "no such actor")
        if found["state"] == "ended":
            end = found["end"]
            if "missing" in end:
                raise MissingExtraError(
                    f"{end['python']} on the node lacks {', '.join(end['missing'])}; install requirements.txt there,"
                    " or set STUDIO_RUNNER_PYTHON to a Python that has it."
                )
            if "unreachable" in end:
                message = f"is {end['unreachable']}, which the node that ran the job cannot reach"
                cure = "set it to an address of this server that every node of the cluster reaches"
                raise InputError.of([Problem("STUDIO_PUBLIC_URL", message, cure, "unreachable")])
            said = f": {end['said']}" if end["said"] else ""
            self._words[place] = f"The job's agent on the node ended without a word (status {end['status']}){said}."
        return found["state"] in ("runs", "silent")

    def words(self, place: str) -> str:
        """Say what is known of an agent that does not run any more."""
        return self._words.pop(place, super().words(place))

    def kill(self, place: str) -> None:
        """End the actor and its agent; what it wrote is deleted there."""
        self._words.pop(place, None)
        self._ask("kill", _CHANGE_S, name=place)

    def hang_up(self) -> None:
        """End the process that speaks with the cluster; actors go on."""
        with self._asking:
            self._end_driver()

    def _ask(self, do: str, patience_s: float, **arguments: str) -> dict[str, Any]:
        """Ask the cluster something.

        Raises:
            MissingExtraError: Ray is not installed here. ResourceError: the cluster does not answer.
        """
        with self._asking:
            answer = self._answer({"do": do, **arguments}, patience_s)
            if answer.get("is_over"):
                self._end_driver()  # the next question finds the cluster anew
        if answer.get("kind") == "missing":
            raise MissingExtraError("STUDIO_RUNNER=ray needs Ray; install it with `pip install likeness-studio[ray]`.")
        if "error" in answer:
            raise ResourceError(f"the Ray cluster cannot be used ({answer['error'].rstrip('.')}).")
        if not answer:
            raise ResourceError("the Ray cluster does not answer.")
        if answer.get("state") == "unknown":
            raise ResourceError("the node of the Ray cluster that runs the job cannot be reached.")
        return answer

    def _answer(self, request: Mapping[str, str], patience_s: float) -> dict[str, Any]:
        """Return the driver's answer; nothing of one that may still find its cluster."""
        if self._driver is None or self._driver.poll() is not None:
            self._end_driver()
            self._connect_until_s = time.monotonic() + _CONNECT_S
            self._driver = subprocess.Popen(
                [sys.executable, *_DRIVER],
                env={**self._environment, "PYTHONPATH": str(PROJECT_ROOT)},
                cwd=Path.home(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is the server's alone
            )
        assert self._driver.stdin is not None
        try:
            if self._connect_until_s is not None:
                ready = self._line(patience_s)
                if ready is None and time.monotonic() < self._connect_until_s:
                    return {}
                if ready is None or "error" in ready:
                    return {"error": "it cannot be found in time", **(ready or {}), "is_over": True}
                self._connect_until_s = None
            self._driver.stdin.write(json.dumps(request).encode() + b"\n")
            self._driver.stdin.flush()
            return self._line(patience_s) or {"error": "it does not answer in time", "is_over": True}
        except (BrokenPipeError, ValueError):
            return {"error": "the connection broke", "is_over": True}

    def _line(self, patience_s: float) -> dict[str, Any] | None:
        """Return the driver's next line, if it comes in time; ValueError if it has ended."""
        assert self._driver is not None and self._driver.stdout is not None
        if not select.select([self._driver.stdout], [], [], patience_s)[0]:
            return None
        found: dict[str, Any] = json.loads(self._driver.stdout.readline())
        return found

    def _end_driver(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            with contextlib.suppress(BrokenPipeError), driver:
                driver.kill()


def environment_of(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what of the server's environment Ray needs to find its cluster and to be let in."""
    return {
        **inherited(environment),
        **{name: value for name, value in environment.items() if name.startswith("RAY_")},
    }
