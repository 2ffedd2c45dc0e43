from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.bases import weight_files
from studio.core.errors import MissingExtraError
from studio.core.settings import load_settings
from studio.likeness.registry import get_engine
from studio.likeness.sface import SFaceEngine, at_hand

WEIGHTS = [weight_files.locate(name, load_settings().home) for name in ("sface", "yunet")]
"""The user's own, if they are there."""


@pytest.fixture
def stand_ins(sface_stand_ins: Path) -> tuple[Path, Path]:
    return sface_stand_ins / "sface.onnx", sface_stand_ins / "yunet.onnx"


@pytest.fixture
def person() -> Image.Image:
    return Image.fromarray(pytest.importorskip("skimage.data").astronaut()).crop((80, 0, 360, 300))


def test_the_face_is_cut_out_where_both_detectors_see_it(stand_ins: tuple[Path, Path], person: Image.Image) -> None:
    engine = SFaceEngine(*stand_ins)
    page = Image.new("RGB", (900, 700), "white")
    page.paste(person, (500, 320))
    alone, placed, nobody = engine.embed([person, page, Image.new("RGB", (300, 200), "teal")])
    assert np.isfinite(alone).all() and np.isfinite(placed).all() and np.isnan(nobody).all()
    top, left, height, width = engine.face_box(page)
    assert top > 320 and left > 500 and top + height < 620 and left + width < 780


def test_a_face_that_the_landmark_net_does_not_see_is_not_measured(
    stand_ins: tuple[Path, Path], person: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.likeness.sface.DETECT_MIN", 0.99)  # the stand-in is sure by 0.95
    engine = SFaceEngine(*stand_ins)
    assert np.isnan(engine.embed([person])).all() and engine.face_box(person) is None


def test_the_version_says_which_weights_they_are(stand_ins: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(stand_ins[0].read_bytes() + b"\x12\x05other")  # the name of its producer
    assert SFaceEngine(*stand_ins).version != SFaceEngine(other, stand_ins[1]).version


def test_without_the_network_it_says_what_is_missing_its_licence_and_where_it_belongs() -> None:
    with pytest.raises(MissingExtraError, match=r"SFace \(38.7 MB, Apache-2.0\).*SHA-256 0ba9fbfa01b5"):
        get_engine("sface")
    assert not at_hand()


def test_files_of_the_right_names_and_other_content_are_refused(stand_ins: tuple[Path, Path]) -> None:
    folder = load_settings().home / weight_files.FOLDER_NAME
    folder.mkdir(parents=True)
    for name, source in zip(("sface", "yunet"), stand_ins, strict=True):
        file = next(iter(weight_files.WEIGHT_FILES[name].variants[0].files))
        (folder / file).write_bytes(source.read_bytes())
    with pytest.raises(MissingExtraError, match="are not on this machine"):
        get_engine("sface")


def test_a_file_that_is_no_net_is_told_in_words(tmp_path: Path, stand_ins: tuple[Path, Path]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no net")
    with pytest.raises(MissingExtraError, match=r"OpenCV .* cannot read the weights of SFace"):
        SFaceEngine(tmp_path / "broken.onnx", stand_ins[1])


@pytest.mark.skipif(None in WEIGHTS, reason="SFace's weights are not on this machine")
def test_the_real_weights_know_a_face_in_another_light(person: Image.Image) -> None:
    engine = SFaceEngine(*(found.path for found in WEIGHTS if found))
    one, two = engine.embed([person, person.convert("L").convert("RGB")])
    assert one @ two > engine.scale("woman").same
