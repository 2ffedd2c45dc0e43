"""Over a Ray cluster: server, agent, child, actor and node are killed, at any moment and at named places, in an order
that a seed chooses; nothing is lost and nothing is doubled."""

import contextlib
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest


def load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
loops = load_file(HERE / "test_places.py")
places = loops.places
PLACES = [*places.SERVER, *places.DESK, *places.AGENT, *places.CHILD]
LONGEST_S = 3.0
"""Between two kills, when nothing is waited for."""
MEANWHILE = 3
"""Jobs that are kept open while somebody is killed."""


class Cluster:
    """Two nodes of one GPU each, and what runs on them."""

    def __init__(self, folder: Path, python_path: str) -> None:
        module = load_file(HERE.parent / "jobs" / "runners" / "fake_cluster.py")
        self.nodes = module.FakeCluster(folder, python_path)
        self.nodes.add_node()

    def processes(self, what: str) -> list[psutil.Process]:
        """Return what runs on its nodes: agents, children, or actors."""
        words = {"agent": " studio attempt ", "child": " studio.jobs.child ", "actor": "ray::AgentActor"}[what]
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if words in " ".join(process.info["cmdline"] or ()) + " ":
                with contextlib.suppress(psutil.Error):
                    if process.environ().get("HOME") == str(self.nodes.home):
                        found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def close(self) -> None:
        self.nodes.close()


@pytest.fixture
def on_ray(tmp_path: Path) -> Iterator[tuple[Any, Cluster]]:
    if importlib.util.find_spec("ray") is None:
        assert "STUDIO_REQUIRE_RAY" not in os.environ
        pytest.skip("needs the package ray")
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp", ignore_cleanup_errors=True) as name:  # sockets' paths
        site = f"{tmp_path / 'site'}{os.pathsep}{HERE}{os.pathsep}{loops.FAKES}"
        cluster = Cluster(Path(name), site)
        installation = loops.Installation(tmp_path, "ray", None, RAY_ADDRESS=cluster.nodes.address)
        try:
            yield installation, cluster
        finally:
            installation.close()
            cluster.close()


def kill_somebody(dice: random.Random, what: str, installation: Any, cluster: Cluster) -> bool:
    """Kill one of a kind; tell whether there was one."""
    if what == "server":
        installation.keep_up()
        installation.stop(signal.SIGKILL)
        return True
    if what == "node":
        cluster.nodes.kill_node()
        cluster.nodes.add_node()
        return True
    give_up_s = time.monotonic() + 60
    while what in ("agent", "child", "actor") and time.monotonic() < give_up_s:
        keep_busy(dice, installation)
        installation.keep_up()
        if found := cluster.processes(what):
            with contextlib.suppress(psutil.NoSuchProcess):
                dice.choice(found).kill()
                return True
        time.sleep(0.05)
    # A named place: whoever comes there first.
    if what not in PLACES:
        return False
    before = len(installation.died())
    installation.arm(what)
    if what in places.STARTING:
        installation.keep_up()
        installation.stop(signal.SIGKILL)
    while len(installation.died()) == before and time.monotonic() < give_up_s:
        keep_busy(dice, installation)
        installation.keep_up()
        time.sleep(0.05)
    return len(installation.died()) > before


def keep_busy(dice: random.Random, installation: Any) -> None:
    for _ in range(MEANWHILE - sum(job.startswith("train") for job in installation.open_jobs())):
        installation.submit(dice.randint(20, 120), 30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [5, 80], ids=["short", "long"])
def test_whoever_is_killed_nothing_is_lost_and_nothing_is_doubled(kills: int, on_ray: tuple[Any, Cluster]) -> None:
    installation, cluster = on_ray
    dice = random.Random(29)
    anybody = ["server", "agent", "child", "actor", "node"]
    plan = anybody[:kills] if kills < 10 else anybody * (kills // 10) + (PLACES * 2)[: kills - 5 * (kills // 10)]
    dice.shuffle(plan)
    done: Counter[str] = Counter()
    for what in plan:
        installation.keep_up()
        keep_busy(dice, installation)
        installation.until(lambda: cluster.processes("child"), 120.0)
        time.sleep(dice.uniform(0.0, LONGEST_S))
        done[what] += kill_somebody(dice, what, installation, cluster)
        print(f"{time.strftime('%X')} {what}: {done[what]}", flush=True)
    installation.finish()
    assert done.total() >= 0.9 * len(plan), {what: plan.count(what) - done[what] for what in set(plan)}
    give_up_s = time.monotonic() + 30
    while cluster.processes("agent") + cluster.processes("child"):
        assert time.monotonic() < give_up_s, "somebody still runs on a node"
        time.sleep(0.2)
    assert not list(cluster.nodes.home.rglob("a.png")), "no photo stays on a node"
