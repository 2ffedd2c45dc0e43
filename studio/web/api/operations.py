"""What an operation of an HTTP interface is, and how it is called: everything that is wrong comes in one answer.

The routes of the app and their description (``studio.web.api.schema``) are both made from the same rows.
"""

import hashlib
import inspect
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.routing import compile_path

from studio.core.domain import plain
from studio.core.errors import InputError, NotFoundError, Problem, StudioError
from studio.core.settings import Settings
from studio.core.strict import StrictModel
from studio.web.asgi import FAILED
from studio.web.full_disk import FULL_DISK
from studio.web.routes import SessionOf, Uploads
from studio.web.session import StudioSession

_LARGE_BYTES = 2**18
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_log = logging.getLogger("studio.web")
_Model = TypeVar("_Model", bound=StrictModel)


class Nothing(StrictModel):
    """No parameters."""


@dataclass(frozen=True)
class Desk:
    """What the operations of an app share."""

    session_of: SessionOf
    settings: Settings
    uploads: Uploads


@dataclass(frozen=True)
class Call:
    """One request of an operation."""

    request: Request
    session: StudioSession
    desk: Desk
    query: Any
    """The parameters of the address, as the operation's query class; a whole body is checked before, too."""
    body: Any
    """The body as the operation's body class, or as JSON data where the operation parses it itself."""

    @property
    def path(self) -> dict[str, Any]:
        """The variable parts of the path."""
        return self.request.path_params

    @property
    def key(self) -> str | None:
        """The idempotency key of the request; None without one."""
        return self.request.headers.get("idempotency-key")


@dataclass(frozen=True)
class Answer:
    """What an operation answers, where that is more than its data with status 200."""

    data: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One route of an interface."""

    method: str
    path: str
    summary: str
    handler: Callable[[Call], Any]
    """Runs in a thread and returns data, an ``Answer`` or a whole response; a coroutine function runs where it is."""
    answer: Any
    """Type of the data, or a JSON schema where there is no type."""
    status: int = 200
    """Of the usual answer."""
    query: type[StrictModel] = Nothing
    body: type[StrictModel] | None = None
    parse_body: bool = True
    """Whether the body is parsed as its class before the handler is called; otherwise the class only describes it."""
    example: Any = None
    """Of a body."""
    tagged: bool = False
    """Whether the answer carries an ETag and is not sent to somebody who has it already."""
    refuses: tuple[int, ...] = ()
    """Statuses of refusals that not every operation knows."""
    also: Mapping[int, Any] = field(default_factory=dict)
    """Other good answers: status -> their type or schema."""


def add_operations(app: FastAPI, operations: Iterable[Operation], desk: Desk, *, below: str | None = None) -> None:
    """Add the routes to the app; what is not among them below the path ``below`` is refused in words."""
    rows = tuple(operations)
    for operation in rows:
        app.add_api_route(operation.path, _endpoint(operation, desk), methods=[operation.method])
    if below is None:
        return
    paths = [(compile_path(operation.path)[0], operation.method) for operation in rows]

    async def not_there(request: Request) -> Response:
        methods = sorted({method for pattern, method in paths if pattern.match(request.url.path)})
        if methods:
            words = f"{request.method} is not for this address; use {' or '.join(methods)}."
            return JSONResponse({"error": words}, 405, {"Allow": ", ".join(methods)})
        raise NotFoundError("there is no such address; docs/API.md lists them.")

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    app.add_api_route(f"{below}/{{rest:path}}", not_there, methods=every)


def _endpoint(operation: Operation, desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    is_async = inspect.iscoroutinefunction(operation.handler)

    async def endpoint(request: Request) -> Response:
        try:
            session = desk.session_of(request)
            _ = session.owner  # whoever is nobody is told so before anything else
            problems: list[Problem] = []
            query = _parsed(operation.query, _query_of(request, problems), problems)
            body: Any = None
            if operation.body is not None:
                body = await _json_of(request, problems)
                if operation.parse_body and body is not None:
                    body = _parsed(operation.body, body, problems)
            if problems:
                raise InputError.of(problems)
            call = Call(request, session, desk, query, body)
            found = operation.handler(call) if is_async else run_in_threadpool(operation.handler, call)
            return _response(request, operation, await found)
        except StudioError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise  # told in words in front
            _log.exception("%s %s failed", operation.method, operation.path)
            raise StudioError(FAILED) from None

    return endpoint


def _query_of(request: Request, problems: list[Problem]) -> dict[str, str]:
    given = request.query_params
    twice = sorted({name for name in given if len(given.getlist(name)) > 1})
    problems += [Problem(name, "is given more than once", "give it once", "repeated") for name in twice]
    return dict(given)


async def _json_of(request: Request, problems: list[Problem]) -> dict[str, Any] | None:
    text = await request.body()
    # A large one, with pictures inside, would keep everybody else waiting.
    data = await run_in_threadpool(_loaded, text) if len(text) > _LARGE_BYTES else _loaded(text)
    if data is None:
        problems.append(Problem("body", "is not a JSON object", "send one", "not_json"))
    return data


def _loaded(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body, an empty one of an empty body; None of anything else."""
    try:
        data = json.loads(text or b"{}")
        if _SURROGATE.search(text):  # halves of characters, which JSON can say and nothing can store
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _parsed(model: type[_Model], data: Any, problems: list[Problem]) -> _Model | None:
    try:
        return model.parse(data)
    except InputError as error:
        problems += error.problems
        return None


def _response(request: Request, operation: Operation, made: Any) -> Response:
    if isinstance(made, Response):
        return made
    answer = made if isinstance(made, Answer) else Answer(made, operation.status)
    response = JSONResponse(plain(answer.data), answer.status, dict(answer.headers))
    if operation.tagged:
        response.headers["Cache-Control"] = "private, no-cache"
        response.headers["ETag"] = tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
        given = request.headers.get("if-none-match", "")
        if given.strip() == "*" or tag in {part.strip().removeprefix("W/") for part in given.split(",")}:
            kept = {"ETag": tag, "Cache-Control": "private, no-cache"}
            return Response(status_code=304, headers=kept)
    return response
