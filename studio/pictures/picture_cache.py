"""The result cache: a picture that was made before with exactly the same inputs is not made again.

The key is a digest of everything that decides a picture's bytes: base, adapter and its strength, prompt, negative
prompt, seed, settings, shape, and what computes it; before it stands the digest of the adapter, so that what an adapter
has drawn can be forgotten with it. Values are PNG files without a word about the user. On the local disk with a byte
budget (the least recently used goes first), or in Redis, single or cluster, by URL. A cache never fails a run: where it
cannot be reached, pictures are made as if there were none. Called by ``studio.infer``; ``studio.service`` forgets.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from studio.core.errors import MissingExtraError
from studio.core.files import sha256_of, write_bytes
from studio.core.private import make_folder
from studio.core.settings import Settings

FOLDER_NAME = "pictures"
_FACTS = "facts"
_READ_IN_FULL_BYTES = 256 * 2**20
_ROOM = 0.9
"""Share of the budget that an eviction leaves in use, so that not every new picture evicts."""
_OLD_FOLDER = 2
"""Letters in the names of the folders that earlier versions made: two of a picture's digest, none of its adapter."""
_KEPT_S = 30 * 24 * 3600
_ANSWER_S = 5.0


class PictureCache(Protocol):
    """What a store of pictures can do; both may raise OSError."""

    def get(self, key: str) -> bytes | None:
        """Return the value, or None."""

    def put(self, key: str, value: bytes) -> None:
        """Keep the value; a later one with the same key is the same."""

    def forget(self, adapters: Collection[str], *, dry_run: bool = False) -> tuple[int, int]:
        """Delete what these adapters have drawn, by their SHA-256; return how many files and bytes that are.

        Pictures that an earlier version kept go, too, whatever drew them: their keys do not tell.
        """

    def clear(self, *, dry_run: bool = False) -> tuple[int, int]:
        """Delete all pictures; return how many files and bytes that are."""

    def close(self) -> None:
        """Give connections back."""


def forget(settings: Settings, adapters: Collection[str], *, dry_run: bool = False) -> tuple[int, int]:
    """Delete what adapters have drawn from the cache that the settings name; see ``PictureCache.forget``.

    Raises:
        OSError: the cache cannot be reached. MissingExtraError: as ``open_cache``.
    """
    cache = open_cache(settings)
    if cache is None:
        return 0, 0
    try:
        return cache.forget(adapters, dry_run=dry_run)
    finally:
        cache.close()


def clear(settings: Settings, *, dry_run: bool = False) -> tuple[int, int]:
    """Delete all pictures of the cache that the settings name, or only count them; see ``PictureCache.clear``.

    Raises:
        OSError: the cache cannot be reached. MissingExtraError: as ``open_cache``.
    """
    cache = open_cache(settings)
    if cache is None:
        return 0, 0
    try:
        return cache.clear(dry_run=dry_run)
    finally:
        cache.close()


def open_cache(settings: Settings) -> PictureCache | None:
    """Return the cache that the settings name; None where it is switched off.

    Raises:
        MissingExtraError: Redis is named and its client is not installed.
    """
    where = settings.results_cache
    if where == "off":
        return None
    if where == "disk":
        return DiskCache(settings.home.expanduser() / "cache" / FOLDER_NAME, settings.results_max_bytes)
    return RedisCache(where)


def key_of(adapter: str, facts: Mapping[str, Any]) -> str:
    """Return the key of a picture: the SHA-256 of its adapter, and the digest of everything that decides it."""
    return f"{adapter}/{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}"


