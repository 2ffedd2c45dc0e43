"""How the threads of torch wait for each other, by what other programs leave of the machine.

They meet after each small operation. Whoever is there first may spin, in the hope that the others are about to come, or
sleep. Where every thread has a core, sleeping costs half as much again, because each meeting wakes somebody up; where
another program holds one of the cores, spinning costs several times as much, because the others are not about to come
(benchmarks/busy_cores.py has both). OpenMP reads this once, when torch is loaded, and no result depends on it: the
number of threads stays as it is, because other sums would give other bytes.
"""

import os
import sys
from collections.abc import Callable, Mapping

import psutil

SPIN = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""Where every thread has a core: about half a millisecond (GNU's OpenMP counts turns, the others milliseconds)."""
SLEEP = {"OMP_WAIT_POLICY": "passive"}
"""Where other programs hold one."""
CLEARLY_TAKEN = 0.5
"""Of a core: what a browser or an editor takes of it now and then is less."""

_SAID = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_SAMPLE_S = 0.2


def taken_cores(over_s: float = _SAMPLE_S) -> float:
    """Watch the machine for a moment and return how many cores are at work, this program's own among them."""
    return float(psutil.cpu_percent(over_s)) / 100 * (psutil.cpu_count() or 1)


def openmp_defaults(
    environment: Mapping[str, str] = os.environ, taken: Callable[[], float] = taken_cores
) -> dict[str, str]:
    """Return what OpenMP should be told, as variables; nothing where the user has said how its threads wait.

    Args:
        environment: of the process, with ``OMP_NUM_THREADS`` where the number of threads is set.
        taken: tells how many cores are at work; asked while this program rests.
    """
    if any(name in environment for name in _SAID):
        return {}
    count, own = psutil.cpu_count() or 1, _own_cores()
    threads = min(int(asked), own) if (asked := environment.get("OMP_NUM_THREADS", "")).isdecimal() else own
    return SPIN if threads == 1 or taken() <= count - threads + CLEARLY_TAKEN else SLEEP


def set_openmp_defaults() -> None:
    """Put ``openmp_defaults`` into this process's environment; does nothing where torch is loaded already."""
    if "torch" not in sys.modules:
        os.environ.update(openmp_defaults())


def _own_cores() -> int:
    """Return how many cores this process may use, which is what torch goes by."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
