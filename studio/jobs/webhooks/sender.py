"""The sender: one thread that takes deliveries out of the outbox and posts them.

Only the server that dispatches has one at work. Each address gets one delivery at a time and has its own place, so that
one that is slow, or down, keeps no other waiting. Started by ``studio.service``.
"""

import asyncio
import logging
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from studio.core.errors import StudioError
from studio.jobs.child import resolve
from studio.jobs.queue import JobQueue

if TYPE_CHECKING:
    from studio.jobs.webhooks.addresses import Reach
    from studio.jobs.webhooks.ledger import Due
    from studio.jobs.webhooks.transport import Answer, Limits

logger = logging.getLogger(__name__)

KEEP_S = 7 * 24 * 3600.0
"""So long deliveries stay in the list after their end."""
_LOOK_S = 0.5
_PRUNE_S = 3600.0
_MOST, _MOST_OF_OWNER = 100, 10
"""Deliveries at once, of all and of one owner."""
_RESOLVERS = 32
UPLOAD = "studio.jobs.webhooks.uploads:told"
"""Form of a webhook that is no webhook: a link that takes the adapter of its job."""
_SEALED = "Its secret cannot be opened here: give the webhook a new one, or the studio its STUDIO_SECRETS_KEY again."

_SEALED_URL = "Its address cannot be opened here: give the studio its STUDIO_SECRETS_KEY again."


