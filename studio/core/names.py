"""Names that people type: of packs, presets, chains and bases. Wrong ones are told at once, with the nearest right one.

Ground level: nothing heavier than the catalog, so that a mistyped name costs a second and not a start of torch.
"""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from studio.core.catalog import BASES
from studio.core.errors import InputError, NotFoundError, Problem

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""owner/name."""
WEIGHT_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""Endings of files that hold a base."""
CIVITAI = "civitai:"
"""What the name of a base on Civitai begins with."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a mistyped one is most like; None if it is like none of them."""
    by_small = {row.casefold(): row for row in known}
    found = get_close_matches(name.casefold(), by_small, 1)
    return by_small[found[0]] if found else None


def choice_cure(name: str, known: Iterable[str]) -> str:
    """Return what to do about an unknown name: "did you mean 'pets'? Otherwise use one of: business, pets"."""
    rows = tuple(known)
    near = nearest(name, rows)
    listed = f"use one of: {', '.join(rows) or '(none)'}"
    return listed if near is None else f"did you mean {near!r}? Otherwise {listed}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> NotFoundError:
    """Return the error for a name that nothing has; ``what`` is the kind of thing and the setting's name."""
    problem = Problem(what, f"{name!r} is not there", choice_cure(name, known), "unknown_name")
    return NotFoundError(f"{what} {problem.message}; {problem.cure}.", [problem])


def require_base(base: str) -> None:
    """Refuse what cannot be the name of a base; whether the Hub or Civitai has it is asked when it is loaded.

    Looks for files of this machine, so only its owner may name the base.

    Raises:
        NotFoundError: neither in the catalog, nor here, nor of the form of a name elsewhere.
    """
    path = Path(base).expanduser()
    is_elsewhere = base.startswith(CIVITAI) or HUB_NAME.fullmatch(base)
    if base in BASES or is_elsewhere or path.exists() or path.suffix.lower() in WEIGHT_FILES:
        return
    raise no_such_base(base)


def no_such_base(base: str) -> NotFoundError:
    """Return the error for a base that nobody can find by this name."""
    message = (
        f"{base!r} is neither in the catalog, nor a folder or .safetensors file, nor a Hub id (owner/name), "
        "nor civitai:MODEL@VERSION"
    )
    problem = Problem("base", message, choice_cure(base, BASES), "unknown_name")
    return NotFoundError(f"base {message}; {problem.cure}.", [problem])


def all_of(*steps: Callable[[], Any]) -> list[Any]:
    """Return what every step returns; if some refuse, tell all of their problems at once.

    Raises:
        InputError: at least one step raised InputError or NotFoundError.
    """
    answers: list[Any] = []
    refused: list[InputError | NotFoundError] = []
    for step in steps:
        try:
            answers.append(step())
        except (InputError, NotFoundError) as error:
            refused.append(error)
    if refused:
        once = {str(error): error for error in refused}  # two steps may have met the same fault
        raise InputError("\n".join(once), [problem for error in once.values() for problem in error.problems])
    return answers
