"""Several servers of one studio from one command: started together, begun anew when one dies, ended together."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO

from studio.core.errors import ResourceError

_COMMAND = ("-m", "studio", "serve", "--json", "--attached")
_AGAIN_S = 1.0
"""Pause before a server that died is begun anew."""
_TICK_S = 0.2


@dataclass(frozen=True, slots=True)
class Part:
    """One server."""

    name: str
    variables: Mapping[str, str]
    """Of its environment, beside those of this process."""


class Together:
    """Servers that begin and end together.

    None of them outlives this process: each ends when the pipe breaks that holds it (``serve --attached``).

    Args:
        parts: which.
        tell: told in words that one has died and is begun anew.
    """

    def __init__(self, parts: Sequence[Part], tell: Callable[[str], None]) -> None:
        self._parts = parts
        self._tell = tell
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._over = threading.Event()

    def start(self) -> dict[str, str]:
        """Start all of them; return where each is, by its name.

        Raises:
            ResourceError: one did not start; none runs then.
        """
        try:
            for part in self._parts:
                self._running[part.name] = _begin(part)
            return {part.name: self._address(part.name) for part in self._parts}
        except BaseException:
            self.kill()
            raise

    def watch(self) -> None:
        """Begin those anew that die, until Ctrl-C, SIGTERM or SIGHUP; then end all of them, as fast as they can be.

        Told so again meanwhile, it ends them at once.
        """
        with told_to_end(self._told):
            try:
                while not self._over.wait(_TICK_S):
                    self._mend()
                self.stop()
            except KeyboardInterrupt:
                self.stop()

    def stop(self) -> None:
        """Ask all of them to stop, and wait until they have: ``STUDIO_DRAIN_S`` says how long that may take."""
        try:
            for process in self._running.values():
                process.terminate()
            for process in self._running.values():
                process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End what runs still, at once."""
        for process in self._running.values():
            with process:
                process.kill()
        self._running.clear()

    def _told(self, number: int, frame: FrameType | None) -> None:
        if self._over.is_set() and number != signal.SIGHUP:  # a terminal that closes may say so twice
            raise KeyboardInterrupt
        self._over.set()

    def _mend(self) -> None:
        for part in self._parts:
            process = self._running[part.name]
            if process.poll() is not None and not self._over.wait(_AGAIN_S):
                self._tell(f"{part.name} has ended (status {process.returncode}) and is begun anew.")
                with process:
                    pass
                self._running[part.name] = _begin(part)
                threading.Thread(target=self._pass_on, args=(self._running[part.name],), daemon=True).start()

    def _address(self, name: str) -> str:
        process = self._running[name]
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            told = json.loads(line)
        except ValueError:
            told = {}
        if "address" not in told:
            why = str(told.get("error") or "its own words are above").rstrip(".")
            raise ResourceError(f"{name} did not start: {why}.")
        threading.Thread(target=self._pass_on, args=(process,), daemon=True).start()
        return str(told["address"])

    @staticmethod
    def _pass_on(process: "subprocess.Popen[str]") -> None:
        """Let nothing wait that a server prints."""
        out: IO[str] | None = process.stdout
        assert out is not None
        try:
            for line in out:
                print(line, end="", file=sys.stderr)
        except ValueError:  # it was closed meanwhile
            return


def _begin(part: Part) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *_COMMAND],
        env={**os.environ, **part.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is ours to pass on
    )


@contextlib.contextmanager
def told_to_end(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a terminal that closes, call a function while the body runs.

    What is ignored stays ignored: ``nohup`` asks for that.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, was in before.items():
            if was != signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def end_with_input() -> None:
    """Stop this process, as a service manager does, when its standard input ends."""

    def wait() -> None:
        # Not by sys.stdin: its lock, held by a thread that waits, ends an interpreter that exits with a fatal error.
        with contextlib.suppress(OSError):  # none is there, or its terminal has gone
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="studio-attached", daemon=True).start()
