"""Matting through rembg: its own preparation and models, on files that we verified, without its minute of compiling."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.bases.weight_files import locate
from studio.core.errors import MissingExtraError
from studio.core.finish_config import MattingModel
from studio.core.settings import PROJECT_ROOT
from studio.finishing.matting import rembg as ours
from studio.finishing.matting.registry import open_matter

PHOTOS = sorted((PROJECT_ROOT.parent / "shared" / "data" / "dreambooth").glob("*/00.jpg"))


def field(number, value):
    """Return one field of a protobuf message: an integer, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def tensor_type(name, shape):
    sides = b"".join(field(1, field(1, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sides)))


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory):
    """Return an ONNX file with the inputs and outputs of u2netp that answers with red minus blue.

    Source: the field numbers of onnx.proto, https://github.com/onnx/onnx.
    """
    shares = np.array([1, 0, -1], np.float32)
    node = field(1, b"photo") + field(1, b"shares") + field(2, b"matte") + field(4, b"Conv")
    sides = b"".join(field(1, side) for side in (1, 3, 1, 1))
    graph = [
        field(1, node),
        field(2, b"tiny"),
        field(5, sides + field(2, 1) + field(9, shares.tobytes()) + field(8, b"shares")),
        field(11, tensor_type(b"photo", (1, 3, 320, 320))),
        field(12, tensor_type(b"matte", (1, 1, 320, 320))),
    ]
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    path.write_bytes(field(1, 8) + field(7, b"".join(graph)) + field(8, field(2, 13)))
    return path


def portrait() -> Image.Image:
    picture = Image.new("RGB", (200, 240), (70, 110, 160))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((60, 40, 140, 140), fill=(230, 190, 160))
    draw.rectangle((40, 140, 160, 240), fill=(150, 30, 30))
    return picture


def test_every_model_is_one_of_rembgs_and_none_sends_pictures_away():
    known = ours._session_classes()
    assert all(known[name].is_local() for name in get_args(MattingModel))


def test_a_matte_has_the_pictures_size_and_finds_its_subject(tiny_onnx):
    matte = ours.RembgMatting("u2netp", tiny_onnx, threads=1).matte(portrait())
    assert matte.shape == (240, 200) and matte.dtype == np.float32
    assert matte.min() >= 0 and matte.max() <= 1
    assert matte[180, 100] > 0.8 and matte[10, 10] < 0.2


@pytest.mark.parametrize("size", [(1, 1), (2000, 3)])
def test_odd_sizes_are_mattes_too(tiny_onnx, size):
    matte = ours.RembgMatting("u2netp", tiny_onnx, threads=1).matte(Image.new("RGB", size, "white"))
    assert matte.shape == size[::-1] and np.all(np.isfinite(matte))


def test_rembg_is_not_run_as_a_whole_and_can_still_be_imported_later(tiny_onnx):
    code = (
        "import sys; from pathlib import Path; from studio.finishing.matting.rembg import RembgMatting;"
        f"RembgMatting('u2netp', Path({str(tiny_onnx)!r}));"
        "print('rembg' in sys.modules, any(name.startswith(('pymatting', 'numba')) for name in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT, check=True)
    assert answer.stdout.split() == ["False", "False"]


def test_no_session_of_ours_fetches_anything(tmp_path, tiny_onnx, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    ours.RembgMatting("u2netp", tiny_onnx, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_its_threads_sleep_while_they_wait_for_each_other(tiny_onnx, monkeypatch):
    import onnxruntime

    made = []
    real = onnxruntime.SessionOptions
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: made.append(real()) or made[0])
    ours.RembgMatting("u2netp", tiny_onnx)
    assert made[0].get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_without_rembg_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rembg", raising=False)
    monkeypatch.setattr(ours.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"requirements\.txt"):
        ours.RembgMatting("u2netp", tmp_path / "u2netp.onnx")


def test_without_the_weights_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    with pytest.raises(MissingExtraError, match=r"put u2netp\.onnx"):
        open_matter("u2netp", tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_on_photos_the_matte_is_the_one_of_rembg_called_directly(tmp_path, monkeypatch):
    found = locate("u2netp", Path.home() / ".likeness-studio")
    if found is None:
        pytest.skip("u2netp.onnx is not on this machine")
    from skimage import data

    from studio.imaging.matte import guided

    home = tmp_path / "models" / "u2netp"
    home.mkdir(parents=True)
    (home / "u2netp.onnx").symlink_to(found.path)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    import rembg

    session = rembg.new_session("u2netp")
    matter = ours.RembgMatting("u2netp", found.path)
    photos = {"astronaut": Image.fromarray(data.astronaut())}
    for path in PHOTOS:
        with Image.open(path) as opened:
            photos[path.parent.name] = opened.convert("RGB")
    for name, picture in photos.items():
        theirs = np.asarray(rembg.remove(picture, session=session, only_mask=True)) > 127
        matte = matter.matte(picture)
        refined = guided(matte, np.asarray(picture))
        for mine in (matte > 0.5, refined > 0.5):
            assert (mine & theirs).sum() / (mine | theirs).sum() >= 0.95, name
