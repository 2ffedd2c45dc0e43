"""One GET of a file that an owner gives a link to: from the address that was checked, never more than allowed.

The link may hold a signature, so no error repeats it and nothing keeps it.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2

from studio.core.errors import InputError, Problem
from studio.core.units import bytes_text
from studio.jobs.intake import disk_errors
from studio.jobs.webhooks.addresses import ForbiddenAddressError, Reach
from studio.jobs.webhooks.transport import CheckedTransport, client_on, usual_tls, words_for

_CURE = "give an https link to a file on the public internet that opens without a login, and try again"
_HEADERS = {"accept-encoding": "identity", "user-agent": "likeness-studio"}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Of one file; seconds."""

    connect_s: float = 10.0
    silence_s: float = 20.0
    """Between two pieces of it."""
    total_s: float = 300.0
    """From the name server to its end."""


async def fetch(
    url: str, path: Path, *, where: str, reach: Reach, max_bytes: int, limits: FetchLimits | None = None
) -> None:
    """Fetch a file, without redirects and without unpacking what the way may have packed.

    Args:
        url: the link.
        path: where its bytes go; what is there of a file that is refused is of no use.
        where: name of the parameter, for the refusal.
        reach: what may be reached.
        max_bytes: most bytes.
        limits: None takes the usual ones.

    Raises:
        InputError: the link leads into a private network, or the file cannot be fetched, is empty or too large.
        ResourceError: the disk is full.
    """
    limits = limits or FetchLimits()
    names = ThreadPoolExecutor(1, "studio-fetch-names")
    try:
        async with (
            asyncio.timeout(limits.total_s),
            client_on(
                CheckedTransport(reach, usual_tls(), names), silence_s=limits.silence_s, connect_s=limits.connect_s
            ) as client,
            client.stream("GET", url, headers=_HEADERS) as response,
        ):
            if response.status_code != 200:
                raise _refused(where, f"answers with {response.status_code}, and not with a file")
            if not await _written(response, path, max_bytes):
                raise _refused(where, f"leads to more than {bytes_text(max_bytes)}", "too_large")
    except ForbiddenAddressError as error:
        raise _refused(where, str(error)) from None
    except (TimeoutError, httpx2.TimeoutException):
        raise _refused(where, "leads to a server that does not answer, or is too slow") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _refused(where, f"cannot be fetched: {words_for(error)}") from None
    finally:
        names.shutdown(wait=False, cancel_futures=True)
    if not path.stat().st_size:
        raise _refused(where, "leads to an empty file")


async def _written(response: httpx2.Response, path: Path, max_bytes: int) -> bool:
    """Write the body to a file; return False as soon as it is larger than allowed, whatever its header says."""
    told = response.headers.get("content-length", "")
    if told.isdigit() and int(told) > max_bytes:
        return False
    size = 0
    with disk_errors(), path.open("wb") as file:
        async for part in response.aiter_raw(2**16):
            size += len(part)
            if size > max_bytes:
                return False
            file.write(part)
    return True


def _refused(where: str, message: str, code: str = "link") -> InputError:
    return InputError.of([Problem(where, message, _CURE, code)])
