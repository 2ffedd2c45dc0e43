import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

import studio.check
from studio.check import check, load_dataset
from studio.checking import judge
from studio.core import progress
from studio.core.config import CheckConfig
from studio.core.domain import Dataset, Event
from studio.core.errors import ConflictError, InputError, JobCancelled
from studio.imaging.decode import decode
from studio.likeness import registry
from studio.likeness.base import Scale
from studio.likeness.registry import EngineChoice
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "dreambooth"
MARKER = b"PLANTED-GPS-51.4778"
SETTINGS: dict[str, Any] = {"subject": "Ada", "class_noun": "toy", "likeness": "none"}


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Six scenes of one drawn person, 320 px."""
    identity = sample_identity(HELD_OUT_SEED + 1, "woman")
    scenes = [sample_scene(HELD_OUT_SEED + n, style="photo") for n in range(6)]
    return [Image.fromarray(render(identity, scene, 320)) for scene in scenes]


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Image.Image]) -> Path:
    """A folder of six good photos: 1.jpg to 6.jpg."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, picture in enumerate(pictures, 1):
        (photos / f"{number}.jpg").write_bytes(jpeg(picture))
    return photos


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Callable[..., Dataset]:
    def run(**changes: Any) -> Dataset:
        return check(CheckConfig(**{**SETTINGS, **changes}), folder, tmp_path / "out")

    return run


def codes(dataset: Dataset) -> dict[str, tuple[str, list[str]]]:
    return {v.name: (v.status, [p["code"] for p in v.problems]) for v in dataset.verdicts}


# ------------------------------------------------------------------------------------------------- a good set


