"""Photos that come by a link: a zip is fetched, its pictures are laid out like uploads, and the zip is gone again."""

import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

from studio.core.errors import InputError, Problem, QuotaError
from studio.core.files import write_bytes
from studio.core.settings import Settings
from studio.imaging.pictures import find_pictures
from studio.jobs import intake
from studio.web.routes import Uploads

MOST_AT_ONCE = 2
"""Links that are fetched for one owner at the same time."""
ZIP_FACTOR = 10
"""A zip may be so many times as large as one photo."""

_fetching: Counter[str] = Counter()


@asynccontextmanager
async def zipped_photos(
    url: str, where: str, *, owner: str, uploads: Uploads, settings: Settings
) -> AsyncIterator[list[Path]]:
    """Yield the pictures of the zip behind a link, as files that are gone afterwards.

    Args:
        url: the link; https, and no address of a private network.
        where: name of the parameter, for refusals.
        owner: whose photos they are.
        uploads: where they lie meanwhile.
        settings: of the installation.

    Raises:
        InputError: as ``studio.jobs.webhooks.fetch.fetch``; it is no zip, or holds no, too many or too large pictures.
        QuotaError: the owner has others fetched just now. ResourceError: the disk is full.
    """
    from studio.jobs.webhooks.addresses import Reach
    from studio.jobs.webhooks.fetch import fetch  # with the HTTP client, which few requests need

    if _fetching[owner] >= MOST_AT_ONCE:
        raise QuotaError(f"{MOST_AT_ONCE} links are being fetched for you already; wait until they are here.")
    _fetching[owner] += 1
    try:
        with uploads.stage(owner) as stage:
            archive = stage / "photos.zip"
            reach = Reach(loopback=settings.webhook_loopback)
            await fetch(url, archive, where=where, reach=reach, max_bytes=ZIP_FACTOR * settings.max_upload_bytes)
            yield await run_in_threadpool(_unpacked, archive, where, settings)
    finally:
        _fetching[owner] -= 1
        if not _fetching[owner]:
            del _fetching[owner]


def _unpacked(archive: Path, where: str, settings: Settings) -> list[Path]:
    if not zipfile.is_zipfile(archive):  # a broken one would pass for a picture
        cure = "pack the photos into a zip file"
        raise InputError.of([Problem(where, "leads to a file that is no zip", cure, "no_zip")])
    pictures = find_pictures(archive)
    if len(pictures) > settings.max_photos:
        message, cure = f"leads to {len(pictures)} photos", f"send at most {settings.max_photos}"
        raise InputError.of([Problem(where, message, cure, "too_many")])
    paths, problems = [], list[Problem]()
    for number, picture in enumerate(pictures):
        try:
            data = picture.read()
        except InputError as error:
            problems += error.problems
            continue
        path = archive.parent / str(number) / intake.safe_name(picture.name)
        with intake.disk_errors():
            path.parent.mkdir(mode=0o700)
            write_bytes(path, data, durable=False)  # the job makes its own copy last
        paths.append(path)
    archive.unlink()
    if problems:
        raise InputError.of(problems)
    return paths
