"""The storage that needs nothing: objects are files below a folder of this machine, or of a disk that servers share.

Links lead to the server's own address ``/objects`` (``studio.web.machines``) and are signed by ``links``.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from studio.core.errors import ResourceError
from studio.core.files import full_disk_in_words, is_disk_full, replacing, sha256_of, sync_file, sync_folder
from studio.core.private import make_folder
from studio.jobs.storage.base import Link, Method, Storage, Stored, damaged, missing, require_name, taken
from studio.jobs.storage.links import LinkSigner

_PART = ".part-"
_PART_LIFE_S = 24 * 3600.0
"""After that nobody brings the rest of an upload any more."""
_CHUNK_BYTES = 2**20


class FolderStorage(Storage):
    """Objects as files.

    Args:
        root: folder of the objects, made when the first one comes.
        signer: makes the links.
    """

    def __init__(self, root: Path, signer: LinkSigner) -> None:
        self._root = root
        self.signer = signer

    def put(self, name: str, data: Path | bytes, *, create: bool = False) -> Stored:
        """Store an object, and read it back before it gets its name."""
        with self.incoming(name, create=create) as part:
            digest, size = hashlib.sha256(), 0
            with part.open("wb") as target:
                for chunk in _chunks(data):
                    digest.update(chunk)
                    size += target.write(chunk)
            stored = Stored(name, size, digest.hexdigest())
            if sha256_of(part) != stored.sha256:
                raise damaged(name)
        return stored

    @contextlib.contextmanager
    def incoming(self, name: str, *, create: bool = False) -> Iterator[Path]:
        """Yield a file to write to, which becomes the object when nothing was raised.

        Raises:
            ConflictError: the object is there, and ``create`` forbids to replace it. ResourceError: the disk is full.
        """
        path = self._path(name)
        part = path.with_name(f"{_PART}{secrets.token_hex(8)}")
        with _in_words():
            make_folder(path.parent)
            try:
                yield part
                sync_file(part)
                if create:
                    try:
                        os.link(part, path)  # of several at once exactly one gets the name
                    except FileExistsError:
                        raise taken(name) from None
                else:
                    os.replace(part, path)
                sync_folder(path.parent)
            finally:
                part.unlink(missing_ok=True)

    def get(self, name: str, path: Path, *, sha256: str | None = None) -> None:
        """Bring an object's content into a file."""
        with _in_words(), replacing(path, shared=True) as part:
            shutil.copyfile(self.path_of(name), part)
            if sha256 is not None and sha256_of(part) != sha256:
                raise damaged(name)

    def read(self, name: str) -> bytes:
        """Return the content of a small object."""
        with _in_words():
            return self.path_of(name).read_bytes()

    def digest(self, name: str) -> str:
        """Return the SHA-256 of what the disk gives back."""
        with _in_words():
            return sha256_of(self.path_of(name))

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes."""
        with _in_words():
            try:
                return self._path(name).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects below a prefix; parts of uploads that nobody ends are deleted."""
        found = []
        with _in_words():
            for folder, _, files in os.walk(self._path(prefix)):
                for file in files:
                    path = Path(folder, file)
                    if not file.startswith("."):
                        found.append(path.relative_to(self._root).as_posix())
                    elif file.startswith(_PART):
                        with contextlib.suppress(FileNotFoundError):
                            if time.time() - path.stat().st_mtime > _PART_LIFE_S:
                                path.unlink()
        return sorted(found)

    def delete(self, name: str) -> None:
        """Delete an object, and folders that are empty without it."""
        path = self._path(name)
        with _in_words():
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._root:
                    break
                try:
                    folder.rmdir()
                except OSError:  # something else lies in it
                    break

    def link(self, method: Method, name: str, *, expires_s: float, max_bytes: int) -> Link:
        """Return an address of this server for one object."""
        url = self.signer.link(method, require_name(name), expires_s=expires_s, max_bytes=max_bytes)
        return Link(method, url)

    def path_of(self, name: str) -> Path:
        """Return the file of an object, to be served; raises NotFoundError."""
        path = self._path(name)
        if not path.is_file():
            raise missing(name)
        return path

    def _path(self, name: str) -> Path:
        return self._root.joinpath(*require_name(name).split("/"))


def _chunks(data: Path | bytes) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    with full_disk_in_words():
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise
            raise ResourceError(f"the storage's folder cannot be used ({error.strerror}).") from error
