import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import AvifImagePlugin, Image, ImageCms, ImageFile, PngImagePlugin, WebPImagePlugin

from studio.core.errors import InputError
from studio.imaging.decode import MAX_PIXELS, decode, decode_bytes, display_name, list_photos, photos_inside

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


def test_bomb_of_900_megapixels_is_refused_before_its_pixels_are_decoded() -> None:
    code, message = problem_of(png_header(30_000, 30_000))
    assert code == "too_large"
    assert "pixels" in message


def test_size_just_above_the_limit_is_refused_and_just_below_is_tried() -> None:
    side = int(MAX_PIXELS**0.5)
    assert problem_of(png_header(side + 1, side + 1))[0] == "too_large"
    assert problem_of(png_header(9000, 9)) == ("not_a_photo", "is damaged or incomplete")


def rows_of(*rows: bytes) -> bytes:
    return b"".join(b"\x00" + row for row in rows)


def png_of(header: tuple[int, ...], rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height, depth, kind of colour, interlaced) with the rows given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width, height, depth, colour, interlaced = header
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)), *more]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


@pytest.mark.parametrize(
    "data",
    [
        png_of((9000, 9000, 8, 6, 0), b""),
        png_of((9000, 9000, 16, 2, 0), bytes(10_000)),
        png_of((9000, 9000, 8, 2, 1), bytes(10_000)),
    ],
    ids=["alpha", "deep", "interlaced"],
)
def test_file_of_few_bytes_takes_no_memory_for_the_pixels_that_it_promises(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("its pixels were decoded"))
    assert len(data) < 200
    assert problem_of(data) == ("not_a_photo", "is damaged or incomplete")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png_header(3, 40_000), "is too long (3 x 40000)"),
        (png_header(40_000, 3), "is too long (40000 x 3)"),
        (encoded(Image.new("RGB", (16, 16)), "AVIF"), "needs too much memory as AVIF (8000 x 6000)"),
        (encoded(Image.new("RGB", (16, 16)), "WEBP"), "needs too much memory as WEBP (8000 x 8000)"),
    ],
    ids=["tall", "wide", "AVIF", "WEBP"],
)
def test_picture_that_would_take_too_much_memory_is_refused_by_its_header(
    data: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (size := re.search(r"\((8000) x (\d+)\)", words)) is not None:
        for plugin in (AvifImagePlugin.AvifImageFile, WebPImagePlugin.WebPImageFile):
            monkeypatch.setattr(plugin, "size", (int(size[1]), int(size[2])))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("its pixels were decoded"))
    assert problem_of(data) == ("too_large", words)


@pytest.mark.parametrize("interlaced", [0, 1])
def test_png_with_missing_rows_is_refused(interlaced: int) -> None:
    row = bytes((200, 100, 50)) * 8
    whole = rows_of(*[row] * 8) if not interlaced else bytes(1 + 3 + 1 + 3 + 1 + 6 + 2 * 7 + 2 * 13 + 4 * 13 + 4 * 25)
    header = (8, 8, 8, 2, interlaced)
    assert decode_bytes(png_of(header, whole), "a.png").size_hw == (8, 8)
    assert problem_of(png_of(header, whole[:-1])) == ("not_a_photo", "is damaged or incomplete")
    assert problem_of(png_of(header, whole[: len(whole) // 2])) == ("not_a_photo", "is damaged or incomplete")
    assert problem_of(png_of(header, whole)[:-12]) == ("not_a_photo", "is damaged or incomplete")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_that_a_png_calls_transparent_is_transparent_at_every_depth_and_the_rest_keeps_its_level(
    depth: int,
) -> None:
    most = 2**depth - 1
    levels = np.array([[0, 1, most - 1, most] * 4], np.uint64)
    packed = np.packbits(np.unpackbits(levels[0].astype(">u2").view(np.uint8)).reshape(-1, 16)[:, -depth:]).tobytes()
    for key in (0, most):
        data = png_of((16, 1, depth, 0, 0), rows_of(packed), (b"tRNS", struct.pack(">H", key)))
        pixels = np.asarray(decode_bytes(data, "a.png", keep_alpha=True).picture).astype(int)
        assert np.array_equal(pixels[0, :, 3] == 0, levels[0] == key)
        seen = pixels[0, :, 3] > 0
        assert np.abs(pixels[0, seen, 0] - levels[0, seen].astype(float) * 255 / most).max() <= 0.51
        assert np.all(np.asarray(decode_bytes(data, "a.png").picture)[0, ~seen] == 255), "it lies on white"


def test_colour_that_a_png_of_sixteen_bits_calls_transparent_is_transparent() -> None:
    row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 60_000, 50_000, 40_000)
    data = png_of((2, 1, 16, 2, 0), rows_of(row), (b"tRNS", row[:6]))
    assert np.asarray(decode_bytes(data, "a.png", keep_alpha=True).picture)[0, :, 3].tolist() == [0, 255]


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


def test_photo_of_a_camera_with_an_ending_nobody_knows_is_listed_by_its_content(tmp_path: Path) -> None:
    deep = (np.asarray(scene()).astype(np.uint16) << 8).tobytes()
    hif = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (96, 64), deep).save(hif, chroma="422", quality=95)
    made = {
        "DSC00001.HIF": hif.getvalue(),  # ten bits and 4:2:2, as Sony and Canon write them
        "IMG_2.jpg_large": encoded(scene(), "JPEG"),
        "IMG_3.tmp": encoded(scene(), "PNG"),
        "IMG_4.download": encoded(scene(), "WEBP"),
        "IMG_5.bin": encoded(scene(), "AVIF"),
        "IMG_6.3fr": b"II*\x00" + bytes(60),
    }
    others = {"IMG_1.MOV": b"\x00\x00\x00\x14ftypqt  " + bytes(60), "IMG_1.AAE": b"<?xml ?>"}
    for name, data in {**made, **others}.items():
        (tmp_path / name).write_bytes(data)
    photos, left = list_photos(tmp_path)
    assert [path.name for path in photos] == list(made)
    assert {path.name for path in left} == set(others)
    assert decode(photos[0]).size_hw == (64, 96)
    assert problem_of(made["IMG_6.3fr"], "IMG_6.3fr") == ("not_a_photo", "is a TIFF or raw camera file, not a photo")


def test_heif_under_a_brand_that_the_decoder_has_not_heard_of_is_read_by_what_it_is_compatible_with() -> None:
    data = encoded(scene(), "HEIF")
    assert data[8:12] == b"heic"
    assert decode_bytes(data[:8] + b"MiHB" + data[12:], "a.hif").size_hw == (64, 96)
    assert problem_of(b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom" + bytes(60)) == (
        "not_a_photo",
        "is a raw camera file, not a photo",
    )


def test_caption_is_none_of_the_other_files_however_it_is_spelled(tmp_path: Path) -> None:
    for name in ("1.jpg", "1.TXT", "2.jpg", "2.jpg.txt", "alone.TXT"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in list_photos(tmp_path)[1]] == ["alone.TXT"]


def test_photos_in_folders_inside_the_folder_are_counted_where_they_are(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.HIF", "a/.hidden.jpg", "b/c/3.png", "b/notes.md", ".git/4.jpg", "set/photos/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "set" / "dataset.json").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert photos_inside(tmp_path) == {"a": 2, "b/c": 1}


def test_folder_that_is_not_there_is_a_kind_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        list_photos(tmp_path / "nowhere")
