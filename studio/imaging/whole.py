"""Whether a file holds all of its picture: decoders fill what is missing with black or grey and say nothing.

Looked at before pixels are decoded: what a few bytes promise and do not hold is not worth the memory.
"""

import os
import re
import struct
import tempfile
import zlib

import numpy as np

from studio.imaging.colours import png_chunks

_CHUNK_BYTES = 2**20
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel of each of PNG's kinds of colour."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: left, top, step across, step down of each pass of an interlaced PNG."""
_PADDING_BYTES = 64
"""Cameras leave some bytes over at the end of a JPEG, which harms nobody."""


def png_is_whole(data: bytes) -> bool:
    """Return whether a PNG's rows are all there and undamaged; unpacks them piece by piece and keeps none.

    Source: PNG, third edition, sections 7.2, 8.1 and 10.1.
    """
    inflate = zlib.decompressobj()
    header, unpacked, is_ended = b"", 0, False
    try:
        for kind, content in png_chunks(data):
            if kind == b"IHDR":
                header = content
            elif kind == b"IDAT" and not inflate.eof:
                while content:
                    unpacked += len(inflate.decompress(content, _CHUNK_BYTES))
                    content = inflate.unconsumed_tail
            is_ended = is_ended or kind == b"IEND"
        wanted = _png_bytes(header)
    except (zlib.error, struct.error, KeyError):
        return False
    return is_ended and unpacked >= wanted


def _png_bytes(header: bytes) -> int:
    """Return how many bytes a PNG's rows have, one for the filter of each among them."""
    width, height, depth, colour, _, _, is_interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _SAMPLES[colour]
    if not is_interlaced:
        return int(height * (1 + (width * bits + 7) // 8))
    total = 0
    for left, top, across, down in _PASSES:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def jpeg_has_hole(data: bytes) -> bool:
    """Return whether libjpeg finds parts of a JPEG missing or destroyed.

    It only says so on standard error, so this belongs into a process of its own: for a moment, nothing else that is
    written there is seen.
    """
    import cv2

    kept = os.dup(2)
    with tempfile.TemporaryFile() as words:
        os.dup2(words.fileno(), 2)
        try:
            # At an eighth of the size: all of the file is read, and hardly any memory is needed.
            flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
            cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            return False  # Pillow decides about what OpenCV cannot read at all
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        words.seek(0)
        said = words.read().decode("utf-8", "replace")
    if over := re.search(r"(\d+) extraneous bytes", said):
        return int(over[1]) > _PADDING_BYTES
    return any(sign in said for sign in ("premature end", "bad Huffman code", "instead of RST"))
