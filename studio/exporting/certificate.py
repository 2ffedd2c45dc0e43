"""The certificate of an export: it was read back in a fresh process by plain diffusers, and it draws the same pictures.

``studio.exporting.reload`` is that process. This side hands it a request, compares its pictures with the trained
pipeline's and writes down what was found; whoever exports refuses to finish without a good one.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from studio.bases.tensorfile import read_header
from studio.core.domain import ShouldStop, never_stop
from studio.core.errors import TrainingError
from studio.core.files import write_json
from studio.core.progress import GO_ON, check_stop

CERTIFICATE_NAME = "certificate.json"

Loader = Literal["lora", "pipeline", "single_file", "dora_scale"]
"""How the file is read back: by diffusers' reader of its kind, or, a DoRA in kohya's layout, by ComfyUI's formula."""

_POLL_S = 0.5
_FLOAT32_MAX = 3
"""Largest difference of any pixel value in [0, 255] where both sides compute in float32: rounding, and no more."""
_HALF_MEAN = 6.0
"""Largest mean difference where either side computes or was stored in 16 bits; a wrong alpha costs far more."""
_ERROR_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class TrialPicture:
    """One picture that both sides draw for the comparison."""

    prompt: str
    seed: int
    size_hw: tuple[int, int]
    num_inference_steps: int
    guidance_scale: float


@dataclass(frozen=True, slots=True)
class ExportToVerify:
    """An export to read back, and how to load it."""

    loader: Loader
    path: Path
    """The file, or the folder of a pipeline."""
    base: Path
    """The base's folder; for a single file the folder with its configuration."""
    pipeline: str
    """Class name in diffusers."""
    guidance: str
    """The pipeline's argument for the guidance."""
    dtype: torch.dtype
    device: torch.device
    exact: bool
    """Whether everything is stored and computed in float32."""
    embeds: Path | None = None
    """File of the instance token's embedding, where the token was trained."""
    token: str | None = None
    denoiser: str = ""
    """Name of the quantised component in the pipeline."""
    quantization: Mapping[str, Any] = field(default_factory=dict)
    """diffusers' ``BitsAndBytesConfig`` of the denoiser that the adapter was trained on; empty: it was whole."""


