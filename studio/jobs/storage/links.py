"""Links into the storage of a folder: signed, for one method and one object, with an end and a greatest size.

Whoever has one needs no other right, and can do nothing else with it. The key lies in the home, for its user alone, so
that links and tokens of attempts hold over a restart, and for all servers that share the home.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from studio.core.private import make_folder
from studio.jobs.storage.base import Method

KEY_NAME = "machines.key"
_KEY_BYTES = 32
OBJECTS = "/objects/"
"""Where the server answers links."""


class LinkError(Exception):
    """A link that is not good: not ours, changed, for something else, or over."""


class LinkSigner:
    """Signs and reads links and the tokens of attempts.

    Args:
        key: secret of the installation, 32 bytes.
        address: of the server, without a slash at the end, as the other machine calls it; or a function that returns
            it, where it is known only once the server listens.
        clock: seconds since 1970.
    """

    def __init__(self, key: bytes, address: str | Callable[[], str], clock: Callable[[], float] = time.time) -> None:
        if len(key) < _KEY_BYTES:
            raise ValueError("the key is too short")
        self._key = key
        self._address = address
        self._clock = clock

    def link(self, method: Method, name: str, *, expires_s: float, max_bytes: int) -> str:
        """Return the address of an object, good for ``expires_s`` seconds."""
        ends_s = int(self._clock() + expires_s)
        asked = {"method": method, "ends": str(ends_s), "most": str(max_bytes)}
        asked["signature"] = self._sign("object", method, name, asked["ends"], asked["most"])
        address = self._address if isinstance(self._address, str) else self._address()
        return f"{address}{OBJECTS}{quote(name)}?{urlencode(asked)}"

    def read(self, method: str, name: str, asked: Mapping[str, str]) -> int:
        """Return how many bytes a request may bring that comes with the parameters of a link.

        Raises:
            LinkError: the link is not for this; every reason looks the same.
        """
        ends, most = asked.get("ends", ""), asked.get("most", "")
        signature = self._sign("object", asked.get("method", ""), name, ends, most)
        is_ours = hmac.compare_digest(signature.encode(), asked.get("signature", "").encode("utf-8", "replace"))
        if not is_ours or method != asked["method"] or self._clock() >= int(ends):
            raise LinkError
        return int(most)

    def token(self, job_id: str, attempt: int) -> str:
        """Return what the agent of an attempt proves itself with: it opens this attempt and nothing else."""
        return self._sign("attempt", job_id, str(attempt))

    def is_token(self, token: str, job_id: str, attempt: int) -> bool:
        """Tell whether a token is that of an attempt."""
        return hmac.compare_digest(self.token(job_id, attempt).encode(), token.encode("utf-8", "replace"))

    def _sign(self, *words: str) -> str:
        # Each word with its length, so that no two lists of words are the same text.
        text = "".join(f"{len(word)}:{word}" for word in words)
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def key_of(home: Path) -> bytes:
    """Return the key of an installation, made when it is first asked for; raises OSError."""
    path = home / KEY_NAME
    if not path.exists():
        make_folder(home)
        part = path.with_name(f".{KEY_NAME}-{secrets.token_hex(4)}")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)  # another server may have been faster: its key counts
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_bytes()
