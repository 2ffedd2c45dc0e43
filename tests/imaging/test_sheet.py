"""Contact sheets: order, size, enlargement and captions."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from studio.imaging.sheet import PAPER, _shorten, contact_sheet, fit

RED, GREEN, BLUE = (220, 0, 0), (0, 200, 0), (0, 0, 210)


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def where(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the pixels of exactly this colour."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(-1))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


def test_pictures_stand_in_reading_order_in_straight_columns() -> None:
    sheet = contact_sheet([flat(RED), flat(GREEN), flat(BLUE)], ["a", "b", "c"], columns=2, cell_px=128)
    red, green, blue = (where(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert red[0] == green[0] and red[1] == blue[1]
    assert red[3] < green[1] and red[2] < blue[0]


def test_small_pictures_grow_by_a_whole_factor() -> None:
    sheet = contact_sheet([flat(RED)], ["a"], columns=4, cell_px=200)
    top, left, bottom, right = where(sheet, RED)
    assert (bottom - top, right - left) == (192, 192)


@pytest.mark.parametrize(
    ("size", "cell_px", "expected"),
    [
        ((64, 64), 200, (192, 192)),
        ((48, 64), 128, (96, 128)),
        ((800, 600), 200, (200, 150)),
        ((150, 90), 200, (150, 90)),
    ],
)
def test_fit_keeps_the_shape(size: tuple[int, int], cell_px: int, expected: tuple[int, int]) -> None:
    assert fit(flat(RED, size), cell_px).size == expected


def test_cells_are_no_wider_than_the_widest_picture() -> None:
    portrait = contact_sheet([flat(RED, (400, 800))] * 4, ["a"] * 4, columns=4, cell_px=200)
    square = contact_sheet([flat(RED, (800, 800))] * 4, ["a"] * 4, columns=4, cell_px=200)
    assert portrait.width == square.width - 4 * 100


def test_every_caption_is_written_below_its_picture() -> None:
    with_text = np.asarray(contact_sheet([flat(RED)] * 2, ["x", "y"], columns=2, cell_px=128)).astype(int)
    without = np.asarray(contact_sheet([flat(RED)] * 2, ["x", ""], columns=2, cell_px=128)).astype(int)
    rows, columns = np.nonzero(abs(with_text - without).sum(-1))
    assert columns.min() > with_text.shape[1] // 2
    assert rows.min() >= where(Image.fromarray(with_text.astype(np.uint8)), RED)[2]


def test_long_lines_are_shortened_to_their_column() -> None:
    font = ImageFont.load_default(14)
    assert isinstance(font, ImageFont.FreeTypeFont)
    shortened = _shorten("a very long name of a shot that nobody will read", font, 100)
    assert shortened.endswith("…") and font.getlength(shortened) <= 100
    assert _shorten("short", font, 100) == "short"


def test_title_stands_above_and_is_not_cut_on_a_narrow_sheet() -> None:
    plain = contact_sheet([flat(RED)], ["a"], columns=1, cell_px=64)
    titled = contact_sheet([flat(RED)], ["a"], columns=1, cell_px=64, title="Ada Lovelace", subtitle="1 picture")
    assert titled.width > plain.width
    assert where(titled, RED)[0] > where(plain, RED)[0]


def test_paper_is_light_and_corners_are_round() -> None:
    sheet = contact_sheet([flat(BLUE)], ["a"], columns=1, cell_px=128)
    top, left, _, _ = where(sheet, BLUE)
    assert sheet.getpixel((0, 0)) == PAPER
    assert sheet.getpixel((left, top)) != BLUE


def test_any_mode_is_shown() -> None:
    pictures = [flat(RED).convert(mode) for mode in ("L", "RGBA", "P", "CMYK")]
    assert contact_sheet(pictures, ["a"] * 4, columns=4, cell_px=64).mode == "RGB"


def test_nothing_to_show_and_missing_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], [], columns=1, cell_px=64)
    with pytest.raises(ValueError, match="one each"):
        contact_sheet([flat(RED)], [], columns=1, cell_px=64)
