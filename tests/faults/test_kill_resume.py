"""kill -9 in the middle of training, start again: the adapter has the same bytes as that of a run left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.adapters import EMBEDS_NAME, WEIGHTS_NAME

PROGRAM = Path(__file__).with_name("killed_trainings.py")
ROOT = PROGRAM.parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def command(base: Path, dataset: Path, out: Path, plan: list) -> list[str]:
    return [sys.executable, str(PROGRAM), str(base), str(dataset), str(out), json.dumps(plan)]


def weights(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for name in (WEIGHTS_NAME, EMBEDS_NAME)
        for path in sorted(run.glob(f"**/{name}"))
    }


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row.get("loss", row.get("val_loss"))) for row in rows]


def check(base: Path, dataset: Path, out: Path, moments: list[list[str]]) -> None:
    plan: list[list] = [["whole", None]]
    for number, deaths in enumerate(moments):
        plan += [[f"run{number}", moment] for moment in deaths] + [[f"run{number}", None]]
    ended = subprocess.run(
        command(base, dataset, out, plan), env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    ends = json.loads(ended.stdout.splitlines()[-1])
    assert ends == [-signal.SIGKILL if moment else 0 for _, moment in plan], ended.stderr
    expected = weights(out / "whole")
    assert len(expected) == 8, "three checkpoints and the best, two files each"
    for number, deaths in enumerate(moments):
        assert weights(out / f"run{number}") == expected, deaths
        assert losses(out / f"run{number}") == losses(out / "whole"), f"{deaths}: nothing twice, nothing missing"


def test_a_killed_training_goes_on_to_the_same_bytes(
    tiny_base: Path, make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    # Between checkpoints, then while one is written, then right before its samples.
    check(tiny_base, make_dataset(), tmp_path, [["step 3", "save 4", "sample 4"]])


@pytest.mark.slow
def test_every_single_moment_of_death_leads_to_the_same_bytes(
    tiny_base: Path, make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    steps = [[f"step {step}"] for step in range(6)]
    saves = [[f"{kind} {step}"] for kind in ("save", "sample") for step in (2, 4, 6)]
    check(tiny_base, make_dataset(), tmp_path, [*steps, *saves, ["step 1", "step 3", "save 4", "step 5"]])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_training_killed_from_outside_at_any_time_goes_on_to_the_same_bytes(
    tiny_base: Path, make_dataset: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    dataset, chance = make_dataset(), random.Random(seed)
    check(tiny_base, dataset, tmp_path, [])
    for _ in range(3):
        with subprocess.Popen(
            command(tiny_base, dataset, tmp_path, [["shot", None]]),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            while process.poll() is None and not (tmp_path / "shot" / "metrics.jsonl").exists():
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 2))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the parent and the training itself
    subprocess.run(command(tiny_base, dataset, tmp_path, [["shot", None]]), env=environment(), check=True)
    assert weights(tmp_path / "shot") == weights(tmp_path / "whole")
