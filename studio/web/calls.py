"""Calls of endpoints, looked at before Gradio does: unknown names are 404, wrong arguments 422, both in words.

Gradio answers such calls with ``{"error": null}`` or status 500, and logs the values of a call with too few of them,
tokens and all. The arguments of every endpoint are derived from its signature, as Gradio's documentation of it is.
"""

import inspect
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, get_type_hints

import gradio as gr
from pydantic import TypeAdapter, ValidationError

from studio.core.errors import Problem
from studio.core.names import nearest
from studio.web.asgi import FAILED, App, Message, Receive, Scope, Send, answer, parsed, read, replayed, rewritten

if TYPE_CHECKING:
    from gradio.blocks import Blocks

_CALL = re.compile(r"/gradio_api/(?P<way>call/v2|call|run|api)/(?P<name>[^/]+)/?")
_RESULT = re.compile(r"/gradio_api/call/(?:v2/)?(?P<name>[^/]+)/(?P<event>[^/]+)/?")
_JOIN = re.compile(r"/gradio_api/queue/join/?")

_DO_NOT_FIT = "The values do not fit this call; docs/API.md says what each endpoint takes."

_log = logging.getLogger("studio.web")


@dataclass(frozen=True)
class Argument:
    """One argument of an endpoint."""

    name: str
    kind: TypeAdapter[Any]
    is_required: bool

    def problem(self, value: Any) -> Problem | None:
        """Return what is wrong with a value out of a JSON body; None if it fits."""
        try:
            self.kind.validate_json(json.dumps(value), strict=True)  # as JSON: objects and arrays stand for models
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(
                [self.name, *(str(part) for part in first["loc"] if not str(part).startswith("function-"))]
            )
            message = str(first["msg"])
            return Problem(where, message[:1].lower() + message[1:], "see docs/API.md", "wrong_type")
        except (ValueError, RecursionError):
            return Problem(self.name, "cannot be read", "see docs/API.md", "wrong_type")
        return None


