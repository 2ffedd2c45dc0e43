import json
from pathlib import Path

import pytest

from studio.bases import pulled
from studio.bases.local import open_cache
from studio.core.private import name_digest
from studio.core.settings import Settings

ADA = name_digest("you/ada")


def test_copies_of_an_adapter_and_notes_on_it_go_and_no_others(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    cache = open_cache(settings)
    for key in ("adapter--you--ada--c1", "adapter--you--ada--c2", "adapter--you--adam--c1", "you--ada--c1"):
        cache.put(key, 5, lambda folder: (folder / "file").write_text("12345") and None)
    notes = tmp_path / "bases" / "commits.json"
    notes.write_text(json.dumps({"you/ada@main": "c1", "you/ada@v2": "c2", "you/adam@main": "c1"}))
    assert pulled.forget(settings, [ADA], dry_run=True) == (2, 10)
    assert len(cache.entries()) == 4 and len(json.loads(notes.read_text())) == 3
    assert pulled.forget(settings, [ADA]) == (2, 10)
    assert set(cache.entries()) == {"adapter--you--adam--c1", "you--ada--c1"}
    assert json.loads(notes.read_text()) == {"you/adam@main": "c1"}
    assert not list((tmp_path / "bases").rglob("*adapter--you--ada--*"))
    assert pulled.forget(settings, [ADA]) == (0, 0) == pulled.forget(settings, [])


def test_one_that_a_job_draws_with_is_told_and_stays_whole(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    cache = open_cache(settings)
    entry = cache.put("adapter--you--ada--c1", 5, lambda folder: (folder / "file").write_text("12345") and None)
    with pytest.raises(OSError, match="busy"):
        pulled.forget(settings, [ADA])
    assert (entry.folder / "file").read_text() == "12345"
    entry.pin.close()
    assert pulled.forget(settings, [ADA]) == (1, 5)


def test_without_a_cache_there_is_nothing(tmp_path: Path) -> None:
    assert pulled.forget(Settings(home=tmp_path), [ADA]) == (0, 0)
    assert list(tmp_path.iterdir()) == []
