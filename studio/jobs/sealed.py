"""Tokens of waiting jobs, secrets of webhooks and links of requests, sealed: who reads the table alone reads none.

With ``STUDIO_SECRETS_KEY`` the token that a job was submitted with outlives a restart, and any server with that key
runs the job. Without a key tokens stay in the memory of the server that took them, and secrets of webhooks lie in the
table as they are.

Source: Fernet (AES-128-CBC with HMAC-SHA256), https://github.com/fernet/spec/blob/master/Spec.md.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from studio.core.settings import Settings
from studio.jobs.queue import JobQueue

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


_SEALED = "gAAAA"
"""How whatever is sealed begins: version 0x80, and a time before the year 2106."""


class Tokens:
    """Tokens of jobs that have not ended, by job id: in memory, and in the table where a key seals them."""

    def __init__(self, store: JobQueue, settings: Settings) -> None:
        """Hold none yet; those in the table are read when their jobs run."""
        self._store = store
        self._keys = settings.secrets_key.get_secret_value() if settings.secrets_key else None
        self._known: dict[str, str] = {}

    def take(self, job_id: str, token: str) -> str | None:
        """Remember the token of a new job; return it as it is stored with it, None without a key."""
        self._known[job_id] = token
        return seal(self._keys, job_id, token) if self._keys and token else None

    def of(self, job_id: str) -> str | None:
        """Return the token of a job; None if there is none, it was lost, or it was sealed with another key."""
        if job_id not in self._known and self._keys and (sealed := self._store.sealed_of(job_id)):
            return opened(self._keys, job_id, sealed)
        return self._known.get(job_id)

    def give(self, job_id: str, token: str) -> None:
        """Give a job that is retried a token, unless it has one still."""
        if not self.of(job_id) and (sealed := self.take(job_id, token)):
            self._store.keep_sealed(job_id, sealed)

    def drop(self, job_id: str) -> None:
        """Forget the token of a job that has ended, or was not taken; in the table it goes with the job's end."""
        self._known.pop(job_id, None)


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals what lies in the table for long, and opens it; without keys it lies there as it is.

    Args:
        keys: ``STUDIO_SECRETS_KEY``; None seals nothing.
    """

    keys: str | None = field(default=None, repr=False)

    def shut(self, whose: str, secret: str) -> str:
        """Return a secret as it is stored; ``whose`` names the row, and it opens for no other."""
        return seal(self.keys, whose, secret) if self.keys else secret

    def open(self, whose: str, stored: str) -> str | None:
        """Return a stored secret, also one from before there was a key; None if no key of today opens it."""
        if not stored.startswith(_SEALED):
            return stored
        return opened(self.keys, whose, stored) if self.keys else None

    def is_plain(self, stored: str | None) -> bool:
        """Tell whether something is stored that could be sealed now."""
        return self.keys is not None and stored is not None and not stored.startswith(_SEALED)


def seal(keys: str, job_id: str, token: str) -> str:
    """Return a token as it may lie in the table.

    Args:
        keys: separated by commas; the first one seals.
        job_id: of the job, or the name of the row, that it belongs to: sealed in, so that it opens for no other.
        token: what is kept secret.
    """
    return _box(keys).encrypt(json.dumps([job_id, token]).encode()).decode()


def opened(keys: str, job_id: str, sealed: str) -> str | None:
    """Return a token that was sealed for this job with one of the keys; None if it was not."""
    from cryptography.fernet import InvalidToken

    try:
        of_job, token = json.loads(_box(keys).decrypt(sealed.encode()))
    except InvalidToken:
        return None
    return str(token) if of_job == job_id else None


@cache
def _box(keys: str) -> "MultiFernet":
    from cryptography.fernet import Fernet, MultiFernet  # only where a key is set

    # Keys are long and random, so a plain digest gives each the length that Fernet asks for.
    digests = [hashlib.sha256(key.strip().encode()).digest() for key in keys.split(",")]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
