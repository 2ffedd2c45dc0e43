"""The errors: what they say, and what they decide."""

import pytest

from studio.core import errors
from studio.core.errors import InputError, Problem, ResourceError, StudioError


def test_a_problem_reads_as_a_sentence_with_its_cure() -> None:
    problem = Problem("IMG_3.jpg", "no face found", "use a photo with one clear face")
    assert str(problem) == "IMG_3.jpg: no face found; use a photo with one clear face."


def test_one_error_lists_every_problem_on_its_own_line() -> None:
    error = InputError.of([Problem("a", "is bad", "mend it"), Problem("b", "is worse", "remove it", "worse")])
    assert isinstance(error, InputError)
    assert str(error) == "a: is bad; mend it.\nb: is worse; remove it."
    assert [problem.code for problem in error.problems] == ["invalid", "worse"]


def _classes(root: type[StudioError]) -> list[type[StudioError]]:
    return [root, *(below for child in root.__subclasses__() for below in _classes(child))]


@pytest.mark.parametrize("kind", _classes(StudioError))
def test_every_error_has_a_status_that_http_knows_and_a_docstring(kind: type[StudioError]) -> None:
    assert 400 <= kind.status <= 599
    assert kind.__doc__


def test_only_machine_trouble_may_be_tried_again_as_it_is() -> None:
    # Verbs may add kinds of their own below ResourceError; a server that is about to stop is another one soon.
    trouble = (ResourceError, errors.UnavailableError)
    assert all(issubclass(kind, trouble) == kind.retry for kind in _classes(StudioError))


def test_what_the_user_can_mend_is_a_client_error() -> None:
    for kind in (errors.InputError, errors.NotFoundError, errors.ConflictError):
        assert kind.status < 500
