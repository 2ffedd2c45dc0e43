"""What would make a usable set better: number, angles, light, backgrounds, sharpness, size; only what was measured.

Advice is not a problem: a set with advice can still be called good. Every sentence ends with what to do, with the phone
in mind.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from studio.checking.judge import CandidatePhoto, PhotoFinding
from studio.imaging import quality
from studio.imaging.crop import FACE_TO_CROP
from studio.imaging.faces import pose

ENOUGH = 8
"""Photos from which on nobody is asked for more."""

TURNED = 0.12
"""Sideways shift of the nose, in eye distances, from which on a head counts as turned: about 12 degrees."""

SMALL_PX = 512
"""Side of a crop below which the larger bases get less detail than they can learn."""

ALIKE_LEVELS, ALIKE_WARMTH = 12.0, 0.06
"""Spread of brightness (levels of 255) and of warmth (natural logarithm of red to blue) below which the light of a set
is called the same. Six sets of real photos have 8 to 80 and 0.02 to 0.34, and none of them is below both."""

_OF_LIGHT = "add one by a window, one outdoors in the shade and one in the evening"


def advise(chosen: Sequence[CandidatePhoto], told: Sequence[str]) -> list[PhotoFinding]:
    """Return what is missing in a set.

    Args:
        chosen: the photos in use.
        told: codes of what is said already as a problem of the set.
    """
    found = [
        None if "too_few" in told else _number(chosen),
        None if "same_pose" in told else _angles(chosen),
        _light(chosen),
        None if "same_background" in told else _backgrounds(chosen),
        _sharpness(chosen),
        _size(chosen),
    ]
    return [advice for advice in found if advice is not None]


def _advice(code: str, message: str, cure: str) -> PhotoFinding:
    return PhotoFinding(code, message, cure, serious=False)


def _number(chosen: Sequence[CandidatePhoto]) -> PhotoFinding | None:
    missing = ENOUGH - len(chosen)
    if missing <= 0:
        return None
    return _advice("more_photos", f"{len(chosen)} photos can be used", f"add {missing} more; 8 to 20 are best")


def _angles(chosen: Sequence[CandidatePhoto]) -> PhotoFinding | None:
    """Judge where photographed heads look; profiles are not asked for, because faces are not found in them."""
    turns = [pose(c.look, c.face)[0] for c in chosen if c.look is not None and c.face is not None]
    if len(turns) < 4:
        return None
    sides = {np.sign(turn) for turn in turns if abs(turn) >= TURNED}
    if not sides:
        cure = "add two with the head half turned, one to each side, both eyes still to be seen"
        return _advice("no_turned_head", f"all {len(turns)} faces look straight into the camera", cure)
    if len(sides) == 1:
        return _advice("one_side", "the head is turned to one side only", "add two in which it is turned the other way")
    return None


def _light(chosen: Sequence[CandidatePhoto]) -> PhotoFinding | None:
    levels = np.array([light_of(c.look) for c in chosen if c.look is not None])
    if len(levels) < 4:
        return None
    if (levels.std(axis=0) < (ALIKE_LEVELS, ALIKE_WARMTH)).all():
        return _advice("same_light", f"the light is nearly the same in all {len(levels)} photos", _OF_LIGHT)
    return None


def light_of(picture: Image.Image) -> tuple[float, float]:
    """Return the median brightness of a picture (levels of 255) and its warmth (natural logarithm of red to blue)."""
    pixels = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    red, _, blue = pixels.mean(axis=(0, 1))
    return float(np.median(pixels.mean(axis=-1))), float(np.log((red + 1) / (blue + 1)))


def _backgrounds(chosen: Sequence[CandidatePhoto]) -> PhotoFinding | None:
    count = quality.backgrounds([c.look for c in chosen if c.look is not None])
    if len(chosen) < 4 or count > max(1, len(chosen) // 3):
        return None
    what = "one background" if count == 1 else f"{count} different backgrounds"
    return _advice("few_backgrounds", f"{len(chosen)} photos show only {what}", "add two taken in other places")


def _sharpness(chosen: Sequence[CandidatePhoto]) -> PhotoFinding | None:
    soft = sum(any(finding.code == "blurred" for finding in c.findings) for c in chosen)
    if soft < 2:
        return None
    cure = "wipe the lens of the phone, tap on the subject before you release, and hold the phone with both hands"
    return _advice("soft", f"{soft} of {len(chosen)} photos are not quite sharp", cure)


def _size(chosen: Sequence[CandidatePhoto]) -> PhotoFinding | None:
    sides = [_side_px(c) for c in chosen]
    small = sum(side < SMALL_PX for side in sides)
    if small < max(2, len(sides) / 3):
        return None
    what = "the face fills" if any(c.face for c in chosen) else "the subject has"
    cure = "step closer, and use the files of the camera itself: messengers make photos small"
    return _advice("small", f"in {small} of {len(sides)} photos {what} fewer pixels than could be learned", cure)


def _side_px(candidate: CandidatePhoto) -> float:
    """Return the side of what will be cut out of a photo, pixels of the full photo."""
    shorter = min(candidate.size_hw or (0, 0))
    if candidate.face is None or candidate.look is None or candidate.size_hw is None:
        return shorter
    scale = candidate.size_hw[0] / candidate.look.height
    return min(shorter, FACE_TO_CROP * max(candidate.face.box[2:]) * scale)
