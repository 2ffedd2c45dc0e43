"""A Ray cluster of fake GPUs on this machine, as a process that is told what to do with it; see ``ray_cluster``."""

import os
import subprocess
import sys
from pathlib import Path


class FakeCluster:
    """A head, and nodes with one GPU each.

    Args:
        folder: of it; its path must be short, because sockets lie in there.
        python_path: where its nodes find the verbs of the tests.
    """

    def __init__(self, folder: Path, python_path: str) -> None:
        self.home = folder / "home"
        """Of its nodes."""
        self.home.mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "RAY_TMPDIR": str(folder)}
        environment |= {"PYTHONPATH": python_path, "STUDIO_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        environment |= {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        # Nodes without a head end themselves after a minute; here sooner.
        environment |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("ray_cluster.py")],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, (folder / "log").read_text()
        self._nodes: list[int] = []
        self._added = 0
        self.add_node()

    def tell(self, words: str) -> None:
        """Say what to do, and wait until it is done."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(words, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"

    def add_node(self) -> None:
        """Add a node with one GPU."""
        self._added += 1
        self.tell(f"add {self._added}")
        self._nodes.append(self._added)

    def kill_node(self) -> None:
        """Kill the oldest node."""
        self.tell(f"kill {self._nodes.pop(0)}")

    def restart(self) -> None:
        """Begin the cluster anew, with one node."""
        self.tell("restart")
        self._nodes.clear()
        self.add_node()

    def close(self) -> None:
        """End it with everything on it."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)
