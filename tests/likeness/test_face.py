import numpy as np
import pytest
from PIL import Image

from studio.likeness.base import likeness
from studio.likeness.face import SCALE, FaceEngine


def test_a_face_is_like_itself_and_a_picture_without_one_is_not_measured() -> None:
    person = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    engine = FaceEngine()
    rows = engine.embed([person, person.resize((400, 400)), Image.new("RGB", (256, 256), "grey")])
    assert rows.shape == (3, 128) and rows.dtype == np.float32
    assert np.isnan(rows[2]).all()
    np.testing.assert_allclose(np.linalg.norm(rows[:2], axis=1), 1, rtol=1e-5)
    assert rows[0] @ rows[1] > SCALE.same
    assert likeness(rows[1:2], rows[0], engine.scale("woman"))[0] > 0.9
