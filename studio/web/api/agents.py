"""The operations below ``/v1`` as tools for agents (Model Context Protocol): at ``/mcp``, and ``python -m studio mcp``.

A tool is a row of ``OPERATIONS`` under a plain name: its parameters are those of the address and of the body, from the
same classes. To call one is to send the request to ``/v1``, so that owners, scopes, limits and refusals are those of
``/v1``; nothing here decides them anew. Deleting is no tool: an agent that errs can be told to go on, files that are
gone cannot.

Source: Model Context Protocol, revision 2025-11-25, "Tools"; the package ``mcp`` 2.3.
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from studio import __version__
from studio.core.errors import MissingExtraError, StudioError
from studio.web.api.native import OPERATIONS
from studio.web.api.operations import Operation
from studio.web.asgi import COUNTED, App, Receive, Scope, Send

if TYPE_CHECKING:
    from mcp.server import Server, ServerRequestContext

Data = dict[str, Any]

PATH = "/mcp"
"""Where the tools are served."""

NO_PACKAGE = "Tools for agents need a package that is not installed: pip install mcp -c constraints.txt."

LOOK = "look"
"""The tool that shows pictures themselves."""

MOST_LOOKED_AT = 8
"""Pictures that one call shows."""

_MOST_BODY_BYTES = 2**20
_HEADERS = (b"authorization", b"x-hf-authorization", b"x-studio-token", b"cookie", b"x-studio-owner")
"""What says who asks, passed on as it came."""

INSTRUCTIONS = (
    "Likeness Studio learns a person, pet or thing from 5-20 photos and makes pictures of it. The way: check (photos of"
    " one subject) -> train (on the check) -> generate (with the run, or one of the list adapters) -> finish or export."
    " Each of these answers at once with a job; ask job with its id until state is completed, stalled or cancelled,"
    " then use look to see pictures. Photos of people need their consent."
)


@dataclass(frozen=True)
class Asked:
    """A request that a tool stands for."""

    method: str
    path: str
    """With its query."""
    body: Any = None


@dataclass(frozen=True)
class Said:
    """The answer to it."""

    status: int
    media_type: str
    body: bytes


Ask = Callable[[Asked], Awaitable[Said]]
"""Sends a request to the studio."""


@dataclass(frozen=True)
class AgentTool:
    """An operation under its name."""

    name: str
    operation: Operation
    more: str = ""
    """What an agent should know beside the operation's summary."""

    def schema(self) -> Data:
        """Return the JSON schema of all parameters."""
        described: Data = {"properties": {}, "required": list(self._in_path())}
        described["properties"] = {name: {"type": "string"} for name in self._in_path()}
        for model in filter(None, (self.operation.query, self.operation.body)):
            found = model.model_json_schema()
            described["properties"] |= found.get("properties", {})
            described["required"] += found.get("required", [])
            described.setdefault("$defs", {}).update(found.get("$defs", {}))
        return {"type": "object", "additionalProperties": False, **described}

    def asked(self, arguments: Mapping[str, Any]) -> Asked:
        """Return the request; what the operation does not know stays in it, so that it is refused by name."""
        rest = dict(arguments)
        path = re.sub(r"{(\w+)}", lambda match: quote(str(rest.pop(match[1], "-")), safe=""), self.operation.path)
        in_query = self.operation.query.model_fields if self.operation.body is not None else set(rest)
        asked = {name: rest.pop(name) for name in list(rest) if name in in_query}
        query = {name: _in_address(value) for name, value in asked.items() if value is not None}
        body = None if self.operation.body is None else rest
        return Asked(self.operation.method, f"{path}?{urlencode(query)}" if query else path, body)

    def _in_path(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.operation.path)


