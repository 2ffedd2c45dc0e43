"""The storage of an installation, by ``STUDIO_STORAGE_URL``."""

from collections.abc import Collection
from pathlib import Path

from studio.core.errors import InputError, Problem
from studio.core.settings import Settings
from studio.jobs.storage.base import Storage
from studio.jobs.storage.cloud import KINDS, CloudStorage
from studio.jobs.storage.folder import FolderStorage
from studio.jobs.storage.links import LinkSigner

FOLDER_NAME = "storage"
"""In the home: the objects, where no address is given."""


def open_storage(settings: Settings, home: Path, signer: LinkSigner) -> Storage:
    """Return the storage of an installation.

    Args:
        settings: with its address.
        home: folder of the installation.
        signer: makes links into a folder.

    Raises:
        InputError: the address cannot be used. MissingExtraError: its package is not installed.
    """
    url = settings.storage_url.get_secret_value() if settings.storage_url is not None else ""
    if not url:
        return FolderStorage(home / FOLDER_NAME, signer)
    kind, separator, rest = url.partition("://")
    if separator and kind in KINDS:
        return CloudStorage(url)
    path = Path(rest if kind == "file" and separator else url)
    if (separator and kind != "file") or not path.is_absolute():
        cure = "give a whole path, file:///PATH, s3://BUCKET, gs://BUCKET or az://CONTAINER"
        raise InputError.of([Problem("STUDIO_STORAGE_URL", "is no address of a storage", cure, "storage_url")])
    return FolderStorage(path, signer)


def forget(settings: Settings, jobs: Collection[str], *, dry_run: bool = False) -> tuple[int, int]:
    """Delete what lies in the storage of jobs; return how many objects and bytes that is.

    Args:
        settings: of the installation.
        jobs: ids.
        dry_run: only count.

    Raises:
        StudioError: the storage cannot be used now.
    """
    home = settings.home.expanduser().absolute()
    if settings.storage_url is None and not (home / FOLDER_NAME).is_dir():
        return 0, 0
    storage = open_storage(settings, home, LinkSigner(bytes(32), ""))
    files = size = 0
    for name in [name for job_id in jobs for name in storage.names(f"jobs/{job_id}")]:
        files, size = files + 1, size + (storage.size(name) or 0)
        if not dry_run:
            storage.delete(name)
    return files, size
