"""The page as Gradio describes it to the browser."""

import html
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from studio.core import language
from studio.core.settings import PROJECT_ROOT, Settings


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page's description."""
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt") as address:
        described: dict[str, Any] = httpx.get(f"{address}/config").json()
    return described


@pytest.fixture(scope="module")
def events(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Every event of the page that reaches the server, and every endpoint."""
    return [row for row in page["dependencies"] if row["backend_fn"]]


def test_no_event_of_the_page_waits_for_the_queues_stream_which_may_close_before_the_answer(
    events: list[dict[str, Any]],
) -> None:
    of_the_page = [row for row in events if row["api_visibility"] == "private"]
    assert len(of_the_page) > 20
    assert [row["api_name"] for row in of_the_page if row["queue"]] == []


BY_ITSELF = {"tick", "load", "change", "select"}
"""Events that come without a press: of a clock, of the page's opening, of a value, of a tab that a press leads to."""


def test_nothing_that_happens_by_itself_touches_the_answer_to_a_press(
    page: dict[str, Any], events: list[dict[str, Any]]
) -> None:
    answers = {row["id"]: row["props"]["elem_id"] for row in page["components"] if is_answer(row["props"])}
    assert len(answers) == 7
    presses = [row for row in events if row["targets"] and not {kind for _, kind in row["targets"]} & BY_ITSELF]
    assert {part for row in presses for part in row["outputs"]} >= set(answers)
    touched = [
        (answers[part], row["targets"])
        for row in events
        if {kind for _, kind in row["targets"]} & BY_ITSELF
        for part in row["outputs"]
        if part in answers
    ]
    assert touched == []


def is_answer(props: dict[str, Any]) -> bool:
    return "ls-answer" in (props.get("elem_classes") or ())


def test_the_endpoints_for_programs_stay_behind_the_queue(events: list[dict[str, Any]]) -> None:
    endpoints = [row for row in events if row["api_visibility"] == "public"]
    assert len(endpoints) == 28 and all(row["queue"] for row in endpoints)


def test_no_part_of_the_page_is_made_only_when_it_is_opened_over_what_was_filled_in(page: dict[str, Any]) -> None:
    assert [row["props"]["label"] for row in page["components"] if row["type"] == "accordion"] == []


SEEN = ("label", "info", "placeholder", "value", "choices")
"""Properties of components that a person reads."""
ENGLISH = re.compile(r"\b(the|of|is|are|with|your|this|from|and|which|not|what)\b", re.IGNORECASE)
"""Words that hardly a sentence does without; none of them is German."""
FOR_MODELS = re.compile("at the sea, smiling|a photo of {subject} at the beach|a pencil sketch of {subject}")
"""Examples of prompts and captions, which models understand best in English."""


def read_by_people(page: dict[str, Any]) -> Iterator[str]:
    """Yield what stands on the page before anything happened: texts of components, of their HTML and of choices."""
    for part in (row for row in page["components"] if row["type"] != "api"):
        for name in SEEN:
            waiting = [part["props"].get(name)]
            while waiting:
                value = waiting.pop()
                if isinstance(value, str) and part["type"] in ("html", "markdown"):
                    yield from re.findall(r'(?:alt|title|aria-label)="([^"]+)"', value)
                    yield from re.split(r"<[^>]+>", re.sub(r"<style>.*?</style>", "", value))
                elif isinstance(value, str):
                    yield value
                elif isinstance(value, list):
                    waiting.extend(value[:1] if name == "choices" and value and isinstance(value[0], str) else value)


def test_nothing_english_is_left_on_a_german_page_and_no_german_on_an_english_one(
    settings: Settings, serving: Any, tmp_path: Any, page: dict[str, Any]
) -> None:
    spoken = settings.model_copy(
        update={"language": "de", "home": tmp_path / "home", "presets_dir": PROJECT_ROOT / "presets"}
    )
    with serving(spoken, tmp_path / "server.txt") as address:
        described = httpx.get(f"{address}/config").json()
    said = {html.unescape(text).strip() for text in read_by_people(described)} - {""}
    german = language.catalogue("de")
    translated = {english for (_, english), text in german.items() if english != text} - set(german.values())
    assert len(said) > 150
    assert sorted(said & translated) == ["subject"], "the name of an engine, which a table of a command heads"
    assert [text for text in said if ENGLISH.search(FOR_MODELS.sub("", text))] == []
    assert 'documentElement.lang = "de"' in described["head"], "readers and screen readers are told the language"
    before = {html.unescape(text).strip() for text in read_by_people(page)}
    assert {"Fotos hier ablegen", "Bibliothek"} <= said and {"Drop photos here", "Library"} <= before
