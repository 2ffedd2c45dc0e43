"""Receivers on the loopback interface, each in a thread, and a sender that may reach them."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from studio.core.domain import JobFacts
from studio.core.webhooks import WebhookConfig
from studio.jobs.queue import NewJob
from studio.jobs.store import Store
from studio.jobs.webhooks.addresses import Reach
from studio.jobs.webhooks.sender import Sender
from studio.jobs.webhooks.transport import Limits

OWNER = "ada"


class Receiver:
    """An endpoint that keeps what it gets and answers as ``answer`` says."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[dict[str, str], str]] = []
        self.moments: list[float] = []
        self.answer: Callable[[Any], None] = lambda handler: respond(handler, 204)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                outer.got.append((dict(self.headers.items()), body))
                outer.moments.append(time.monotonic())
                outer.answer(self)

            do_GET = do_POST  # noqa: N815  the server's own naming

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # whoever was cut off may complain as he likes

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hooks?code=1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def respond(handler: Any, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def new_receiver() -> Iterator[Callable[..., Receiver]]:
    opened: list[Receiver] = []

    def new(**options: Any) -> Receiver:
        opened.append(Receiver(**options))
        return opened[-1]

    yield new
    for receiver in opened:
        receiver.close()


@pytest.fixture
def sending() -> Callable[..., Any]:
    """``with sending(store):`` runs a sender that may reach this machine, in haste."""

    @contextmanager
    def run(store: Store, **options: Any) -> Iterator[Sender]:
        options = {"limits": Limits(total_s=1.0, read_s=0.2), "waits_s": (0.05,) * 40, "look_s": 0.02, **options}
        sender = Sender(store, options.pop("reach", lambda: Reach(loopback=True)), **options)
        sender.start()
        try:
            yield sender
        finally:
            sender.close()

    return run


@pytest.fixture
def hook() -> Callable[..., Any]:
    """``hook(store, url, events=...)`` returns a webhook and its secret."""

    def make(store: Store, url: str, owner: str = OWNER, **settings: Any) -> Any:
        return store.webhooks.create(owner, WebhookConfig(url=url, **settings))

    return make


@pytest.fixture
def put() -> Callable[..., Any]:
    """``put(store, "a", "train", source="c")`` queues a job."""

    def make(store: Store, job_id: str, kind: Any = "check", source: str | None = None, owner: str = OWNER) -> Any:
        return store.insert(NewJob(job_id, kind, owner, "Photos of Ada", "fp", source, None, JobFacts(subject="Ada")))

    return make


@pytest.fixture
def until() -> Callable[..., None]:
    """``until(lambda: ...)`` waits until something is so."""

    def wait(is_so: Callable[[], Any], timeout_s: float = 20.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < end_s, "it never came"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of hooks.example, with its key, that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("hooks.example")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
