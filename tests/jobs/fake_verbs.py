"""Verbs without a model, run by real children: the first word of one setting says how they behave.

That setting is the subject of a check, the instance token of a training and the prompt of pictures.

Found by children through PYTHONPATH; ``VERBS`` puts them in the place of the real ones.
"""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from studio.core.domain import Event
from studio.core.errors import InputError, JobCancelled, Problem
from studio.jobs import states

FOLDER = str(Path(__file__).resolve().parent)
VERBS = {
    kind: dataclasses.replace(spec, path="fake_verbs:run", warm_path=spec.warm_path and "fake_verbs:run")
    for kind, spec in states.VERBS.items()
}


@dataclasses.dataclass(frozen=True)
class FakeResult:
    steps: int
    source_files: tuple[str, ...]
    hub_token: str | None
    """SHA-256 of the token that its process knows; empty for an empty one, None for none."""
    likeness: float = float("nan")


def run(config, source, out, *, on_event, should_stop):
    out.mkdir(parents=True, exist_ok=True)
    given = (getattr(config, name, None) for name in ("instance_token", "subject", "prompts"))
    words = next(filter(None, given), "quick")
    words = words if isinstance(words, str) else words[0]
    token = os.environ.get("STUDIO_HUB_TOKEN")
    token = hashlib.sha256(token.encode()).hexdigest() if token else token
    behaviour, *numbers = words.split()
    on_event(Event("stage", {"name": "loading", "message": behaviour}))
    done = BEHAVIOURS[behaviour](out, *map(int, numbers), on_event=on_event, should_stop=should_stop)
    files = sorted(path.name for path in source.iterdir()) if source.is_dir() else []
    return FakeResult(done or 0, tuple(files), token)


def _progress(on_event, step, total):
    on_event(Event("progress", {"step": step, "total": total, "eta_s": None, "message": ""}))


def _steps(out):
    path = out / "steps.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def quick(out, *, on_event, should_stop):
    """Complete at once."""
    _progress(on_event, 1, 1)
    return 1


def count(out, total, milliseconds, *, on_event, should_stop):
    """Do ``total`` steps, one line each in steps.txt, going on from the lines that are there."""
    for step in range(_steps(out) + 1, total + 1):
        if should_stop():
            raise JobCancelled("stopped")
        time.sleep(milliseconds / 1000)
        with (out / "steps.txt").open("a") as file:
            file.write(f"{step} {os.getpid()}\n")
        on_event(Event("metrics", {"step": step, "loss": 1.0 / step}))
        _progress(on_event, step, total)
    return total


def meet(out, *, on_event, should_stop):
    """Leave a note of its GPU and wait for another job's note."""
    (out / "gpu.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    while len(list(out.parents[1].glob("*/out/gpu.txt"))) < 2:
        if should_stop():
            raise JobCancelled("stopped")
        time.sleep(0.02)


def load(out, *, on_event, should_stop):
    """Stay in the loading stage until asked to stop."""
    while not should_stop():
        time.sleep(0.02)
    raise JobCancelled("stopped")


def stubborn(out, *, on_event, should_stop):
    """Never listen."""
    _progress(on_event, 1, 2)
    while True:
        time.sleep(0.02)


def refuse(out, *, on_event, should_stop):
    """Raise two problems at once."""
    raise InputError.of(
        [
            Problem("a.jpg", "is blurred", "use a sharp photo", "blurred"),
            Problem("b.jpg", "is dark", "use light", "dark"),
        ]
    )


def boom(out, *, on_event, should_stop):
    """Have a bug."""
    raise KeyError("secret detail")


def memory(out, *, on_event, should_stop):
    """Run out of memory in Python."""
    raise MemoryError


def leave(out, *, on_event, should_stop):
    """Call exit() in the middle."""
    sys.exit(3)


def die(out, times, number=signal.SIGKILL, *, on_event, should_stop):
    """Die by a signal in the first ``times`` attempts."""
    with (out / "deaths.txt").open("a") as file:
        file.write("x")
    if len((out / "deaths.txt").read_text()) <= times:
        _progress(on_event, 1, 2)
        os.kill(os.getpid(), number)
    return times


def chatter(out, metrics, *, on_event, should_stop):
    """Tell much, and print much beside it."""
    for step in range(1, metrics + 1):
        if step % 100 == 0:
            print("printed", step, flush=True)
            os.write(1, b'{"event": ["metrics", {"step": -1}]}\n')
        on_event(Event("metrics", {"step": step, "loss": float("nan")}))
        _progress(on_event, step, metrics)
    return metrics


def spawn(out, total, *, on_event, should_stop):
    """Start a process that outlives everything it can, then count without listening."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (out / "pids.tmp").write_text(f"{os.getpid()} {other.pid}")
    (out / "pids.tmp").rename(out / "pids.txt")
    return count(out, total, 20, on_event=on_event, should_stop=lambda: False)


def abandon(out, *, on_event, should_stop):
    """Complete, but leave a process behind that holds our output open."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (out / "pids.txt").write_text(str(other.pid))
    return 1


BEHAVIOURS = {
    each.__name__: each
    for each in (quick, count, meet, load, stubborn, refuse, boom, memory, leave, die, chatter, spawn, abandon)
}
