"""Calls of a service's interface over HTTP: an answer that is not clear is an error."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from studio.core.errors import InputError, Problem, ResourceError

_MOST_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answers."""

    status: int
    told: Any
    """Its body, read as JSON."""
    next_url: str | None
    """The next part of a list, as the header Link names it."""

    def field(self, name: str) -> Any:
        """Return a field of an object; None if it is none, or has none."""
        return self.told.get(name) if isinstance(self.told, dict) else None

    def words(self) -> str:
        """Return what it says of itself, for people."""
        said = next((self.field(name) for name in ("msg", "message", "error") if self.field(name)), "no reason given")
        return " ".join(str(said).split())[:300]


class Calls:
    """Asks one service.

    Args:
        service: its name, for people.
        url: its address.
        key: opens it.
        timeout_s: longest wait for one answer.
    """

    def __init__(self, service: str, url: str, key: str, *, timeout_s: float = _MOST_S) -> None:
        self.service = service
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
        # A redirect would carry a request with the key, or one that rents, to who knows where.
        self._client = httpx2.Client(headers=headers, timeout=timeout_s, follow_redirects=False)

    def ask(self, method: str, path: str, *, query: Sequence[tuple[str, str]] = (), body: Any = None) -> Answer:
        """Ask something; ``path`` may be an address of the same service.

        Raises:
            ResourceError: no answer, or none that can be read. InputError: the key is not accepted.
        """
        url = path if path.startswith(f"{self._url}/") else f"{self._url}{path}"
        try:
            answer = self._client.request(
                method, url, params=httpx2.QueryParams(list(query)) if query else None, json=body
            )
        except httpx2.HTTPError as error:
            raise self.unclear(type(error).__name__) from None
        if answer.status_code in (408, 429) or answer.status_code >= 500 or 300 <= answer.status_code < 400:
            raise self.unclear(f"status {answer.status_code}")
        try:
            told = json.loads(answer.content)
        except ValueError:
            raise self.unclear(f"status {answer.status_code} and no JSON") from None
        found = Answer(answer.status_code, told, answer.links.get("next", {}).get("url"))
        if found.status == 401 or (found.status >= 400 and found.field("error") in ("auth_error", "unauthorized")):
            cure = f"set it to a key that {self.service} accepts"
            raise InputError.of([Problem("STUDIO_RENT_KEY", "is not accepted", cure, "rent_key")])
        return found

    def unclear(self, why: str) -> ResourceError:
        """Return the error for an answer that says nothing for sure."""
        return ResourceError(f"{self.service} gave no clear answer ({why}).")

    def belongs(self, url: str) -> bool:
        """Tell whether an address is one of this service, which may see the key."""
        return url.startswith(f"{self._url}/")
