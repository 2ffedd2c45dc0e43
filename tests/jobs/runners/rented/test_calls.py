import pytest

from studio.core.errors import ResourceError
from studio.jobs.runners.rented.calls import Calls


def test_a_service_that_is_not_there_is_no_clear_answer():
    with pytest.raises(ResourceError, match=r"Vast\.ai gave no clear answer \(ConnectError\)"):
        Calls("Vast.ai", "http://127.0.0.1:1", "key").ask("GET", "/x")


def test_the_key_goes_to_the_service_alone():
    calls = Calls("Vast.ai", "https://console.vast.ai/", "key")
    assert calls.belongs("https://console.vast.ai/api")
    for url in ("https://console.vast.ai.evil.org/api", "http://console.vast.ai/api", "https://evil.org/"):
        assert not calls.belongs(url)
