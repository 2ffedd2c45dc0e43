"""Faces in photographs: OpenCV's Haar cascade proposes, dlib's HOG detector decides.

Haar finds small faces but also sees faces in patterns; HOG rarely errs but misses small ones. So HOG looks at the whole
photo and, enlarged, at each of Haar's proposals: on 45 photos of people and 30 of things that left no false face. Both
ship their models in their wheels.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DETECT_PX = 800
"""Longer side at which faces are searched; faces below a twelfth of the shorter side are not looked for."""
_SURE = 0.3
"""HOG's score from which it is believed without Haar; drawn faces and patterns stay below it."""
_CUTOUT_PX = 240
"""Side to which Haar's proposals, with a margin, are enlarged or shrunk for HOG (it sees faces from 80 px on)."""


_CHIP_PX = 150
"""Side of the upright face that dlib's net sees."""
_FEATURES_PX = 48
"""Side at which features are looked for: eyes and mouth are a few pixels there, pores and grain are none."""
DETAIL_MIN = 0.38
"""Least strength of fine detail (of a Laplacian at 48 px) beside all contrast of a face that can be read.

21 photographed people. Readable: as they are, gamma 0.5 and 2, contrast 0.5 and 1.6, brightness 0.4, grey, warm light,
JPEG quality 30, noise, mirrored, and shrunk to faces of 40, 60 and 90 px: 0.39 and more, and dlib's distance to the
unspoilt face stays below 0.33. Blurred by 3.5 % of the face's width and more: 0.31 and less (0.44 where the rim of the
face stays sharp), and that distance is 0.45 to 0.8; dlib calls two faces one person's below 0.6. Mosaics of 5 cells and
blurs of 10 % and more are not even found as faces in any of 71 portraits.
"""
EVENNESS_MIN = 0.45
"""Least evenness with which the differences of neighbouring pixels are spread over a face's columns or its rows.

``mean(c)^2 / mean(c^2)`` of their sums ``c`` per column: 1 where all columns change alike, low where everything happens
on the borders of a mosaic's cells. The same faces in the same lights: 0.68 and more; drawn ones 0.57 and more; mosaics
of 5 to 24 cells across: 0.37 and less. Holds for cells that stand upright in the picture.
"""


@dataclass(frozen=True, slots=True)
class Face:
    """One face in a photo."""

    box: tuple[int, int, int, int]
    """Top, left, height, width in the photo, pixels; inside it."""
    score: float
    """HOG's confidence: mostly 1.2 to 2.6 for portraits of real people, 0 for a doubtful find."""


@lru_cache(maxsize=1)
def _haar() -> Any:
    import cv2

    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))


@lru_cache(maxsize=1)
def _hog() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()


@lru_cache(maxsize=1)
def _predictor() -> Any:
    import dlib
    import face_recognition_models

    # The 5-point model only: the 68-point one was trained on pictures with a non-commercial licence.
    return dlib.shape_predictor(face_recognition_models.pose_predictor_five_point_model_location())


def landmarks(picture: Image.Image, face: Face) -> Any:
    """Return dlib's five points of a face (both corners of both eyes, base of the nose), in the picture's pixels."""
    import dlib

    top, left, height, width = face.box
    return _predictor()(np.asarray(picture), dlib.rectangle(left, top, left + width, top + height))


