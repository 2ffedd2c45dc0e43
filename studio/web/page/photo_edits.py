"""Changes of a photo set that wait for the next check: pure functions of records, which the Photos tab shows and sends.

``Edits`` are JSON, as Gradio's state holds them; names are those of the verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Shares = tuple[float, float, float, float]
"""Top, left, height, width as shares of a photo's height and width."""

TAKE_OUT, PUT_BACK, USE, UNDO, OPEN = "take_out", "put_back", "use", "undo", "open"
"""What the buttons of a photo's card do."""


@dataclass
class Edits:
    """What changes in a set."""

    take_out: list[str] = field(default_factory=list)
    put_back: list[str] = field(default_factory=list)
    use: list[str] = field(default_factory=list)
    """Photos that the check left out and that are used anyway."""
    captions: dict[str, str] = field(default_factory=dict)
    crops: dict[str, Shares | None] = field(default_factory=dict)
    """None goes back to the crop that the check chooses."""

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> "Edits":
        """Return the edits in a state."""
        return cls(**{name: type(value)(value) for name, value in (state or {}).items()})

    def state(self) -> dict[str, Any]:
        """Return the edits as a state."""
        return asdict(self)

    def pressed(self, action: str, name: str) -> None:
        """Note that a button of a photo's card was pressed; the last press counts."""
        self.undo(name)
        rows = {TAKE_OUT: self.take_out, PUT_BACK: self.put_back, USE: self.use}.get(action)
        if rows is not None:
            rows.append(name)

    def undo(self, name: str) -> None:
        """Forget whether a photo is used or not; its caption and crop stay."""
        for rows in (self.take_out, self.put_back, self.use):
            if name in rows:
                rows.remove(name)

    def action_of(self, name: str) -> str:
        """Return what will happen to a photo; empty for nothing."""
        for action, rows in ((TAKE_OUT, self.take_out), (PUT_BACK, self.put_back), (USE, self.use)):
            if name in rows:
                return action
        return ""

    def __len__(self) -> int:
        """Return the number of changes."""
        return sum(len(rows) for rows in (self.take_out, self.put_back, self.use, self.captions, self.crops))

    def settings(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return what changes in the settings of the check ``before``, as CheckConfig has them."""
        back = {*self.put_back, *self.use}
        exclude = [name for name in before.get("exclude", ()) if name not in back]
        force = [name for name in before.get("force", ()) if name not in self.take_out]
        crops = {**before.get("crops", {}), **self.crops}
        return {
            "exclude": list(dict.fromkeys([*exclude, *self.take_out])),
            "force": list(dict.fromkeys([*force, *self.use])),
            "captions": {**before.get("captions", {}), **self.captions},
            "crops": {name: crop for name, crop in crops.items() if crop is not None},
        }


def actions(verdict: Mapping[str, Any], edits: Edits) -> Sequence[str]:
    """Return the buttons of a photo's card; none where nothing was kept to edit."""
    if not verdict.get("original"):
        return ()
    if edits.action_of(verdict["name"]):
        return (UNDO,)
    if verdict["status"] != "rejected":
        return (TAKE_OUT, OPEN)
    is_out = any(problem.get("code") == "excluded" for problem in verdict["problems"])
    return (PUT_BACK,) if is_out else (USE, OPEN)


def crop_shares(size_hw: Sequence[int], *, is_square: bool, size: float, across: float, down: float) -> Shares:
    """Return a crop.

    Args:
        size_hw: of the photo, pixels.
        is_square: whether the crop is a square, or has the photo's own shape.
        size: of the largest such crop, percent.
        across: where it lies from left to right, percent of the room that is left.
        down: the same from top to bottom.
    """
    height, width = size_hw
    side = min(height, width)
    tall = (side / height if is_square else 1.0) * size / 100
    wide = (side / width if is_square else 1.0) * size / 100
    top, left = (1 - tall) * down / 100, (1 - wide) * across / 100
    return (round(top, 4), round(left, 4), round(tall, 4), round(wide, 4))


def sliders_of(crop: Sequence[float], size_hw: Sequence[int]) -> tuple[bool, float, float, float]:
    """Return what makes ``crop_shares`` give about this crop: is_square, size, across, down."""
    (height, width), (top, left, tall, wide) = size_hw, crop
    is_square = abs(tall * height - wide * width) <= 0.02 * max(height, width)
    size = 100 * (max(tall * height, wide * width) / min(height, width) if is_square else max(tall, wide))
    across = 50.0 if wide >= 0.999 else 100 * left / (1 - wide)
    down = 50.0 if tall >= 0.999 else 100 * top / (1 - tall)
    return is_square, *(round(min(100.0, max(0.0, value)), 1) for value in (size, across, down))  # type: ignore[return-value]
