"""The gate of a server without logins: nothing is answered to anybody who does not show the server's token.

A browser shows it as a cookie, which it gets when the printed address is opened; a program as a header. The cookie
holds a digest of the token, so that the token itself is not sent along to other ports of the same host, which get every
cookie of that host.
"""

import hashlib
import hmac
import html
from urllib.parse import parse_qsl, urlencode

from studio.core.server_token import TOKEN_FILE
from studio.web.asgi import App, Receive, Scope, Send, answer, cookie_of, header_of

COOKIE_LIFE_S = 30 * 24 * 3600
"""After so long a browser needs the printed address again."""

_PARAMETER = "token"
_HEADERS = (b"authorization", b"x-hf-authorization", b"x-studio-token")
"""gradio_client sends the second, for ``Client(url, token=...)``."""

WORDS = (
    "This studio opens with its token. In a browser, open the address with ?token=... that the server printed when it"
    " started; programs send 'Authorization: Bearer TOKEN'. The token lies in the server's home folder, in the file"
    f" {TOKEN_FILE}."
)


class TokenMiddleware:
    """ASGI middleware: every request needs the token; there are no exceptions but the page that asks for it.

    Args:
        app: what comes behind.
        token: of this server.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token.encode()
        digest = hmac.new(self._token, b"cookie of the page", hashlib.sha256).hexdigest()
        self._cookie_value = digest.encode()
        # Cookies of all ports of a host lie in one jar: two studios on one machine must not overwrite each other's.
        self._cookie = f"studio-{hashlib.sha256(digest.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before its body is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (rest := self._given_in_address(scope)) is not None:
            await self._enter(scope, send, rest)
        elif self._is_known(scope):
            await self._app(scope, receive, send)
        elif scope["method"] == "GET" and scope["path"] == "/" and b"text/html" in header_of(scope, b"accept"):
            await _ask_for_token(send)
        else:
            await answer(send, 401, WORDS, headers=[(b"www-authenticate", b"Bearer")])

    def _is_known(self, scope: Scope) -> bool:
        for name in _HEADERS:
            given = header_of(scope, name).strip()
            if given[:7].lower() == b"bearer ":
                given = given[7:].strip()
            if given and hmac.compare_digest(given, self._token):
                return True
        held = cookie_of(scope, self._cookie)
        return hmac.compare_digest(held.encode("latin-1", "replace"), self._cookie_value)

    def _given_in_address(self, scope: Scope) -> str | None:
        """Return the page's address without the token, if the right one stands in it."""
        if scope["method"] != "GET" or scope["path"] != "/":
            return None
        pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in pairs if name == _PARAMETER]
        if not given or not hmac.compare_digest(given[0].strip().encode("utf-8", "replace"), self._token):
            return None
        rest = urlencode([pair for pair in pairs if pair[0] != _PARAMETER])
        return f"/?{rest}" if rest else "/"

    async def _enter(self, scope: Scope, send: Send, place: str) -> None:
        """Give the browser its cookie and send it on to the address without the token, which stays in no history."""
        # Lax, not Strict: a link to the page in a mail or a chat must still open it. Writes are the guard's matter.
        cookie = (
            f"{self._cookie}={self._cookie_value.decode()}; Path=/; Max-Age={COOKIE_LIFE_S}; HttpOnly; SameSite=Lax"
        )
        if scope.get("scheme") == "https":
            cookie += "; Secure"
        place = f"{scope.get('root_path', '')}{place}"
        headers = [(b"location", place.encode("latin-1")), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        headers.append((b"cache-control", b"no-store"))
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Likeness Studio</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .4rem .6rem }}</style></head>
<body><h1>Likeness Studio</h1><p>{words}</p>
<form method="get" action="./"><label>Token <input type="password" name="token" autocomplete="off" required autofocus>
</label> <button>Open</button></form></body></html>
"""


async def _ask_for_token(send: Send) -> None:
    body = _PAGE.format(words=html.escape(WORDS)).encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
