"""Tiles: every pixel once, no thin tiles, and no seams as long as the overlap covers what the network sees."""

import numpy as np
import pytest

from studio.imaging.tile import count_tiles, enlarge_tiled

PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def doubled(picture):
    return picture.repeat(2, axis=0).repeat(2, axis=1)


def blurred(picture):
    """See five pixels to each side, as a network would."""
    import cv2

    return cv2.blur(doubled(picture), (21, 21), borderType=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("tile_px", [1, 7, 16, 53, 500])
def test_every_pixel_is_made_once_and_in_its_place(tile_px):
    made = enlarge_tiled(PICTURE, doubled, scale=2, tile_px=tile_px, overlap_px=0)
    assert np.array_equal(made, doubled(PICTURE))


def test_enough_overlap_leaves_no_seam_and_too_little_does():
    whole = blurred(PICTURE)
    tiled = enlarge_tiled(PICTURE, blurred, scale=2, tile_px=16, overlap_px=10)
    assert np.array_equal(tiled, whole)
    seamed = enlarge_tiled(PICTURE, blurred, scale=2, tile_px=16, overlap_px=0)
    assert np.abs(seamed.astype(int) - whole).max() > 20


def test_one_call_never_sees_more_than_its_tile_and_its_overlap():
    seen = []

    def enlarge(piece):
        seen.append(piece.shape[:2])
        return doubled(piece)

    enlarge_tiled(PICTURE, enlarge, scale=2, tile_px=16, overlap_px=4)
    assert len(seen) == count_tiles((37, 53), 16) == 12
    assert max(max(shape) for shape in seen) <= 16 + 2 * 4
    assert min(min(shape) for shape in seen) >= 37 // 3 + 4, "equal pieces leave no thin tile at the end"


def test_what_on_tile_raises_ends_the_work():
    calls = []

    def stop_at_third():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enlarge_tiled(PICTURE, doubled, scale=2, tile_px=8, overlap_px=0, on_tile=stop_at_third)
    assert len(calls) == 3
