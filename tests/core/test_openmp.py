import os
import subprocess
import sys
import time

import psutil
import pytest

from studio.core import openmp
from studio.core.openmp import SLEEP, SPIN, openmp_defaults, set_openmp_defaults, taken_cores


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp.psutil, "cpu_count", lambda: 8)
    monkeypatch.setattr(openmp, "_own_cores", lambda: 8)


@pytest.mark.parametrize(
    ("threads", "taken", "told"),
    [
        (None, 0.0, SPIN), (None, 0.4, SPIN), (None, 0.6, SLEEP), (None, 8.0, SLEEP),
        ("2", 6.4, SPIN), ("2", 6.6, SLEEP), ("64", 0.6, SLEEP), ("many", 0.6, SLEEP), ("1", 8.0, SPIN),
    ],
)  # fmt: skip
def test_threads_spin_where_each_has_a_core_and_sleep_where_others_hold_one(
    threads: str | None, taken: float, told: dict[str, str], eight_cores: None
) -> None:
    environment = {} if threads is None else {"OMP_NUM_THREADS": threads}
    assert openmp_defaults(environment, lambda: taken) == told


def test_a_share_of_a_large_machine_counts_as_free_while_enough_of_it_is(
    eight_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openmp, "_own_cores", lambda: 2)
    assert openmp_defaults({}, lambda: 6.0) == SPIN and openmp_defaults({}, lambda: 7.0) == SLEEP


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_the_users_own_words_to_openmp_win_and_nobody_looks(name: str) -> None:
    def looked() -> float:
        raise AssertionError("nobody asked")

    assert openmp_defaults({name: "active"}, looked) == {}


def test_a_busy_program_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            time.sleep(0.2)
            taken = taken_cores(0.5)
        finally:
            busy.kill()
    # On a machine with other work it may get less than a core.
    assert 0.4 < taken <= psutil.cpu_count()


def test_after_torch_is_loaded_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # put back afterwards
    monkeypatch.setenv("KMP_BLOCKTIME", "")
    for name in SPIN:
        del os.environ[name]
    monkeypatch.setitem(sys.modules, "torch", None)
    set_openmp_defaults()
    assert not SPIN.keys() & os.environ.keys()
    monkeypatch.delitem(sys.modules, "torch")
    set_openmp_defaults()
    assert os.environ["GOMP_SPINCOUNT"] == SPIN["GOMP_SPINCOUNT"]