def folder_digest(folder: Path) -> str:
    """Return what a local base is known by: the bytes of its files, or of a large one names, sizes and times."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    stats = [path.stat() for path in paths]
    digest = hashlib.sha256()
    in_full = sum(stat.st_size for stat in stats) <= _READ_IN_FULL_BYTES
    for path, stat in zip(paths, stats, strict=True):
        digest.update(f"{path.relative_to(folder)}\0{stat.st_size}\0".encode())
        if in_full:
            digest.update(bytes.fromhex(sha256_of(path)))
        else:
            digest.update(str(stat.st_mtime_ns).encode())
    return digest.hexdigest()


def packed(picture: Image.Image, facts: Mapping[str, Any]) -> bytes:
    """Return an RGB picture and a few JSON facts about it as a PNG file, without loss."""
    info = PngInfo()
    info.add_text(_FACTS, json.dumps(facts, sort_keys=True))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def unpacked(value: bytes, size_hw: tuple[int, int]) -> tuple[Image.Image, dict[str, Any]] | None:
    """Return the picture and its facts; None if the value is damaged or of another size."""
    try:
        with Image.open(io.BytesIO(value), formats=["PNG"]) as file:
            if (file.height, file.width) != size_hw:  # before anything is decoded
                return None
            picture = file.convert("RGB")
            facts = json.loads(file.info[_FACTS])
    except (OSError, UnidentifiedImageError, KeyError, ValueError, SyntaxError):
        return None
    return (picture, facts) if isinstance(facts, dict) else None


class DiskCache:
    """Files below a folder, evicted by their time of last use.

    Not ``studio.bases.cache``: that pins and locks entries of gigabytes; these are read in one go. Not diskcache, which
    reads pickles.

    Args:
        folder: created when something is first put into it.
        max_bytes: what all files may take together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._taken_bytes: int | None = None

    def get(self, key: str) -> bytes | None:
        """See ``PictureCache.get``."""
        path = self._path(key)
        try:
            value = path.read_bytes()
        except FileNotFoundError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> None:
        """See ``PictureCache.put``."""
        if len(value) > self._max_bytes:
            return
        path = self._path(key)
        if not path.is_file():
            make_folder(path.parent)
            # The last of several writers stays, and all write the same. Not flushed: there may be thousands, and one
            # that a power cut has torn is refused by ``unpacked`` and made again.
            write_bytes(path, value, durable=False, shared=True)
            if self._taken_bytes is not None:
                self._taken_bytes += len(value)
        if self._taken_bytes is None or self._taken_bytes > self._max_bytes:
            self._evict()

    def forget(self, adapters: Collection[str], *, dry_run: bool = False) -> tuple[int, int]:
        """See ``PictureCache.forget``."""
        files = taken = 0
        for folder in list(self._folder.iterdir()) if self._folder.is_dir() else []:
            if folder.is_dir() and (folder.name in adapters or len(folder.name) == _OLD_FOLDER):
                sizes = [path.stat().st_size for path in folder.iterdir()]
                files, taken = files + len(sizes), taken + sum(sizes)
                if not dry_run:
                    shutil.rmtree(folder)
        self._taken_bytes = None
        return files, taken

    def clear(self, *, dry_run: bool = False) -> tuple[int, int]:
        """See ``PictureCache.clear``; a job that draws meanwhile only misses what goes."""
        files = taken = 0
        for path in list(self._folder.glob("*/*")):
            with contextlib.suppress(OSError):  # another process evicts too
                files, taken = files + 1, taken + path.stat().st_size
                if not dry_run:
                    path.unlink(missing_ok=True)
                    path.parent.rmdir()  # fails while others lie in it
        self._taken_bytes = None
        return files, taken

    def close(self) -> None:
        """See ``PictureCache.close``: there is nothing to give back."""

    def _evict(self) -> None:
        found = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):  # another process evicts too
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        taken = sum(size for _, size, _ in found)
        if taken > self._max_bytes:
            for _, size, path in sorted(found):
                if taken <= self._max_bytes * _ROOM:
                    break
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # others lie in it
                    path.parent.rmdir()
                taken -= size
        self._taken_bytes = taken

    def _path(self, key: str) -> Path:
        adapter, _, picture = key.partition("/")
        return self._folder / adapter / f"{picture}.png"


class RedisCache:
    """Values in Redis; each is forgotten a month after its last use, or earlier by the server's own memory policy.

    Args:
        url: ``redis://`` or ``rediss://`` for one server, ``redis+cluster://`` or ``rediss+cluster://`` for a cluster.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError:
            raise MissingExtraError(
                "STUDIO_RESULTS_CACHE selects Redis, whose client is not installed; run pip install redis or use disk."
            ) from None
        patience: dict[str, Any] = {"socket_timeout": _ANSWER_S, "socket_connect_timeout": _ANSWER_S}
        self._failure = redis.exceptions.RedisError
        self._open: Callable[[], Any]
        if "+cluster://" in url:
            plain = url.replace("+cluster://", "://", 1)
            self._open = lambda: redis.RedisCluster.from_url(plain, **patience)
        else:
            self._open = lambda: redis.Redis.from_url(url, **patience)
        self._client: Any = None

    def get(self, key: str) -> bytes | None:
        """See ``PictureCache.get``."""
        value = self._ask(lambda client: client.getex(self._name(key), ex=_KEPT_S))
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes) -> None:
        """See ``PictureCache.put``."""
        self._ask(lambda client: client.set(self._name(key), value, ex=_KEPT_S))

    def forget(self, adapters: Collection[str], *, dry_run: bool = False) -> tuple[int, int]:
        """See ``PictureCache.forget``."""

        def is_theirs(adapter: str, picture: str) -> bool:
            return adapter in adapters or not picture

        return self._drop(is_theirs, dry_run=dry_run) if adapters else (0, 0)

    def clear(self, *, dry_run: bool = False) -> tuple[int, int]:
        """See ``PictureCache.clear``."""
        return self._drop(lambda adapter, picture: True, dry_run=dry_run)

    def _drop(self, is_meant: Callable[[str, str], bool], *, dry_run: bool) -> tuple[int, int]:
        def all_of(client: Any) -> tuple[int, int]:
            files = taken = 0
            for name in client.scan_iter(match=self._name("*"), count=1000):
                adapter, _, picture = name.decode().removeprefix(self._name("")).partition("/")
                if is_meant(adapter, picture):
                    files, taken = files + 1, taken + client.strlen(name)
                    if not dry_run:
                        client.delete(name)
            return files, taken

        found: tuple[int, int] = self._ask(all_of)
        return found

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            # A cluster is asked for its nodes as soon as its client is made.
            self._client = self._client or self._open()
            return question(self._client)
        except self._failure as error:
            raise OSError(type(error).__name__) from error  # its text may hold the address

    def close(self) -> None:
        """See ``PictureCache.close``."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _name(self, key: str) -> str:
        return f"likeness-studio:picture:{key}"
