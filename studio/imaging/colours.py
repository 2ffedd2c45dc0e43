"""Colours that a file states otherwise than by an ICC profile: read from its bytes, and brought to sRGB.

HEIF and AVIF have a box for them (``colr`` of the kind nclx), PNG a chunk (``cICP``, or the older ``gAMA`` and
``cHRM``), newer ICC profiles a tag, and cameras a note in EXIF that means Adobe RGB. Decoders leave the levels as they
are. Called by ``studio.imaging.decode``.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of red, green, blue and white, CIE 1931."""

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_SRGB: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)
_PRIMARIES: dict[int, Chromaticities] = {
    1: _SRGB,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
"""By the numbers of ITU-T H.273, table 2."""
_ADOBE: Chromaticities = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65)
_UNSPECIFIED = frozenset((0, 2, 3))
"""Reserved and unspecified numbers: treated as absent."""

_SRGB_CURVE, _PQ, _HLG = 13, 16, 18
_LIKE_SRGB = frozenset((1, 6, 7, 13, 14, 15))
"""Transfer characteristics that are read with sRGB's curve: stills marked as television are shown so everywhere."""
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
"""Transfer characteristics that are a power of the level (SMPTE 428 but for its factor, which is the white's)."""

_WHITE_NITS = 203.0
"""Luminance of a white sheet in pictures of high dynamic range (ITU-R BT.2408)."""
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
_KNEE = 0.6
"""Up to this share of white, light stays what it is; above, what is brighter than white is made room for."""
_STRIP_PIXELS = 2**20


class UnknownColoursError(ValueError):
    """A file states its colours in an unsupported way."""


@dataclass(frozen=True, slots=True)
class Colours:
    """What the levels of a picture mean."""

    primaries: Chromaticities
    transfer: int
    """Number of ITU-T H.273, table 3; 0 where ``gamma`` is it."""
    gamma: float = 0.0


def stated(data: bytes, form: str | None, *, icc: bytes | None, is_adobe_rgb: bool) -> Colours | None:
    """Return the colours that a file states and that its ICC profile does not; None where sRGB or the profile holds.

    Args:
        data: the file's bytes.
        form: Pillow's name of its format.
        icc: its ICC profile, if any.
        is_adobe_rgb: whether its EXIF says so.

    Raises:
        UnknownColoursError: the colours are stated, but not known here.
    """
    try:
        found = _found(data, form, icc)
    except (struct.error, IndexError):
        found = None
    if found is None and icc is None and is_adobe_rgb:
        found = Colours(_ADOBE, 0, 563 / 256)
    return None if found is None or (found.primaries == _SRGB and found.transfer == _SRGB_CURVE) else found


def _found(data: bytes, form: str | None, icc: bytes | None) -> Colours | None:
    in_profile = _of_profile(icc) if icc else None
    if in_profile is not None and in_profile[1] in (_PQ, _HLG):
        return _of_numbers(*in_profile)  # conversion by profile knows nothing of light above white
    if form == "PNG":
        return _of_png(data, has_profile=icc is not None)
    numbers = _of_boxes(data) if form in ("HEIF", "AVIF") else None
    # Beside a profile, the numbers only say how to undo YCbCr; unless they mean high dynamic range.
    return None if numbers is None or (icc and numbers[1] not in (_PQ, _HLG)) else _of_numbers(*numbers)


def _of_numbers(primaries: int, transfer: int) -> Colours:
    if primaries not in _PRIMARIES and primaries not in _UNSPECIFIED:
        raise UnknownColoursError(f"colour primaries {primaries}")
    known = transfer in _LIKE_SRGB or transfer in _GAMMAS or transfer in _UNSPECIFIED or transfer in (_PQ, _HLG)
    if not known:
        raise UnknownColoursError(f"transfer characteristics {transfer}")
    as_srgb = transfer in _LIKE_SRGB or transfer in _UNSPECIFIED
    return Colours(_PRIMARIES.get(primaries, _SRGB), _SRGB_CURVE if as_srgb else transfer)


