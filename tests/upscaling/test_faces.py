"""Faces: restored where they are, softly, and nothing else is touched."""

import numpy as np
import pytest

from studio.imaging.faces import Face
from studio.upscaling.faces import FACE_PX, restore_faces

PICTURE = np.full((200, 300, 3), 100, np.uint8)


class Whitener:
    name = "whitener"

    def __init__(self):
        self.seen = []

    def restore(self, face):
        self.seen.append(face.shape)
        return np.full_like(face, 255)


def test_a_face_is_restored_in_its_place_with_a_soft_edge():
    restorer = Whitener()
    made = restore_faces(PICTURE, [Face((60, 100, 60, 60), 1.0)], restorer, strength=1.0, tick=lambda: None)
    assert restorer.seen == [(FACE_PX, FACE_PX, 3)]
    assert made[90, 130].min() >= 254, "the middle of the face"
    assert np.array_equal(made[:, :80], PICTURE[:, :80]) and np.array_equal(made[140:], PICTURE[140:])
    assert len(np.unique(made[90, 80:130, 0])) > 5, "no hard edge"
    assert np.array_equal(PICTURE, np.full_like(PICTURE, 100)), "the input stays as it was"


@pytest.mark.parametrize(("strength", "level"), [(0.0, 100), (0.5, 177)])
def test_strength_mixes(strength, level):
    made = restore_faces(PICTURE, [Face((60, 100, 60, 60), 1.0)], Whitener(), strength=strength, tick=lambda: None)
    assert abs(int(made[90, 130, 0]) - level) <= 1


def test_a_face_at_the_edge_and_no_face_at_all():
    ticks = []
    made = restore_faces(PICTURE, [Face((0, 280, 40, 20), 1.0)], Whitener(), strength=1.0, tick=lambda: ticks.append(1))
    assert made.shape == PICTURE.shape and made.max() > 200 and ticks == [1]
    assert np.array_equal(restore_faces(PICTURE, [], Whitener(), strength=1.0, tick=lambda: None), PICTURE)
