"""PNG files that say how they were made: text chunks, written at once and whole.

Beside the mark of generated pictures (``provenance``) two chunks: ``parameters``, the lines that the common viewers of
generated pictures show, and ``likeness_studio``, the same and more as JSON for programs. Called by ``studio.infer``.
"""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from studio.core.files import replacing
from studio.imaging.provenance import is_marked, save_picture

JSON_KEY = "likeness_studio"
PARAMETERS_KEY = "parameters"
LIKENESS_KEY = "likeness"
"""In the record: engine, version and value. It is no part of how the picture was made."""
_LIKENESS_TEXT = ", Likeness: "


def parameters_text(
    *,
    prompt: str,
    negative_prompt: str,
    seed: int,
    num_inference_steps: int,
    guidance_scale: float,
    sampler: str,
    size_hw: tuple[int, int],
    model: str,
    adapter_sha256: str | None,
    version: str,
) -> str:
    """Return the ``parameters`` chunk: prompt, negative prompt, then one line of ``Key: value`` pairs.

    Args:
        prompt: as the base read it.
        negative_prompt: empty if there is none.
        seed: of this picture.
        num_inference_steps: denoising steps.
        guidance_scale: as the pipeline got it.
        sampler: the scheduler's name.
        size_hw: height and width, pixels; written as WxH.
        model: the base's name.
        adapter_sha256: hexadecimal; None for a picture of the untrained base.
        version: the studio's.
    """
    lines = [prompt]
    if negative_prompt:
        lines.append(f"Negative prompt: {negative_prompt}")
    pairs = [
        f"Steps: {num_inference_steps}",
        f"Sampler: {sampler}",
        f"CFG scale: {guidance_scale:g}",
        f"Seed: {seed}",
        f"Size: {size_hw[1]}x{size_hw[0]}",
        f"Model: {model}",
    ]
    if adapter_sha256:
        pairs.append(f'Lora hashes: "adapter: {adapter_sha256[:12]}"')
    pairs.append(f"Version: Likeness Studio {version}")
    return "\n".join([*lines, ", ".join(pairs)])


def write_png(
    path: Path,
    picture: Image.Image,
    *,
    parameters: str,
    record: Mapping[str, Any],
    likeness: Mapping[str, Any] | None = None,
) -> None:
    """Write a picture with both chunks under a temporary name and rename it.

    Args:
        path: the file; its folder must exist.
        picture: RGB.
        parameters: see :func:`parameters_text`.
        record: JSON data for the ``likeness_studio`` chunk.
        likeness: how much it shows the subject, for both chunks: engine, version and value (None: not measured).
    """
    info = PngInfo()
    info.add_text(PARAMETERS_KEY, parameters + _likeness_text(likeness))
    info.add_text(JSON_KEY, json.dumps({**record, LIKENESS_KEY: likeness} if likeness else record, sort_keys=True))
    # Not flushed: there may be hundreds, and one that a power cut has torn is refused by ``read_png`` and made again.
    with replacing(path, durable=False) as part:
        save_picture(picture, part, "PNG", pnginfo=info)


def _likeness_text(likeness: Mapping[str, Any] | None) -> str:
    if likeness is None:
        return ""
    value = "not measured" if likeness["value"] is None else f"{likeness['value']:g}"
    return f"{_LIKENESS_TEXT}{value}, Likeness engine: {likeness['engine']} {likeness['version']}"


def score_again(path: Path, likeness: Mapping[str, Any] | None) -> None:
    """Put another likeness into a picture that :func:`write_png` wrote; as it was but for that.

    Args:
        path: the file.
        likeness: as :func:`write_png` takes it; None takes the likeness out.
    """
    with Image.open(path, formats=["PNG"]) as file:
        picture = file.convert("RGB")
        record, text = json.loads(file.info[JSON_KEY]), str(file.info.get(PARAMETERS_KEY, ""))
    if record.pop(LIKENESS_KEY, None) is not None:
        text = text.rpartition(_LIKENESS_TEXT)[0]
    write_png(path, picture, parameters=text, record=record, likeness=likeness)


def read_png(path: Path) -> tuple[Image.Image, dict[str, Any]] | None:
    """Return a picture that :func:`write_png` wrote, in RGB, and its record; None if it is not there or not whole.

    The likeness stands in the record as ``LIKENESS_KEY`` where one was written.
    """
    try:
        with Image.open(path, formats=["PNG"]) as file:
            picture = file.convert("RGB")
            record = json.loads(file.info[JSON_KEY])
    except (OSError, UnidentifiedImageError, KeyError, ValueError, SyntaxError):
        return None
    return (picture, record) if isinstance(record, dict) else None


def made_record(data: bytes) -> dict[str, Any] | None:
    """Return what a file says of how ``generate`` made its picture; None of any other picture.

    Args:
        data: a PNG that ``generate`` wrote, or a PNG, JPEG or WebP that ``finish`` made of one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only the header is read
            file = Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
        with file:
            text = file.info.get(JSON_KEY) or file.getexif().get(ExifTags.Base.ImageDescription)
            record = json.loads(text) if isinstance(text, str) else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    record = record.get("made", record) if isinstance(record, dict) else None
    return record if isinstance(record, dict) and isinstance(record.get("prompt"), str) else None


def is_generated(data: bytes) -> bool:
    """Tell whether a file says that its picture was generated, as those of earlier versions do by their record only."""
    return is_marked(data) or made_record(data) is not None
