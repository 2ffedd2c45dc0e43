"""The run folder's memory: checkpoints that survive kill -9, scores, and a metrics log without repetitions.

A checkpoint is ``checkpoints/<step>/`` with the adapter as plain diffusers loads it, ``resume.safetensors`` (trainable
tensors and optimizer state), ``state.json``, and last ``DONE`` with the SHA-256 of every file. It is written under a
temporary name, flushed and renamed, so a folder without a valid DONE is never taken up. Old checkpoints lose only
``resume.safetensors``: every adapter stays for the choice of the best. Called by ``studio.train``.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from studio.bases.tensorfile import write_safetensors
from studio.core.files import sha256_of, sync_folder, write_json, write_text
from studio.core.folder import is_clutter

DONE_NAME = "DONE"
RESUME_NAME = "resume.safetensors"
STATE_NAME = "state.json"
METRICS_NAME = "metrics.jsonl"
_SCORES_NAME = "scores.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run goes on from."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save(
    run_dir: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    write_adapter: Callable[[Path], None],
) -> None:
    """Write the checkpoint of ``step``; replaces a damaged one.

    Args:
        run_dir: the run folder.
        step: optimizer steps done.
        tensors: everything that the next step depends on, on the CPU.
        state: the rest, JSON.
        write_adapter: writes the adapter's files into the folder that it is given.
    """
    folder = folder_of(run_dir, step)
    part = folder.with_name(f".{step}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        write_adapter(part)
        write_safetensors(part / RESUME_NAME, tensors, {"format": "pt"})
        write_json(part / STATE_NAME, {**state, "step": step})
        digests = {path.name: sha256_of(path) for path in sorted(part.iterdir())}
        write_json(part / DONE_NAME, digests)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)  # a full disk has no room for what is left of it
        raise
    sync_folder(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(part, folder)
    sync_folder(folder.parent)


def newest(run_dir: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; None if there is none."""
    for step in sorted(_steps(run_dir), reverse=True):
        folder = folder_of(run_dir, step)
        if (folder / RESUME_NAME).is_file() and is_whole(folder):
            state = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
            return Checkpoint(step, load_file(folder / RESUME_NAME), state)
    return None


def is_whole(folder: Path) -> bool:
    """Return True if every file that DONE lists is there unchanged; a pruned ``resume.safetensors`` may be missing."""
    try:
        digests = json.loads((folder / DONE_NAME).read_text(encoding="utf-8"))
        return all(
            sha256_of(folder / name) == digest
            for name, digest in digests.items()
            if name != RESUME_NAME or (folder / name).exists()
        )
    except (OSError, ValueError, AttributeError):
        return False


def prune(run_dir: Path, keep: int, due: Iterable[int]) -> None:
    """Take ``resume.safetensors`` out of all but the newest ``keep`` checkpoints; drop old ones that were never due.

    Args:
        run_dir: the run folder.
        keep: resume checkpoints that stay, >= 2, so that a damaged newest one still leaves one.
        due: steps whose adapters may become the best; others come from a cancelled run.
    """
    old = sorted(step for step in _steps(run_dir) if (folder_of(run_dir, step) / RESUME_NAME).exists())[:-keep]
    for step in old:
        if step in due:
            (folder_of(run_dir, step) / RESUME_NAME).unlink()
        else:
            shutil.rmtree(folder_of(run_dir, step))


def folder_of(run_dir: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return run_dir / "checkpoints" / str(step)


def adapter_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint that are the adapter."""
    own = {DONE_NAME, RESUME_NAME, STATE_NAME}
    return sorted(path for path in folder.iterdir() if path.name not in own and not is_clutter(path))


def write_scores(run_dir: Path, step: int, scores: Mapping[str, Any]) -> None:
    """Write what was measured at ``step``; its presence says that sampling at that step is done."""
    folder = run_dir / "samples" / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _SCORES_NAME, scores)


def read_scores(run_dir: Path, last_step: int) -> dict[int, dict[str, Any]]:
    """Return the scores by step, ascending, up to ``last_step``."""
    found = {}
    for path in (run_dir / "samples").glob(f"*/{_SCORES_NAME}"):
        if path.parent.name.isdecimal() and int(path.parent.name) <= last_step:
            found[int(path.parent.name)] = json.loads(path.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def metrics_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sampled checkpoint's line of ``metrics.jsonl``; what was not measured is left out."""
    names = ("step", "val_loss", "likeness", "bleed", "likeness_summary")
    return {name: row[name] for name in names if row.get(name) is not None}


def replace_metrics(run_dir: Path, row: Mapping[str, Any]) -> None:
    """Put a checkpoint's new scores where ``metrics.jsonl`` holds its old ones."""
    path = run_dir / METRICS_NAME
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        old = json.loads(line)
        lines.append(json.dumps(metrics_of(row)) if old["step"] == row["step"] and "val_loss" in old else line)
    write_text(path, "".join(f"{line}\n" for line in lines))


def rewind_metrics(run_dir: Path, step: int, *, scored: bool) -> None:
    """Cut ``metrics.jsonl`` back to ``step``, so that what is done again does not appear twice.

    Args:
        run_dir: the run folder.
        step: the step that the run goes on from.
        scored: whether that step's own samples are done; if not, their line goes too.
    """
    path = run_dir / METRICS_NAME
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the line that the kill cut in half
        if row["step"] < step or (row["step"] == step and (scored or "loss" in row)):
            kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))


def read_losses(run_dir: Path) -> list[float]:
    """Return the loss of every step so far."""
    path = run_dir / METRICS_NAME
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [row["loss"] for row in rows if "loss" in row]


def _steps(run_dir: Path) -> list[int]:
    return [int(path.name) for path in (run_dir / "checkpoints").glob("*") if path.name.isdecimal()]
