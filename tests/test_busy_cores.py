"""Beside other programs threads that wait for each other sleep: ``core.openmp`` chooses, in whatever computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core.config import CheckConfig
from studio.core.openmp import SLEEP
from studio.core.settings import PROJECT_ROOT, Settings
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
    environment = without_openmp(**SLEEP)
    said = subprocess.run([sys.executable, "-c", WORK], env=environment, capture_output=True, text=True, check=True)
    two_s, one_s = json.loads(said.stdout)
    assert two_s < 2 * one_s, f"{two_s:.2f} s of CPU with two threads, {one_s:.2f} s with one"


BUSY = "from studio.core import openmp; openmp.openmp_defaults.__defaults__ = (os.environ, lambda: 99.0)"
"""Lets a process see a machine on which every core is taken."""


@pytest.mark.parametrize(("given", "seen"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_a_command_says_it_before_torch_is_loaded(given: dict[str, str], seen: str, tmp_path: Path) -> None:
    probe = (
        f"import os, sys; {BUSY}; from studio.jobs import here; from studio.cli import main\n"
        "def told(*_, **__):\n"
        f"    with open({str(tmp_path / 'told')!r}, 'w') as file:\n"
        "        print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'], file=file)\n"
        "    sys.exit(0)\n"
        "here.resolve = lambda path: told\nmain.main()"
    )
    command = [sys.executable, "-c", probe, "check", str(tmp_path), "--out", str(tmp_path / "out")]
    subprocess.run(command, cwd=PROJECT_ROOT, env=without_openmp(**given), capture_output=True, check=True)
    assert (tmp_path / "told").read_text().split() == ["False", seen]


ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""With it there is nobody to wait for, however busy the machine is."""


@pytest.mark.parametrize(("given", "seen"), [(ONE_THREAD, "10000"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_a_jobs_process_is_started_with_it(
    given: dict[str, str], seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tell_waiting.py").write_text(
        "import dataclasses, os\n@dataclasses.dataclass\nclass Told:\n    policy: str\n"
        "def run(config, source, out, *, on_event, should_stop):\n"
        "    return Told(os.environ.get('OMP_WAIT_POLICY') or os.environ['GOMP_SPINCOUNT'])\n"
    )
    monkeypatch.delenv("OMP_WAIT_POLICY")
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
