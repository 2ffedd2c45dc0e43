"""The choice among a shot's pictures."""

import numpy as np
from PIL import Image, ImageEnhance

from studio.pictures.selection import choose, prints_of


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def test_the_most_alike_are_kept_best_first() -> None:
    chosen = choose([0.2, 0.9, None, 0.5], prints_of([picture(i) for i in range(4)]), 2)
    assert (chosen.kept, dict(chosen.duplicate_of)) == ((1, 3), {})


def test_pictures_without_likeness_stay_in_order() -> None:
    assert choose([None] * 4, prints_of([picture(i) for i in range(4)]), 3).kept == (0, 1, 2)


def test_near_duplicates_go_before_less_alike_ones() -> None:
    twin = ImageEnhance.Brightness(picture(0)).enhance(1.02)
    prints = prints_of([picture(0), twin, picture(1)])
    chosen = choose([0.9, 0.8, 0.1], prints, 2)
    assert (chosen.kept, dict(chosen.duplicate_of)) == ((0, 2), {1: 0})


def test_near_duplicates_fill_up_where_there_is_nothing_else() -> None:
    prints = prints_of([picture(0), picture(0), picture(0)])
    assert choose([0.1, 0.9, 0.5], prints, 2).kept == (1, 2)
