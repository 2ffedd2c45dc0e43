"""Likeness of real people by SFace: 38.7 MB, Apache-2.0, fetched when it is asked for by name.

SFace is a MobileFaceNet trained by Zhong et al. and published in OpenCV's model zoo; OpenCV runs it, and YuNet (MIT),
which finds the landmarks that it is aligned by. Which face is measured, and whether it can be read, is decided as for
the engine ``face``, so that both leave out the same pictures; YuNet has to see a face in the same place.

Source: https://arxiv.org/abs/2205.12010 (SFace), https://github.com/opencv/opencv_zoo (files and licences).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from studio.bases.weight_files import locate, resolve
from studio.core.errors import MissingExtraError
from studio.core.files import sha256_of
from studio.core.settings import load_settings
from studio.imaging.faces import DETAIL_MIN, EVENNESS_MIN, Face, find_faces, is_readable, overlap
from studio.likeness.base import Box, Embeddings, Scale

SCALE = Scale(other=0.05, same=0.72)
"""Cosines to a centroid. Set from published figures, not measured: the weights need a download.

OpenCV's threshold for one person, 0.363, lies in the middle. ``bench likeness DIR --engine sface`` prints the cosines
of people of one's own.
"""

DETECT_PX = 640
"""Longer side at which YuNet looks; it was trained on faces of 10 to 300 px."""
DETECT_MIN = 0.6
"""YuNet's least score: low, since another detector has found a face there already."""
_NMS = 0.3
_WIDTH = 128  # numbers per face


class SFaceEngine:
    """SFace's embedding of the largest face; pictures without a readable face get NaN.

    Args:
        recogniser: an ONNX file like SFace's; None takes the verified one, fetched if need be.
        detector: an ONNX file like YuNet's; the same.

    Raises:
        MissingExtraError: the weights are not on this machine and cannot be fetched, or OpenCV cannot read them.
    """

    name = "sface"
    caveat = (
        "SFace recognises adults far better than children and than people in photos taken years apart: others measured "
        "95 % of adult pairs (Asian faces: 99.8 %), 49 % of children's and 52 % of pairs years apart, at one false "
        "match in a thousand."
    )
    """Source: https://github.com/photoprism/photoprism/pull/5758 (LFW, CASIA-FaceV5, FG-NET)."""

    def __init__(self, recogniser: Path | None = None, detector: Path | None = None) -> None:
        """Read both nets."""
        home = load_settings().home
        recogniser = recogniser or resolve("sface", home).path
        detector = detector or resolve("yunet", home).path
        try:
            self._recogniser: Any = cv2.FaceRecognizerSF.create(str(recogniser), "")
            self._detector: Any = cv2.FaceDetectorYN.create(str(detector), "", (320, 320), DETECT_MIN, _NMS)
        except cv2.error as error:
            raise MissingExtraError(
                f"OpenCV {cv2.__version__} cannot read the weights of SFace ({error.err})."
            ) from None
        digest = sha256_of(recogniser)[:12]
        self.version = f"{digest} {SCALE.other:g}-{SCALE.same:g} readable {DETAIL_MIN:g}-{EVENNESS_MIN:g}"

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return ``(N, 128)`` float32, rows of unit length; NaN where no face can be read."""
        rows = np.full((len(pictures), _WIDTH), np.nan, dtype=np.float32)
        for row, picture in zip(rows, pictures, strict=True):
            seen = self._face(picture)
            if seen is not None:
                bgr = np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])
                vector = self._recogniser.feature(self._recogniser.alignCrop(bgr, seen[1]))[0]
                row[:] = vector / np.linalg.norm(vector)
        return rows

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration, one for all people."""
        return SCALE

    def face_box(self, picture: Image.Image) -> Box | None:
        """Return the box of the largest face; None where it cannot be read, or there is none."""
        seen = self._face(picture)
        return seen[0].box if seen else None

    def _face(self, picture: Image.Image) -> tuple[Face, np.ndarray] | None:
        """Return the largest readable face and YuNet's row of it: left, top, width, height, five points xy, score."""
        faces = find_faces(picture)
        if not faces or not is_readable(picture, faces[0]):
            return None
        scale = min(1.0, DETECT_PX / max(picture.size))
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        small = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        self._detector.setInputSize(size)
        found = self._detector.detect(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))[1]
        if found is None:
            return None
        rows = np.concatenate([found[:, :14] / scale, found[:, 14:]], axis=1)
        shares = [overlap((row[1], row[0], row[3], row[2]), faces[0].box) for row in rows]
        best = int(np.argmax(shares))
        return (faces[0], rows[best]) if shares[best] > 0.5 else None


def at_hand() -> bool:
    """Return whether the verified weights can be read without the network."""
    home = load_settings().home
    return all(locate(name, home) is not None for name in ("sface", "yunet"))
