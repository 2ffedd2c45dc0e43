import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from studio.core.errors import InputError
from studio.imaging.decode import MAX_PIXELS, decode, decode_bytes, display_name, list_photos

MARKER = b"PLANTED-GPS-51.4778"


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A picture whose four quarters differ: red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 180, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 200)
    pixels[height // 2 :, width // 2 :] = (240, 240, 240)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    if form == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def problem_of(data: bytes, name: str = "IMG_1.jpg") -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        decode_bytes(data, name)
    (problem,) = caught.value.problems
    assert problem.where == display_name(name)
    assert problem.cure
    return problem.code, problem.message


def png_header(width: int, height: int) -> bytes:
    """A PNG of the given size whose pixels are missing: enough to make a careless program take the memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(10_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_each_photo_format_is_decoded(form: str) -> None:
    decoded = decode_bytes(encoded(scene(), form, quality=95), "a.bin")
    assert decoded.picture.mode == "RGB"
    assert decoded.size_hw == (64, 96)
    difference = np.abs(np.asarray(decoded.picture).astype(int) - np.asarray(scene()).astype(int))
    assert np.median(difference) <= 6


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(form: str, orientation: int) -> None:
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    turned = scene() if stored is None else scene().transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_bytes(encoded(turned, form, exif=exif.tobytes(), quality=95), "a")
    assert decoded.size_hw == (64, 96)
    assert decoded.picture.size == (96, 64)
    corners = [decoded.picture.getpixel(xy) for xy in ((10, 10), (85, 10), (10, 55))]
    assert [int(np.argmax(corner)) for corner in corners] == [0, 1, 2]


def test_broken_exif_costs_nobody_a_photo() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12")
    assert decode_bytes(data, "a.jpg").size_hw == (64, 96)


def test_heic_from_a_phone_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_bytes(encoded(scene(), "HEIF", exif=exif.tobytes()), "a.heic")
    assert decoded.size_hw == (96, 64)
    assert decoded.picture.size == (64, 96)


def test_ending_does_not_matter() -> None:
    assert decode_bytes(encoded(scene(), "WEBP"), "a.jpg").size_hw == (64, 96)


def test_empty_file_is_refused() -> None:
    assert problem_of(b"") == ("not_a_photo", "is empty")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_truncated_file_is_refused(form: str, kept: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    data = encoded(noise, form)
    code, message = problem_of(data[: int(len(data) * kept)])
    assert code == "not_a_photo"
    assert "damaged" in message or "not a photo" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Dear diary, this is not a picture.\n" * 20, "is a text file, not a photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is a drawing (SVG), not a photo"),
        (b"%PDF-1.7\n%\xe2\xe3", "is a PDF, not a photo"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive, not a photo"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(60), "is a video, not a photo"),
        (bytes(range(256)), "is not a photo in a format that can be read"),
    ],
)
def test_foreign_file_renamed_to_jpg_is_refused_by_what_it_is(data: bytes, words: str) -> None:
    assert problem_of(data) == ("not_a_photo", words)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP"])
def test_other_picture_formats_are_never_opened(form: str) -> None:
    code, message = problem_of(encoded(scene(), form))
    assert code == "not_a_photo"
    assert message.endswith("not a photo")


def test_animated_gif_is_refused() -> None:
    data = encoded(scene(), "GIF", save_all=True, append_images=[scene().rotate(90)])
    assert problem_of(data, "party.gif") == ("not_a_photo", "is a GIF, not a photo")


@pytest.mark.parametrize("form", ["WEBP", "PNG", "AVIF"])
def test_animation_in_a_photo_format_is_refused(form: str) -> None:
    data = encoded(scene(), form, save_all=True, append_images=[scene().transpose(Image.Transpose.ROTATE_180)])
    assert problem_of(data) == ("not_a_photo", "is an animation, not a photo")


def test_bomb_of_900_megapixels_is_refused_before_its_pixels_are_decoded() -> None:
    code, message = problem_of(png_header(30_000, 30_000))
    assert code == "too_large"
    assert "pixels" in message


def test_size_just_above_the_limit_is_refused_and_just_below_is_tried() -> None:
    side = int(MAX_PIXELS**0.5)
    assert problem_of(png_header(side + 1, side + 1))[0] == "too_large"
    assert problem_of(png_header(9000, 9)) == ("not_a_photo", "is damaged or incomplete")


def test_file_with_too_many_bytes_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.jpg"
    path.write_bytes(bytes(3000))
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read"))
    with pytest.raises(InputError, match=r"big\.jpg: is too large"):
        decode(path, max_bytes=2000)


def test_file_that_cannot_be_read_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        decode(tmp_path / "gone.jpg")


def test_polyglot_of_jpeg_and_html_comes_out_as_pixels_only() -> None:
    data = encoded(scene(), "JPEG") + b"<script>alert('x')</script>PK\x03\x04"
    picture = decode_bytes(data, "a.jpg").picture
    assert b"script" not in encoded(picture, "PNG")


def test_cmyk_becomes_rgb() -> None:
    picture = decode_bytes(encoded(scene().convert("CMYK"), "JPEG", quality=95), "a.jpg").picture
    red, green, blue = picture.getpixel((10, 10))
    assert red > 150 and green < 90 and blue < 90


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 96 * 64).reshape(64, 96).astype(np.uint16)
    picture = decode_bytes(encoded(Image.fromarray(ramp), "PNG"), "a.png").picture
    assert np.asarray(picture)[..., 0] == pytest.approx(ramp / 257, abs=1)


def test_sixteen_bit_colour_becomes_eight_bit() -> None:
    cv2 = pytest.importorskip("cv2")
    deep = (np.asarray(scene()).astype(np.uint16) * 257)[..., ::-1]
    picture = decode_bytes(cv2.imencode(".png", deep)[1].tobytes(), "a.png").picture
    assert np.array_equal(np.asarray(picture), np.asarray(scene()))


def test_palette_with_transparency_lies_on_white() -> None:
    clear = scene().convert("RGBA")
    clear.putalpha(Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 64, 0).repeat(48, 1)))
    for data in (encoded(clear, "PNG"), encoded(clear.quantize(16), "PNG"), encoded(clear.convert("LA"), "PNG")):
        picture = decode_bytes(data, "a.png").picture
        assert picture.mode == "RGB"
        assert picture.getpixel((10, 10)) == (255, 255, 255)
        assert picture.getpixel((85, 10)) != (255, 255, 255)


def test_grey_and_bilevel_become_rgb() -> None:
    assert decode_bytes(encoded(scene().convert("L"), "JPEG"), "a").picture.mode == "RGB"
    assert decode_bytes(encoded(scene().convert("1"), "PNG"), "a").picture.getpixel((85, 55)) == (255, 255, 255)


def swapped_profile() -> bytes:
    """An RGB profile that is certainly not sRGB: Pillow's own sRGB with the red and green primaries exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    swapped = bytearray(data)
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(swapped)


def test_colour_profile_is_applied_and_then_dropped() -> None:
    data = encoded(scene(), "PNG", icc_profile=swapped_profile())
    picture = decode_bytes(data, "a.png").picture
    assert int(np.argmax(picture.getpixel((10, 10)))) == 1  # red has become green
    assert "icc_profile" not in picture.info
    assert b"iCCP" not in encoded(picture, "PNG")


def test_broken_colour_profile_is_ignored() -> None:
    picture = decode_bytes(encoded(scene(), "PNG", icc_profile=b"not a profile"), "a.png").picture
    assert np.array_equal(np.asarray(picture), np.asarray(scene()))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_planted_metadata_is_gone_from_every_format_it_may_be_saved_in(form: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = MARKER.decode()
    exif.get_ifd(0x8825)[29] = MARKER.decode()
    options: dict[str, object] = {"exif": exif.tobytes()}
    if form in ("JPEG", "WEBP", "AVIF", "HEIF"):
        options["xmp"] = b"<x:xmpmeta>" + MARKER + b"</x:xmpmeta>"
    if form == "JPEG":
        options["comment"] = MARKER
    if form == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", MARKER.decode())
    data = encoded(scene(), form, **options)
    assert MARKER in data
    picture = decode_bytes(data, "a").picture
    assert picture.info == {}
    for out in ("JPEG", "PNG", "WEBP"):
        assert MARKER not in encoded(picture, out)


def test_large_jpeg_is_decoded_small_when_that_is_enough() -> None:
    data = encoded(scene(1600, 1200), "JPEG")
    decoded = decode_bytes(data, "a.jpg", at_least_px=300)
    assert decoded.size_hw == (1200, 1600)
    assert decoded.picture.size == (400, 300)
    assert decode_bytes(data, "a.jpg").picture.size == (1600, 1200)


def test_decoding_leaves_no_warning_behind() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode_bytes(encoded(scene().quantize(16), "PNG", transparency=0), "a.png")
    assert caught == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\IMG 1.jpg", "IMG 1.jpg"),
        ("party \U0001f389.jpg", "party \U0001f389.jpg"),
        ("a\x00b\x1b[31m\n.jpg", "ab[31m.jpg"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("cafe\u0301.jpg", "café.jpg"),
        ("..", "photo"),
        ("", "photo"),
        ("\ud800.jpg", ".jpg"),
    ],
)
def test_name_is_shown_without_folders_and_control_characters(name: str, shown: str) -> None:
    assert display_name(name) == shown


def test_long_name_is_shortened_and_keeps_its_ending() -> None:
    shown = display_name("x" * 300 + ".jpeg")
    assert len(shown) == 80
    assert shown.endswith("….jpeg")


def test_folder_is_listed_in_natural_order_and_others_are_reported(tmp_path: Path) -> None:
    for name in (
        "10.jpg",
        "2.JPG",
        "1.heic",
        "noending",
        "2.txt",
        "notes.md",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "loop.gif",
        "orphan.txt",
    ):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    photos, others = list_photos(tmp_path)
    assert [path.name for path in photos] == ["1.heic", "2.JPG", "10.jpg", "loop.gif", "noending"]
    assert [path.name for path in others] == ["notes.md", "orphan.txt"]


def test_folder_that_is_not_there_is_a_kind_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        list_photos(tmp_path / "nowhere")
