"""The demo road: it composes the verbs, and its sheet shows what it measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from studio.cli.demo import demo
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import Dataset, GenerateResult, Image, Photo, TrainResult, Verdict
from studio.core.errors import InputError
from studio.core.presets import load_pack
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig


class Verbs:
    """Runs no verb, but writes what the verbs would: grey pictures before, white ones after."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, StrictModel, str, str]] = []

    def __call__(self, verb: str, config: StrictModel, source: Path, out: Path) -> Any:
        self.asked.append((verb, config, source.name, out.name))
        out.mkdir(parents=True, exist_ok=True)
        return getattr(self, verb)(config, source, out)

    def check(self, config: CheckConfig, source: Path, out: Path) -> Dataset:
        names = sorted(path.name for path in source.iterdir())
        for name in names:
            PILImage.new("RGB", (64, 64), (200, 30, 30)).save(out / f"{name}.png")
        return Dataset(
            config.subject,
            config.class_noun,
            tuple(Photo(f"{name}.png", name, "", (64, 64), "", "1:1", (0, 0, 64, 64)) for name in names),
            tuple(Verdict(name, "good", likeness=0.9) for name in names),
            (),
            "pocket",
        )

    def train(self, config: TrainConfig, source: Path, out: Path) -> TrainResult:
        return TrainResult("adapter", 2, "most alike", 3, 1.0, 0.1, 0.8, 0.0, "pocket")

    def generate(self, config: GenerateConfig, source: Path, out: Path) -> GenerateResult:
        assert config.pack is not None
        score = 0.05 if config.adapter_scale == 0 else 0.85
        images = []
        for index, shot in enumerate(load_pack(config.pack).shots):
            value = 120 if config.adapter_scale == 0 else 255
            PILImage.new("RGB", (64, 64), (value, value, value)).save(out / f"{shot.name}.png")
            images.append(Image(f"{shot.name}.png", shot.name, shot.prompt, "", config.seed + index, score, index + 1))
        return GenerateResult(tuple(reversed(images)), "contact_sheet.png", "pictures.zip", 1.0, score, "pocket")


def test_the_demo_compares_the_same_prompts_and_seeds_before_and_after(tmp_path: Path) -> None:
    verbs = Verbs()
    result = demo(verbs, tmp_path / "demo", seed=3, class_noun="man")
    assert [(verb, source, out) for verb, _, source, out in verbs.asked] == [
        ("check", "photos", "dataset"),
        ("train", "dataset", "run"),
        ("generate", "run", "before"),
        ("generate", "run", "pictures"),
    ]
    before, after = (config for verb, config, _, _ in verbs.asked if verb == "generate")
    assert before.model_dump(exclude={"adapter_scale"}) == after.model_dump(exclude={"adapter_scale"})
    assert (result.likeness_before, result.likeness_after) == (0.05, 0.85)
    assert {config.class_noun for verb, config, _, _ in verbs.asked if hasattr(config, "class_noun")} == {"man"}


def test_the_sheet_shows_photos_then_before_then_after(tmp_path: Path) -> None:
    result = demo(Verbs(), tmp_path / "demo")
    with PILImage.open(result.contact_sheet) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)

    def rows_of(colour: tuple[int, int, int]) -> np.ndarray:
        return np.flatnonzero((np.abs(pixels - colour).max(axis=2) < 3).sum(axis=1) > 300)

    photos, before, after = rows_of((200, 30, 30)), rows_of((120, 120, 120)), rows_of((255, 255, 255))
    assert photos.max() < before.min() <= before.max() < after.min()
    # one row of photos, one before, two after
    assert len(after) == pytest.approx(2 * len(before), abs=4)


def test_the_result_is_kept_beside_the_pictures(tmp_path: Path) -> None:
    result = demo(Verbs(), tmp_path / "demo")
    kept = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert kept["likeness_after"] == 0.85 and kept["contact_sheet"] == result.contact_sheet
    assert Path(kept["contact_sheet"]).is_file()


def test_going_on_keeps_the_photos_that_are_there(tmp_path: Path) -> None:
    demo(Verbs(), tmp_path / "demo")
    drawn = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "demo" / "photos").iterdir()}
    demo(Verbs(), tmp_path / "demo")
    assert drawn == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "demo" / "photos").iterdir()}


def test_what_nobody_can_draw_is_refused_with_what_can_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="woman"):
        demo(Verbs(), tmp_path / "demo", class_noun="teapot")
    assert not (tmp_path / "demo").exists()
