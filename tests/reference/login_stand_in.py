"""A stand-in of Hugging Face's login on the loopback interface: OpenID Connect, as far as Gradio's client speaks it.

Whoever is asked to log in is ``provider.person``; nobody has to click anything there.
"""

import contextlib
import hashlib
import json
import secrets
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "client", "a secret of the Space"


@dataclass
class Provider:
    """What the stand-in knows; ``address`` is where it listens."""

    address: str = ""
    person: str = "ada"
    """Name of the account that logs in."""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"}))
    nonces: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Code -> (nonce, person)."""

    def configuration(self) -> dict[str, Any]:
        places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return {
            "issuer": self.address,
            "id_token_signing_alg_values_supported": ["RS256"],
            **{name: f"{self.address}/{place}" for name, place in places.items()},
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Return where the browser is sent back to."""
        assert asked["client_id"] == CLIENT_ID and asked["response_type"] == "code"
        code = secrets.token_hex(8)
        self.nonces[code] = asked.get("nonce", ""), self.person
        return f"{asked['redirect_uri']}&{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str], authorization: str) -> dict[str, Any]:
        given = b64decode(authorization.removeprefix("Basic ")).decode()
        assert given == f"{CLIENT_ID}:{CLIENT_SECRET}", "the Space proves itself by its secret"
        nonce, person = self.nonces.pop(asked["code"])
        now_s = int(time.time())
        claims = {
            "iss": self.address,
            "aud": CLIENT_ID,
            "sub": hashlib.sha1(person.encode()).hexdigest()[:24],
            "iat": now_s,
            "exp": now_s + 3600,
            "nonce": nonce,
            "preferred_username": person,
            "name": person.title(),
            "profile": f"{self.address}/{person}",
            "picture": f"{self.address}/{person}.png",
        }
        return {
            "access_token": f"hf_oauth_of_{person}",
            "token_type": "bearer",
            "expires_in": 28800,
            "scope": "openid profile",
            "id_token": jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key),
        }


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            asked = dict(parse_qsl(parts.query)) | dict(parse_qsl(body))
            if parts.path == "/authorize":
                self.send_response(302)
                self.send_header("location", provider.authorize(asked))
                self.send_header("content-length", "0")
                self.end_headers()
                return
            answers = {
                "/.well-known/openid-configuration": provider.configuration,
                "/keys": lambda: {"keys": [provider.key.as_dict(private=False)]},
                "/token": lambda: provider.token(asked, self.headers.get("authorization", "")),
            }
            data = json.dumps(answers[parts.path]()).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serve() -> Iterator[Provider]:
    """Serve a provider of logins."""
    provider = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(provider))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    provider.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
