from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from studio.core.progress import ProgressReporter
from studio.pictures.picture_cache import DiskCache
from studio.pictures.render import PictureRequest
from studio.pictures.request import PlannedPicture
from studio.pictures.results import RunResults


def planned(seed: int) -> PlannedPicture:
    return PlannedPicture("a.png", "a", PictureRequest("p", "", seed, (8, 8), 1, 1.0), {})


class Broken:
    """A cache that fails as a full or a vanished disk does."""

    asked = 0

    def get(self, key: str) -> bytes | None:
        self.asked += 1
        raise OSError("no room")

    put: Any = get


def test_a_picture_is_found_by_what_made_it_and_by_nothing_else(tmp_path: Path, events: list) -> None:
    cache, reporter = DiskCache(tmp_path, 10**6), ProgressReporter(events.append)
    picture = Image.radial_gradient("L").resize((8, 8)).convert("RGB")
    RunResults(cache, {"adapter_sha256": "ad" * 32, "base": "pocket"}, reporter).put(planned(1), picture, "DDIM")
    found = RunResults(cache, {"adapter_sha256": "ad" * 32, "base": "pocket"}, reporter).get(planned(1))
    assert found is not None and found[0].tobytes() == picture.tobytes() and found[1] == "DDIM"
    assert RunResults(cache, {"adapter_sha256": "ad" * 32, "base": "pocket"}, reporter).get(planned(2)) is None
    assert RunResults(cache, {"adapter_sha256": "ad" * 32, "base": "sd15"}, reporter).get(planned(1)) is None


def test_a_cache_that_fails_is_told_once_and_not_asked_again(events: list) -> None:
    broken = Broken()
    results = RunResults(broken, {"adapter_sha256": "ad" * 32}, ProgressReporter(events.append))  # type: ignore[arg-type]
    assert results.get(planned(1)) is None and results.get(planned(2)) is None
    results.put(planned(1), Image.new("RGB", (8, 8)), "DDIM")
    assert broken.asked == 1
    assert ["no room" in event.data["text"] for event in events] == [True]


def test_without_a_cache_nothing_is_found(events: list) -> None:
    assert RunResults(None, {}, SimpleNamespace()).get(planned(1)) is None  # type: ignore[arg-type]