def certify(
    export: ExportToVerify,
    shots: Sequence[TrialPicture],
    wanted: Sequence[Image.Image],
    *,
    without_adapter: Sequence[Image.Image] = (),
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> dict[str, Any]:
    """Read an export back in a fresh process and compare.

    Args:
        export: what was written.
        shots: pictures to draw; may be empty, then only the tensors are compared.
        wanted: the trained pipeline's pictures, one per shot.
        without_adapter: the untrained base's pictures: how much a missing adapter would show.
        threads: CPU threads of the process; None leaves torch's own choice.
        should_stop: asked twice a second while the process works.

    Returns:
        The certificate, plain JSON data.

    Raises:
        TrainingError: the file does not load, not every tensor arrived, or the pictures differ.
        JobCancelled: ``should_stop`` answered True.
    """
    # Beside the export, not where the system keeps such things: what a kill leaves of pictures is deleted with the job.
    with tempfile.TemporaryDirectory(dir=export.path.parent, prefix=".certificate-", suffix=".part") as scratch:
        found, pictures = _reloaded(export, shots, threads, should_stop, Path(scratch))
    differences = [_difference(*pair) for pair in zip(wanted, pictures, strict=True)]
    effects = [_difference(*pair) for pair in zip(wanted, without_adapter, strict=False)]
    certificate = {
        "version": 1,
        "loader": export.loader,
        "pipeline": export.pipeline,
        "dtype": str(export.dtype).removeprefix("torch."),
        **found,
        "pictures": len(pictures),
        "difference_max": max((int(difference.max()) for difference in differences), default=None),
        "difference_mean": _mean(differences),
        "adapter_effect_mean": _mean(effects),
        "tolerance": {"max": _FLOAT32_MAX} if export.exact else {"mean": _HALF_MEAN},
    }
    _require_good(certificate, export)
    return certificate


def is_lora(path: Path) -> bool:
    """Return True if the file holds LoRA layers and nothing else: what ``load_lora_weights`` reads back."""
    return path.is_file() and all("lora_" in name for name in read_header(path, "adapter").shapes)


def write_certificate(folder: Path, certificate: Mapping[str, Any]) -> None:
    """Write ``certificate.json`` under a temporary name and rename it."""
    write_json(folder / CERTIFICATE_NAME, certificate)


def _reloaded(
    export: ExportToVerify, shots: Sequence[TrialPicture], threads: int | None, should_stop: ShouldStop, scratch: Path
) -> tuple[dict[str, Any], list[Image.Image]]:
    files = [scratch / f"{number:02}.png" for number in range(len(shots))]
    request = {
        "loader": export.loader,
        "path": str(export.path.absolute()),
        "base": str(export.base.absolute()),
        "pipeline": export.pipeline,
        "guidance": export.guidance,
        "dtype": str(export.dtype).removeprefix("torch."),
        "device": str(export.device),
        "embeds": str(export.embeds.absolute()) if export.embeds else None,
        "token": export.token,
        "denoiser": export.denoiser,
        "quantization": dict(export.quantization),
        "threads": threads,
        "shots": [{**asdict(shot), "file": str(file)} for shot, file in zip(shots, files, strict=True)],
        "result": str(scratch / "result.json"),
    }
    (scratch / "request.json").write_text(json.dumps(request), encoding="utf-8")
    program = Path(__file__).with_name("reload.py")
    # -P: without it the studio's own folder would be searched first, where a settings.py lies.
    command = [sys.executable, "-P", str(program), str(scratch / "request.json")]
    status, errors = _run(command, scratch / "errors.txt", should_stop)
    if status != 0:
        said = (errors.strip().splitlines() or [f"exit status {status}"])[-1][-_ERROR_CHARACTERS:]
        raise TrainingError(f"Plain diffusers cannot load {export.path.name}: {said}")
    pictures = []
    for file in files:
        with Image.open(file) as picture:
            pictures.append(picture.convert("RGB"))
    return json.loads((scratch / "result.json").read_text(encoding="utf-8")), pictures


def _run(command: Sequence[str], errors: Path, should_stop: ShouldStop) -> tuple[int, str]:
    """Run a program to its end; return its exit status and what it wrote to standard error."""
    with errors.open("wb") as file, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file) as process:
        try:
            while True:
                try:
                    status = process.wait(_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    check_stop(should_stop, GO_ON, "while reading the file back")
        except BaseException:
            process.kill()
            raise
    return status, errors.read_text(encoding="utf-8", errors="replace")


def _difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    """Return the absolute difference of two pictures, ``(H, W, 3)``, values in [0, 255]."""
    if one.size != other.size:
        return np.full((1, 1, 3), 255)
    return np.abs(np.asarray(one.convert("RGB"), dtype=int) - np.asarray(other.convert("RGB"), dtype=int))


def _mean(differences: Sequence[np.ndarray]) -> float | None:
    return round(float(np.mean([difference.mean() for difference in differences])), 4) if differences else None


def _require_good(certificate: Mapping[str, Any], export: ExportToVerify) -> None:
    faults = []
    if certificate["unexpected"] or certificate["missing"]:
        lost = ", ".join(certificate["unexpected"][:3])
        faults.append(
            f"{certificate['tensors_matched']} of {certificate['tensors_in_file']} tensors were loaded"
            f"{f' (not {lost} ...)' if lost else ''}, {certificate['missing']} pipeline tensors are not from the file"
        )
    if certificate["tensors_in_file"] == 0:
        faults.append("the file contains no tensors")
    worst, mean = certificate["difference_max"], certificate["difference_mean"]
    if worst is not None and (worst > _FLOAT32_MAX if export.exact else mean > _HALF_MEAN):
        faults.append(f"its pictures differ from the trained model's by up to {worst} of 255, {mean} on average")
    if faults:
        raise TrainingError(
            f"{export.path.name} was written, but loaded by plain diffusers it is not the trained model: "
            f"{'; '.join(faults)}. This is a bug; please report it with the output of `doctor`."
        )
