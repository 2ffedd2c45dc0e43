import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.jobs.storage.base import Storage
from studio.jobs.storage.cloud import CloudStorage
from studio.jobs.storage.folder import FolderStorage
from studio.jobs.storage.links import LinkSigner


@pytest.fixture
def signer() -> LinkSigner:
    return LinkSigner(b"k" * 32, "http://studio.test")


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[str]:
    """The address of moto's S3 server."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        assert not os.environ.get("STUDIO_REQUIRE_S3"), "moto must be here, and is not"
        pytest.skip("needs moto[server]")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(bucket_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket's address, with the variables by which it is reached."""
    import urllib.request

    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": bucket_server,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"studio-{os.urandom(6).hex()}"
    urllib.request.urlopen(urllib.request.Request(f"{bucket_server}/{name}", method="PUT"), timeout=30).close()
    return f"s3://{name}/of-a-test"


@pytest.fixture(params=["folder", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, signer: LinkSigner) -> Storage:
    if request.param == "folder":
        return FolderStorage(tmp_path / "objects", signer)
    pytest.importorskip("obstore")
    return CloudStorage("memory:///" if request.param == "memory" else request.getfixturevalue("bucket"))


@pytest.fixture
def together() -> Callable[[int, Callable[[int], Any]], list[Any]]:
    """Return a function that calls another one from many threads at once and returns what came of each."""

    def call(times: int, what: Callable[[int], Any]) -> list[Any]:
        results: list[Any] = [None] * times
        barrier = threading.Barrier(times)

        def one(number: int) -> None:
            barrier.wait()
            try:
                results[number] = what(number)
            except Exception as error:
                results[number] = error

        threads = [threading.Thread(target=one, args=(number,)) for number in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return call
