"""Beside other programs: threads that wait for each other sleep, everywhere, unless the user wants them to spin."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core.config import CheckConfig
from studio.core.settings import PROJECT_ROOT, Settings, openmp_defaults, set_openmp_defaults
from studio.jobs.states import VERBS
from studio.service import Studio

WORK = """
import json, os, time
import torch
torch.set_num_threads(2)
net = torch.nn.Sequential(*[torch.nn.Conv2d(32, 32, 3, padding=1) for _ in range(4)])
x = torch.randn(4, 32, 16, 16)
with torch.no_grad():
    net(x)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # as if other programs had taken the other cores
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {min(os.sched_getaffinity(0))})
    begin_s = time.process_time()
    for _ in range(60):
        net(x)
    two_s = time.process_time() - begin_s
    torch.set_num_threads(1)
    begin_s = time.process_time()
    for _ in range(60):
        net(x)
print(json.dumps([two_s, time.process_time() - begin_s]))
"""


def without_openmp(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    return kept | more


@pytest.mark.skipif(sys.platform != "linux", reason="the threads are tied to one core by the system's own means")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="OpenMP does not spin on one core")
def test_two_threads_with_one_core_left_cost_little_more_than_one_thread() -> None:
    environment = without_openmp(**openmp_defaults({}))
    said = subprocess.run([sys.executable, "-c", WORK], env=environment, capture_output=True, text=True, check=True)
    two_s, one_s = json.loads(said.stdout)
    assert two_s < 2 * one_s, f"{two_s:.2f} s of CPU with two threads, {one_s:.2f} s with one"


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_the_users_own_words_to_openmp_win(name: str) -> None:
    assert openmp_defaults({name: "active"}) == {}
    assert openmp_defaults({"OMP_NUM_THREADS": "4"}) == {"OMP_WAIT_POLICY": "passive"}


def test_the_tests_themselves_let_other_programs_have_the_cores() -> None:
    assert openmp_defaults() == {}, "conftest.py has said it"


@pytest.mark.parametrize(("given", "seen"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_a_command_says_it_before_torch_is_loaded(given: dict[str, str], seen: str) -> None:
    probe = (
        "import os, sys; from studio.cli import main as cli; cli.run = lambda _: print('torch' in sys.modules, "
        "os.environ['OMP_WAIT_POLICY']) or 0; cli.main()"
    )
    said = subprocess.run(
        [sys.executable, "-c", probe], cwd=PROJECT_ROOT, env=without_openmp(**given), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert said.stdout.split() == ["False", seen]


@pytest.mark.parametrize(("given", "seen"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_a_jobs_process_is_started_with_it(
    given: dict[str, str], seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tell_waiting.py").write_text(
        "import dataclasses, os\n@dataclasses.dataclass\nclass Told:\n    policy: str\n"
        "def run(config, source, out, *, on_event, should_stop):\n    return Told(os.environ['OMP_WAIT_POLICY'])\n"
    )
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for name, value in {**given, "PYTHONPATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    verbs = {kind: type(spec)("tell_waiting:run", spec.config, spec.working, False) for kind, spec in VERBS.items()}
    studio = Studio(Settings(home=tmp_path / "home"), verbs=verbs)
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"pixels")
    try:
        studio.start()
        job = studio.submit_check(CheckConfig(), [photo], owner="ada")
        view = studio.wait(job.id, owner="ada", timeout_s=60)
    finally:
        studio.close()
    assert view.result == {"policy": seen}, view.cause


def test_a_space_that_computes_in_its_server_says_it_too(tmp_path: Path) -> None:
    probe = (
        "import os, sys; from studio.web.server import prepare_environment; from studio.core.settings import Settings; "
        f"prepare_environment(Settings(home={str(tmp_path)!r})); print(os.environ['OMP_WAIT_POLICY'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=PROJECT_ROOT,
        env=without_openmp(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "passive"


def test_setting_it_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    set_openmp_defaults()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
