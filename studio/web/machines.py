"""What other machines call: links into the storage, and the routes of an attempt's agent.

They stand in front of the guard and the gate: whoever calls has no login, no page and no other right than the signed
link or the token of one attempt, which are checked here before anything is read.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response

from studio.core.errors import ConflictError, ForbiddenError, InputError, Problem, StudioError
from studio.core.strict import StrictModel
from studio.jobs.runners.code import code_archive
from studio.jobs.runners.desk import AgentDesk
from studio.jobs.runners.ticket import Beat, Ending, Files
from studio.jobs.storage.folder import FolderStorage
from studio.jobs.storage.links import OBJECTS, LinkError
from studio.web.asgi import App, Receive, Scope, Send
from studio.web.guard import BodyCutError, limited

_ATTEMPT = re.compile(r"/attempts/([a-z]+-[0-9a-f]{16})/([1-9][0-9]{0,8})/(beat|links|inputs|snapshot|end|ticket|code)")
MAX_BODY_BYTES = 16 * 2**20
"""Most that an agent may tell at once; files go another way."""


class MachinesMiddleware:
    """ASGI middleware in front of everything: answers the calls of other machines, and passes all others on.

    Args:
        app: what comes behind.
        desk: answers agents.
    """

    def __init__(self, app: App, desk: AgentDesk) -> None:
        self._app = app
        self._own: App = machines_app(desk)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call here, or pass it on."""
        path = scope.get("path", "")
        is_own = scope["type"] == "http" and (path.startswith(OBJECTS) or _ATTEMPT.fullmatch(path))
        await (self._own if is_own else self._app)(scope, receive, send)


def machines_app(desk: AgentDesk) -> FastAPI:
    """Return the app of these routes alone."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    calls: dict[str, tuple[type[StrictModel], Callable[..., dict[str, Any]]]] = {
        "beat": (Beat, desk.beat),
        "links": (Files, desk.links),
        "inputs": (Files, desk.inputs),
        "snapshot": (Files, desk.snapshot),
        "end": (Ending, desk.end),
    }

    @app.exception_handler(StudioError)
    async def refused(_: Request, error: StudioError) -> JSONResponse:
        found = [asdict(problem) for problem in error.problems]
        return JSONResponse({"error": str(error), "problems": found}, status_code=error.status)

    def require_token(request: Request, job_id: str, attempt: int) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not desk.signer.is_token(given, job_id, attempt):
            raise ForbiddenError("This is not the token of that attempt.")

    @app.get("/attempts/{job_id}/{attempt}/ticket")
    def ticket(request: Request, job_id: str, attempt: int) -> JSONResponse:
        require_token(request, job_id, attempt)
        return JSONResponse(desk.hand_out(job_id, attempt), headers={"Cache-Control": "no-store"})

    @app.get("/attempts/{job_id}/{attempt}/code")
    def code(request: Request, job_id: str, attempt: int) -> Response:
        require_token(request, job_id, attempt)
        return Response(code_archive()[0], media_type="application/gzip")

    @app.post("/attempts/{job_id}/{attempt}/{what}")
    async def tell(request: Request, job_id: str, attempt: int, what: str) -> Response:
        require_token(request, job_id, attempt)
        if what not in calls:
            return JSONResponse({"error": "There is nothing here."}, status_code=404)
        model, do = calls[what]
        body = b""
        receive = limited(request.receive, MAX_BODY_BYTES)
        try:
            async for chunk in Request(request.scope, receive).stream():
                body += chunk
        except BodyCutError as cut:
            return JSONResponse({"error": cut.refusal[1]}, status_code=cut.refusal[0])
        try:
            told = model.parse(json.loads(body))
        except ValueError:
            raise InputError.of([Problem("body", "is not JSON", "send a JSON object", "not_json")]) from None
        return JSONResponse(await run_in_threadpool(do, job_id, attempt, told))

    @app.api_route(f"{OBJECTS}{{name:path}}", methods=["GET", "PUT"])
    async def use_object(request: Request, name: str) -> Response:
        storage = desk.storage
        try:
            most = desk.signer.read(request.method, name, dict(request.query_params))
        except LinkError:
            return JSONResponse({"error": "This link is over, or not for this."}, status_code=403)
        if not isinstance(storage, FolderStorage):
            return JSONResponse({"error": "There is nothing here."}, status_code=404)
        if request.method == "GET":
            headers = {"Cache-Control": "private, no-store"}
            return FileResponse(storage.path_of(name), media_type="application/octet-stream", headers=headers)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            return JSONResponse({"error": "That is more than the link is for."}, status_code=413)
        return await _take(request, storage, name, most)

    return app


async def _take(request: Request, storage: FolderStorage, name: str, most: int) -> Response:
    """Store what a link brings; with ``If-None-Match: *`` only where there is nothing yet."""
    create = request.headers.get("if-none-match") == "*"
    length = request.headers.get("content-length", "")
    try:
        with storage.incoming(name, create=create) as part, part.open("wb") as file:
            async for chunk in Request(request.scope, limited(request.receive, most)).stream():
                await run_in_threadpool(file.write, chunk)
            file.flush()
            if length.isdigit() and file.tell() != int(length):
                raise _CutOffError
    except BodyCutError as cut:
        return JSONResponse({"error": cut.refusal[1]}, status_code=cut.refusal[0])
    except _CutOffError:
        return JSONResponse({"error": "The file arrived cut off."}, status_code=400)
    except ConflictError as error:
        return JSONResponse({"error": str(error)}, status_code=412)
    return Response(status_code=201)


class _CutOffError(Exception):
    pass
