"""Decoding in a process of its own: what a hostile or broken file does there ends with it, and is told in words.

``decode`` and ``decode_bytes`` are those of ``studio.imaging.decode``, and more: a file has a limited time and, on
Linux, limited memory; a decoder that crashes takes nothing with it, and finds no secrets; and a JPEG with a hole in it
is found. The process is started when it is first needed, serves one file after the other and ends with ours.
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from studio.core.errors import InputError, Problem
from studio.imaging.decode import MAX_BYTES, Decoded, display_name, read_photo

SECONDS_PER_FILE = 120.0
"""A photo that takes longer is given up; the largest that are allowed take five seconds, on a busy machine twenty."""

_LOCK = threading.Lock()
_helper: subprocess.Popen[bytes] | None = None
_owner_pid = 0


def decode(
    path: Path, *, at_least_px: int | None = None, max_bytes: int = MAX_BYTES, keep_alpha: bool = False
) -> Decoded:
    """Read a photo from disk; see ``studio.imaging.decode.decode``.

    Raises:
        InputError: with one problem that names the file.
    """
    data = read_photo(path, max_bytes)
    return decode_bytes(data, path.name, at_least_px=at_least_px, max_bytes=max_bytes, keep_alpha=keep_alpha)


def decode_bytes(
    data: bytes,
    name: str,
    *,
    at_least_px: int | None = None,
    max_bytes: int = MAX_BYTES,
    keep_alpha: bool = False,
) -> Decoded:
    """Decode a photo; see ``studio.imaging.decode.decode_bytes``.

    Raises:
        InputError: with one problem that names the file.
    """
    asked = {"name": name, "at_least_px": at_least_px, "max_bytes": max_bytes, "keep_alpha": keep_alpha}
    told, pixels = _answered({**asked, "bytes": len(data)}, data)
    if "problems" in told:
        raise InputError.of([Problem(**problem) for problem in told["problems"]])
    picture = Image.frombytes(told["mode"], tuple(told["size"]), pixels)
    height, width = told["size_hw"]
    return Decoded(picture, (height, width))


def made_record(data: bytes) -> dict[str, Any] | None:
    """Return what a file says of how ``generate`` made its picture; see ``studio.imaging.png.made_record``."""
    try:
        told, _ = _answered({"name": "", "record": True, "bytes": len(data)}, data)
    except InputError:  # what nobody can read says nothing
        return None
    record: dict[str, Any] | None = told["record"]
    return record


def is_generated(data: bytes) -> bool:
    """Tell whether a file says that its picture was generated; see ``studio.imaging.png.is_generated``."""
    try:
        told, _ = _answered({"name": "", "record": True, "bytes": len(data)}, data)
    except InputError:
        return False
    return bool(told["generated"])


def _answered(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the answer of the process; raises InputError where it does not answer."""
    message = "makes the decoder crash"
    with _LOCK:
        for _ in range(2):  # it may have died of something else, between two files
            helper = _running()
            timer = threading.Timer(SECONDS_PER_FILE, helper.kill)
            timer.start()
            try:
                return _exchange(helper, asked, data)
            except (OSError, ValueError, EOFError):
                is_late = not timer.is_alive()
                _end()
                if is_late:
                    message = "takes too long to decode"
                    break
            finally:
                timer.cancel()
    cure = "open it in another program and save it as a JPEG"
    raise InputError.of([Problem(display_name(asked["name"]), message, cure, "not_a_photo")])


def _exchange(helper: "subprocess.Popen[bytes]", asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    assert helper.stdin is not None and helper.stdout is not None
    helper.stdin.write(json.dumps(asked).encode() + b"\n")
    helper.stdin.write(data)
    helper.stdin.flush()
    told = json.loads(helper.stdout.readline())
    pixels = helper.stdout.read(told.get("bytes", 0))
    if len(pixels) != told.get("bytes", 0):
        raise EOFError
    return told, pixels


def _running() -> "subprocess.Popen[bytes]":
    """Return the process that decodes, started if it is not there; a fork of ours does not share it."""
    global _helper, _owner_pid
    if _owner_pid != os.getpid():
        _helper, _owner_pid = None, os.getpid()
    if _helper is None or _helper.poll() is not None:
        _end()
        atexit.unregister(_end)
        atexit.register(_end)
        _helper = subprocess.Popen(
            [sys.executable, "-m", "studio.imaging.apart_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                # Nothing else of ours: no token is near to where strangers' bytes are decoded.
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)]),
                # Each arena of glibc and each thread takes address space, which the limit counts.
                "MALLOC_ARENA_MAX": "2",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
    return _helper


def _end() -> None:
    global _helper
    helper, _helper = _helper, None
    if helper is None or _owner_pid != os.getpid():
        return
    helper.kill()
    for pipe in (helper.stdin, helper.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    helper.wait()
