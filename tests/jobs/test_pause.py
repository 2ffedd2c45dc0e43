from pathlib import Path

import pytest

from studio.core.errors import ResourceError
from studio.jobs.pause import PAUSE_FILE, is_paused, pause


def test_a_pause_holds_until_it_is_taken_back_and_twice_is_once(tmp_path: Path) -> None:
    assert not is_paused(tmp_path)
    for on in (True, True, False, False):
        pause(tmp_path, on=on)
        assert is_paused(tmp_path) is on
    pause(tmp_path, on=True)
    assert (tmp_path / PAUSE_FILE).stat().st_mode & 0o077 == 0


def test_a_pause_that_cannot_be_stored_is_no_pause(tmp_path: Path) -> None:
    with pytest.raises(ResourceError):
        pause(tmp_path / "nowhere", on=True)
    assert not is_paused(tmp_path / "nowhere")
