"""Weights that a full disk keeps in the backup alone: a small hidden file in their place says what they are.

``studio.jobs.weights`` puts it there, deletes the weights, and brings them back; whoever looks whether a run has
weights, how large they are or what their digest is asks here and needs no backup for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.core.files import read_json, write_json

WEIGHTS_SUFFIX = ".safetensors"
"""What is large in a job's folder, and the only thing that is evicted."""

_PREFIX, _SUFFIX = ".", ".evicted"


@dataclass(frozen=True, slots=True)
class Evicted:
    """A file that lies in the backup alone."""

    bytes: int
    sha256: str
    """Hexadecimal."""


def evicted(path: Path) -> Evicted | None:
    """Return what a file is that was evicted; None of one that is here, and of one that never was."""
    return None if path.is_file() else _read(_mark_of(path))


def is_kept(path: Path) -> bool:
    """Tell whether a file is here or was evicted."""
    return path.is_file() or evicted(path) is not None


def evicted_below(folder: Path) -> Iterator[tuple[Path, Evicted]]:
    """Yield the places of all evicted files at any depth below a folder, and what they are, sorted."""
    for mark in sorted(folder.rglob(f"{_PREFIX}*{_SUFFIX}")):
        path = mark.with_name(mark.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
        facts = evicted(path)
        if facts is not None:
            yield path, facts


def mark(path: Path, facts: Evicted) -> None:
    """Say that a file may be deleted here; as long as it is here, it is not taken for evicted."""
    write_json(_mark_of(path), {"bytes": facts.bytes, "sha256": facts.sha256})


def unmark(path: Path) -> None:
    """Say that a file is here again."""
    _mark_of(path).unlink(missing_ok=True)


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{_PREFIX}{path.name}{_SUFFIX}")


def _read(path: Path) -> Evicted | None:
    found = read_json(path)
    if not isinstance(found, dict):
        return None
    try:
        return Evicted(int(found["bytes"]), str(found["sha256"]))
    except (KeyError, TypeError, ValueError):
        return None
