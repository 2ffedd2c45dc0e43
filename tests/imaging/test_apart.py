"""Decoding in a process of its own: the same pictures and problems, and an end to what takes too long or crashes."""

import ast
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, ImageFilter

from studio.core.errors import InputError
from studio.imaging import apart
from studio.imaging.decode import decode_bytes as decode_here
from studio.imaging.png import write_png

SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)).filter(
    ImageFilter.GaussianBlur(2)
)


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    SCENE.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def helper() -> psutil.Process:
    apart.decode_bytes(jpeg(), "a.jpg")
    (found,) = [one for one in psutil.Process().children() if "studio.imaging.apart_child" in one.cmdline()]
    return found


@pytest.fixture
def stopped() -> Iterator[psutil.Process]:
    """The process, unable to go on."""
    process = helper()
    process.suspend()
    yield process


def problem_of(data: bytes) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        apart.decode_bytes(data, "IMG_1.jpg")
    (problem,) = caught.value.problems
    assert problem.where == "IMG_1.jpg" and problem.cure
    return problem.code, problem.message


def test_pictures_and_problems_are_those_of_this_process(tmp_path: Path) -> None:
    clear = io.BytesIO()
    SCENE.convert("L").convert("RGBA").save(clear, "PNG")
    half = Image.open(io.BytesIO(clear.getvalue()))
    half.putalpha(Image.linear_gradient("L").resize(half.size))
    half.save(clear := io.BytesIO(), "PNG")
    for data, options in ((jpeg(), {}), (jpeg(), {"at_least_px": 100}), (clear.getvalue(), {"keep_alpha": True})):
        there, here = apart.decode_bytes(data, "a", **options), decode_here(data, "a", **options)
        assert (there.picture.mode, there.size_hw) == (here.picture.mode, here.size_hw)
        assert there.picture.tobytes() == here.picture.tobytes()
    assert problem_of(b"") == ("not_a_photo", "is empty")
    assert problem_of(b"Dear diary")[1] == "is a text file, not a photo"
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert apart.decode(tmp_path / "a.jpg").size_hw == (480, 640)
    with pytest.raises(InputError, match="cannot be read"):
        apart.decode(tmp_path / "gone.jpg")


def test_file_that_takes_too_long_is_given_up_and_the_next_one_is_read(
    stopped: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "SECONDS_PER_FILE", 0.3)
    assert problem_of(jpeg()) == ("not_a_photo", "takes too long to decode")
    assert not stopped.is_running()
    monkeypatch.undo()
    assert apart.decode_bytes(jpeg(), "a.jpg").size_hw == (480, 640)


def test_decoder_that_crashes_takes_one_file_with_it_and_not_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    started = apart.subprocess.Popen
    crash = [sys.executable, "-c", "import os, sys; sys.stdin.buffer.read(1); os.abort()"]
    with monkeypatch.context() as patched:
        helper().kill()
        patched.setattr(apart.subprocess, "Popen", lambda _, **options: started(crash, **options))
        assert problem_of(jpeg()) == ("not_a_photo", "makes the decoder crash")
    assert apart.decode_bytes(jpeg(), "a.jpg").size_hw == (480, 640)


def test_process_that_died_between_two_files_costs_none_of_them(stopped: psutil.Process) -> None:
    death = threading.Timer(0.3, stopped.kill)
    death.start()
    assert apart.decode_bytes(jpeg(), "a.jpg").size_hw == (480, 640)


def test_request_to_stop_that_goes_to_all_processes_leaves_the_file_to_its_job() -> None:
    process = helper()
    process.terminate()
    assert apart.decode_bytes(jpeg(), "a.jpg").size_hw == (480, 640)
    assert process.is_running()


ROOT = Path(__file__).resolve().parents[2]
DECODERS = {"decode", "decode_bytes", "made_record", "is_marked", "is_generated"}
DECODES_ITSELF = {
    "imaging/decode.py": "is what the process runs",
    "imaging/png.py": "is what the process runs; the other function there reads the studio's own files",
    "imaging/provenance.py": "is what the process runs",
    "training/photos.py": "PNG files that check wrote",
    "training/evaluate.py": "samples of the run itself",
    "train.py": "samples of the run itself",
    "pictures/picture_cache.py": "PNG files of the result cache",
    "exporting/certificate.py": "pictures that the process beside it drew",
    "postprocess.py": "previews that finish wrote",
    "remote/shrink.py": "crops that check wrote, and what it packed itself",
    "cli/demo.py": "pictures of the demo itself",
    "doctor.py": "pictures that it encodes itself",
}
"""Files of studio/ that decode pictures in their own process, and whose pictures those are."""


def test_no_foreign_picture_is_decoded_outside_of_the_process() -> None:
    opens, imports = set(), set()
    for path in sorted((ROOT / "studio").rglob("*.py")):
        name = path.relative_to(ROOT / "studio").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "cv2.imread", "load_image"):
                opens.add(name)
            if isinstance(node, ast.ImportFrom) and node.module in (
                "studio.imaging.decode",
                "studio.imaging.png",
                "studio.imaging.provenance",
            ):
                taken = {alias.name for alias in node.names} & DECODERS
                imports |= {name} if taken else set()
    assert {name for name in opens if not name.startswith("pocket/")} == set(DECODES_ITSELF)
    assert imports == {"imaging/apart_child.py", "imaging/png.py"}


def test_what_a_file_says_of_itself_is_read_there_too(tmp_path: Path) -> None:
    record = {"prompt": "photo of sks woman", "seed": 1}
    write_png(tmp_path / "1.png", SCENE, parameters="", record=record)
    assert apart.made_record((tmp_path / "1.png").read_bytes()) == record
    assert apart.made_record(jpeg()) is None and apart.made_record(b"no picture") is None
    assert apart.is_generated((tmp_path / "1.png").read_bytes())
    assert not apart.is_generated(jpeg()) and not apart.is_generated(b"no picture")


@pytest.mark.usefixtures("stopped")
def test_a_file_that_takes_too_long_says_nothing_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS_PER_FILE", 0.5)
    assert apart.made_record(jpeg()) is None
