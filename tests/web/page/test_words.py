import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from studio.core import language
from studio.core.domain import JobKind, JobState
from studio.core.finish_config import STEPS
from studio.core.settings import PROJECT_ROOT
from studio.web.page import words, words_admin, words_api

SENTENCES = {**vars(words), **vars(words_admin)}
WEB = PROJECT_ROOT / "studio" / "web"
SHOWN = {"label", "info", "placeholder", "title"}
"""Arguments of Gradio's components that a person reads."""


def test_every_sentence_is_used() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in WEB.rglob("*.py") if path.name != "words.py")
    for room in (words, words_admin):
        of = room.__name__.rpartition(".")[2]
        assert [name for name in vars(room) if name.isupper() and f"{of}.{name}" not in code] == []
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


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ():
        yield from leaves(part)


def test_every_sentence_for_people_is_translated() -> None:
    known = language.catalogue("de")
    named = [(name, text) for name, value in SENTENCES.items() if name.isupper() for text in leaves(value)]
    missing = [row for row in named if not row[0].startswith("API_") and not {row, ("", row[1])} & set(known)]
    assert missing == [], "add them to studio/core/languages/de/page.po"


def test_no_translation_is_left_of_a_sentence_that_is_gone() -> None:
    folder = language.FOLDER / "de"
    said = {text for value in SENTENCES.values() for text in leaves(value)}
    of_page = language.read((folder / "page.po").read_text(encoding="utf-8"))
    assert [text for _, text in of_page if text not in said] == []
    assert [context for context, _ in of_page if context and context not in SENTENCES] == []


def test_who_asks_for_a_sentence_gets_it_in_the_language_that_is_spoken() -> None:
    with language.speaking("de"):
        assert (words.TAB_TRAIN, words.TRAIN_START) == ("Training", "Training starten")
        assert words.counted(words.PICTURES, 2) == "2 Bilder"
    assert (words.TAB_TRAIN, words.TRAIN_START) == ("Train", "Train")