def _in_address(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_NAMED: Mapping[str, tuple[str, str, str]] = {
    "check": ("POST", "/v1/check", "A photo is given as base64, by the digest of an upload, or all by photos_url."),
    "train": ("POST", "/v1/train", "With whatif it only tells time and memory."),
    "generate": ("POST", "/v1/generate", "With whatif it only tells what would be made."),
    "finish": ("POST", "/v1/finish", "The list chains names what there is."),
    "export": ("POST", "/v1/export", ""),
    "publish": ("POST", "/v1/publish", "With dry_run it only shows what would be pushed."),
    "jobs": ("GET", "/v1/jobs", ""),
    "job": ("GET", "/v1/jobs/{job_id}", ""),
    "images": ("GET", "/v1/jobs/{job_id}/images", ""),
    "files": ("GET", "/v1/jobs/{job_id}/files", ""),
    "cancel": ("POST", "/v1/jobs/{job_id}/cancel", ""),
    "retry": ("POST", "/v1/jobs/{job_id}/retry", ""),
    "adapters": ("GET", "/v1/adapters", ""),
    "packs": ("GET", "/v1/packs", ""),
    "chains": ("GET", "/v1/chains", ""),
    "presets": ("GET", "/v1/presets", ""),
    "bases": ("GET", "/v1/bases", ""),
    "usage": ("GET", "/v1/usage", ""),
}
"""Name of a tool -> method, address, and what is said beside the summary."""

_BY_ADDRESS = {(row.method, row.path): row for row in OPERATIONS}
TOOLS: Mapping[str, AgentTool] = {
    name: AgentTool(name, _BY_ADDRESS[method, path], more) for name, (method, path, more) in _NAMED.items()
}
"""Every tool that is one request."""

_LOOK_SCHEMA: Data = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "job_id": {"type": "string", "description": "A generate or finish job."},
        "first": {"type": "integer", "minimum": 1, "default": 1, "description": "Number of the first picture."},
        "count": {"type": "integer", "minimum": 1, "maximum": MOST_LOOKED_AT, "default": 4},
    },
    "required": ["job_id"],
}


@dataclass(frozen=True)
class LocalTool:
    """A tool that also works on the agent's own machine."""

    name: str
    description: str
    schema: Data
    run: Callable[[Data], Any]
    """Takes the arguments; returns data, or the request that is sent then. Runs in a thread; raises StudioError."""
    reads_only: bool


