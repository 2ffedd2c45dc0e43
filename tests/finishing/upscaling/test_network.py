"""Networks in tiles: the same picture as in one piece."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch.nn import functional

from studio.bases.weight_files import locate
from studio.core.errors import ResourceError
from studio.core.settings import PROJECT_ROOT
from studio.finishing.networks.read import read_weights
from studio.finishing.upscaling.network import NetworkUpscaler

CPU = torch.device("cpu")
PICTURE = np.random.default_rng(3).integers(0, 256, (90, 110, 3), np.uint8)


def quiet():
    pass


@pytest.fixture(scope="module")
def whole(tiny_upscaler):
    return NetworkUpscaler("tiny", read_weights(tiny_upscaler), device=CPU, tile_px=500)


def test_one_piece_is_what_the_reference_network_makes(whole, tiny_upscaler):
    from spandrel import ModelLoader

    reference = ModelLoader().load_from_file(tiny_upscaler).eval()
    values = torch.from_numpy(PICTURE).permute(2, 0, 1)[None].float() / 255
    expected = (reference(values)[0].permute(1, 2, 0) * 255).round().numpy()
    made = whole.enlarge(PICTURE, tick=quiet)
    assert made.shape == (360, 440, 3) and made.dtype == np.uint8
    assert expected.std() > 5, "a flat picture would prove nothing"
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("tile_px", [32, 64])
def test_tiles_leave_no_seams(whole, tiny_upscaler, tile_px):
    tiled = NetworkUpscaler("tiny", read_weights(tiny_upscaler), device=CPU, tile_px=tile_px)
    calls = []
    made = tiled.enlarge(PICTURE, tick=lambda: calls.append(1))
    assert np.abs(made.astype(int) - whole.enlarge(PICTURE, tick=quiet)).max() <= 2
    assert len(calls) == tiled.ticks((90, 110)) > 1


def test_without_overlap_there_would_be_seams(whole, tiny_upscaler):
    tiled = NetworkUpscaler("tiny", read_weights(tiny_upscaler), device=CPU, tile_px=32)
    tiled._overlap_px = 0
    assert np.abs(tiled.enlarge(PICTURE, tick=quiet).astype(int) - whole.enlarge(PICTURE, tick=quiet)).max() > 2


def test_a_real_network_leaves_no_seams_either(tmp_path):
    weights = read_weights(locate("animevideov3", tmp_path).path)
    # Smooth, as photos are: a network that was trained on pictures does wild things to noise.
    rows, columns = np.mgrid[0:60, 0:50]
    picture = np.stack([rows * 4, columns * 5, (rows + columns) * 2], axis=2).astype(np.uint8)
    whole = NetworkUpscaler("a", weights, device=CPU, tile_px=500).enlarge(picture, tick=quiet)
    tiled = NetworkUpscaler("a", weights, device=CPU, tile_px=32).enlarge(picture, tick=quiet)
    assert np.abs(tiled.astype(int) - whole).max() <= 2
    assert np.abs(whole[2::4, 2::4].astype(int) - picture).mean() < 10, "it is the same picture, enlarged"


def test_a_network_that_needs_little_memory_gets_larger_tiles(tiny_upscaler, tmp_path):
    small = NetworkUpscaler("a", read_weights(locate("animevideov3", tmp_path).path), device=CPU)
    assert (small.ticks((512, 512)), small.ticks((513, 512))) == (1, 2)
    assert NetworkUpscaler("tiny", read_weights(tiny_upscaler), device=CPU).ticks((512, 512)) == 4


def test_one_pixel_is_enlarged_too(whole):
    assert whole.enlarge(PICTURE[:1, :1], tick=quiet).shape == (4, 4, 3)


def test_where_memory_gives_out_tiles_become_smaller_and_at_last_it_is_said(whole, tiny_upscaler, monkeypatch):
    network = NetworkUpscaler("tiny", read_weights(tiny_upscaler), device=CPU, tile_px=128)
    run, seen = network._run, []

    def tight(tile):
        seen.append(max(tile.shape[:2]))
        if max(tile.shape[:2]) > limit:
            raise torch.OutOfMemoryError
        return run(tile)

    monkeypatch.setattr(network, "_run", tight)
    limit = 90
    made = network.enlarge(PICTURE, tick=quiet)
    assert np.abs(made.astype(int) - whole.enlarge(PICTURE, tick=quiet)).max() <= 2
    assert seen[0] > limit >= seen[-1]
    limit = 0
    with pytest.raises(ResourceError, match="memory"):
        network.enlarge(PICTURE, tick=quiet)


# ------------------------------------------------------------------------------------------------------------ x4plus


@pytest.fixture(scope="module")
def x4plus(tmp_path_factory):
    return read_weights(locate("x4plus", tmp_path_factory.mktemp("home")).path)


def astronaut(side_px, *, crop=None):
    whole = Image.fromarray(data.astronaut())
    return np.array((whole.crop(crop) if crop else whole).resize((side_px, side_px), Image.Resampling.LANCZOS))


def written_out(weights, picture):
    """Enlarge with x4plus as its paper draws it, without any library's network.

    Source: Wang et al. 2018, "ESRGAN", arXiv:1809.00219, fig. 4, with Real-ESRGAN's nearest-neighbour enlarging.
    """

    def conv(name, values):
        return functional.conv2d(values, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def curved(values):
        return functional.leaky_relu(values, 0.2)

    def dense(name, values):
        seen = [values]
        for layer in (1, 2, 3, 4):
            seen.append(curved(conv(f"{name}.conv{layer}", torch.cat(seen, 1))))
        return values + 0.2 * conv(f"{name}.conv5", torch.cat(seen, 1))

    first = conv("conv_first", torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    values = first
    for block in range(23):
        inner = values
        for number in (1, 2, 3):
            inner = dense(f"body.{block}.rdb{number}", inner)
        values = values + 0.2 * inner
    values = first + conv("conv_body", values)
    for name in ("conv_up1", "conv_up2"):
        values = curved(conv(name, functional.interpolate(values, scale_factor=2.0)))
    made = conv("conv_last", curved(conv("conv_hr", values)))[0]
    return (made.permute(1, 2, 0).clamp(0, 1) * 255).numpy()


@pytest.mark.parametrize(
    ("side_px", "crop", "tile_px"),
    [
        pytest.param(32, (180, 70, 276, 166), 32, id="face"),
        pytest.param(192, None, 64, id="whole", marks=pytest.mark.slow),
    ],
)
def test_the_astronaut_enlarged_in_tiles_is_what_the_network_on_paper_makes(x4plus, side_px, crop, tile_px):
    picture = astronaut(side_px, crop=crop)
    with torch.no_grad():
        expected = written_out(x4plus, picture)
    made = NetworkUpscaler("x4plus", x4plus, device=CPU, tile_px=tile_px).enlarge(picture, tick=quiet)
    assert made.shape == (4 * side_px, 4 * side_px, 3)
    assert np.abs(made - expected).max() <= 2
    larger = np.asarray(Image.fromarray(picture).resize((4 * side_px, 4 * side_px), Image.Resampling.BICUBIC))
    assert np.abs(np.diff(made.astype(int), axis=1)).mean() > 1.2 * np.abs(np.diff(larger.astype(int), axis=1)).mean()


def peak_bytes(code: str, *arguments: str) -> dict[str, int]:
    """Run code in a process of its own; return what it prints as ``name bytes``, and its peak memory."""
    code += "\nprint('peak', int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1024)"
    command = [sys.executable, "-c", code, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_ROOT, check=True)
    return {name: int(value) for name, value in (line.split() for line in answer.stdout.splitlines())}


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")

ONE_TILE = """
import re, sys
import numpy as np, torch
from pathlib import Path
from studio.finishing.networks.read import read_weights
from studio.finishing.upscaling.network import NetworkUpscaler
from studio.bases.weight_files import locate
name, side = sys.argv[1], int(sys.argv[2])
weights = read_weights(locate(name, Path("none")).path)
# Two blocks of x4plus's 23: the peak lies behind the last one, where pictures are four times as large.
weights = {name: values for name, values in weights.items() if not re.match(r"body\\.([2-9]|\\d\\d)\\.rdb", name)}
network = NetworkUpscaler(name, weights, device=torch.device("cpu"), tile_px=side)
network.enlarge(np.zeros((4, 4, 3), np.uint8), tick=lambda: None)  # what a process takes at its first picture
print("before", int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024)
print("promised", network.working_bytes((side, side)))
network.enlarge(np.zeros((side, side, 3), np.uint8), tick=lambda: None)
"""


@pytest.mark.whole
@needs_proc
@pytest.mark.parametrize(("name", "side_px"), [("x4plus", 160), ("animevideov3", 400)])
def test_a_tile_takes_as_much_memory_as_is_promised(name, side_px):
    found = peak_bytes(ONE_TILE, name, str(side_px))
    assert 0.4 * found["promised"] <= found["peak"] - found["before"] <= found["promised"]


WHOLE = """
import sys
from pathlib import Path
from studio.core.finish_config import FinishConfig
from studio.postprocess import finish
config = FinishConfig.parse({"steps": [{"do": "upscale", "long_side_px": 2048}]})
finish(config, Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs_proc
def test_from_512_to_2048_px_takes_less_than_two_gigabytes(tmp_path):
    Image.fromarray(astronaut(512)).save(tmp_path / "astronaut.png")
    found = peak_bytes(WHOLE, str(tmp_path / "astronaut.png"), str(tmp_path / "out"))
    assert Image.open(tmp_path / "out" / "pictures" / "astronaut.png").size == (2048, 2048)
    assert found["peak"] <= 2 * 2**30
