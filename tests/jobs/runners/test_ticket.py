from pathlib import Path

import pytest

from studio.core.errors import InputError
from studio.jobs.events import Outcome
from studio.jobs.runners.ticket import Ending, FileRow, Ticket, visible_files


def row(path):
    return FileRow(path=path, bytes=1, sha256="0" * 64)


def test_a_path_stays_below_its_folder():
    assert row("a/b c.png").place(Path("/jobs")) == Path("/jobs/a/b c.png")
    for path in ("../a", "/a", "a/../b", ".a", "a/.b", "a//b"):
        with pytest.raises(ValueError, match="no path below"):
            row(path).place(Path("/jobs"))


def test_what_is_half_written_is_not_seen(tmp_path):
    for name in ("a.png", ".a.png.part", "checkpoints/5/DONE", "checkpoints/.6.part/state.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "a.png")
    assert [name for name, _ in visible_files(tmp_path)] == ["a.png", "checkpoints/5/DONE"]


def test_an_ending_without_a_state_is_no_outcome():
    assert Ending(reason="It died.").outcome() is None
    assert Ending(state="stalled", cause="x").outcome() == Outcome("stalled", None, "x", ())


def test_a_ticket_names_a_verb_and_no_command():
    with pytest.raises(InputError, match="verb"):
        Ticket.parse({"job": "check-0123456789abcdef", "kind": "check", "attempt": 1, "verb": "os.system('x')"})
