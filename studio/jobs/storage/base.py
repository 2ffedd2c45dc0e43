"""What may be asked of a storage; ``folder`` and ``cloud`` answer it, and one test suite holds both to it.

An object is whole or not there, and what was put is read back and compared before ``put`` returns. Nobody appends to
one, and ``create`` makes that of several writers exactly one wins.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from studio.core.errors import ConflictError, NotFoundError, ResourceError

Method = Literal["GET", "PUT"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,7}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class DamagedObjectError(ResourceError):
    """What the storage gives back is not what was put there."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it lies in a storage."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Link:
    """An address that whoever knows it may use for one object until it expires."""

    method: Method
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """To be sent with the request."""


class Storage(Protocol):
    """Whole objects by name.

    Every call raises ResourceError when the storage cannot be read or written; names that ``require_name`` refuses are
    bugs of the caller.
    """

    def put(self, name: str, data: Path | bytes, *, create: bool = False) -> Stored:
        """Store an object, the content of a file or some bytes.

        Args:
            name: of the object.
            data: its content.
            create: only if there is none of this name yet.

        Raises:
            ConflictError: there is one, and ``create`` forbids to replace it.
            DamagedObjectError: it arrived as something else.
        """

    def get(self, name: str, path: Path, *, sha256: str | None = None) -> None:
        """Bring an object's content into a file, whole or not at all.

        Args:
            name: of the object.
            path: the file; its folder must exist.
            sha256: what the content must be.

        Raises:
            NotFoundError: there is no such object. DamagedObjectError: it is not ``sha256``.
        """

    def read(self, name: str) -> bytes:
        """Return the content of a small object; raises NotFoundError."""

    def digest(self, name: str) -> str:
        """Return the SHA-256 of what the storage gives back; raises NotFoundError."""

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes; None if there is none."""

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects below a prefix, which ends where a part of a name ends; sorted."""

    def delete(self, name: str) -> None:
        """Delete an object; one that is gone is no error."""

    def link(self, method: Method, name: str, *, expires_s: float, max_bytes: int) -> Link:
        """Return an address for one object.

        Args:
            method: GET to fetch it, PUT to bring it.
            name: of the object.
            expires_s: how long it is good for, in seconds.
            max_bytes: most that may be brought, where the storage can hold anybody to that; a bucket cannot, so look
                at ``size`` before an object is used.
        """


def require_name(name: str) -> str:
    """Return a name that every storage can hold; raises ValueError for any other."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an object")
    return name


def sha256_of_chunks(chunks: Iterable[bytes]) -> str:
    """Return the SHA-256 of what comes in pieces."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def missing(name: str) -> NotFoundError:
    """Return the error for an object that is not there."""
    return NotFoundError(f"the storage has no object {name}.")


def taken(name: str) -> ConflictError:
    """Return the error for an object that is there already."""
    return ConflictError(f"the storage has an object {name} already.")


def damaged(name: str) -> DamagedObjectError:
    """Return the error for an object with another content than was put there."""
    return DamagedObjectError(f"the object {name} came back from the storage as something else; it is sent again.")