def agent_server(
    ask_of: Callable[["ServerRequestContext[Any, Any]"], Ask], local: Sequence[LocalTool] = ()
) -> "Server[Any]":
    """Return the server of the protocol.

    Args:
        ask_of: gives what sends the requests of a call, in the name of whoever calls.
        local: further tools.

    Raises:
        MissingExtraError: the extra ``mcp`` is not installed.
    """
    try:
        import mcp_types as types
        from mcp.server import Server
    except ImportError:
        raise MissingExtraError(NO_PACKAGE) from None

    own = {tool.name: tool for tool in local}

    def told(name: str, description: str, schema: Data, reads_only: bool) -> types.Tool:
        hints = types.ToolAnnotations(read_only_hint=reads_only, destructive_hint=False)
        return types.Tool(name=name, description=description.strip(), input_schema=schema, annotations=hints)

    async def listed(context: Any, params: Any) -> types.ListToolsResult:
        rows = [
            told(tool.name, f"{tool.operation.summary} {tool.more}", tool.schema(), tool.operation.method == "GET")
            for tool in TOOLS.values()
        ]
        said = f"See the pictures of a completed job, small, at most {MOST_LOOKED_AT} at once, the best first."
        rows.append(told(LOOK, said, _LOOK_SCHEMA, True))
        rows += [told(tool.name, tool.description, tool.schema, tool.reads_only) for tool in local]
        return types.ListToolsResult(tools=rows)

    async def called(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        ask, arguments = ask_of(context), dict(params.arguments or {})
        if params.name == LOOK:
            return await _looked(ask, arguments)
        if params.name in own:
            try:
                data = await run_in_threadpool(own[params.name].run, arguments)
            except StudioError as error:
                return _refused({"detail": str(error)})
            except OSError as error:
                return _refused({"detail": f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}."})
            if not isinstance(data, Asked):
                return _done(data)
            return await _answered(ask, data)
        tool = TOOLS.get(params.name)
        if tool is None:
            every = ", ".join([*TOOLS, LOOK, *own])
            return _refused({"detail": f"there is no tool {params.name!r}; there are {every}."})
        return await _answered(ask, tool.asked(arguments))

    async def _answered(ask: Ask, asked: Asked) -> types.CallToolResult:
        said = await ask(asked)
        data = _data(said)
        return _refused(data) if said.status >= 400 else _done(data)

    def _done(data: Any) -> types.CallToolResult:
        text = [types.TextContent(type="text", text=json.dumps(data))]
        return types.CallToolResult(content=text, structured_content=data if isinstance(data, dict) else None)

    def _refused(data: Any) -> types.CallToolResult:
        data = data if isinstance(data, dict) else {"detail": str(data)}
        shown = {name: data[name] for name in ("status", "detail", "problems") if name in data} or data
        return types.CallToolResult(content=[types.TextContent(type="text", text=json.dumps(shown))], is_error=True)

    async def _looked(ask: Ask, arguments: Data) -> types.CallToolResult:
        first, count = arguments.pop("first", 1), arguments.pop("count", 4)
        if not (isinstance(first, int) and isinstance(count, int) and first > 0 and 0 < count <= MOST_LOOKED_AT):
            return _refused({"detail": f"first is 1 or more, count is 1 to {MOST_LOOKED_AT}."})
        said = await ask(TOOLS["images"].asked(arguments))
        if said.status >= 400:
            return _refused(_data(said))
        rows = _data(said)["items"]
        shown: list[Any] = []
        for row in rows[first - 1 : first - 1 + count]:
            picture = await ask(Asked("GET", f"/files/{quote(arguments['job_id'])}/{quote(row['file'])}?small=1"))
            if picture.status >= 400 and picture.status != 404:
                return _refused(_data(picture))
            if picture.media_type.startswith("image/"):
                facts = {name: row[name] for name in ("file", "prompt", "likeness", "url") if row.get(name) is not None}
                shown.append(types.TextContent(type="text", text=json.dumps(facts)))
                data = base64.b64encode(picture.body).decode()
                shown.append(types.ImageContent(type="image", data=data, mime_type=picture.media_type))
        told = f"{len(rows)} pictures; shown from number {first}." if shown else f"{len(rows)} pictures, none to show."
        return types.CallToolResult(content=[types.TextContent(type="text", text=told), *shown])

    return Server(
        "likeness-studio",
        version=__version__,
        title="Likeness Studio",
        instructions=INSTRUCTIONS,
        on_list_tools=listed,
        on_call_tool=called,
    )


def _data(said: Said) -> Any:
    try:
        return json.loads(said.body)
    except ValueError:
        return {"detail": f"status {said.status}", "status": said.status}


@asynccontextmanager
async def serving_agents(manager: Any) -> AsyncIterator[None]:
    """Serve the tools for as long as the app runs."""
    if manager is None:
        yield
        return
    async with manager.run():
        yield


def add_agents(app: FastAPI) -> Any:
    """Add ``/mcp`` to the app and return what ``serving_agents`` takes.

    Raises:
        MissingExtraError: the extra ``mcp`` is not installed.
    """

    def ask_of(context: Any) -> Ask:
        scope: Scope = context.request.scope
        return lambda asked: _within(app, scope, asked)

    server = agent_server(ask_of)
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    # Nothing is kept between requests, so that any server behind a gateway answers any of them. Host names and origins
    # are the guard's matter, which stands before this.
    manager = StreamableHTTPSessionManager(
        server, json_response=True, stateless=True, max_request_body_size=_MOST_BODY_BYTES
    )
    app.router.routes.append(_route(manager))
    return manager


def _route(manager: Any) -> Any:
    from starlette.routing import Route

    class Endpoint:
        """Hands requests to the protocol."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await manager.handle_request(scope, receive, send)

    return Route(PATH, endpoint=Endpoint(), methods=["POST"])  # a stream by GET would stay empty


async def _within(app: App, outer: Scope, asked: Asked) -> Said:
    """Send a request through the whole app once more, in the name of whoever sent the outer one."""
    body = b"" if asked.body is None else json.dumps(asked.body).encode()
    kept = [(name, value) for name, value in outer["headers"] if name in (*_HEADERS, b"host")]
    headers = [*kept, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    path, _, query = asked.path.partition("?")
    names = ("type", "asgi", "http_version", "scheme", "client", "server", "root_path")
    scope: Any = {name: outer[name] for name in names if name in outer}
    root = scope.get("root_path", "")
    scope |= {"method": asked.method, "path": f"{root}{unquote(path)}", "raw_path": f"{root}{path}".encode()}
    scope |= {"query_string": query.encode(), "headers": headers, COUNTED: True}
    status, media_type, parts, is_given = 500, "", list[bytes](), False
    is_over = asyncio.Event()

    async def receive() -> Any:
        nonlocal is_given
        if is_given:
            await is_over.wait()  # whoever asks again wants to know whether the client is still there
            return {"type": "http.disconnect"}
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, media_type
        if message["type"] == "http.response.start":
            status = message["status"]
            media_type = dict(message["headers"]).get(b"content-type", b"").decode("latin-1").partition(";")[0]
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    try:
        await app(scope, receive, send)
    finally:
        is_over.set()
    return Said(status, media_type, b"".join(parts))
