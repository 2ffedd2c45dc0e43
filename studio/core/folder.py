"""Output folders: one rule for all verbs on who may write where, what is gone on with, and when it is finished.

A folder is claimed with the request that it is filled for, written into it as JSON before anything else. Called again
with the same request, a verb goes on in it; with another one it is refused, unless nothing was made yet. ``DONE`` is
written last, and only after everything else is on the disk.

What a desktop system leaves behind (``.DS_Store``, ``Thumbs.db``, ``desktop.ini``, ``._*``) is ignored: it does not
make a folder count as used, and it is never read as a photo, copied, zipped or published.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from studio.core.errors import ConflictError
from studio.core.files import read_json, sync_folder, sync_tree, write_bytes, write_json
from studio.core.strict import StrictModel

REQUEST_NAME = "request.json"
DONE_NAME = "DONE"

_CLUTTER = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_WORDS = {
    "config": "settings",
    "adapter_sha256": "weights",
    "backdrop_sha256": "backdrop",
}
"""Key of a request -> what people call it; other keys are called as they are."""


# --------------------------------------------------------------------------------------------------- what lies there


def is_clutter(path: PurePath | str) -> bool:
    """Return whether a file is one that desktop systems leave in folders that people look into."""
    name = PurePath(path).name
    return name.lower() in _CLUTTER or name.startswith("._")


def contents(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, without clutter and half-written files; empty if it is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not is_clutter(path) and not _is_leftover(path.name))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files at any depth below a folder, sorted, without clutter."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not is_clutter(path):
            yield path


def _is_leftover(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")  # what a kill leaves of a write, see core/files.py


# --------------------------------------------------------------------------------------------------- claim and finish


def require_free(out_dir: Path, *, but: Collection[str] = ()) -> None:
    """Refuse a folder that holds somebody's files.

    Args:
        out_dir: need not be there.
        but: names that may lie in it.

    Raises:
        ConflictError: it holds other files, or is no folder.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise ConflictError(f"{out_dir.name} is a file; choose a folder.")
    if any(path.name not in but for path in contents(out_dir)):
        raise ConflictError(f"{out_dir.name} holds other files; choose an empty folder.")


def look(
    out_dir: Path,
    request: Mapping[str, Any],
    *,
    what: str,
    config: StrictModel | None = None,
    without: Collection[str] = (),
    name: str = REQUEST_NAME,
    scratch: Collection[str] = (),
) -> dict[str, Any] | None:
    """Look whether a folder is free for a request, or was claimed with it before; change nothing.

    Args:
        out_dir: need not be there.
        request: plain JSON data: everything that decides what will be made, beside the settings.
        what: what the folder would hold, for the refusal: "a run", "pictures".
        config: the settings that decide it, too. A folder of an earlier version lacks those that were added since: it
            was made with what is now their default.
        without: names of settings that decide nothing.
        name: of the file that holds the request.
        scratch: names of files that are worth nothing by themselves.

    Returns:
        The request as it was written, with keys that were added since; None if the folder is free.

    Raises:
        ConflictError: it holds what was made of another request, or other files.
    """
    known = read_json(out_dir / name)
    if not isinstance(known, dict) or known.get("verb") != request.get("verb"):
        require_free(out_dir, but={name, *scratch})
        return None
    asked = json.loads(json.dumps(_whole(request, config, without)))  # as it comes back from the file: lists for tuples
    before = known if config is None else {**known, "config": _as_now(known.get("config"), config, without)}
    others = [key for key, value in asked.items() if before.get(key) != value]
    if not others:
        return known
    if all(path.name in {name, *scratch} for path in contents(out_dir)):
        return None  # it was claimed, and nothing was made
    words = " and ".join(dict.fromkeys(_WORDS.get(key, key) for key in others))
    raise ConflictError(f"{out_dir.name} holds {what} made with other {words}; choose another folder.")


def _whole(request: Mapping[str, Any], config: StrictModel | None, without: Collection[str]) -> dict[str, Any]:
    return {**request} if config is None else {**request, "config": config.model_dump(mode="json", exclude={*without})}


def _as_now(settings: Any, config: StrictModel, without: Collection[str]) -> Any:
    """Return settings that an earlier version wrote as this one writes them; unchanged if it cannot read them."""
    try:
        return type(config).model_validate(settings).model_dump(mode="json", exclude={*without})
    except ValidationError:
        return settings


def claim(
    out_dir: Path,
    request: Mapping[str, Any],
    *,
    what: str,
    config: StrictModel | None = None,
    without: Collection[str] = (),
    scratch: Collection[str] = (),
) -> bool:
    """Claim a folder for a request, making it if it is not there; the arguments are those of ``look``.

    Returns:
        True if it was claimed with this request before, so that what is there may be gone on with.

    Raises:
        ConflictError: as ``look``.
    """
    before = look(out_dir, request, what=what, config=config, without=without, scratch=scratch)
    if before is None:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_json(out_dir / REQUEST_NAME, _whole(request, config, without), sort_keys=True)
    return before is not None


def is_finished(out_dir: Path) -> bool:
    """Return whether a verb has come to its end in this folder."""
    return (out_dir / DONE_NAME).is_file()


def finish(out_dir: Path) -> None:
    """Flush everything in the folder, then write DONE: a power cut leaves no DONE without what it stands for."""
    sync_tree(out_dir)
    write_bytes(out_dir / DONE_NAME, b"")


def reopen(out_dir: Path) -> None:
    """Take DONE back: something that it stands for has gone."""
    (out_dir / DONE_NAME).unlink(missing_ok=True)


def swap(part: Path, out_dir: Path) -> None:
    """Put a complete folder in the place of another one, which goes.

    Args:
        part: the new folder, on the same disk.
        out_dir: need not be there.
    """
    old = out_dir.with_name(f".{out_dir.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out_dir.exists():
        os.replace(out_dir, old)
    os.replace(part, out_dir)
    sync_folder(out_dir.parent)
    shutil.rmtree(old, ignore_errors=True)
