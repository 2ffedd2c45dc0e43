"""Matting through rembg: its own preparation and models, on files that we verified, without its minute of compiling."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.errors import MissingExtraError
from studio.matting import rembg as ours
from studio.matting.registry import open_matter
from studio.settings import PROJECT_ROOT
from studio.weight_files import locate

PHOTOS = sorted((PROJECT_ROOT.parent / "shared" / "data" / "dreambooth").glob("*/00.jpg"))


@pytest.fixture(scope="module")
def weights() -> Path:
    found = locate("u2netp", Path.home() / ".likeness-studio")
    if found is None:
        pytest.skip("u2netp.onnx is not on this machine")
    return found.path


def portrait() -> Image.Image:
    picture = Image.new("RGB", (200, 240), (70, 110, 160))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((60, 40, 140, 140), fill=(230, 190, 160))
    draw.rectangle((40, 140, 160, 240), fill=(150, 30, 30))
    return picture


def test_a_matte_has_the_pictures_size_and_finds_its_subject(weights):
    matte = ours.RembgMatter("u2netp", weights, threads=1).matte(portrait())
    assert matte.shape == (240, 200) and matte.dtype == np.float32
    assert matte.min() >= 0 and matte.max() <= 1
    assert matte[90, 100] > 0.9 and matte[10, 10] < 0.1


@pytest.mark.parametrize("size", [(1, 1), (2000, 3)])
def test_odd_sizes_are_mattes_too(weights, size):
    matte = ours.RembgMatter("u2netp", weights, threads=1).matte(Image.new("RGB", size, "white"))
    assert matte.shape == size[::-1] and np.all(np.isfinite(matte))


def test_rembg_is_not_run_as_a_whole_and_can_still_be_imported_later(weights):
    code = (
        "import sys; from pathlib import Path; from studio.matting.rembg import RembgMatter;"
        f"RembgMatter('u2netp', Path({str(weights)!r}));"
        "print('rembg' in sys.modules, any(name.startswith(('pymatting', 'numba')) for name in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT, check=True)
    assert answer.stdout.split() == ["False", "False"]


def test_no_session_of_ours_fetches_anything(tmp_path, weights, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    ours.RembgMatter("u2netp", weights, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_without_rembg_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rembg", raising=False)
    monkeypatch.setattr(ours.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"requirements\.txt"):
        ours.RembgMatter("u2netp", tmp_path / "u2netp.onnx")


def test_without_the_weights_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    with pytest.raises(MissingExtraError, match=r"put u2netp\.onnx"):
        open_matter("u2netp", tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_on_photos_the_matte_is_the_one_of_rembg_called_directly(weights, tmp_path, monkeypatch):
    if not PHOTOS:
        pytest.skip("the photos are not on this machine")
    from studio.imaging.matte import guided

    home = tmp_path / "models" / "u2netp"
    home.mkdir(parents=True)
    (home / "u2netp.onnx").symlink_to(weights)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    import rembg

    session = rembg.new_session("u2netp")
    matter = ours.RembgMatter("u2netp", weights)
    for path in PHOTOS:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        theirs = np.asarray(rembg.remove(picture, session=session, only_mask=True)) > 127
        matte = matter.matte(picture)
        refined = guided(matte, np.asarray(picture))
        for mine in (matte > 0.5, refined > 0.5):
            assert (mine & theirs).sum() / (mine | theirs).sum() >= 0.95, path
