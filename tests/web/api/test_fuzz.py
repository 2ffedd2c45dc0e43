"""Whatever the description lets a client send, and what it does not: every answer is a documented one, and no fault."""

import warnings
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from fastapi import FastAPI

from studio.core.settings import Settings
from studio.service import Studio
from studio.web.api.errors import ErrorShapes
from studio.web.api.interfaces import SHAPES, add_interfaces
from studio.web.api.native import OPERATIONS
from studio.web.routes import add_routes
from studio.web.session import StudioSession

NAMES = [(row.method, row.path) for row in OPERATIONS]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The routes alone before a real studio that is not started, as schemathesis reads them."""
    schemathesis = pytest.importorskip("schemathesis")
    settings = Settings(home=tmp_path_factory.mktemp("fuzz"), device="cpu")
    studio = Studio(settings)
    app, session = FastAPI(), StudioSession(studio, settings)
    add_routes(app, lambda request: session, settings)
    add_interfaces(app, lambda request: session, settings)
    app.add_middleware(ErrorShapes, shapes=SHAPES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the generator and its client warn of is not ours
        yield schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    studio.close()


def ask(schema: Any, method: str, path: str, examples: int) -> set[int]:
    """Send made-up requests, right and wrong ones; returns the statuses of the answers."""
    from schemathesis import GenerationMode

    operation = schema[path][method]
    documented = {int(status) for status in operation.definition.raw["responses"]}
    found = set()

    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck), phases=(hypothesis.Phase.generate,),
    )  # fmt: skip
    @hypothesis.given(
        case=operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE)
    )
    def sent(case: Any) -> None:
        answer = case.call()
        found.add(answer.status_code)
        assert answer.status_code in documented, f"{answer.status_code} is not documented: {answer.text}"
        # Nobody leads here, and the Hub is not there: 503, 507.
        assert answer.status_code < 500 or answer.status_code in (503, 507), answer.text

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sent()
    return found


@pytest.mark.parametrize(("method", "path"), NAMES)
def test_a_few_requests_are_answered_as_documented(schema: Any, method: str, path: str) -> None:
    assert ask(schema, method, path, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), NAMES)
def test_many_requests_are_answered_as_documented(schema: Any, method: str, path: str) -> None:
    assert ask(schema, method, path, 100)
