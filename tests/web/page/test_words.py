import ast
from pathlib import Path
from typing import Any, get_args

import pytest

from studio.core.domain import JobKind, JobState
from studio.core.finish_config import STEPS
from studio.core.settings import PROJECT_ROOT
from studio.web.page import words, words_api

WEB = PROJECT_ROOT / "studio" / "web"
SHOWN = {"label", "info", "placeholder", "title"}
"""Arguments of Gradio's components that a person reads."""


def test_every_sentence_is_used() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in WEB.rglob("*.py") if path.name != "words.py")
    unused = [name for name in vars(words) if name.isupper() and f"words.{name}" not in code]
    assert unused == []
    assert [name for name in vars(words_api) if name.isupper() and f"words_api.{name}" not in code] == []


@pytest.mark.parametrize("path", sorted((WEB / "page").glob("*.py")), ids=lambda path: path.name)
def test_what_a_field_says_stands_in_the_catalogue(path: Path) -> None:
    wrong = [
        f"{path.name}:{keyword.value.lineno}: {keyword.arg}={keyword.value.value!r}"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("gr.")
        for keyword in call.keywords
        if keyword.arg in SHOWN and isinstance(keyword.value, ast.Constant) and keyword.value.value
    ]
    assert wrong == []


def test_every_state_kind_and_step_has_its_words() -> None:
    ends = {"completed", "stalled", "cancelled"}
    assert set(words.STATES) == set(get_args(JobState)) - ends
    assert set(words.JOB_STATES) == ends
    kinds = set(get_args(JobKind))
    assert set(words.PROGRESS) == kinds - {"check"}
    assert set(words.CANCELLED) == set(words.NOTHING_CHOSEN) == kinds
    assert set(words.CHAIN_STEPS) == set(STEPS)


@pytest.mark.parametrize(("count", "sentence"), [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures")])
def test_one_thing_and_several_have_forms_of_their_own(count: int, sentence: str) -> None:
    assert words.counted(words.PICTURES, count) == sentence


def test_more_than_a_count_can_be_filled_in() -> None:
    facts: dict[str, Any] = {"size": "4 kB", "licence": "mit"}
    assert words.counted(words.PUBLISHED_FACTS, 1, **facts) == "1 file, 4 kB, licence mit."
