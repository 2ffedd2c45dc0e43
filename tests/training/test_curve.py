import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.training.curve import _smooth, draw_curve


def drawn(folder: Path, rows: list[dict[str, float | None]]) -> np.ndarray:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curve(folder / "metrics.jsonl", folder / "curve.png")
    with Image.open(folder / "curve.png") as picture:
        return np.asarray(picture.convert("RGB"))


def has(pixels: np.ndarray, colour: str) -> bool:
    wanted = np.frombuffer(bytes.fromhex(colour), np.uint8)
    return bool((pixels == wanted).all(-1).any())


def test_likeness_is_drawn_where_it_was_measured_and_the_validation_loss_elsewhere(tmp_path: Path) -> None:
    rows: list[dict[str, float | None]] = [{"step": step, "loss": 1 / step} for step in range(1, 40)]
    without = drawn(tmp_path, [*rows, {"step": 40, "val_loss": 0.3, "likeness": None}])
    measured = drawn(tmp_path, [*rows, {"step": 0, "likeness": 0.1}, {"step": 40, "likeness": 0.8, "bleed": 0.1}])
    assert has(without, "4c78a8") and not has(without, "2e8b57")
    assert has(measured, "2e8b57") and has(measured, "d1495b")


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": 0.5}]])
def test_a_run_that_has_hardly_begun_has_a_picture_too(tmp_path: Path, rows: list[dict[str, float | None]]) -> None:
    assert drawn(tmp_path, rows).shape == (360, 960, 3)


def test_smoothing_is_a_mean_of_what_came_before() -> None:
    points = [(float(step), float(step % 2)) for step in range(40)]  # a window of two
    assert _smooth(points)[0] == (0.0, 0.0)
    assert {value for _, value in _smooth(points)[1:]} == {0.5}
