import gradio as gr
import pytest

from studio.core.errors import InputError, Problem
from studio.web.page.context import errors_in, faults_in


def test_an_error_is_shown_under_the_forms_own_name_and_success_clears_it() -> None:
    notice, other = gr.HTML(), gr.HTML()

    @errors_in(notice, {"steps": "Number of steps"})
    def handler(fails: bool) -> dict:
        if fails:
            raise InputError.of([Problem("steps", "is too large", "use fewer")])
        return {other: "done"}

    assert handler(False) == {notice: "", other: "done"}
    shown = handler(True)
    assert set(shown) == {notice}
    assert "Number of steps" in shown[notice] and "too large" in shown[notice]


def test_a_fault_of_what_runs_by_itself_is_shown_where_the_next_success_takes_it_away() -> None:
    status = gr.HTML()

    @faults_in(status)
    def handler(fails: bool) -> dict:
        if fails:
            raise InputError.of([Problem("disk", "is full", "make room")])
        return {status: "half way"}

    assert handler(False) == {status: "half way"}
    assert set(handler(True)) == {status} and "is full" in handler(True)[status]


def test_a_bug_is_not_taken_for_an_error_of_the_user() -> None:
    @errors_in(gr.HTML())
    def handler() -> dict:
        raise KeyError("surprise")

    with pytest.raises(KeyError):
        handler()
