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

from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME

PROGRAM = Path(__file__).with_name("killed_trainings.py")
ROOT = PROGRAM.parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, SIGKILL and RLIMIT_FSIZE")


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


def check(base: Path, dataset: Path, out: Path, moments: list[list[str]]) -> str:
    plan: list[list] = [["whole", None]]
    for number, deaths in enumerate(moments):
        plan += [[f"run{number}", moment] for moment in deaths] + [[f"run{number}", None]]
    ended = subprocess.run(
        command(base, dataset, out, plan), env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    ends = json.loads(ended.stdout.splitlines()[-1])
    assert ends == [_end(moment) for _, moment in plan], ended.stderr
    expected = weights(out / "whole")
    assert len(expected) == 8, "three checkpoints and the best, two files each"
    for number, deaths in enumerate(moments):
        assert weights(out / f"run{number}") == expected, deaths
        assert losses(out / f"run{number}") == losses(out / "whole"), f"{deaths}: nothing twice, nothing missing"
    return ended.stderr


def _end(moment: str | None) -> int:
    if moment is None:
        return 0
    return 3 if moment.startswith("full") else -signal.SIGKILL


@pytest.mark.whole
def test_a_killed_training_goes_on_to_the_same_bytes_and_so_does_one_that_filled_the_disk(
    tiny_base: Path, make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    # Between checkpoints, on a full disk, while a checkpoint is written, in the export.
    said = check(tiny_base, make_dataset(), tmp_path, [["step 3", "full 4", "save 4", "export"]])
    assert "The disk is full; free some space and start again." in said


def moments(count: int, seed: int) -> list[str]:
    """Draw moments of death; each kind at least once."""
    chance = random.Random(seed)
    steps, due = range(6), (2, 4, 6)
    kinds: list[tuple[str, list]] = [
        ("step", list(steps)), ("write", list(due)), ("save", list(due)), ("sample", [0, *due]), ("scores", [0, *due]),
        ("export", [""]), ("report", [""]), ("full", list(due)),
    ]  # fmt: skip
    drawn = [kinds[i % len(kinds)] for i in range(count)]
    return [f"{kind} {chance.choice(places)}".strip() for kind, places in drawn]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_training_killed_at_seeded_points_goes_on_to_the_same_bytes(
    tiny_base: Path, make_dataset: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    alone = [[moment] for moment in moments(16, seed)]
    in_a_row = ["step 1", "write 2", "scores 2", "step 5", "save 6", "export", "report"]
    check(tiny_base, make_dataset(), tmp_path, [*alone, in_a_row])


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
