"""Tokens of waiting jobs, sealed for the table: whoever reads the database alone reads none of them.

With ``STUDIO_SECRETS_KEY`` the token that a job was submitted with outlives a restart, and any server with that key
runs the job. Without a key tokens stay in the memory of the server that took them.

Source: Fernet (AES-128-CBC with HMAC-SHA256), https://github.com/fernet/spec/blob/master/Spec.md.
"""

import base64
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING

from studio.core.settings import Settings
from studio.jobs.queue import JobQueue

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


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


def seal(keys: str, job_id: str, token: str) -> str:
    """Return a token as it may lie in the table.

    Args:
        keys: separated by commas; the first one seals.
        job_id: of the job that it belongs to: sealed in, so that it opens for no other.
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
