import threading
from collections.abc import Callable
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
