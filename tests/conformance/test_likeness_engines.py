"""What every likeness engine promises; a new engine is one row of ``ENGINES``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from studio.likeness.base import LikenessEngine, centroid, likeness
from studio.likeness.bench import SPOILT, spoil
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED


@dataclass
class Case:
    engine: LikenessEngine
    subject: list[Image.Image]
    """Pictures of one subject."""
    other: list[Image.Image]
    """Pictures of another one of the same class."""
    empty: Image.Image | None
    """A picture without a subject; None where the engine sees one in everything."""
    class_noun: str


def drawn(person: int, scene: int, size_px: int = 128) -> Image.Image:
    identity = sample_identity(HELD_OUT_SEED + person, "woman")
    style = sample_scene(HELD_OUT_SEED + scene, style="photo")
    return Image.fromarray(render(identity, style, size_px))


def pocket_case(folder: Path) -> Case:
    from studio.likeness.registry import get_engine

    subject, other = [drawn(3, n) for n in range(4)], [drawn(8, 20 + n) for n in range(3)]
    return Case(get_engine("pocket"), subject, other, Image.new("RGB", (64, 64)), "woman")


def portraits() -> tuple[list[Image.Image], list[Image.Image]]:
    """Return pictures of one photographed person, and one of another."""
    data = pytest.importorskip("skimage.data")
    person = Image.fromarray(data.astronaut()).crop((80, 0, 360, 300))
    subject = [
        person,
        person.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        ImageEnhance.Brightness(person).enhance(0.6),
        person.rotate(8, Image.Resampling.BICUBIC),
    ]
    # A drawn portrait of the renderer that dlib takes for a face: the only other face that is free of rights.
    scene = sample_scene(HELD_OUT_SEED + 59, style="photo")
    other = Image.fromarray(render(sample_identity(HELD_OUT_SEED + 59), scene, 512))
    return subject, [other]


def face_case(folder: Path) -> Case:
    from studio.likeness.registry import get_engine

    return Case(get_engine("face"), *portraits(), Image.new("RGB", (64, 64), "grey"), "person")


def sface_case(folder: Path) -> Case:
    """Nets of the right shape: the real ones need a download."""
    from studio.likeness.sface import SFaceEngine

    engine = SFaceEngine(folder / "sface.onnx", folder / "yunet.onnx")
    return Case(engine, *portraits(), Image.new("RGB", (64, 64), "grey"), "person")


def subject_case(folder: Path) -> Case:
    """A DINOv2 with random weights: it knows nothing, but tells patterns apart."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from studio.likeness.subject import SubjectEngine

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Dinov2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=224, patch_size=14, mlp_ratio=2
        )
        Dinov2Model(config).save_pretrained(folder)
    stripes = Image.fromarray(np.tile(np.repeat([[20], [230]], 16, 0), (8, 256)).astype(np.uint8)).convert("RGB")
    subject = [stripes, ImageEnhance.Brightness(stripes).enhance(0.8), stripes.resize((300, 200))]
    other = [ImageEnhance.Contrast(Image.new("RGB", (256, 256), colour)).enhance(1.0) for colour in ("red", "maroon")]
    for picture in other:
        picture.putpixel((0, 0), (0, 0, 0))
    return Case(SubjectEngine(str(folder)), subject, other, Image.new("RGB", (64, 64), "grey"), "teapot")


ENGINES: dict[str, Callable[[Path], Case]] = {
    "pocket": pocket_case,
    "face": face_case,
    "sface": sface_case,
    "subject": subject_case,
}


@pytest.fixture(scope="module", params=list(ENGINES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sface_stand_ins: Path) -> Case:
    folder = sface_stand_ins if request.param == "sface" else tmp_path_factory.mktemp(request.param)
    return ENGINES[request.param](folder)


def test_engine_is_known_by_its_name(case: Case, request: pytest.FixtureRequest) -> None:
    assert case.engine.name == request.node.callspec.params["case"]


def test_engine_has_a_version(case: Case) -> None:
    assert case.engine.version and isinstance(case.engine.version, str)


def test_engine_says_in_one_sentence_for_whom_it_is_worse_or_nothing(case: Case) -> None:
    assert case.engine.caveat == "" or case.engine.caveat.endswith(".")


def test_every_engine_has_a_case() -> None:
    from studio.likeness.registry import ENGINES as NAMES

    assert set(ENGINES) == set(NAMES)


def test_rows_are_float32_of_unit_length(case: Case) -> None:
    rows = case.engine.embed(case.subject)
    assert rows.dtype == np.float32
    assert rows.shape[0] == len(case.subject)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-4)


def test_picture_without_a_subject_is_nan_and_its_neighbours_are_not(case: Case) -> None:
    if case.empty is None:
        pytest.skip("this engine sees a subject in every picture")
    rows = case.engine.embed([case.subject[0], case.empty, case.subject[1]])
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]


def test_no_pictures_are_no_rows(case: Case) -> None:
    rows = case.engine.embed([])
    assert rows.shape == (0, case.engine.embed(case.subject[:1]).shape[1])


def test_result_does_not_depend_on_order_or_neighbours(case: Case) -> None:
    together = case.engine.embed(case.subject)
    backwards = case.engine.embed(case.subject[::-1])[::-1]
    assert together == pytest.approx(backwards, abs=1e-6)
    assert together[:1] == pytest.approx(case.engine.embed(case.subject[:1]), abs=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (37, 61), (200, 90), (700, 800)])
def test_pictures_of_any_size_are_taken(case: Case, size: tuple[int, int]) -> None:
    rows = case.engine.embed([case.subject[0].resize(size)])
    finite = np.isfinite(rows).all(axis=1)
    assert (finite | np.isnan(rows).all(axis=1)).all()


def test_subject_is_more_alike_than_somebody_else(case: Case) -> None:
    scale = case.engine.scale(case.class_noun)
    reference = centroid(case.engine.embed(case.subject[1:]))
    own = likeness(case.engine.embed(case.subject[:1]), reference, scale)
    others = likeness(case.engine.embed(case.other), reference, scale)
    assert own.min() > others.max()


def test_scale_has_its_ends_in_order_and_takes_any_noun(case: Case) -> None:
    for noun in (case.class_noun, "never heard of"):
        scale = case.engine.scale(noun)
        assert -1 <= scale.other < scale.same <= 1


def test_pictures_are_left_as_they_were(case: Case) -> None:
    before = case.subject[0].tobytes()
    case.engine.embed(case.subject[:1])
    assert case.subject[0].tobytes() == before


def test_the_face_that_is_read_can_be_pointed_at_and_is_not_measured_once_it_is_spoilt(case: Case) -> None:
    picture = case.subject[0]
    box = case.engine.face_box(picture)
    if box is None:
        assert case.engine.name == "subject"  # it looks at whole pictures
        return
    top, left, height, width = box
    assert 0 <= top < top + height <= picture.height and 0 <= left < left + width <= picture.width
    assert height > 8 and width > 8
    if case.empty is not None:
        assert case.engine.face_box(case.empty) is None
    spoilt = [spoil(picture, box, how) for how in SPOILT]
    assert np.isnan(case.engine.embed(spoilt)).all()
    assert [case.engine.face_box(one) for one in spoilt] == [None, None]