def test_good_photos_become_a_dataset_that_can_be_read_back(run: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = run()
    assert {verdict.status for verdict in dataset.verdicts} == {"good"}
    assert load_dataset(tmp_path / "out") == dataset
    assert [photo.file for photo in dataset.photos] == [f"photos/{n:03d}.png" for n in range(1, 7)]
    for photo, verdict in zip(dataset.photos, dataset.verdicts, strict=True):
        with Image.open(tmp_path / "out" / photo.file) as prepared:
            assert (prepared.mode, prepared.size) == ("RGB", (320, 320))
        with Image.open(tmp_path / "out" / str(verdict.preview)) as preview:
            assert max(preview.size) == 256
        assert photo.bucket == "1:1"
        assert photo.caption == "photo of {instance_token} {class_noun}"
        assert verdict.size_hw == (320, 320)
    assert dataset.set_problems == ()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_listener_hears_stages_progress_and_every_verdict_as_json(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    events: list[Event] = []
    check(CheckConfig(**SETTINGS), folder, tmp_path / "out", on_event=events.append)
    json.dumps([dict(event.data) for event in events])
    kinds = [event.kind for event in events]
    assert [e.data["name"] for e in events if e.kind == "stage"] == ["reading", "looking", "preparing"]
    assert [e.data["name"] for e in events if e.kind == "verdict"] == [f"{n}.jpg" for n in range(1, 7)]
    steps = [e.data["step"] for e in events if e.kind == "progress"]
    assert steps == list(range(1, 19))
    assert kinds.count("progress") == events[-1].data["total"]


def test_same_photos_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    one = check(CheckConfig(**SETTINGS), folder, tmp_path / "a")
    other = check(CheckConfig(**SETTINGS), folder, tmp_path / "b")
    assert one == other


def test_photos_are_shrunk_to_the_size_asked_for_and_never_enlarged(run: Callable[..., Dataset]) -> None:
    assert {photo.size_hw for photo in run(crop_px=128).photos} == {(128, 128)}
    assert {photo.size_hw for photo in run(crop_px=4096).photos} == {(320, 320)}


def test_whole_photo_is_kept_when_no_crop_is_asked_for(run: Callable[..., Dataset], folder: Path) -> None:
    Image.open(folder / "1.jpg").crop((0, 0, 320, 290)).save(folder / "1.jpg", quality=95)
    assert run(crop="none").photos[0].crop_yxhw == (0, 0, 290, 320)
    photo = run(crop="centre").photos[0]
    assert photo.bucket == "1:1"
    assert photo.crop_yxhw == (0, 15, 290, 290)


def test_planted_metadata_is_in_no_file_that_is_written(
    folder: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x010E] = MARKER.decode()
    exif.get_ifd(0x8825)[29] = MARKER.decode()
    options = {"exif": exif.tobytes(), "xmp": b"<x>" + MARKER + b"</x>", "comment": MARKER, "icc_profile": MARKER}
    data = jpeg(pictures[0], **options)
    assert data.count(MARKER) >= 4
    (folder / "1.jpg").write_bytes(data)
    check(CheckConfig(**SETTINGS), folder, tmp_path / "out")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 3 * 6 + 2
    for path in written:
        assert MARKER not in path.read_bytes()
        assert path.suffix != ".jpg" or b"Exif" not in path.read_bytes()
        if path.suffix == ".png":
            assert not re.search(rb"tEXt|zTXt|iTXt|eXIf|iCCP|tIME", path.read_bytes())


def test_sideways_photo_is_prepared_upright(run: Callable[..., Dataset], folder: Path, tmp_path: Path) -> None:
    upright = Image.open(folder / "2.jpg").convert("RGB").crop((0, 0, 300, 320))
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "2.jpg").write_bytes(jpeg(upright.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes()))
    dataset = run(crop="none")
    assert dataset.verdicts[1].size_hw == (320, 300)
    prepared = Image.open(tmp_path / "out" / dataset.photos[1].file)
    assert np.abs(np.asarray(prepared).astype(int) - np.asarray(upright).astype(int)).mean() < 4


def test_big_photo_cut_small_keeps_its_full_resolution(tmp_path: Path, person: Image.Image) -> None:
    canvas = Image.new("RGB", (2400, 2000), (120, 130, 140))
    canvas.paste(person.resize((1024, 1024)), (900, 600))
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "wide.jpg").write_bytes(jpeg(canvas))
    dataset = check(CheckConfig(class_noun="woman", likeness="none", crop_px=400), photos, tmp_path / "out")
    (photo,) = dataset.photos
    top, left, height, width = photo.crop_yxhw
    assert top < 770 < 880 < top + height and left < 1344 < left + width  # the face
    assert 400 < height == width < 800
    assert photo.size_hw == (400, 400)  # cut out of the half-size draft it would have had fewer pixels
    shown = np.asarray(Image.open(tmp_path / "out" / photo.file)).astype(int)
    wanted = np.asarray(canvas.crop((left, top, left + width, top + height)).resize((400, 400), 1)).astype(int)
    assert np.abs(shown - wanted).mean() < 4


# --------------------------------------------------------------------------------------------------- bad input