# ------------------------------------------------------------------------------------------------------- where it says


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of a PNG's chunks, up to the end of the file or to what is not a chunk."""
    at = 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def _of_png(data: bytes, *, has_profile: bool) -> Colours | None:
    """Source: PNG, third edition, section 4.3: cICP before iCCP before sRGB before gAMA and cHRM."""
    chunks: dict[bytes, bytes] = {}
    for kind, content in png_chunks(data):
        if kind == b"IDAT":
            break
        chunks.setdefault(kind, content)
    if b"cICP" in chunks:
        return _of_numbers(chunks[b"cICP"][0], chunks[b"cICP"][1])
    if has_profile or b"sRGB" in chunks:
        return None
    primaries, gamma = _SRGB, 0.0
    if b"cHRM" in chunks:
        white_and_rgb = tuple(value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"]))
        said = (*white_and_rgb[2:], *white_and_rgb[:2])
        if all(0 < y <= 1 for y in said[1::2]) and max(abs(a - b) for a, b in zip(said, _SRGB, strict=True)) > 0.003:
            primaries = said
    if b"gAMA" in chunks:
        (stored,) = struct.unpack(">I", chunks[b"gAMA"])
        # What says 1/2.2 means sRGB; hardly any other value is meant by accident.
        if 10_000 <= stored <= 1_000_000 and abs(stored - 45_455) > 1_500:
            gamma = 100_000 / stored
    return Colours(primaries, 0, gamma) if gamma else Colours(primaries, _SRGB_CURVE)


def _of_profile(icc: bytes) -> tuple[int, int] | None:
    """Return primaries and transfer of a profile's cicp tag. Source: ICC.1:2022, sections 7.3 and 9.2.17."""
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        for number in range(min(count, 100)):
            kind, offset, _ = struct.unpack_from(">4sII", icc, 132 + 12 * number)
            if kind == b"cicp":
                return icc[offset + 8], icc[offset + 9]
    except (struct.error, IndexError):
        pass
    return None


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box. Source: ISO/IEC 14496-12, section 4.2."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = end if size == 0 else min(end, start + size)
        if stop < start + head:
            return
        yield kind, start + head, stop
        start = stop


def _of_boxes(data: bytes) -> tuple[int, int] | None:
    """Return primaries and transfer of the main picture. Source: ISO/IEC 23008-12, sections 6.5.5 and 9.3."""
    meta = next(((a, b) for kind, a, b in _boxes(data, 0, len(data)) if kind == b"meta"), None)
    if meta is None:
        return None
    inside = {kind: (a, b) for kind, a, b in _boxes(data, meta[0] + 4, meta[1])}
    if b"pitm" not in inside or b"iprp" not in inside:
        return None
    at = inside[b"pitm"][0]
    main = struct.unpack_from(">H" if data[at] == 0 else ">I", data, at + 4)[0]
    properties: list[tuple[bytes, int, int]] = []
    mine: list[int] = []
    for kind, a, b in _boxes(data, *inside[b"iprp"]):
        if kind == b"ipco":
            properties = list(_boxes(data, a, b))
        elif kind == b"ipma":
            mine += _associated(data, a, main)
    for number in mine:
        if 0 < number <= len(properties):
            kind, a, _ = properties[number - 1]
            if kind == b"colr" and data[a : a + 4] == b"nclx":
                return struct.unpack_from(">HH", data, a + 4)
    return None


def _associated(data: bytes, at: int, item: int) -> list[int]:
    """Return the numbers, from 1, of an item's properties in an ``ipma`` box."""
    version, is_wide = data[at], data[at + 3] & 1
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(entries, 100_000)):
        (this,) = struct.unpack_from(">H" if version == 0 else ">I", data, at)
        at += 2 if version == 0 else 4
        count = data[at]
        at += 1
        if this == item:
            numbers = struct.unpack_from(f">{count}{'H' if is_wide else 'B'}", data, at)
            return [number & (0x7FFF if is_wide else 0x7F) for number in numbers]
        at += count * (2 if is_wide else 1)
    return []


