"""One signed POST: to the address that was checked, without redirects, and with an end to everything.

Neither a slow name server nor an answer that never ends holds an attempt longer than ``Limits`` says. Nothing is read
from the environment, so that no proxy of it sees what is sent.
"""

import asyncio
import ssl
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from standardwebhooks import Webhook

from studio.jobs.webhooks.addresses import ForbiddenAddressError, Reach


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one attempt; seconds and bytes."""

    connect_s: float = 10.0
    total_s: float = 20.0
    """From the name server to the end of the answer."""
    read_s: float = 3.0
    """For the body of the answer, which nobody needs; its status counts, however the body ends."""
    read_bytes: int = 2**16


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt."""

    status: int | None
    error: str | None
    """Why it failed, in words; None if it did not."""
    retry_after_s: float | None = None


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Connects to an address that ``Reach`` has checked; the host's name stays in the header and in the certificate.

    Args:
        reach: what may be reached.
        tls: how certificates are checked.
        resolver: runs what asks the name server.
    """

    def __init__(self, reach: Reach, tls: ssl.SSLContext, resolver: Executor) -> None:
        self._reach = reach
        self._resolver = resolver
        # No connection is kept: the next host at the same address is another one.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the first checked address that takes a connection; raises as ``Reach.addresses``."""
        url = self._reach.parsed(str(request.url))
        loop = asyncio.get_running_loop()
        addresses = await loop.run_in_executor(self._resolver, self._reach.addresses, url)
        extensions = {**request.extensions, "sni_hostname": url.host}
        for address in addresses:
            pinned = httpx2.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except httpx2.ConnectError:
                if address == addresses[-1]:
                    raise
        raise httpx2.ConnectError("no address")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def usual_tls() -> ssl.SSLContext:
    """Return how certificates are checked: by the system's authorities, or those that SSL_CERT_FILE names."""
    return httpx2.create_ssl_context()


def signed(message: str, body: str, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of a delivery, with one signature for each secret.

    Source: standard-webhooks/standard-webhooks, "Webhook headers".

    Args:
        message: id of the delivery.
        body: exactly what is sent.
        secrets: the newest first.
    """
    now = datetime.now(UTC)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message, now, body) for secret in secrets),
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": "likeness-studio",
    }


def client_on(transport: httpx2.AsyncBaseTransport, *, silence_s: float, connect_s: float) -> httpx2.AsyncClient:
    """Return a client that goes to no other address than its transport has checked: no redirects, no proxies.

    Args:
        transport: closed with the client.
        silence_s: how long nothing may come or go, seconds.
        connect_s: how long connecting may take, seconds.
    """
    timeout = httpx2.Timeout(silence_s, connect=connect_s)
    return httpx2.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


async def post(url: str, headers: dict[str, str], body: str, transport: CheckedTransport, limits: Limits) -> Answer:
    """Send one delivery and return what came of it; the transport is closed afterwards."""
    answer: Answer | None = None
    try:
        async with (
            asyncio.timeout(limits.total_s),
            client_on(transport, silence_s=limits.total_s, connect_s=limits.connect_s) as client,
            client.stream("POST", url, content=body.encode(), headers=headers) as response,
        ):
            answer = answer_of(response)
            with suppress(httpx2.HTTPError, TimeoutError):
                async with asyncio.timeout(limits.read_s):
                    await _skim(response, limits.read_bytes)
    except ForbiddenAddressError as error:
        return answer or Answer(None, f"The address {error}.")
    except (TimeoutError, httpx2.TimeoutException):
        return answer or Answer(None, f"No answer came within {limits.total_s:g} seconds.")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return answer or Answer(None, words_for(error))
    return answer


def answer_of(response: httpx2.Response) -> Answer:
    """Return what a status means."""
    status = response.status_code
    if response.is_success:
        return Answer(status, None)
    if response.has_redirect_location or 300 <= status < 400:
        return Answer(status, f"The answer was {status}, a redirect, which is not followed: change the address.")
    return Answer(status, f"The answer was {status}.", _seconds(response.headers.get("retry-after")))


def _seconds(text: str | None) -> float | None:
    """Return what a header ``Retry-After`` asks for. Source: RFC 9110, section 10.2.3."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    with suppress(ValueError, TypeError):
        moment = parsedate_to_datetime(text)
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return None


async def _skim(response: httpx2.Response, most_bytes: int) -> None:
    seen = 0
    async for part in response.aiter_raw():
        seen += len(part)
        if seen >= most_bytes:
            return


def words_for(error: BaseException) -> str:
    """Return why a connection failed, without the address, which may hold a secret of its owner."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"Its certificate is not trusted ({cause.verify_message})."
        if isinstance(cause, ssl.SSLError):
            return f"No safe connection came about ({cause.reason or 'TLS'})."
        cause = cause.__cause__ or cause.__context__
    return f"The connection failed ({type(error).__name__})."
