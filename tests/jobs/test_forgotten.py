from pathlib import Path

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
