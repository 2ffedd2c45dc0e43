"""The tools for agents, called with the official client: over HTTP with API keys, and over standard streams."""

import base64
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from studio.core.errors import MissingExtraError
from studio.core.settings import PROJECT_ROOT, Settings
from studio.jobs.keys import open_keys
from studio.pocket.samples import sample_photos
from studio.web.api import agents

CHECK = {"subject": "Ada", "class_noun": "woman", "min_photos": 1}


@pytest.fixture(scope="module")
def settings(app_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("agents") / "home"
    return app_settings.model_copy(
        update={"home": home, "mcp": True, "auth": "keys", "login": False, "root_path": "/studio"}
    )


@pytest.fixture(scope="module")
def address(serving: Callable[..., Any], settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt") as url:
        yield url


@pytest.fixture(scope="module")
def key(settings: Settings) -> Iterator[Callable[..., str]]:
    """Make a key."""
    keys = open_keys(settings)
    yield lambda owner, *scopes, **quota: keys.create(owner=owner, scopes=scopes or ("jobs",), quota=quota)[1]
    keys.close()


@pytest.fixture
def over_http(address: str) -> Callable[..., Any]:
    """``over_http(key, work)``: run a coroutine function with a client that holds the key."""

    @asynccontextmanager
    async def opened(text: str) -> AsyncIterator[Client]:
        headers = {"authorization": f"Bearer {text}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(f"{address}/studio/mcp", http_client=http)) as client,
        ):
            yield client

    def run(text: str, work: Callable[[Client], Awaitable[Any]]) -> Any:
        async def all_of_it() -> Any:
            async with opened(text) as client:
                return await work(client)

        return anyio.run(all_of_it)

    return run


def refusal(result: Any) -> dict[str, Any]:
    assert result.is_error
    told: dict[str, Any] = json.loads(result.content[0].text)
    return told


def test_an_agent_goes_the_whole_way_and_sees_the_pictures(
    over_http: Callable[..., Any], key: Callable[..., str], tmp_path: Path
) -> None:
    photo = base64.b64encode(sample_photos(tmp_path, count=1, size_px=64)[0].read_bytes()).decode()

    async def work(client: Client) -> None:
        async def job(tool: str, **arguments: Any) -> dict[str, Any]:
            accepted = await client.call_tool(tool, arguments)
            assert not accepted.is_error, accepted.content
            found = await client.call_tool("job", {"job_id": accepted.structured_content["id"]})
            view: dict[str, Any] = found.structured_content
            assert view["state"] == "completed", view
            return view

        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {*agents.TOOLS, agents.LOOK}
        for tool in tools.values():
            jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert "rank" in json.dumps(tools["train"].input_schema), "settings come from the config classes"
        check = await job("check", **CHECK, photos=[{"name": "one.png", "data": photo}])
        run = await job("train", check=check["id"], steps=60, method={"rank": 4})
        made = await job("generate", run=run["code"], pack="places", count=2)
        seen = await client.call_tool("look", {"job_id": made["id"], "count": 2})
        pictures = [one for one in seen.content if one.type == "image"]
        assert len(pictures) == 2
        with Image.open(io.BytesIO(base64.b64decode(pictures[0].data))) as small:
            assert max(small.size) <= 256 and pictures[0].mime_type == f"image/{str(small.format).lower()}"
        listed = await client.call_tool("jobs", {"kind": "generate", "limit": 1})
        assert [row["id"] for row in listed.structured_content["items"]] == [made["id"]]
        said = {"kind": "generate", "state": None, "cursor": None}  # what the schema offers as the default
        assert (await client.call_tool("jobs", said)).structured_content["items"], "and agents fill it in"
        planned = await client.call_tool("train", {"check": check["id"], "steps": 60, "whatif": True})
        assert "words" in planned.structured_content

    over_http(key("ada"), work)


def test_refusals_are_those_of_v1_with_everything_that_is_wrong(
    over_http: Callable[..., Any], key: Callable[..., str]
) -> None:
    async def work(client: Client) -> None:
        told = refusal(
            await client.call_tool("generate", {"run": "x", "prompts": ["{subject}"], "count": 0, "cuont": 1})
        )
        assert told["status"] == 422 and {row["where"] for row in told["problems"]} >= {"count", "cuont"}
        assert refusal(await client.call_tool("job", {"job_id": "train-0000"}))["status"] == 404
        assert refusal(await client.call_tool("job", {"job_id": "../../usage"}))["status"] == 404
        assert refusal(await client.call_tool("jobs", {"limit": 1, "colour": "red"}))["status"] == 422
        assert "there is no tool" in refusal(await client.call_tool("forget", {}))["detail"]
        assert "count is 1" in refusal(await client.call_tool("look", {"job_id": "x", "count": 99}))["detail"]

    over_http(key("ada"), work)


def test_every_call_is_of_the_owner_of_the_key_within_its_scopes_and_limits(
    over_http: Callable[..., Any], key: Callable[..., str], tmp_path: Path, address: str
) -> None:
    photo = base64.b64encode(sample_photos(tmp_path, count=1, size_px=64)[0].read_bytes()).decode()
    body = {**CHECK, "photos": [{"name": "one.png", "data": photo}]}

    async def make(client: Client) -> str:
        return str((await client.call_tool("check", body)).structured_content["id"])

    check = over_http(key("ada"), make)

    async def pry(client: Client) -> None:
        for tool, arguments in (
            ("job", {"job_id": check}), ("files", {"job_id": check}), ("images", {"job_id": check}),
            ("cancel", {"job_id": check}), ("retry", {"job_id": check}), ("train", {"check": check, "steps": 60}),
            ("look", {"job_id": check}), ("check", {**CHECK, "edits": check}),
        ):  # fmt: skip
            assert refusal(await client.call_tool(tool, arguments))["status"] == 404, tool
        assert (await client.call_tool("jobs", {})).structured_content["items"] == []

    over_http(key("eve"), pry)

    async def read(client: Client) -> None:
        assert (await client.call_tool("job", {"job_id": check})).structured_content["id"] == check
        assert refusal(await client.call_tool("check", body))["status"] == 403

    over_http(key("ada", "read"), read)

    async def often(client: Client) -> None:
        for _ in range(9):
            await client.call_tool("packs", {})

    with pytest.RaisesGroup(
        pytest.RaisesExc(MCPError, match="more than 9 requests in a minute; go on in"), flatten_subgroups=True
    ):
        over_http(key("ada", "read", requests_per_minute=9), often)
    assert httpx2.post(f"{address}/studio/mcp", json={}).status_code == 401
    assert httpx2.get(f"{address}/studio/mcp", headers={"origin": "https://elsewhere.example"}).status_code == 403


def test_a_call_counts_as_one_request_however_many_it_asks_for(address: str, key: Callable[..., str]) -> None:
    headers = {"authorization": f"Bearer {key('ada', 'read', requests_per_minute=4)}", "accept": "application/json"}
    called: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    with httpx2.Client(base_url=f"{address}/studio", headers=headers, timeout=60) as program:
        for left, tool in [(3, "packs"), (2, "chains"), (1, "look"), (0, "presets")]:
            answered = program.post("/mcp", json={**called, "params": {"name": tool, "arguments": {"job_id": "x"}}})
            assert answered.status_code == 200 and f"r={left};" in answered.headers["ratelimit"], answered.text
        refused = program.post("/mcp", json={**called, "params": {"name": "packs"}})
        assert refused.status_code == 429 and "more than 4 requests in a minute" in refused.text
        assert int(refused.headers["retry-after"]) > 0
        assert program.get("/v1/packs").status_code == 429


def test_a_program_on_this_machine_gets_the_same_over_its_standard_streams_and_two_tools_more(
    serving: Callable[..., Any], app_settings: Settings, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    sample_photos(photos, count=2, size_px=64)
    (photos / "notes.md").write_text("no photo")

    async def work(client: Client) -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {*agents.TOOLS, agents.LOOK, "check_folder", "download"}
        accepted = await client.call_tool("check_folder", {"folder": str(photos), **CHECK})
        assert not accepted.is_error, accepted.content
        check = accepted.structured_content["id"]
        view = (await client.call_tool("job", {"job_id": check})).structured_content
        assert (view["state"], len(view["result"]["photos"])) == ("completed", 2)
        run = (await client.call_tool("train", {"check": check, "steps": 60})).structured_content["id"]
        made = (await client.call_tool("generate", {"run": run, "pack": "places"})).structured_content["id"]
        brought = await client.call_tool("download", {"job_id": made, "folder": str(tmp_path / "out")})
        files = brought.structured_content["files"]
        assert files and all((tmp_path / "out" / file).is_file() for file in files)
        assert "whole path" in refusal(await client.call_tool("check_folder", {"folder": "photos", **CHECK}))["detail"]
        assert refusal(await client.call_tool("job", {"job_id": "train-0000"}))["status"] == 404

    with serving(app_settings.model_copy(update={"home": tmp_path / "home"}), tmp_path / "log.txt") as address:
        environment = {"PYTHONPATH": str(PROJECT_ROOT), "STUDIO_HOME": str(tmp_path / "mine"), "PATH": "/usr/bin"}
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "studio", "mcp", "--server", address], env=environment
        )

        async def all_of_it() -> None:
            async with Client(parameters) as client:
                await work(client)

        anyio.run(all_of_it)


def test_without_the_setting_there_is_nothing_and_without_the_package_it_is_named(
    address: str, app_settings: Settings, serving: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(app_settings.model_copy(update={"home": tmp_path / "home"}), tmp_path / "log.txt") as other:
        assert httpx2.post(f"{other}/mcp", json={}).status_code in (404, 405)
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    with pytest.raises(MissingExtraError, match="pip install mcp"):
        agents.agent_server(lambda context: None)  # type: ignore[arg-type, return-value]
