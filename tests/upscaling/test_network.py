"""Networks in tiles: the same picture as in one piece."""

import numpy as np
import pytest
import torch

from studio.errors import ResourceError
from studio.networks.read import read_weights
from studio.upscaling.network import NetworkUpscaler
from studio.weight_files import locate

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