def test_bad_files_are_named_with_a_cure_and_good_ones_still_become_a_dataset(
    run: Callable[..., Dataset], folder: Path, pictures: list[Image.Image]
) -> None:
    (folder / "cut.jpg").write_bytes(jpeg(pictures[0])[:5000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "letter.jpg").write_text("Dear diary")
    pictures[0].save(folder / "party.gif", save_all=True, append_images=[pictures[1]])
    (folder / "party \U0001f389.jpg").write_bytes(b"no")
    pictures[3].resize((100, 100)).save(folder / "tiny.png")
    (folder / ("x" * 200 + ".jpg")).write_bytes(b"no")
    dataset = run()
    assert len(dataset.photos) == 6
    found = codes(dataset)
    assert found["cut.jpg"] == ("rejected", ["not_a_photo"])
    assert found["empty.png"] == ("rejected", ["not_a_photo"])
    assert found["letter.jpg"] == ("rejected", ["not_a_photo"])
    assert found["party.gif"] == ("rejected", ["not_a_photo"])
    assert found["party \U0001f389.jpg"] == ("rejected", ["not_a_photo"])
    assert found["tiny.png"] == ("rejected", ["too_small"])
    for verdict in dataset.verdicts:
        assert len(verdict.name) <= 80
        unreadable = not {p["code"] for p in verdict.problems}.isdisjoint({"not_a_photo", "too_large"})
        assert (verdict.preview is None) == (verdict.original is None) == unreadable
        assert (verdict.crop is None) == (verdict.status == "rejected")
        for problem in verdict.problems:
            assert problem["message"] and problem["cure"]


def test_cmyk_and_sixteen_bit_photos_are_good(
    run: Callable[..., Dataset], folder: Path, pictures: list[Image.Image]
) -> None:
    pictures[0].convert("CMYK").save(folder / "1.jpg", quality=95)
    deep = np.asarray(pictures[1].convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "2.png")
    (folder / "2.jpg").unlink()
    assert {status for status, _ in codes(run()).values()} == {"good"}


def test_nothing_usable_is_one_error_that_lists_every_photo(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    (photos / "b.jpg").write_text("hello")
    Image.new("RGB", (40, 40), "black").save(photos / "c.png")
    with pytest.raises(InputError) as caught:
        check(CheckConfig(**SETTINGS), photos, tmp_path / "out")
    assert [(p.where, p.code) for p in caught.value.problems] == [
        ("a.jpg", "not_a_photo"),
        ("b.jpg", "not_a_photo"),
        ("c.png", "too_small"),
        ("c.png", "too_dark"),
    ]
    assert not (tmp_path / "out" / "DONE").exists(), "it can be edited, but it is no dataset"
    with pytest.raises(InputError, match="no finished dataset"):
        load_dataset(tmp_path / "out")
    assert sorted(path.name for path in photos.iterdir()) == ["a.jpg", "b.jpg", "c.png"]
    (photos / "c.png").unlink()
    with pytest.raises(InputError):
        check(CheckConfig(**SETTINGS), photos, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists(), "there is nothing to edit"


def test_one_photo_is_a_dataset_with_a_warning(folder: Path, tmp_path: Path) -> None:
    for number in range(2, 7):
        (folder / f"{number}.jpg").unlink()
    dataset = check(CheckConfig(**SETTINGS), folder, tmp_path / "out")
    assert len(dataset.photos) == 1
    (problem,) = dataset.set_problems
    assert problem["code"] == "too_few"
    assert problem["message"] == "only one photo can be used"


def test_five_hundred_photos_are_refused_before_any_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "decode", lambda *args, **options: pytest.fail("was opened"))
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(500):
        (photos / f"{number}.jpg").touch()
    with pytest.raises(InputError, match="500 photos are more than the limit of 100"):
        check(CheckConfig(**SETTINGS), photos, tmp_path / "out")


def test_folder_whose_photos_lie_deeper_is_told_where_they_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check(CheckConfig(**SETTINGS), folder.parent, tmp_path / "out" / "set")
    (problem,) = caught.value.problems
    assert 'in its subfolders: 6 photos in "photos"' in problem.message
    assert "give one of these subfolders" in problem.cure


def test_photos_beside_a_folder_of_more_photos_are_checked_with_a_word_about_the_others(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "party").mkdir()
    (folder / "party" / "7.jpg").write_bytes((folder / "1.jpg").read_bytes())
    events: list[Event] = []
    dataset = check(CheckConfig(**SETTINGS), folder, tmp_path / "out", on_event=events.append)
    assert len(dataset.verdicts) == 6
    (said,) = [event.data["text"] for event in events if event.kind == "message" and "subfolders" in event.data["text"]]
    assert '1 photo in "party"' in said


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are none"):
        check(CheckConfig(**SETTINGS), tmp_path, tmp_path / "out")


def test_blur_darkness_glare_and_size_are_told_apart(
    run: Callable[..., Dataset], folder: Path, pictures: list[Image.Image]
) -> None:
    jpeg_of = {
        "1.jpg": pictures[0].filter(ImageFilter.GaussianBlur(4)),
        "2.jpg": pictures[1].point([v // 8 for v in range(256)] * 3),
        "3.jpg": pictures[2].point([230 + v // 11 for v in range(256)] * 3),
        "4.jpg": pictures[3].resize((320, 200)),
    }
    for name, picture in jpeg_of.items():
        (folder / name).write_bytes(jpeg(picture))
    found = codes(run())
    assert [found[f"{n}.jpg"] for n in (1, 2, 3, 4)] == [
        ("rejected", ["blurred"]),
        ("rejected", ["too_dark"]),
        ("rejected", ["too_bright"]),
        ("rejected", ["too_small"]),
    ]
    assert found["5.jpg"] == found["6.jpg"] == ("good", [])


def test_slight_darkness_is_a_warning_that_the_photo_carries_along(
    run: Callable[..., Dataset], folder: Path, pictures: list[Image.Image]
) -> None:
    level = np.percentile(np.asarray(pictures[0].convert("L")), 95)
    (folder / "1.jpg").write_bytes(jpeg(pictures[0].point([int(v * 48 / level) for v in range(256)] * 3)))
    dataset = run()
    assert codes(dataset)["1.jpg"] == ("usable", ["too_dark"])
    assert dataset.photos[0].problems == ("too_dark",)


def test_rejected_photos_can_be_kept_but_never_undecodable_ones(run: Callable[..., Dataset], folder: Path) -> None:
    (folder / "1.jpg").write_bytes(b"no")
    Image.open(folder / "2.jpg").resize((90, 90)).save(folder / "2.jpg", quality=95)
    dataset = run(keep_rejected=True)
    assert codes(dataset)["1.jpg"][0] == "rejected"
    assert codes(dataset)["2.jpg"][0] == "usable"
    assert [photo.name for photo in dataset.photos] == [f"{n}.jpg" for n in range(2, 7)]


def test_smaller_copy_of_a_photo_is_left_out_and_names_the_original(
    run: Callable[..., Dataset], folder: Path, pictures: list[Image.Image]
) -> None:
    (folder / "0.jpg").write_bytes(jpeg(pictures[2].resize((280, 280))))
    dataset = run()
    assert codes(dataset)["0.jpg"] == ("rejected", ["near_duplicate"])
    assert dataset.verdicts[0].problems[0]["message"] == "is nearly the same as 3.jpg"
    assert codes(dataset)["3.jpg"] == ("good", [])


def test_names_that_look_the_same_are_told_apart(folder: Path, tmp_path: Path) -> None:
    (folder / "1.jpg").rename(folder / "a\x01.jpg")
    (folder / "2.jpg").rename(folder / "a.jpg")
    dataset = check(CheckConfig(**SETTINGS), folder, tmp_path / "out")
    assert {"a.jpg", "a.jpg (2)"} <= {verdict.name for verdict in dataset.verdicts}


# ------------------------------------------------------------------------------------------------------- people


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Image.Image:
    """A photo of a real person, judged as on a machine without the embedded base."""
    monkeypatch.setattr(registry, "POCKET_FOLDER", tmp_path / "nowhere")
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


def test_person_needs_one_clear_face(folder: Path, person: Image.Image, tmp_path: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    pair = Image.new("RGB", (800, 400), "grey")
    pair.paste(person.crop((120, 0, 420, 400)), (40, 0))
    pair.paste(person.crop((120, 0, 420, 400)), (440, 0))
    pair.save(folder / "pair.png")
    person.save(folder / "person.png")
    person.crop((0, 200, 512, 512)).save(folder / "suit.png")
    dataset = check(CheckConfig(class_noun="woman", likeness="none"), folder, tmp_path / "out")
    found = codes(dataset)
    assert found["person.png"] == ("good", [])
    assert found["pair.png"] == ("rejected", ["several_faces"])
    assert found["suit.png"] == ("rejected", ["no_face"])
    (photo,) = dataset.photos
    top, left, height, width = photo.crop_yxhw
    assert top < 67 and left < 177 and top + height > 160 and left + width > 270
    assert height == width < 512


@pytest.mark.parametrize("likeness", ["auto", "none"])
def test_drawn_portraits_need_no_face_that_a_detector_for_photographs_finds(
    folder: Path, tmp_path: Path, likeness: Any
) -> None:
    dataset = check(CheckConfig(class_noun="woman", likeness=likeness), folder, tmp_path / "out")
    assert {status for status, _ in codes(dataset).values()} == {"good"}
    assert dataset.likeness_engine == ("pocket" if likeness == "auto" else None)
    assert [photo.crop_yxhw for photo in dataset.photos] == [(0, 0, 320, 320)] * 6


def test_thing_needs_no_face(run: Callable[..., Dataset]) -> None:
    assert len(run(class_noun="teapot").photos) == 6


# -------------------------------------------------------------------------------------------------- one subject


class _Painted:
    """An engine that knows subjects by the red of the middle pixel."""

    name = "painted"
    version = "1"
    caveat = ""

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        angles = np.array([float(np.asarray(p)[p.height // 2, p.width // 2, 0]) for p in pictures]) / 255 * np.pi / 2
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def scale(self, class_noun: str) -> Scale:
        return Scale(other=0.5, same=0.98)


def paint(folder: Path, reds: Sequence[int]) -> None:
    rng = np.random.default_rng(7)
    for path in folder.iterdir():
        path.unlink()
    for number, red in enumerate(reds, 1):
        noise = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((320, 320), 0)
        noise.paste((red, 100, 100), (120, 120, 200, 200))
        noise.save(folder / f"{number}.png")


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = EngineChoice(_Painted(), "for this test")  # type: ignore[arg-type]
    monkeypatch.setattr(studio.check, "choose_engine", lambda *args, **options: choice)


@pytest.mark.usefixtures("painted")
@pytest.mark.parametrize("reds", [(10, 14, 18, 240, 12), (10, 14, 240, 18, 235), (12, 240, 14)])
def test_photos_of_somebody_else_are_found(folder: Path, tmp_path: Path, reds: tuple[int, ...]) -> None:
    paint(folder, reds)
    dataset = check(CheckConfig(class_noun="toy"), folder, tmp_path / "out")
    for verdict, red in zip(dataset.verdicts, reds, strict=True):
        odd = red > 100
        assert [p["code"] for p in verdict.problems] == (["not_same_subject"] if odd else [])
        assert verdict.likeness is not None
        assert (verdict.likeness < 0.5) == odd
    assert dataset.likeness_engine == "painted"


def test_a_photo_that_the_engine_does_not_see_pulls_no_mean_down(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HalfBlind(_Painted):
        def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
            rows = super().embed(pictures)
            rows[rows[:, 1] > 0.9] = np.nan
            return rows

    choice = EngineChoice(HalfBlind(), "for this test")
    monkeypatch.setattr(studio.check, "choose_engine", lambda *args, **options: choice)
    paint(folder, (10, 14, 250, 18))
    dataset = check(CheckConfig(class_noun="toy"), folder, tmp_path / "out")
    assert [verdict.likeness is None for verdict in dataset.verdicts] == [False, False, True, False]
    summary = dataset.likeness_summary
    assert summary is not None and (summary["measured"], summary["pictures"]) == (3, 4)
    assert summary["mean"] > 0.9, "a missing one is not 0"
    assert "NaN" not in (tmp_path / "out" / "dataset.json").read_text()


@pytest.mark.usefixtures("painted")
def test_set_without_a_majority_is_a_problem_of_the_set(folder: Path, tmp_path: Path) -> None:
    paint(folder, (0, 85, 170, 255))
    dataset = check(CheckConfig(class_noun="toy"), folder, tmp_path / "out")
    assert "several_subjects" in {problem["code"] for problem in dataset.set_problems}


# ----------------------------------------------------------------------------------------------------- edits


def test_a_set_is_edited_by_names_without_touching_the_photos(folder: Path, run: Callable[..., Dataset]) -> None:
    Image.open(folder / "3.jpg").filter(ImageFilter.GaussianBlur(6)).save(folder / "3.jpg")
    assert codes(run())["3.jpg"] == ("rejected", ["blurred"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    dataset = run(
        exclude=("1.jpg",),
        force=("3.jpg",),
        captions={"2.jpg": "at the sea"},
        crops={"4.jpg": (0.1875, 0.0, 0.8125, 0.8125)},
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    by_name = {verdict.name: verdict for verdict in dataset.verdicts}
    photos = {photo.name: photo for photo in dataset.photos}
    assert by_name["1.jpg"].status == "rejected" and by_name["1.jpg"].problems[0]["code"] == "excluded"
    assert by_name["1.jpg"].preview and by_name["1.jpg"].original
    assert by_name["3.jpg"].status == "usable"
    assert by_name["3.jpg"].problems[0]["cure"] == "it is used as you asked, but the pictures may come out soft"
    assert photos["2.jpg"].caption == "photo of {instance_token} {class_noun}, at the sea"
    assert photos["4.jpg"].crop_yxhw == (60, 0, 260, 260) and photos["4.jpg"].size_hw == (260, 260)
    assert by_name["4.jpg"].crop == (0.1875, 0.0, 0.8125, 0.8125)
    assert len(dataset.photos) == 5


def test_a_photo_that_is_left_out_says_what_it_would_risk(folder: Path, run: Callable[..., Dataset]) -> None:
    Image.open(folder / "3.jpg").filter(ImageFilter.GaussianBlur(6)).save(folder / "3.jpg")
    verdict = run().verdicts[2]
    assert verdict.status == "rejected" and verdict.problems[0]["risk"] == "the pictures may come out soft"
    assert verdict.preview == "previews/left_out_003.webp"


def test_edits_of_photos_that_are_not_there_are_all_refused(run: Callable[..., Dataset]) -> None:
    with pytest.raises(InputError) as caught:
        run(exclude=("7.jpg",), captions={"dog.png": "x"})
    assert [(problem.where, problem.code) for problem in caught.value.problems] == [
        ("exclude", "unknown_photo"),
        ("captions", "unknown_photo"),
    ]
    with pytest.raises(InputError, match=r"not inside their photo: 1\.jpg"):
        CheckConfig.parse({"crops": {"1.jpg": (0.5, 0, 0.6, 1)}})


def test_the_originals_of_a_dataset_make_the_same_set_again(folder: Path, run: Callable[..., Dataset]) -> None:
    (folder / "2.txt").write_text("at the sea")
    first = run()
    originals = folder.parent / "out" / "originals"
    again = check(CheckConfig(**SETTINGS), originals, folder.parent / "again")
    assert [photo.crop_yxhw for photo in again.photos] == [photo.crop_yxhw for photo in first.photos]
    assert [photo.caption for photo in again.photos] == [photo.caption for photo in first.photos]


def test_a_small_crop_of_a_large_photo_keeps_its_pixels_in_the_original(folder: Path, tmp_path: Path) -> None:
    Image.open(folder / "1.jpg").resize((3000, 3000)).save(folder / "1.jpg")
    settings = {**SETTINGS, "keep_rejected": True}
    dataset = check(CheckConfig(**settings, crops={"1.jpg": (0, 0, 0.25, 0.25)}), folder, tmp_path / "out")
    with Image.open(tmp_path / "out" / str(dataset.verdicts[0].original)) as kept:
        assert kept.size == (3000, 3000)
    whole = check(CheckConfig(**settings), folder, tmp_path / "out")
    with Image.open(tmp_path / "out" / str(whole.verdicts[0].original)) as kept:
        assert kept.size == (2048, 2048)


def test_black_bars_are_cut_off_and_told(folder: Path, tmp_path: Path) -> None:
    with Image.open(folder / "1.jpg") as photo:
        still = Image.new("RGB", (320, 440))
        still.paste(photo, (0, 60))
    still.save(folder / "1.jpg", quality=90)
    dataset = check(CheckConfig(**SETTINGS), folder, tmp_path / "out")
    verdict, photo = dataset.verdicts[0], dataset.photos[0]
    assert verdict.notes == ("black bars were cut off",) and verdict.status == "good"
    top, left, height, width = photo.crop_yxhw
    assert 59 <= top <= 64 and 310 <= height <= 320 and abs(left) <= 4 and abs(height - width) <= 2
    assert {row.notes for row in dataset.verdicts[1:]} == {()}


# ----------------------------------------------------------------------------------------------- what they show


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
def test_dogs_that_are_called_a_woman_are_refused_with_the_reason_first(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check(CheckConfig(class_noun="woman"), REAL / "dog", tmp_path / "out")
    first = caught.value.problems[0]
    assert (first.where, first.code) == ("class_noun", "other_class")
    assert first.message == "no face was found in any of 5 photos of a woman" and "dog" in first.cure


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
def test_dogs_of_which_nobody_said_what_they_are_are_things_and_captioned_as_no_portrait(tmp_path: Path) -> None:
    heard: list[Event] = []
    dataset = check(CheckConfig(), REAL / "dog", tmp_path / "out", on_event=heard.append)
    assert (dataset.class_noun, dataset.class_noun_guessed, len(dataset.photos)) == ("thing", True, 5)
    assert {photo.caption for photo in dataset.photos} == {"photo of {instance_token} {class_noun}"}
    assert {verdict.likeness for verdict in dataset.verdicts} == {None}
    assert [problem["code"] for problem in dataset.set_problems] == ["class_guessed", "not_compared"]
    told = [str(event.data["text"]) for event in heard if event.kind == "message"]
    assert "taken as photos of a thing" in told[0] and "was not checked" in told[1]


def test_drawn_portraits_without_a_class_noun_are_named_by_what_they_show(folder: Path, tmp_path: Path) -> None:
    dataset = check(CheckConfig(likeness="none"), folder, tmp_path / "out")
    assert (dataset.class_noun, dataset.class_noun_guessed) == ("woman", True)
    assert dataset.set_problems[0]["message"].endswith("drawn portraits, so they are taken as photos of a woman")


# ----------------------------------------------------------------------------------------------------- captions


def test_caption_beside_a_photo_is_used_without_the_subjects_name(run: Callable[..., Dataset], folder: Path) -> None:
    (folder / "1.txt").write_text("Portrait of ADA\nin a {place}\x07, smiling", encoding="utf-8")
    (folder / "2.txt").write_text("at the beach", encoding="utf-8")
    (folder / "3.txt").write_text(" \n ", encoding="utf-8")
    (folder / "4.TXT").write_text("in the snow", encoding="utf-8")
    (folder / "5.jpg.txt").write_text("at night", encoding="utf-8")
    captions = [photo.caption for photo in run().photos]
    assert captions[0] == "Portrait of {instance_token} {class_noun} in a place , smiling"
    assert captions[1] == "photo of {instance_token} {class_noun}, at the beach"
    assert captions[2] == "photo of {instance_token} {class_noun}"
    assert captions[3] == "photo of {instance_token} {class_noun}, in the snow"
    assert captions[4] == "photo of {instance_token} {class_noun}, at night"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-8", "cp1252"])
def test_caption_is_read_in_every_encoding_that_windows_writes(
    run: Callable[..., Dataset], folder: Path, encoding: str
) -> None:
    (folder / "1.txt").write_bytes("Größe, été, in a \u201cCafé\u201d \u2013 Zoë\u2019s\r\n".encode(encoding))
    (folder / "2.txt").write_bytes(("a photo in the snow, " * 1000).encode(encoding))
    first, second = (photo.caption for photo in run().photos[:2])
    assert first == ("photo of {instance_token} {class_noun}, Größe, été, in a \u201cCafé\u201d \u2013 Zoë\u2019s")
    assert second.startswith("photo of {instance_token} {class_noun}, a photo in the snow, a photo")


def test_captions_in_an_encoding_that_cannot_be_told_are_all_named_before_any_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "1.txt").write_bytes("фото на пляже".encode("cp1251"))
    (folder / "2.txt").write_bytes("na łące".encode("cp1250"))
    (folder / "3.txt").write_bytes("un café".encode("mac-roman"))
    (folder / "4.txt").write_bytes("雪の中で".encode("shift-jis"))
    (folder / "5.txt").write_bytes(b"\xff\xfe\x00 in the snow")
    (folder / "6.txt").write_bytes("on the beach, café".encode("cp1252"))
    monkeypatch.setattr(judge, "decode", lambda *args, **options: pytest.fail("was opened"))
    with pytest.raises(InputError) as caught:
        check(CheckConfig(**SETTINGS), folder, tmp_path / "out")
    assert [problem.where for problem in caught.value.problems] == [f"{number}.txt" for number in range(1, 6)]
    assert {problem.cure for problem in caught.value.problems} == {"save the file as UTF-8"}


# ------------------------------------------------------------------------------------------- folders and stopping


def test_stopped_check_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    for calls in (1, 4, 9, 17):
        answers = iter([False] * calls + [True] * 99)
        with pytest.raises(JobCancelled):
            check(CheckConfig(**SETTINGS), folder, tmp_path / "out", should_stop=answers.__next__)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]
    assert len(list(folder.iterdir())) == 6


def test_older_dataset_is_replaced_as_a_whole(run: Callable[..., Dataset], folder: Path, tmp_path: Path) -> None:
    run()
    (folder / "6.jpg").unlink()
    dataset = run()
    assert load_dataset(tmp_path / "out") == dataset
    assert len(list((tmp_path / "out" / "photos").iterdir())) == 5


def test_older_dataset_survives_a_check_that_fails(run: Callable[..., Dataset], folder: Path, tmp_path: Path) -> None:
    before = run()
    for path in folder.iterdir():
        path.write_bytes(b"no")
    with pytest.raises(InputError):
        run()
    assert load_dataset(tmp_path / "out") == before


def test_leftover_of_a_killed_check_is_cleared_away(run: Callable[..., Dataset], tmp_path: Path) -> None:
    (tmp_path / ".out.partial" / "photos").mkdir(parents=True)
    (tmp_path / ".out.partial" / "photos" / "999.png").touch()
    run()
    assert not (tmp_path / ".out.partial").exists()
    assert not (tmp_path / "out" / "photos" / "999.png").exists()


def test_empty_output_folder_is_filled(run: Callable[..., Dataset], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run()
    assert (tmp_path / "out" / "DONE").exists()


def test_folder_with_other_files_is_never_replaced(run: Callable[..., Dataset], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").touch()
    with pytest.raises(ConflictError, match="holds other files"):
        run()
    assert (tmp_path / "out" / "thesis.doc").exists()


def test_folder_of_the_photos_cannot_be_the_output(folder: Path) -> None:
    for out in (folder, folder.parent):
        with pytest.raises(InputError, match="is the folder of the photos"):
            check(CheckConfig(**SETTINGS), folder, out)
    assert len(list(folder.iterdir())) == 6


def test_prepared_photos_cannot_be_checked_into_their_own_dataset(run: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = run()
    with pytest.raises(InputError, match="is the folder of the photos"):
        check(CheckConfig(**SETTINGS), tmp_path / "out" / "photos", tmp_path / "out")
    assert load_dataset(tmp_path / "out") == dataset


def test_unfinished_or_foreign_folder_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="no finished dataset"):
        load_dataset(tmp_path)
    (tmp_path / "DONE").touch()
    with pytest.raises(InputError, match="no finished dataset"):
        load_dataset(tmp_path)


# ------------------------------------------------------------------------------------------------- real photos


@pytest.mark.whole
@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
@pytest.mark.parametrize("name", ["backpack_dog", "bear_plushie", "cat2", "dog", "robot_toy", "teapot"])
def test_real_photo_sets_pass_without_a_word(name: str, tmp_path: Path) -> None:
    config = CheckConfig(class_noun=name.split("_")[-1].rstrip("2"), likeness="none", crop_px=256)
    dataset = check(config, REAL / name, tmp_path / "out")
    assert list(codes(dataset).values()) == [("good", [])] * len(dataset.photos)
    assert dataset.set_problems == ()
    framed = [verdict.name for verdict in dataset.verdicts if verdict.notes]
    assert framed == (["00.jpg", "01.jpg", "04.jpg"] if name == "cat2" else []), "three of the cat have black bars"
    verdict = next(verdict for verdict in dataset.verdicts if not verdict.notes)
    assert verdict.size_hw == decode(REAL / name / verdict.name).size_hw