# ---------------------------------------------------------------------------------------------------------- conversion


def to_srgb(picture: Image.Image, colours: Colours) -> Image.Image:
    """Return a picture's colours in sRGB; what sRGB cannot hold becomes the nearest that it can, channel by channel.

    Light above white (PQ, HLG) is made room for with a soft shoulder, so that highlights keep their drawing and the
    rest keeps its brightness.

    Args:
        picture: RGB, 8 bits.
        colours: what its levels mean.
    """
    levels = np.asarray(picture)
    made = np.empty_like(levels)
    light = _light(colours)
    matrix = (np.linalg.inv(_to_xyz(_SRGB)) @ _adapted(colours.primaries)).astype(np.float32)
    rows = max(1, _STRIP_PIXELS // levels.shape[1])
    for top in range(0, len(levels), rows):  # in strips, because it needs a dozen floats per pixel
        linear = light[levels[top : top + rows]]
        if colours.transfer == _HLG:
            luminance = linear @ _to_xyz(colours.primaries)[1].astype(np.float32)
            linear *= np.power(luminance, _HLG_GAMMA - 1)[..., None] * np.float32(_HLG_PEAK_NITS / _WHITE_NITS)
        linear = np.maximum(linear @ matrix.T, 0)
        if colours.transfer in (_PQ, _HLG):
            linear = _below_white(linear)
        made[top : top + rows] = _encoded()[(np.minimum(linear, 1) * 65535 + 0.5).astype(np.uint16)]
    return Image.fromarray(made)


def _below_white(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring light of any strength below 1 by its brightest channel, so that its hue stays."""
    brightest = linear.max(axis=-1, keepdims=True)
    room = np.float32(1 - _KNEE)
    shoulder = _KNEE + room * (1 - np.exp(-np.maximum(brightest - _KNEE, 0) / room))
    return linear * np.where(brightest > _KNEE, shoulder / np.maximum(brightest, 1e-6), 1).astype(np.float32)


def _light(colours: Colours) -> NDArray[np.float32]:
    """Return the linear light of each of the 256 levels; 1 is white (HLG: of the scene, 1 is the peak)."""
    level = np.arange(256) / 255
    if colours.transfer == _PQ:  # SMPTE ST 2084, eq. 4.1
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = level ** (1 / m2)
        return (10_000 / _WHITE_NITS * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)).astype(np.float32)
    if colours.transfer == _HLG:  # ITU-R BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12).astype(np.float32)
    gamma = colours.gamma or _GAMMAS.get(colours.transfer, 0.0)
    if gamma:
        return (level**gamma).astype(np.float32)
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


@lru_cache(maxsize=1)
def _encoded() -> NDArray[np.uint8]:
    """Return sRGB's level for each 1/65535 of linear light."""
    linear = np.arange(65536) / 65535
    curve = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curve * 255).round().astype(np.uint8)


def _to_xyz(primaries: Chromaticities) -> NDArray[np.float64]:
    """Return the matrix from linear RGB to CIE XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(primaries[0:6:2], primaries[1:6:2], strict=True)]).T
    return columns * np.linalg.solve(columns, _white(primaries))


def _white(primaries: Chromaticities) -> NDArray[np.float64]:
    x, y = primaries[6:]
    return np.array([x / y, 1, (1 - x - y) / y])


def _adapted(primaries: Chromaticities) -> NDArray[np.float64]:
    """Return the matrix to XYZ with the white of sRGB; adaptation by Bradford's matrix."""
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    scale = (cone @ _white(_SRGB)) / (cone @ _white(primaries))
    return np.linalg.inv(cone) @ np.diag(scale) @ cone @ _to_xyz(primaries)
