"""The adapter folder: what ``train`` hands to ``generate``.

``pytorch_lora_weights.safetensors`` (diffusers' own name) or, of a full fine-tuning, ``full_weights.safetensors``;
optional ``learned_embeds.safetensors`` (the instance token's embedding, ``{token: (D,) or (n, D)}``) and
``adapter.json``, an :class:`AdapterInfo`. ``studio.train`` writes it, ``studio.infer`` reads it. Ground level: no
torch, so that the edges can show an adapter, too.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from studio.core import records
from studio.core.errors import NotFoundError
from studio.core.evicted import evicted, is_kept
from studio.core.files import sha256_of

INFO_NAME = "adapter.json"
WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
FULL_NAME = "full_weights.safetensors"
EMBEDS_NAME = "learned_embeds.safetensors"


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What generation has to know of a trained adapter."""

    base: str
    """Base that it was trained on: a name from the catalog, a local folder, or a Hub id."""
    revision: str | None
    """Exact revision of a base from the Hub; None for local bases."""
    family: str
    subject: str
    class_noun: str
    instance_token: str
    resolution_px: int
    """Side of a square of the same area as the training pictures."""
    guidance_scale: float
    num_inference_steps: int
    likeness_engine: str | None
    """The engine that made ``centroid``; None if none could."""
    centroid: tuple[float, ...] | None
    """Normalised mean embedding of the photos, ``(D,)``."""
    step: int
    """Training step of these weights."""
    version: int = 1
    likeness_version: str | None = None
    """Version of the engine that made ``centroid``; None in files of earlier versions, which no engine measures."""


def write_info(folder: Path, info: AdapterInfo) -> None:
    """Write ``adapter.json``."""
    records.write(folder / INFO_NAME, info)


def read_info(folder: Path) -> AdapterInfo:
    """Read ``adapter.json``.

    Raises:
        NotFoundError: the folder holds no adapter.
        InputError: the file is damaged or of another version.
    """
    path = folder / INFO_NAME
    if not path.is_file():
        raise NotFoundError(f"{folder.name}: there is no trained adapter; finish the training first.")
    return records.read(AdapterInfo, path, cure="train again", code="bad_adapter")


def checkpoint_steps(run_dir: Path) -> list[int]:
    """Return the steps whose adapters a run still holds, ascending."""
    return sorted(
        int(path.name)
        for path in (run_dir / "checkpoints").glob("*")
        if path.name.isdecimal() and _weights_folder(path) is not None
    )


def adapter_folder(run_dir: Path, checkpoint: int | None = None) -> Path:
    """Return the folder that holds a run's adapter weights.

    Args:
        run_dir: what ``train`` wrote.
        checkpoint: step of the checkpoint; None takes the best one, ``run_dir/adapter``.

    Raises:
        NotFoundError: the run is not finished, or has no such checkpoint (those that are there are listed), or its
            weights lie in the backup alone.
    """
    if checkpoint is None:
        folder = run_dir / "adapter"
        if not _holds_weights(folder):
            raise NotFoundError(f"{run_dir.name}: there is no trained adapter; finish the training first.")
        return _with_weights(folder, run_dir)
    for path in (run_dir / "checkpoints").glob("*"):
        if path.name.isdecimal() and int(path.name) == checkpoint:
            folder_or_none = _weights_folder(path)
            if folder_or_none is not None:
                return _with_weights(folder_or_none, run_dir)
    known = ", ".join(map(str, checkpoint_steps(run_dir))) or "(none)"
    raise NotFoundError(f"checkpoint {checkpoint} is not there; use one of: {known}.")


def _weights_folder(checkpoint_dir: Path) -> Path | None:
    for folder in (checkpoint_dir / "adapter", checkpoint_dir):
        if _holds_weights(folder):
            return folder
    return None


def _holds_weights(folder: Path) -> bool:
    return any(is_kept(folder / name) for name in (WEIGHTS_NAME, FULL_NAME))


def _with_weights(folder: Path, run_dir: Path) -> Path:
    """Return the folder; the verb that reads it has no backup, whoever calls it has."""
    if any(evicted(folder / name) for name in (WEIGHTS_NAME, FULL_NAME, EMBEDS_NAME)):
        job = run_dir.absolute().parent.name
        raise NotFoundError(
            f"the weights of this run lie in the backup alone; `python -m studio jobs fetch {job}` brings them back."
        )
    return folder


def adapter_sha256(folder: Path) -> str:
    """Return one SHA-256 over the adapter's weight files, hexadecimal."""
    digest = hashlib.sha256()
    for name in (WEIGHTS_NAME, FULL_NAME, EMBEDS_NAME):
        path = folder / name
        away = evicted(path)
        if away is not None or path.is_file():
            digest.update(name.encode())
            digest.update(bytes.fromhex(sha256_of(path) if away is None else away.sha256))
    return digest.hexdigest()
