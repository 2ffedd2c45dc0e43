"""Marks in the place of weights that the backup alone holds."""

from pathlib import Path

from studio.core.evicted import Evicted, evicted, evicted_below, is_kept, mark, unmark

FACTS = Evicted(5, "ab" * 32)


def test_a_mark_says_what_a_file_was_and_a_file_that_is_here_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "a" / "weights.safetensors"
    path.parent.mkdir()
    assert evicted(path) is None and not is_kept(path)
    path.write_bytes(b"12345")
    mark(path, FACTS)
    assert evicted(path) is None and is_kept(path) and not list(evicted_below(tmp_path))
    path.unlink()
    assert evicted(path) == FACTS and is_kept(path)
    assert list(evicted_below(tmp_path)) == [(path, FACTS)]
    unmark(path)
    unmark(path)
    assert not is_kept(path)


def test_a_damaged_mark_is_none(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    mark(path, FACTS)
    (found,) = tmp_path.iterdir()
    for text in ("{", "[]", '{"bytes": "many"}', '{"bytes": 1}'):
        found.write_text(text)
        assert evicted(path) is None and not is_kept(path)
