import pytest

from studio.core.errors import ResourceError
from studio.jobs.lead import FileLead


def test_of_all_servers_on_a_home_one_has_the_lead_until_it_leaves(tmp_path):
    first, second, looks = (FileLead(tmp_path / "worker.lock") for _ in range(3))
    assert not looks.is_taken(), "nobody was here before"
    assert first.take() and first.take()
    assert looks.is_taken() and first.is_taken()
    assert not second.take()
    first.leave()
    first.leave()
    assert not looks.is_taken()
    assert second.take() and not first.take()
    second.leave()


def test_a_lock_that_cannot_be_written_is_told_in_words(tmp_path):
    with pytest.raises(ResourceError, match="cannot be written"):
        FileLead(tmp_path / "missing" / "worker.lock").take()