@dataclass(frozen=True)
class Endpoint:
    """A named endpoint."""

    name: str
    arguments: tuple[Argument, ...]

    def problems(self, values: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with arguments given by name."""
        known = {argument.name for argument in self.arguments}
        names = ", ".join(sorted(known)) or "none"
        found = [
            Problem(name, f"/{self.name} takes no such argument", f"use only: {names}", "unknown_argument")
            for name in values
            if name not in known
        ]
        for argument in self.arguments:
            if argument.name in values:
                problem = argument.problem(values[argument.name])
            elif argument.is_required:
                problem = Problem(argument.name, "is missing", f"/{self.name} cannot do without it", "missing")
            else:
                problem = None
            found += [problem] if problem else []
        return found

    def problems_in_order(self, values: Sequence[Any]) -> list[Problem]:
        """Return what is wrong with arguments given in order; here none may be left out."""
        if len(values) != len(self.arguments):
            names = ", ".join(argument.name for argument in self.arguments) or "no arguments"
            message = f"/{self.name} takes {len(self.arguments)} values ({names}), not {len(values)}"
            return [Problem("data", message, f"send all of them, or POST /gradio_api/call/v2/{self.name}", "count")]
        pairs = zip(self.arguments, values, strict=True)
        return [problem for argument, value in pairs if (problem := argument.problem(value)) is not None]


def endpoints_of(page: "Blocks") -> dict[int, Endpoint]:
    """Return the public endpoints of a page by the index of their function."""
    found = {}
    for index, function in page.fns.items():
        handler = function.fn
        if handler is None or function.api_visibility != "public" or not function.api_name or not _is_api(function):
            continue
        hints = get_type_hints(handler)
        arguments = tuple(
            Argument(name, TypeAdapter(hints.get(name, Any)), parameter.default is inspect.Parameter.empty)
            for name, parameter in inspect.signature(handler).parameters.items()
            if hints.get(name) not in (gr.Request, gr.OAuthToken, gr.OAuthProfile)
        )
        found[index] = Endpoint(str(function.api_name), arguments)
    return found


def _is_api(function: Any) -> bool:
    """Tell whether an endpoint comes from ``gr.api``: only these are typed by their signature."""
    return all(type(component).__name__ == "Api" for component in function.inputs)


def tell_failures_in_words(page: "Blocks") -> None:
    """Let a fault inside a handler reach the caller as a sentence instead of null, and the log with its trace."""
    for function in page.fns.values():
        handler = function.fn
        if handler is None or inspect.iscoroutinefunction(handler) or inspect.isgeneratorfunction(handler):
            continue
        function.fn = _told(handler)


def _told(handler: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(handler)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception:
            _log.exception("a handler failed: %s", getattr(handler, "__name__", handler))
            raise gr.Error(FAILED, print_exception=False) from None

    return told


class CallsMiddleware:
    """ASGI middleware right before Gradio: only calls that fit an endpoint get there.

    Args:
        app: what comes behind.
        page: the page, with its endpoints.
    """

    def __init__(self, app: App, page: "Blocks") -> None:
        self._app = app
        self._page = page
        self._endpoints = endpoints_of(page)
        self._index_of = {endpoint.name: index for index, endpoint in self._endpoints.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here with a refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if scope["method"] in ("GET", "HEAD") and (match := _RESULT.fullmatch(path)):
            if not self._is_event(match["event"]):
                await answer(send, 404, "There is no such call here, or no longer; start it again.")
                return
        elif scope["method"] == "POST" and (_CALL.fullmatch(path) or _JOIN.fullmatch(path)):
            body = await read(receive)
            receive = replayed(body, receive)
            refusal = self._refusal(path, parsed(body))
            if refusal is not None:
                status, words, problems = refusal
                rows = [{"where": p.where, "message": p.message, "cure": p.cure, "code": p.code} for p in problems]
                await answer(send, status, words, problems=rows)
                return
            if not path.startswith("/gradio_api/call/"):
                send = _in_words(send)
        await self._app(scope, receive, send)

    def _refusal(self, path: str, data: Any) -> tuple[int, str, list[Problem]] | None:
        if not isinstance(data, dict):
            return _wrong([Problem("body", "is not a JSON object", "send one", "not_json")])
        match = _CALL.fullmatch(path)
        way, name = (match["way"], match["name"]) if match else ("queue", "")
        index = data.get("fn_index") if way in ("run", "api", "queue") else None
        if index is None:
            index = self._index_of.get(name)
            if index is None:
                near = nearest(name, self._index_of)
                hint = f"did you mean /{near}?" if near else "docs/API.md lists them all."
                return 404, f"There is no endpoint of this name; {hint}", []
        function = self._page.fns.get(index) if type(index) is int else None
        if function is None:
            return 404, "The page has no event of this number; load it again.", []
        endpoint = self._endpoints.get(index)
        if way == "call/v2":
            assert endpoint is not None
            return _wrong(endpoint.problems({key: value for key, value in data.items() if key != "oauth_token"}))
        values = data.get("data")
        if not isinstance(values, list):
            return _wrong([Problem("data", "is not a list", "send the arguments in order", "not_a_list")])
        if endpoint is not None:
            return _wrong(endpoint.problems_in_order(values))
        if len(values) < len(function.inputs) and not function.cancels:
            message = f"has {len(values)} values, but this event takes {len(function.inputs)}"
            return _wrong([Problem("data", message, "load the page again", "count")])
        return None

    def _is_event(self, event: str) -> bool:
        queue = self._page._queue
        return (
            event in queue.event_ids_to_events
            or event in queue.pending_messages_per_session
            or any(event in events for events in queue.pending_event_ids_session.values())
        )


def _wrong(problems: list[Problem]) -> tuple[int, str, list[Problem]] | None:
    return (422, "\n".join(str(problem) for problem in problems), problems) if problems else None


def _in_words(send: Send) -> Send:
    """Turn Gradio's answer to a direct call that was refused into words, and into a status that says whose fault it is.

    Gradio answers 500 whether a handler refused, failed, or never got the values; and null in the third case.
    """

    def told(start: Message, body: bytes) -> tuple[Message, bytes]:
        data = parsed(body)
        told_words = data.get("error") if isinstance(data, dict) else None
        data = {**(data if isinstance(data, dict) else {}), "error": told_words or _DO_NOT_FIT}
        body = json.dumps(data).encode()
        kept = [(name, value) for name, value in start.get("headers", []) if name.lower() != b"content-length"]
        status = 500 if told_words == FAILED else 422
        length = (b"content-length", str(len(body)).encode())
        return {"type": "http.response.start", "status": status, "headers": [*kept, length]}, body

    return rewritten(send, lambda start: start["status"] == 500, told)
