"""Eight digits that stand for a training run wherever a model is named, beside its long id.

The code is computed from the id: it is known as soon as the run is submitted, is the same after a restart, a restore
from the backup or a copy to another machine, and nothing has to be kept, migrated or forgotten for it. Among ten
thousand runs of one owner the odds are even that some two share a code; it then names neither, and the answer says
both ids. A code is looked up among the owner's own runs only, so that to guess one opens nothing.
"""

import hashlib
import re
from collections.abc import Iterable

from studio.core.errors import ConflictError, NotFoundError

_CODE = re.compile(r"[1-9]\d{7}", re.ASCII)
_FIRST, _COUNT = 10_000_000, 90_000_000


def code_of(run: str) -> str:
    """Return the code of the training run with this id."""
    return str(_FIRST + int.from_bytes(hashlib.sha256(run.encode()).digest()[:8]) % _COUNT)


def is_code(handle: str) -> bool:
    """Tell whether this is written like a code; ids of jobs never are."""
    return _CODE.fullmatch(handle) is not None


def found(code: str, runs: Iterable[str]) -> str:
    """Return the one id among ``runs`` that has the code.

    Raises:
        NotFoundError: none has it. ConflictError: several have it; they are named.
    """
    fits = [run for run in runs if code_of(run) == code]
    if not fits:
        raise NotFoundError(f"there is no adapter with the code {code!r}.")
    if len(fits) > 1:
        raise ConflictError(f"the code {code} stands for {len(fits)} runs; use the id of one: {', '.join(fits)}.")
    return fits[0]
