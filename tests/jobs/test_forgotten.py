from pathlib import Path

from studio.core.private import owner_digest
from studio.core.receipts import Share
from studio.jobs import forgotten
from studio.jobs.forgotten import Forgetting


def test_an_intent_becomes_a_receipt_that_keeps_ids_and_numbers_only(tmp_path: Path) -> None:
    intent = Forgetting(
        "ab", ("check-1",), (Share("folders", 2, 30),), 5.0, adapters=("ad",), owner="digest", whole=True
    )
    forgotten.write(tmp_path, intent)
    assert forgotten.open_ones(tmp_path) == [intent] and forgotten.owners(tmp_path) == {"digest"}
    forgotten.close(tmp_path, intent, 9.0)
    assert forgotten.open_ones(tmp_path) == [] and forgotten.owners(tmp_path) == frozenset()
    assert list(forgotten.all_of(tmp_path)) == [Forgetting("ab", ("check-1",), (Share("folders", 2, 30),), 5.0, 9.0)]
    assert forgotten.ids(tmp_path) == {"check-1"}
    assert "digest" not in (tmp_path / "forget" / "ab.json").read_text()


def test_a_damaged_file_hides_no_other(tmp_path: Path) -> None:
    forgotten.write(tmp_path, Forgetting("b", ("check-2",), (), 5.0))
    forgotten.write(tmp_path, Forgetting("a", ("check-1",), (), 6.0))
    (tmp_path / "forget" / "c.json").write_text('{"id":')
    (tmp_path / "forget" / "d.json").write_text('{"id": 3}')
    assert [one.id for one in forgotten.open_ones(tmp_path)] == ["b", "a"], "the oldest first"
    assert forgotten.ids(tmp_path) == {"check-1", "check-2"}
    assert list(forgotten.all_of(tmp_path / "nowhere")) == []


def test_receipts_are_read_by_their_owner_and_name_nobody(tmp_path: Path) -> None:
    share = Share("folders", 2, 30)
    for number, owner in enumerate(("hf:ada", "hf:bob", "hf:ada")):
        reader = forgotten.reader_of(tmp_path, owner)
        intent = Forgetting(f"r{number}", (f"check-{number}",), (share,), float(number), reader=reader, kept_days=30.0)
        forgotten.write(tmp_path, intent)
        if number:
            forgotten.close(tmp_path, intent, number + 0.5)
    newest, oldest = forgotten.read_by(tmp_path, "hf:ada")
    assert (newest.id, newest.jobs, newest.shares, newest.files, newest.bytes) == ("r2", ("check-2",), (share,), 2, 30)
    assert (newest.asked_s, newest.forgotten_s, newest.kept_days) == (2.0, 2.5, 30.0)
    assert (oldest.id, oldest.forgotten_s) == ("r0", None), "it is still being deleted"
    assert forgotten.read_by(tmp_path, "hf:eve") == []
    told = "".join(path.read_text() for path in (tmp_path / "forget").iterdir())
    assert "hf:ada" not in told and owner_digest("hf:ada") not in told, (
        "whoever guesses the name finds no receipt of it"
    )
