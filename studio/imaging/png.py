"""PNG files that say how they were made: text chunks, written at once and whole.

Two chunks: ``parameters``, the lines that the common viewers of generated pictures show, and ``likeness_studio``,
the same and more as JSON for programs. Called by ``studio.infer``.
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

JSON_KEY = "likeness_studio"
PARAMETERS_KEY = "parameters"


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


def write_png(path: Path, picture: Image.Image, *, parameters: str, record: Mapping[str, Any]) -> None:
    """Write a picture with both chunks under a temporary name and rename it.

    Args:
        path: the file; its folder must exist.
        picture: RGB.
        parameters: see :func:`parameters_text`.
        record: JSON data for the ``likeness_studio`` chunk.
    """
    info = PngInfo()
    info.add_text(PARAMETERS_KEY, parameters)
    info.add_text(JSON_KEY, json.dumps(record, sort_keys=True))
    # Not flushed: there may be hundreds, and one that a power cut has torn is refused by ``read_png`` and made again.
    with replacing(path, durable=False) as part:
        picture.save(part, format="PNG", pnginfo=info)


def read_png(path: Path) -> tuple[Image.Image, dict[str, Any]] | None:
    """Return a picture that :func:`write_png` wrote, in RGB, and its record; None if it is not there or not whole."""
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
