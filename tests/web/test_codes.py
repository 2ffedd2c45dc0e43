"""Codes of runs: eight digits, the same for ever, and never the wrong run."""

import pytest

from studio.core.errors import ConflictError, NotFoundError
from studio.web import codes


def test_a_code_has_eight_digits_and_follows_from_the_id_alone() -> None:
    assert codes.code_of("train-0123456789abcdef") == codes.code_of("train-0123456789abcdef") == "50009912"
    made = {codes.code_of(f"train-{number}") for number in range(2000)}
    assert len(made) == 2000 and all(codes.is_code(code) for code in made)
    for handle in ("train-1", "1234567", "123456789", "01234567", "\uff11" * 8, " 12345678", ""):
        assert not codes.is_code(handle), handle


def test_a_code_finds_its_run() -> None:
    runs = [f"train-{number}" for number in range(50)]
    assert codes.found(codes.code_of("train-17"), runs) == "train-17"
    with pytest.raises(NotFoundError, match="no adapter with the code '10000000'"):
        codes.found("10000000", runs)


def test_a_code_of_two_runs_names_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "_COUNT", 1)
    with pytest.raises(ConflictError, match="use the id of one: train-1, train-2"):
        codes.found("10000000", ["train-1", "train-2"])
