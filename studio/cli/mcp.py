"""``python -m studio mcp``: a running studio as tools for an agent on this machine, over standard input and output.

The tools are those of ``/mcp`` (``studio.web.api.agents``), and two that only make sense where the agent works:
``check_folder`` takes a folder of photos of this machine, ``download`` brings the files of a job.
"""

import asyncio
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studio.cli.common import app
from studio.core.errors import InputError, MissingExtraError, NotFoundError, StudioError
from studio.core.files import sha256_of
from studio.core.server_token import known_token
from studio.core.settings import load_settings

if TYPE_CHECKING:
    from studio.remote.client import Server
    from studio.web.api.agents import Ask, Asked, LocalTool, Said

_PATIENCE_S = 120.0
_CONTACT_S = 8.0


@app.command("mcp")
def mcp(
    server: Annotated[
        str, typer.Option(help="Address of the studio; default: STUDIO_REMOTE_SERVER, or the port here.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over plain http to another machine.")
    ] = False,
) -> None:
    """Give a running studio to an agent as tools (Model Context Protocol), on standard input and output."""
    from studio.remote.client import Server
    from studio.web.api.agents import NO_PACKAGE, agent_server

    here = load_settings()
    address = server or here.remote_server or f"http://127.0.0.1:{here.port}"
    try:
        from mcp.server.stdio import stdio_server
    except ImportError:
        raise MissingExtraError(NO_PACKAGE) from None
    with Server(
        address,
        token=known_token(here, address),
        insecure=insecure or here.remote_insecure,
        patience_s=_PATIENCE_S,
        contact_s=_CONTACT_S,
    ) as studio:
        ask = _asking(studio)
        tools = agent_server(lambda context: ask, local_tools(studio))

        async def serve() -> None:
            async with stdio_server() as (incoming, outgoing):
                await tools.run(incoming, outgoing, tools.create_initialization_options())

        asyncio.run(serve())


def _asking(studio: "Server") -> "Ask":
    """Return what sends a request; a job that is asked for is one job, however often the request has to be sent."""
    from studio.web.api.agents import Said

    async def ask(asked: "Asked") -> "Said":
        key = f"mcp-{secrets.token_hex(12)}" if asked.method == "POST" and asked.path.count("/") == 2 else None
        try:
            said = await asyncio.to_thread(studio.answer, asked.method, asked.path, asked.body, key=key)
        except StudioError as error:
            return Said(error.status, "application/json", json.dumps({"detail": str(error)}).encode())
        return Said(*said)

    return ask


def local_tools(studio: "Server") -> "tuple[LocalTool, ...]":
    """Return the tools that read and write folders of this machine."""
    from studio.imaging.decode import list_photos
    from studio.web.api.agents import TOOLS, Asked, LocalTool

    checking = TOOLS["check"].schema()
    left_out = {"photos", "photos_url", "edits"}
    about = {name: row for name, row in checking["properties"].items() if name not in left_out}
    folder = {"type": "string", "description": "Path of a folder of this machine."}

    def check_folder(arguments: dict[str, Any]) -> Asked:
        photos, _ = list_photos(_folder(arguments.pop("folder", "")))
        digest_of = {path: sha256_of(path) for path in photos}
        held = studio.held()
        for path, sha256 in digest_of.items():
            if sha256 not in held:
                studio.upload(sha256, path.read_bytes())
        named = [{"name": path.name, "sha256": sha256} for path, sha256 in digest_of.items()]
        return Asked("POST", "/v1/check", {**arguments, "photos": named})

    def download(arguments: dict[str, Any]) -> dict[str, Any]:
        job, out = str(arguments.get("job_id", "")), Path(str(arguments.get("folder", ""))).expanduser()
        if not out.is_absolute():
            raise InputError("folder must be the whole path of a folder.")
        rows = studio.files(job)
        for row in rows:
            target = out / row["path"]
            if not target.resolve().is_relative_to(out.resolve()):
                raise InputError(f"the studio names a file outside of the folder: {row['path']}.")
            if not (target.is_file() and sha256_of(target) == row["sha256"]):
                studio.fetch(job, row, target)
        return {"folder": str(out), "files": [row["path"] for row in rows]}

    return (
        LocalTool(
            "check_folder",
            "Check the photos of a folder of this machine; captions beside them are not read.",
            {**checking, "properties": {"folder": folder, **about}, "required": ["folder", "subject"]},
            check_folder,
            reads_only=False,
        ),
        LocalTool(
            "download",
            "Bring the files of a completed job into a folder of this machine.",
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {"job_id": {"type": "string"}, "folder": folder},
                "required": ["job_id", "folder"],
            },
            download,
            reads_only=False,
        ),
    )


def _folder(given: Any) -> Path:
    path = Path(str(given)).expanduser()
    if not path.is_absolute() or not path.is_dir():
        raise NotFoundError("folder must be the whole path of a folder that is there.")
    return path
