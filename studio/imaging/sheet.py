"""Contact sheets: many pictures on one page, with captions in straight columns.

Called by ``studio.infer`` (best first), the demo and the benchmarks. Pillow's own scalable font, no files needed.
"""

from collections.abc import Sequence
from math import ceil

from PIL import Image, ImageDraw, ImageFont

PAPER = (250, 249, 247)
INK = (38, 38, 42)
FAINT = (128, 126, 122)
EDGE = (226, 223, 218)


def enlargement(size_px: int, cell_px: int) -> int:
    """Return the largest whole factor by which a side of ``size_px`` still fits into ``cell_px``, at least 1."""
    return max(1, cell_px // size_px)


def fit(picture: Image.Image, cell_px: int) -> Image.Image:
    """Return ``picture`` in RGB, fitted into a square of ``cell_px`` without changing its shape.

    Small pictures grow by a whole factor only: 64 px in a cell of 200 become 192, so that no pixel looks wider than
    its neighbour.
    """
    picture = picture.convert("RGB")
    longest = max(picture.size)
    if longest <= cell_px:
        factor = enlargement(longest, cell_px)
        return picture if factor == 1 else picture.resize((picture.width * factor, picture.height * factor), _SMOOTH)
    scale = cell_px / longest
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), _SMOOTH)


_SMOOTH = Image.Resampling.LANCZOS


def contact_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str | Sequence[str]],
    *,
    columns: int,
    cell_px: int,
    title: str | None = None,
    subtitle: str | None = None,
) -> Image.Image:
    """Lay pictures out in rows.

    Args:
        pictures: at least one, any sizes and modes; they are shown in this order, row by row.
        captions: one per picture; a string, or several lines of which the first is dark and the others faint. A line
            that is too wide for its column is shortened with an ellipsis.
        columns: pictures per row; fewer pictures make a narrower sheet.
        cell_px: side of the square that each picture is fitted into.
        title: one line above all.
        subtitle: a fainter line below the title.

    Returns:
        RGB image on light paper.

    Raises:
        ValueError: no pictures, or not one caption per picture.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    if len(pictures) != len(captions):
        raise ValueError(f"{len(pictures)} pictures have {len(captions)} captions; give one each")
    columns = max(1, min(columns, len(pictures)))
    rows = ceil(len(pictures) / columns)
    lines = [[caption] if isinstance(caption, str) else list(caption) for caption in captions]
    shown = [fit(picture, cell_px) for picture in pictures]
    cell_width, cell_height = max(picture.width for picture in shown), max(picture.height for picture in shown)

    gap = max(8, cell_px // 12)
    margin = gap * 2
    text_px = max(11, min(18, cell_px // 14))
    font = _font(text_px)
    line_px = ceil(text_px * 1.4)
    caption_px = line_px * max(len(item) for item in lines) + gap // 2
    heading = [
        (text, _font(size), ceil(size * 1.5), ink)
        for text, size, ink in ((title, text_px * 1.6, INK), (subtitle, text_px, FAINT))
        if text
    ]
    inner = columns * cell_width + (columns - 1) * gap
    # One picture alone must not cut its title short.
    inner = max([inner, *(min(ceil(face.getlength(text)), 3 * cell_px) for text, face, _, _ in heading)])
    top = margin + sum(step for _, _, step, _ in heading) + (gap if heading else 0)
    height = top + rows * (cell_height + caption_px) + (rows - 1) * gap + margin

    sheet = Image.new("RGB", (inner + 2 * margin, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = margin
    for text, face, step, ink in heading:
        draw.text((margin, y), _shorten(text, face, inner), font=face, fill=ink)
        y += step

    for index, (picture, item) in enumerate(zip(shown, lines, strict=True)):
        left = margin + (index % columns) * (cell_width + gap)
        upper = top + (index // columns) * (cell_height + caption_px + gap)
        _paste_rounded(sheet, picture, (left, upper + cell_height - picture.height), radius=max(3, cell_px // 32))
        for number, line in enumerate(item):
            at = (left, upper + cell_height + gap // 2 + number * line_px)
            draw.text(at, _shorten(line, font, cell_width), font=font, fill=INK if number == 0 else FAINT)
    return sheet


def _font(size_px: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow is built without FreeType"
    return font


def _paste_rounded(sheet: Image.Image, picture: Image.Image, corner: tuple[int, int], radius: int) -> None:
    # Drawn at four times the size and shrunk: Pillow's own rounded rectangle has jagged corners.
    big = Image.new("L", (picture.width * 4, picture.height * 4), 0)
    ImageDraw.Draw(big).rounded_rectangle((0, 0, big.width - 1, big.height - 1), radius * 4, fill=255)
    mask = big.resize(picture.size, Image.Resampling.BOX)
    edge = Image.new("RGB", (picture.width + 2, picture.height + 2), EDGE)
    sheet.paste(edge, (corner[0] - 1, corner[1] - 1), mask.resize(edge.size, Image.Resampling.BILINEAR))
    sheet.paste(picture, corner, mask)


def _shorten(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    text = " ".join(text.split())
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text.rstrip() + "…"
