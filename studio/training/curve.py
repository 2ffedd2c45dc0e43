"""``curve.png``: loss and likeness over the steps, as one small picture for reports and model cards.

Drawn with Pillow, because a plotting library would be a heavy dependency for two lines in a box.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_SIZE_WH = (960, 360)
_MARGIN_PX = 48
_INK, _FAINT = "#333333", "#dddddd"
_LOSS, _LIKENESS, _BLEED = "#4c78a8", "#2e8b57", "#d1495b"

Points = Sequence[tuple[float, float]]


def draw_curve(metrics_path: Path, png_path: Path) -> None:
    """Draw the metrics log of a run.

    Args:
        metrics_path: ``metrics.jsonl``.
        png_path: the picture to write.
    """
    rows = [json.loads(line) for line in metrics_path.read_text(encoding="utf-8").splitlines()]

    def points(name: str) -> list[tuple[float, float]]:
        return [(row["step"], row[name]) for row in rows if row.get(name) is not None]

    picture = Image.new("RGB", _SIZE_WH, "white")
    draw = ImageDraw.Draw(picture)
    width, height = _SIZE_WH
    half = width // 2
    _panel(draw, (0, 0, half, height), "loss (mean of 5 %)", [(_smooth(points("loss")), _LOSS)], None)
    scores = [(points("likeness"), _LIKENESS), (points("bleed"), _BLEED)]
    if any(line for line, _ in scores):
        _panel(draw, (half, 0, width, height), "likeness (green), bleed (red)", scores, (0.0, 1.0))
    else:
        _panel(draw, (half, 0, width, height), "validation loss", [(points("val_loss"), _LOSS)], None)
    picture.save(png_path, format="PNG")


def _smooth(points: Points) -> Points:
    window = max(1, len(points) // 20)
    return [
        (points[i][0], sum(value for _, value in points[max(0, i - window + 1) : i + 1]) / min(window, i + 1))
        for i in range(len(points))
    ]


def _panel(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    title: str,
    lines: Sequence[tuple[Points, str]],
    at_least: tuple[float, float] | None,
) -> None:
    """Draw one panel; the vertical axis spans the values, and ``at_least`` where given."""
    left, top, right, bottom = (
        box[0] + _MARGIN_PX,
        box[1] + _MARGIN_PX,
        box[2] - _MARGIN_PX // 2,
        box[3] - _MARGIN_PX,
    )
    font = ImageFont.load_default(size=14)
    draw.text((left, box[1] + 16), title, fill=_INK, font=font)
    values = [value for line, _ in lines for _, value in line] + list(at_least or ())
    steps = [step for line, _ in lines for step, _ in line]
    if not steps:
        return
    low, high = min(values), max(values)
    high = high if high > low else low + 1.0
    last = max(steps) or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = left + (right - left) * point[0] / last
        return x, bottom - (bottom - top) * (point[1] - low) / (high - low)

    for share in (0.0, 0.5, 1.0):
        y = place((0, low + share * (high - low)))[1]
        draw.line([(left, y), (right, y)], fill=_FAINT)
        draw.text((left - 6, y), f"{low + share * (high - low):.2g}", fill=_INK, font=font, anchor="rm")
    draw.text((right, bottom + 8), f"step {last:.0f}", fill=_INK, font=font, anchor="rt")
    for line, colour in lines:
        placed = [place(point) for point in line]
        if len(placed) > 1:
            draw.line(placed, fill=colour, width=2, joint="curve")
        if len(placed) <= 30:
            for x, y in placed:
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