def is_readable(picture: Image.Image, face: Face) -> bool:
    """Return whether a face shows its features; a detector also finds faces that are a blur or a mosaic.

    Judged by shapes alone, so that light, colour and contrast change nothing; see ``DETAIL_MIN``, ``EVENNESS_MIN``.
    """
    import dlib

    top, left, height, width = face.box
    inner = picture.crop((left + width // 8, top + height // 8, left + width - width // 8, top + height))
    levels = np.asarray(inner.convert("L"), dtype=np.float64)
    profiles = [np.abs(np.diff(levels, axis=axis)).sum(axis=1 - axis) for axis in (0, 1)]
    evenness = max(float(sums.mean() ** 2 / max(1e-9, (sums**2).mean())) for sums in profiles)

    chip = Image.fromarray(dlib.get_face_chip(np.asarray(picture), landmarks(picture, face), _CHIP_PX, 0.25))
    small = chip.convert("L").resize((_FEATURES_PX, _FEATURES_PX), Image.Resampling.BOX)
    middle = np.asarray(small, dtype=np.float64)[9:44, 9:44]  # from the brows to the mouth
    laplacian = 4 * middle[1:-1, 1:-1] - middle[:-2, 1:-1] - middle[2:, 1:-1] - middle[1:-1, :-2] - middle[1:-1, 2:]
    return evenness >= EVENNESS_MIN and float(laplacian.std()) > DETAIL_MIN * float(middle.std())


def pose(picture: Image.Image, face: Face) -> tuple[float, float]:
    """Return how far a head is turned.

    Returns:
        The nose's sideways shift from the middle of the eyes in eye distances (0 = frontal, about 0.3 = 30 degrees),
        and the slope of the line between the eyes in radians.
    """
    points = np.array([(p.x, p.y) for p in landmarks(picture, face).parts()], dtype=np.float64)
    one, other = points[0:2].mean(axis=0), points[2:4].mean(axis=0)
    left, right = (one, other) if one[0] <= other[0] else (other, one)
    across = right - left
    distance = max(1.0, float(np.hypot(*across)))
    along = float((points[4] - (left + right) / 2) @ across) / distance**2
    return along, float(np.arctan2(across[1], across[0]))


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the share of the smaller box that two boxes (top, left, height, width) have in common."""
    height = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    width = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0.0, height) * max(0.0, width) / max(1e-9, min(a[2] * a[3], b[2] * b[3]))


def find_faces(picture: Image.Image) -> list[Face]:
    """Find faces that look more or less into the camera, the largest first.

    Args:
        picture: RGB, any size.
    """
    import cv2

    scale = min(1.0, DETECT_PX / max(picture.size))
    small = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BILINEAR
    )
    grey = np.asarray(small.convert("L"))
    smallest = max(24, min(grey.shape) // 12)
    if min(grey.shape) < smallest:
        return []
    proposed = [
        (float(y), float(x), float(h), float(w))
        for x, y, w, h in _haar().detectMultiScale(cv2.equalizeHist(grey), 1.1, 6, 0, (smallest, smallest))
    ]
    found = [(box, score) for box, score in _hog_boxes(small, 1 if max(small.size) <= 400 else 0) if score >= _SURE]
    found += [(box, score) for box in proposed if (score := _second_look(small, box)) is not None]
    distinct: list[tuple[tuple[float, ...], float]] = []
    for box, score in sorted(found, key=lambda item: item[0][2] * item[0][3], reverse=True):
        if all(overlap(box, other) <= 0.5 for other, _ in distinct):
            distinct.append((box, score))
    return [Face(_inside(box, scale, picture.size), score) for box, score in distinct]


def _hog_boxes(picture: Image.Image, upsample: int) -> list[tuple[tuple[float, ...], float]]:
    rectangles, scores, _ = _hog().run(np.asarray(picture), upsample, 0.0)
    boxes = [(float(r.top()), float(r.left()), float(r.height()), float(r.width())) for r in rectangles]
    return list(zip(boxes, scores, strict=True))


def _second_look(picture: Image.Image, box: tuple[float, ...]) -> float | None:
    """Let HOG look at a proposal enlarged, with half of its size as margin; return its score, None for no face."""
    top, left, height, width = box
    window = (left - width / 2, top - height / 2, left + width * 1.5, top + height * 1.5)
    cutout = picture.crop(window).resize((_CUTOUT_PX, _CUTOUT_PX), Image.Resampling.BILINEAR)
    middle = (_CUTOUT_PX / 4, _CUTOUT_PX / 4, _CUTOUT_PX / 2, _CUTOUT_PX / 2)
    return max((score for found, score in _hog_boxes(cutout, 0) if overlap(found, middle) > 0.5), default=None)


def _inside(box: tuple[float, ...], scale: float, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Scale a box to the photo and cut it at the photo's edges."""
    top, left, height, width = (value / scale for value in box)
    y0, x0 = min(max(0, round(top)), size_wh[1] - 1), min(max(0, round(left)), size_wh[0] - 1)
    y1, x1 = min(size_wh[1], round(top + height)), min(size_wh[0], round(left + width))
    return y0, x0, max(1, y1 - y0), max(1, x1 - x0)
