"""The storage in a bucket: S3 and what speaks like it, Google Cloud Storage, Azure; by address, with obstore.

Keys come from the variables that each cloud's own tools read (``AWS_ACCESS_KEY_ID`` and its kind, or the machine's
role); no job's process gets them, and no other machine: those get links for single objects.
"""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from studio.core.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.core.files import full_disk_in_words, replacing, sha256_of
from studio.jobs.storage.base import (
    Link,
    Method,
    Storage,
    Stored,
    damaged,
    missing,
    require_name,
    sha256_of_chunks,
    taken,
)

KINDS = ("s3", "gs", "az", "azure", "abfs", "abfss", "memory")
"""How addresses begin; ``memory`` is for tests."""
_RETRY_S = 60.0


class CloudStorage(Storage):
    """Objects of a bucket.

    Args:
        url: of the bucket and of a folder in it: ``s3://BUCKET/FOLDER``.

    Raises:
        InputError: the address cannot be used. MissingExtraError: obstore is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore import exceptions
            from obstore.store import from_url
        except ImportError:
            raise MissingExtraError(
                "STUDIO_STORAGE_URL names a bucket, which needs the Python package obstore; install the extra storage."
            ) from None
        self._obstore = obstore
        self._errors = exceptions
        self._is_azure = url.startswith(("az", "abfs"))
        try:
            self._store: Any = from_url(url, retry_config={"retry_timeout": timedelta(seconds=_RETRY_S)})
        except Exception as error:  # each cloud has its own for an address that it does not understand
            cure = "begin it with s3://, gs:// or az:// and a bucket, and set the variables of that cloud"
            message = f"cannot be used ({type(error).__name__})"  # its text may hold a key
            raise InputError.of([Problem("STUDIO_STORAGE_URL", message, cure, "storage_url")]) from None

    def put(self, name: str, data: Path | bytes, *, create: bool = False) -> Stored:
        """Store an object, and read it back."""
        require_name(name)
        if isinstance(data, bytes):
            sent = Stored(name, len(data), sha256_of_chunks([data]))
        else:
            sent = Stored(name, data.stat().st_size, sha256_of(data))
        with self._in_words(name):
            if create:  # in several parts nobody can ask for that
                self._obstore.put(self._store, name, data, mode="create", use_multipart=False)
            else:
                self._obstore.put(self._store, name, data)
        if self.size(name) != sent.bytes or self.digest(name) != sent.sha256:
            raise damaged(name)
        return sent

    def get(self, name: str, path: Path, *, sha256: str | None = None) -> None:
        """Bring an object's content into a file."""
        with self._in_words(name), full_disk_in_words(), replacing(path, shared=True) as part:
            with part.open("wb") as target:
                for chunk in self._chunks(name):
                    target.write(chunk)
            if sha256 is not None and sha256_of(part) != sha256:
                raise damaged(name)

    def read(self, name: str) -> bytes:
        """Return the content of a small object."""
        with self._in_words(name):
            return b"".join(self._chunks(name))

    def digest(self, name: str) -> str:
        """Return the SHA-256 of what the bucket gives back."""
        with self._in_words(name):
            return sha256_of_chunks(self._chunks(name))

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes."""
        require_name(name)
        with self._in_words(name):
            try:
                return int(self._obstore.head(self._store, name)["size"])
            except (FileNotFoundError, self._errors.NotFoundError):
                return None

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects below a prefix."""
        require_name(prefix)
        with self._in_words(prefix):
            found = [row["path"] for rows in self._obstore.list(self._store, prefix) for row in rows]
        return sorted(name for name in found if name.startswith(f"{prefix}/"))

    def delete(self, name: str) -> None:
        """Delete an object."""
        require_name(name)
        with self._in_words(name), contextlib.suppress(FileNotFoundError, self._errors.NotFoundError):
            self._obstore.delete(self._store, name)

    def link(self, method: Method, name: str, *, expires_s: float, max_bytes: int) -> Link:
        """Return an address of the bucket for one object; it cannot hold anybody to a size."""
        require_name(name)
        with self._in_words(name):
            url = self._obstore.sign(self._store, method, name, timedelta(seconds=expires_s))
        headers = {"x-ms-blob-type": "BlockBlob"} if self._is_azure and method == "PUT" else {}
        return Link(method, str(url), headers)

    def _chunks(self, name: str) -> Iterator[bytes]:
        for chunk in self._obstore.get(self._store, require_name(name)).stream():
            yield bytes(chunk)

    @contextlib.contextmanager
    def _in_words(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, self._errors.NotFoundError):
            raise missing(name) from None
        except (FileExistsError, self._errors.AlreadyExistsError):
            raise taken(name) from None
        except self._errors.BaseError as error:
            # Its own text holds addresses with signatures.
            raise ResourceError(f"the storage cannot be used now ({type(error).__name__}).") from None
