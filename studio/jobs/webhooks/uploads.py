"""The adapter of a training, put to a link that came with its request: one PUT of a zip, when the run is completed.

It is a delivery like others: written in the transaction that completes the job, tried again until it succeeds or cannot
any more, gone with the job. What came of it is told in the job's events.
"""

import asyncio
import secrets
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from studio.core.domain import JobView
from studio.jobs.child import OUT_FOLDER
from studio.jobs.webhooks.addresses import ForbiddenAddressError
from studio.jobs.webhooks.transport import Answer, CheckedTransport, answer_of, client_on, words_for

ARRIVED = "The adapter is at the link that came with the request."
FAILED = "The adapter could not be put to the link that came with the request: {error}"
FINAL = frozenset({400, 401, 403, 404, 405, 410, 411, 413})
"""Answers after which a link does not become better: it has expired, or takes no such file."""
ADAPTER = "adapter"
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Of one attempt; seconds."""

    connect_s: float = 10.0
    silence_s: float = 60.0
    total_s: float = 3600.0


def told(view: JobView, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the outbox keeps of an upload: nothing but the job."""
    return {"job": view.id}


async def put(url: str, job_dir: Path, transport: CheckedTransport, limits: UploadLimits | None = None) -> Answer:
    """Put the adapter of a completed training to a link, as a zip of its folder ``adapter``.

    Args:
        url: the link, such as a presigned one.
        job_dir: folder of the job.
        transport: closed afterwards.
        limits: None takes the usual ones.
    """
    limits = limits or UploadLimits()
    archive = job_dir / f".put-{secrets.token_hex(8)}.part"  # the clock knows what a kill leaves by this ending
    try:
        await asyncio.to_thread(_pack, job_dir / OUT_FOLDER / ADAPTER, archive)
        # No type of content: what a signature does not name must not be sent. A length: no storage takes chunks.
        headers = {"content-length": str(archive.stat().st_size), "user-agent": "likeness-studio"}
        async with (
            asyncio.timeout(limits.total_s),
            client_on(transport, silence_s=limits.silence_s, connect_s=limits.connect_s) as client,
            client.stream("PUT", url, content=_parts(archive), headers=headers) as response,
        ):
            return answer_of(response)
    except ForbiddenAddressError as error:
        return Answer(None, f"The address {error}.")
    except (TimeoutError, httpx2.TimeoutException):
        return Answer(None, "The other side did not answer, or was too slow.")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Answer(None, words_for(error))
    except OSError as error:
        return Answer(None, f"The adapter cannot be packed ({error.strerror or type(error).__name__}).")
    finally:
        archive.unlink(missing_ok=True)


def _pack(folder: Path, archive: Path) -> None:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_STORED) as packed:  # weights do not shrink
        for path in paths:
            packed.write(path, path.name)


async def _parts(archive: Path) -> AsyncIterator[bytes]:
    with archive.open("rb") as file:
        while part := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield part
