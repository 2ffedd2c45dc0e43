"""Colours stated by numbers, chunks, tags and EXIF instead of an ICC profile come out as sRGB, or are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from studio.core.errors import InputError
from studio.imaging.decode import decode_bytes

P3 = (200, 100, 80)
IN_SRGB = (215, 93, 73)


def flat(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (64, 48), colour)


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    if form == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    buffer = io.BytesIO()
    picture.save(buffer, form, **({} if form == "PNG" else {"quality": 100}), **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(picture: Image.Image, *chunks: bytes, **options: object) -> bytes:
    data = saved(picture, "PNG", **options)
    return data[:33] + b"".join(chunks) + data[33:]


def marked(picture: Image.Image, form: str, primaries: int, transfer: int, **options: object) -> bytes:
    """Return a file of the form whose own numbers say primaries and transfer."""
    if form == "PNG":
        return png(picture, chunk(b"cICP", bytes((primaries, transfer, 0, 1))), **options)
    numbers = {"color_primaries": 1, "transfer_characteristics": 13, "matrix_coefficients": 6, "full_range_flag": 1}
    data = saved(picture, form, subsampling="4:4:4", **(numbers if form == "HEIF" else {}), **options)
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def shown(data: bytes) -> np.ndarray:
    return np.asarray(decode_bytes(data, "a").picture)[24, 32].astype(int)


def pq(nits: float) -> int:
    y = (nits / 10_000) ** (2610 / 16384)
    return round(255 * ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32))


@pytest.mark.parametrize("form", ["PNG", "HEIF", "AVIF"])
def test_display_p3_by_numbers_becomes_srgb(form: str) -> None:
    assert np.abs(shown(marked(flat(P3), form, 12, 13)) - IN_SRGB).max() <= (0 if form == "PNG" else 2)


@pytest.mark.parametrize("form", ["PNG", "HEIF", "AVIF"])
@pytest.mark.parametrize(("primaries", "transfer"), [(1, 13), (1, 1), (2, 2), (1, 6)])
def test_what_is_srgb_by_numbers_or_says_nothing_stays_as_it_is(form: str, primaries: int, transfer: int) -> None:
    assert np.abs(shown(marked(flat(P3), form, primaries, transfer)) - P3).max() <= 2


@pytest.mark.parametrize("form", ["PNG", "HEIF", "AVIF"])
def test_pq_is_converted_and_not_washed_out(form: str) -> None:
    black, grey, paper, lamp = (
        shown(marked(flat((level, level, level)), form, 9, 16)) for level in (pq(0), pq(0.18 * 203), pq(203), pq(1000))
    )
    assert black.max() <= 2 and np.abs(grey - 118).max() <= 4
    assert paper.min() >= 225 and paper.max() < lamp.min() <= 255


@pytest.mark.parametrize("form", ["PNG", "HEIF", "AVIF"])
def test_hlg_is_converted_and_not_washed_out(form: str) -> None:
    black, middle, paper, peak = (
        shown(marked(flat((level, level, level)), form, 9, 18)) for level in (0, 127, 191, 255)
    )
    assert black.max() <= 2
    assert np.abs(middle - 137).max() <= 4  # 50.7 of 203 cd/m2
    assert paper.min() >= 225 and paper.max() < peak.min()


def test_hue_of_a_bright_light_stays() -> None:
    red = shown(marked(flat((pq(900), pq(90), pq(90))), "PNG", 1, 16))
    assert red[0] > 240 and red[1] == red[2] and 60 < red[1] < 110


@pytest.mark.parametrize(
    ("form", "primaries", "transfer"),
    [("PNG", 1, 9), ("HEIF", 1, 9), ("AVIF", 1, 9), ("PNG", 77, 13), ("AVIF", 77, 13), ("PNG", 10, 13)],
)
def test_colours_that_are_not_known_are_refused_with_a_cure(form: str, primaries: int, transfer: int) -> None:
    with pytest.raises(InputError) as caught:
        decode_bytes(marked(flat(P3), form, primaries, transfer), "odd.avif")
    (problem,) = caught.value.problems
    assert (problem.where, problem.code, problem.cure) == ("odd.avif", "unknown_colours", "save it as a JPEG in sRGB")


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_profile_wins_over_numbers_in_boxes(form: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(flat(P3), form, icc_profile=srgb)
    assert np.abs(shown(data) - P3).max() <= 2


def test_numbers_in_a_png_win_over_its_profile() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert tuple(shown(marked(flat(P3), "PNG", 12, 13, icc_profile=srgb))) == IN_SRGB


def test_profile_that_says_pq_in_its_tag_is_not_read_as_if_it_were_a_plain_curve() -> None:
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (count,) = struct.unpack_from(">I", plain, 128)
    table = bytearray(plain[132 : 132 + 12 * count])
    table[-12:] = struct.pack(">4sII", b"cicp", len(plain), 12)
    profile = plain[:132] + bytes(table) + plain[132 + 12 * count :] + b"cicp" + bytes(4) + bytes((9, 16, 0, 1))
    profile = struct.pack(">I", len(profile)) + profile[4:]
    level = pq(0.18 * 203)
    for form in ("JPEG", "WEBP", "PNG"):
        assert np.abs(shown(saved(flat((level, level, level)), form, icc_profile=profile)) - 118).max() <= 4


def test_gamma_and_chromaticities_of_a_png_are_applied_unless_it_says_srgb() -> None:
    linear = chunk(b"gAMA", struct.pack(">I", 100_000))
    p3 = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    usual = chunk(b"gAMA", struct.pack(">I", 45_455))
    assert tuple(shown(png(flat((55, 55, 55)), linear))) == (128, 128, 128)
    assert tuple(shown(png(flat(P3), usual, p3))) == IN_SRGB
    assert tuple(shown(png(flat(P3), chunk(b"sRGB", b"\x00"), linear, p3))) == P3
    assert tuple(shown(png(flat(P3), usual, chunk(b"cHRM", bytes(32))))) == P3


def test_adobe_rgb_that_a_camera_notes_in_exif_only_is_applied() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    made = shown(saved(flat((100, 180, 100)), "JPEG", exif=exif, subsampling=0))
    assert made[0] < 40 and abs(made[1] - 181) <= 4, "Adobe's green is far more colourful than sRGB's"


def test_broken_boxes_and_chunks_cost_nobody_a_photo() -> None:
    assert tuple(shown(png(flat(P3), chunk(b"cICP", b"")))) == P3
    data = bytearray(saved(flat(P3), "AVIF"))
    at = data.index(b"ipma") + 8
    data[at : at + 4] = b"\xff\xff\xff\xff"  # so many entries are not there
    with pytest.raises(InputError):
        decode_bytes(bytes(data), "a")
