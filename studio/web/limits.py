"""What a visitor may do and how much of it: the studio behind scopes and quotas, and a count of requests in a minute.

Every route, endpoint and event of the page asks one and the same object for jobs, so what it refuses is refused
everywhere. Methods that ``NEEDS`` does not name are not there.
"""

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from studio.core.domain import TERMINAL_STATES
from studio.core.errors import ForbiddenError, QuotaError
from studio.core.keys import ApiKey, Scope, over, quota_of
from studio.core.settings import Settings

if TYPE_CHECKING:
    from studio.web.login import Visitor

NEEDS: Mapping[str, Scope | None] = {
    "bases": None,
    "plan": None,
    "get": "read",
    "list": "read",
    "events": "read",
    "wait": "read",
    "out_dir": "read",
    "bring_weights": "read",
    "check_settings": "read",
    "publishing_of": "read",
    "usage": "read",
    "knows": "read",
    "replay_of": "read",
    "note_link": "jobs",
    "retention": "read",
    "receipts": "read",
    "submit_check": "jobs",
    "submit_train": "jobs",
    "submit_generate": "jobs",
    "submit_export": "jobs",
    "submit_finish": "jobs",
    "cancel": "jobs",
    "retry": "jobs",
    "heart": "jobs",
    "rename": "jobs",
    "name_set": "jobs",
    "forget": "jobs",
    "keep_for": "jobs",
    "submit_publish": "publish",
    "unpublish": "publish",
    "check_access": "publish",
    "check_publishing": "publish",
}
"""Method of the studio -> scope that a key needs for it; None tells nobody anything about an owner."""

PARTS: Mapping[str, Scope | None] = {"webhooks": "jobs", "operation": None, "server": None}
"""Part of the studio -> scope for all of it; whether somebody is the operator, the session asks itself."""

_STARTS: Mapping[str, str] = {
    "submit_check": "check",
    "submit_train": "train",
    "submit_generate": "generate",
    "submit_export": "export",
    "submit_finish": "finish",
    "submit_publish": "publish",
}
"""Method -> kind of the job that it starts."""
_FREE = "check"
"""The kind of job whose time is not counted."""
_MOST_KEYS = 2**14


class LimitedStudio:
    """A studio as a visitor may use it.

    Args:
        studio: the studio.
        settings: of the installation.
        visitor: returns who sends the request that is being handled; None where everybody is the machine's owner.
    """

    def __init__(self, studio: Any, settings: Settings, visitor: "Callable[[], Visitor] | None") -> None:
        self._studio = studio
        self._settings = settings
        self._visitor = visitor
        self._submitting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def seen_by(self, visitor: "Callable[[], Visitor]") -> "LimitedStudio":
        """Return the same for requests whose visitor is found in another way."""
        made = LimitedStudio(self._studio, self._settings, visitor)
        made._submitting = self._submitting  # one owner's requests wait for each other, however they came
        return made

    def __getattr__(self, name: str) -> Any:
        if name in PARTS:
            self._require(PARTS[name], {})
            return getattr(self._studio, name)
        if name not in NEEDS:
            raise AttributeError(name)
        method = getattr(self._studio, name)

        @wraps(method)
        def allowed(*args: Any, **kwargs: Any) -> Any:
            key = self._require(NEEDS[name], kwargs)
            if name not in _STARTS and name != "retry":
                return method(*args, **kwargs)
            with self._submitting[kwargs["owner"]]:  # or two at once would both find room for one
                self._require_room(name, args, kwargs, key)
                return method(*args, **kwargs)

        return allowed

    def _require(self, scope: Scope | None, kwargs: Mapping[str, Any]) -> ApiKey | None:
        """Return the key of the visitor, None where none are used; raises ForbiddenError if it may not do this."""
        if self._visitor is None or scope is None:
            return None
        key = self._visitor().key
        if key is not None:
            require_scope(key, scope)
            if kwargs.get("publish") is not None:  # a training that is published
                require_scope(key, "publish")
        return key

    def _require_room(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], key: ApiKey | None) -> None:
        """Raise QuotaError, with every limit that a new job would go beyond."""
        owner = kwargs["owner"]
        if name == "retry":
            job = self._studio.get(args[0], owner=owner)
            if job.state not in TERMINAL_STATES:
                return
            kind, jobs = job.kind, 1
        else:
            if kwargs.get("key") is not None and self._studio.knows(kwargs["key"], owner=owner):
                return  # asked before: that job, or a refusal, and nothing new
            kind, jobs = _STARTS[name], 1 + (kwargs.get("publish") is not None)
        quota = quota_of(self._settings, key)
        if quota.photos is None and quota.jobs is None and quota.gpu_minutes is None:
            return
        use = self._studio.usage(owner=owner)
        photos = self._photos(args, kwargs) if name == "submit_check" else 0
        problems = over(quota, use, photos=photos, jobs=jobs, computes=kind != _FREE)
        if problems:
            raise QuotaError.of(problems)

    def _photos(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        """Return how many photos a check brings, those among them that an edited set had already."""
        sent = sum(path.suffix.lower() != ".txt" for path in args[1])
        if kwargs.get("edits"):
            before = self._studio.get(kwargs["edits"], owner=kwargs["owner"])
            sent += len((before.result or {}).get("verdicts", ()))
        return sent


def require_scope(key: ApiKey, scope: Scope) -> None:
    """Raise ForbiddenError if a key may not do what needs a scope."""
    if not key.may(scope):
        has = " and ".join(key.scopes) or "none"
        raise ForbiddenError(f"the key {key.id} may not do this: it needs the scope {scope}, and has {has}.")


def is_limited(settings: Settings) -> bool:
    """Tell whether an installation limits what owners have, whether keys are used or not."""
    return any(limit is not None for limit in (settings.quota_photos, settings.quota_jobs, settings.quota_gpu_minutes))


@dataclass(frozen=True, slots=True)
class Count:
    """How a request stands among those of its minute."""

    limit: int
    left: int
    """Requests that the minute still allows; -1 if this one was too many."""
    resets_in_s: int


class RequestCounter:
    """Counts requests in windows of a minute, each begun by a first request, in this process.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, name: str, limit: int) -> Count:
        """Count a request.

        Args:
            name: what requests are counted together under.
            limit: how many a minute allows.
        """
        now_s = self._clock()
        began_s, seen = self._windows.pop(name, (now_s, 0))
        if now_s - began_s >= 60.0:
            began_s, seen = now_s, 0
        self._windows[name] = (began_s, seen + 1)
        while len(self._windows) > _MOST_KEYS:
            self._windows.popitem(last=False)
        return Count(limit, limit - seen - 1 if seen < limit else -1, max(1, round(began_s + 60.0 - now_s)))


def rate_headers(count: Count) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell a client how many requests it may still send.

    Source: draft-ietf-httpapi-ratelimit-headers-10; ``Retry-After`` of RFC 9110.
    """
    headers = [
        (b"ratelimit-policy", f'"minute";q={count.limit};w=60'.encode()),
        (b"ratelimit", f'"minute";r={max(0, count.left)};t={count.resets_in_s}'.encode()),
    ]
    return headers if count.left >= 0 else [*headers, (b"retry-after", str(count.resets_in_s).encode())]
