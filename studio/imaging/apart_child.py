"""The process that ``studio.imaging.apart`` decodes in: requests on standard input, pixels on standard output.

A request is a line of JSON, then the file's bytes; an answer is a line of JSON, then RGB or RGBA levels, if it has any.
"""

import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image

from studio.core.errors import InputError, Problem
from studio.imaging import sniff
from studio.imaging.decode import MAX_BYTES, MAX_DECODING_BYTES, damaged, decode_bytes, display_name
from studio.imaging.png import is_generated, made_record
from studio.imaging.whole import jpeg_has_hole

_THREADS = 4


def main() -> None:
    """Decode one file after the other until standard input ends."""
    # Who asked decides when to end: a request to stop goes to the whole group, and standard input ends with its server.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders may print
    Image.init()  # all decoders, before the limit counts
    AvifImagePlugin.DEFAULT_MAX_THREADS = _THREADS  # else one thread, with a stack of its own, per core
    _limit_memory()
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        data = sys.stdin.buffer.read(asked.pop("bytes"))
        if asked.pop("record", False):
            _tell(answers, {"record": made_record(data), "generated": is_generated(data)})
        else:
            _answer(answers, data, asked)


def _answer(answers: BinaryIO, data: bytes, asked: dict[str, Any]) -> None:
    told: dict[str, Any]
    pixels = b""
    try:
        if data.startswith(sniff.JPEG) and len(data) <= asked["max_bytes"] and jpeg_has_hole(data):
            raise damaged(asked["name"])
        decoded = decode_bytes(data, **asked)
        pixels = decoded.picture.tobytes()
        told = {"mode": decoded.picture.mode, "size": decoded.picture.size, "size_hw": decoded.size_hw}
    except InputError as error:
        told = {"problems": [asdict(problem) for problem in error.problems]}
    except MemoryError:
        problem = Problem(display_name(asked["name"]), "needs too much memory", "scale it down", "too_large")
        told = {"problems": [asdict(problem)]}
    _tell(answers, told, pixels)


def _tell(answers: BinaryIO, told: dict[str, Any], pixels: bytes = b"") -> None:
    answers.write(json.dumps({**told, "bytes": len(pixels)}).encode() + b"\n")
    answers.write(pixels)
    answers.flush()


def _limit_memory() -> None:
    """Let this process have no more address space than one file may take, where the system keeps such a limit."""
    if sys.platform != "linux":  # macOS ignores it, Windows has none: there, the budget before decoding must do
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        # The file, its copy in Pillow, the pixels on their way out; decoders start threads with a stack each.
        most = pages * os.sysconf("SC_PAGE_SIZE") + int(1.5 * MAX_DECODING_BYTES) + 4 * MAX_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
