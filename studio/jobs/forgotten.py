"""What is being forgotten and what was: one file for each call of ``forget``, in the folder ``forget`` of the home.

Until everything is gone the file is an intent, which the next start finishes; from then on it is the receipt. It holds
random ids, digests and numbers: nothing that names a photo, a subject or an owner. Its owner may read it. What it lists
is never brought back from a backup. Written by ``forget``; ``backup`` reads it.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from studio.core import records
from studio.core.files import read_json
from studio.core.private import make_folder
from studio.core.receipts import Receipt, Share
from studio.core.server_token import kept_secret

FOLDER_NAME = "forget"
SECRET_FILE = "receipts-secret"
"""In the home: what owners are known by in receipts is made with it. Without it nobody can read earlier ones."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One call of ``forget``."""

    id: str
    jobs: tuple[str, ...]
    """All jobs that go."""
    shares: tuple[Share, ...]
    """What each place held before the first of it was deleted."""
    asked_s: float
    forgotten_s: float | None = None
    """When everything was gone; None while this is an intent."""
    adapters: tuple[str, ...] = ()
    """SHA-256 of the adapters whose pictures go from the result cache; of an intent only."""
    repos: tuple[str, ...] = ()
    """Digests of the repositories whose downloaded adapters go; of an intent only."""
    owner: str = ""
    """Digest of the owner, by which their folders are called; of an intent only."""
    whole: bool = False
    """Whether everything of the owner goes; of an intent only."""
    is_machines: bool = False
    """Whether the owner is the machine's, whose commands leave logs; of an intent only."""
    reader: str = ""
    """By what the owner is known who may read it (``reader_of``); empty of earlier versions."""
    kept_days: float | None = None
    """The days after which it was deleted; None if somebody asked for it."""
    version: int = 1


def reader_of(home: Path, owner: str) -> str:
    """Return by what an owner is known in receipts: who has the receipts, but not the home's secret, learns no names.

    Raises:
        OSError: the home cannot be written or read.
    """
    return hmac.new(kept_secret(home, SECRET_FILE).encode(), owner.encode(), hashlib.sha256).hexdigest()[:32]


def read_by(home: Path, owner: str) -> list[Receipt]:
    """Return the receipts of an owner, and what is still being deleted for them, the newest first; raises OSError."""
    reader = reader_of(home, owner)
    mine = sorted((one for one in all_of(home) if one.reader == reader), key=lambda one: -one.asked_s)
    return [
        Receipt(
            one.id,
            one.jobs,
            one.shares,
            sum(share.files for share in one.shares),
            sum(share.bytes for share in one.shares),
            one.asked_s,
            one.forgotten_s,
            kept_days=one.kept_days,
        )
        for one in mine
    ]


def new_id() -> str:
    """Return the name of a new file."""
    return secrets.token_hex(8)


def write(home: Path, forgetting: Forgetting) -> None:
    """Put it safely on the disk; raises OSError."""
    make_folder(home / FOLDER_NAME)
    records.write(home / FOLDER_NAME / f"{forgetting.id}.json", forgetting)


def close(home: Path, forgetting: Forgetting, forgotten_s: float) -> None:
    """Turn an intent into the receipt that stays."""
    receipt = replace(
        forgetting, forgotten_s=forgotten_s, adapters=(), repos=(), owner="", whole=False, is_machines=False
    )
    write(home, receipt)


def all_of(home: Path) -> Iterator[Forgetting]:
    """Yield all intents and receipts, in no order; a file that is none is left out."""
    for path in sorted((home / FOLDER_NAME).glob("*.json")):
        data = read_json(path)
        if isinstance(data, dict):
            try:
                yield records.from_dict(Forgetting, data)
            except ValueError:
                continue


def open_ones(home: Path) -> list[Forgetting]:
    """Return the intents that are not finished, the oldest first."""
    return sorted((one for one in all_of(home) if one.forgotten_s is None), key=lambda one: one.asked_s)


def owners(home: Path) -> frozenset[str]:
    """Return the digests of owners of whom everything is being forgotten."""
    return frozenset(one.owner for one in open_ones(home) if one.whole)


def ids(home: Path) -> frozenset[str]:
    """Return the ids of all jobs that are or will be forgotten."""
    return frozenset(job_id for one in all_of(home) for job_id in one.jobs)
