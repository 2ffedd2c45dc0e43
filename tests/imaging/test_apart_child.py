import io
import sys

import numpy as np
import psutil
import pytest
from PIL import Image, ImageFilter

from studio.imaging import apart
from studio.imaging.decode import MAX_BYTES, MAX_DECODING_BYTES

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


def test_process_gets_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    helper().kill()
    said = helper().environ()
    assert "PYTHONPATH" in said and "hf_planted" not in str(said)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such a limit")
def test_memory_of_the_process_is_limited() -> None:
    process = helper()
    soft, _ = process.rlimit(psutil.RLIMIT_AS)
    room = soft - process.memory_info().vms
    assert MAX_DECODING_BYTES < room < 2 * MAX_DECODING_BYTES + 4 * MAX_BYTES