class Sender:
    """Sends what is due.

    Args:
        store: the queue, whose ledger holds what is to be sent.
        reach: returns what may be reached.
        leads: tells whether this server is the one that works.
        limits: of an attempt; None takes the usual ones.
        waits_s: pauses between attempts; None takes the usual ones.
        tls: how certificates are checked; None takes the authorities that everybody trusts.
        look_s: pause between two looks, seconds.
        jobs_dir: folders of jobs, whose adapters are put to links.
        prepare: makes sure that weights of a job are there, below a folder of its output; raises StudioError.
    """

    def __init__(
        self,
        store: JobQueue,
        reach: Callable[[], "Reach"],
        *,
        leads: Callable[[], bool] = lambda: True,
        limits: "Limits | None" = None,
        waits_s: Sequence[float] | None = None,
        tls: ssl.SSLContext | None = None,
        look_s: float = _LOOK_S,
        jobs_dir: Path | None = None,
        prepare: Callable[[str, Collection[str]], object] = lambda job_id, below: None,
    ) -> None:
        self._jobs_dir = jobs_dir
        self._prepare = prepare
        self._store = store
        self._reach = reach
        self._leads = leads
        self._limits = limits
        self._more: dict[str, Any] = {} if waits_s is None else {"waits_s": waits_s}
        self._tls = tls
        self._look_s = look_s
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._bell: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        """Wakes the thread, so that nobody waits for it at the end."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """Places that are taken, by owner and host."""
        self._sending: dict[str, Due] = {}

    def start(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._closing.clear()
            self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="studio-sender", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread; what is on its way is cut off and sent again by the next server."""
        self._closing.set()
        if self._bell is not None:
            with suppress(RuntimeError):  # its loop has ended by itself
                self._bell[0].call_soon_threadsafe(self._bell[1].set)
        if self._thread is not None:
            self._thread.join(10.0)
            self._thread = self._bell = None

    # The thread

    async def _main(self) -> None:
        self._bell = asyncio.get_running_loop(), asyncio.Event()
        self._database = ThreadPoolExecutor(1, "studio-sender-table")
        self._resolver = ThreadPoolExecutor(_RESOLVERS, "studio-sender-names")
        pruned_s, told = -_PRUNE_S, False
        try:
            while not self._closing.is_set():
                try:
                    if self._leads():
                        await self._look()
                        if time.monotonic() - pruned_s > _PRUNE_S:
                            await self._ask(self._store.webhooks.seal)
                            await self._ask(self._store.webhooks.prune, KEEP_S)
                            pruned_s = time.monotonic()
                    told = False
                except Exception as error:  # what waits is in the table, and the next look may find it in order
                    if not told:
                        logger.warning("deliveries cannot be sent (%s)", _named(error))
                    told = True
                await self._pause()
        finally:
            await self._stop()

    async def _pause(self) -> None:
        """Wait until a place is free again or the server closes, at most the usual pause."""
        assert self._bell is not None
        rings = asyncio.ensure_future(self._bell[1].wait())
        await asyncio.wait([rings, *self._tasks.values()], timeout=self._look_s, return_when=asyncio.FIRST_COMPLETED)
        rings.cancel()

    async def _look(self) -> None:
        """Begin attempts of what is due, for places that are free."""
        chosen: dict[str, Due] = {}
        of_owner = Counter(due.owner for due in self._sending.values())
        for due in await self._ask(self._store.webhooks.due):
            place = f"{due.owner}\0{urlsplit(due.url).netloc.lower()}"
            has_room = len(self._tasks) + len(chosen) < _MOST and of_owner[due.owner] < _MOST_OF_OWNER
            if has_room and place not in self._tasks and place not in chosen:
                chosen[place] = due
                of_owner[due.owner] += 1
        if not chosen:
            return
        taken = await self._ask(self._store.webhooks.take, [due.number for due in chosen.values()])
        for place, due in chosen.items():
            if due.number in taken:
                self._sending[place] = due
                self._tasks[place] = asyncio.create_task(self._send(place, due))

    async def _send(self, place: str, due: "Due") -> None:
        try:
            answer = await self._post(due)
            is_upload, more = due.form == UPLOAD, self._more
            if is_upload:
                from studio.jobs.webhooks import uploads

                more = {"waits_s": ()} if answer.status in uploads.FINAL else more
            state = await self._ask(
                lambda: self._store.webhooks.settle(
                    due, answer.status, answer.error, retry_after_s=answer.retry_after_s, **more
                )
            )
            if is_upload and due.job and state == "delivered":
                await self._ask(self._store.tell, due.job, "info", uploads.ARRIVED)
            elif is_upload and due.job and state == "failed":
                await self._ask(self._store.tell, due.job, "warning", uploads.FAILED.format(error=answer.error))
            if state == "failed":
                logger.warning("delivery %s of webhook %s is given up: %s", due.id, due.webhook, answer.error)
        except Exception as error:  # its lease ends, and it is tried again
            logger.warning("delivery %s of webhook %s: %s", due.id, due.webhook, _named(error))
        finally:
            self._tasks.pop(place, None)
            self._sending.pop(place, None)

    async def _post(self, due: "Due") -> "Answer":
        from studio.jobs.webhooks import transport  # with the HTTP client, which nobody needs who has no webhook

        if not due.url:
            return transport.Answer(None, _SEALED_URL)
        if due.form == UPLOAD:
            from studio.jobs.webhooks import uploads

            if self._jobs_dir is None or due.job is None:
                return transport.Answer(None, "The adapter is not here.")
            try:
                await asyncio.to_thread(self._prepare, due.job, (uploads.ADAPTER,))
            except StudioError as error:  # another attempt follows
                return transport.Answer(None, str(error))
            checked = transport.CheckedTransport(self._reach(), self._tls or transport.usual_tls(), self._resolver)
            return await uploads.put(due.url, self._jobs_dir / due.job, checked)
        if not due.secrets:  # never unsigned; it waits for the key, or for a rotation
            return transport.Answer(None, _SEALED)
        if self._tls is None:
            self._tls = transport.usual_tls()
        checked = transport.CheckedTransport(self._reach(), self._tls, self._resolver)
        headers = transport.signed(due.id, due.body, due.secrets)
        return await transport.post(due.url, headers, due.body, checked, self._limits or transport.Limits())

    async def _stop(self) -> None:
        """Cut off what is on its way and put it back."""
        cut = [due.number for due in self._sending.values()]
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if cut:
            try:
                await self._ask(self._store.webhooks.put_back, cut)
            except StudioError as error:
                logger.warning("deliveries that were cut off wait a minute (%s)", _named(error))
        for executor in (self._database, self._resolver):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, call: Callable[..., Any], *given: Any) -> Any:
        """Ask the table, in a thread: it may be busy, and the deliveries that are on their way go on."""
        return await asyncio.get_running_loop().run_in_executor(self._database, lambda: call(*given))


def reach_of(loopback: bool) -> "Reach":
    """Return what the settings let webhooks reach."""
    reach: Reach = resolve("studio.jobs.webhooks.addresses:Reach")(loopback=loopback)
    return reach


def _named(error: Exception) -> str:
    """Return an error in words that hold no address: only ours are known to."""
    return str(error) if isinstance(error, StudioError) else type(error).__name__
