"""A job of any kind goes on after its end: by the endpoint, by the button of its tab, and from the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from studio.cli import main
from studio.core.config import CheckConfig
from studio.core.errors import ConflictError
from studio.core.settings import Settings
from studio.jobs.events import Outcome
from studio.service import Studio
from studio.web.session import StudioSession

TOKEN = "hf_write0123456789"


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, page_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page over a studio that keeps every job at half way until it goes on."""
    held = ("check", "train", "generate", "export", "finish", "publish")
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt", hold=held) as address:
        yield page_at(address)


def test_a_cancelled_job_of_every_kind_goes_on_by_its_tabs_button_or_by_the_endpoint(
    page: Any, photos: list[Path]
) -> None:
    client = Client(page.address, verbose=False, download_files=False, analytics_enabled=False)

    def opened() -> dict[str, Any]:
        events = [row for row in page.config["dependencies"] if row["backend_fn"] and row["targets"]]
        event = next(row for row in events if row["targets"][0][1] == "load")
        body = {"fn_index": event["id"], "data": [], "session_hash": "somebody"}
        answer = httpx.post(f"{page.address}/gradio_api/run/predict", json=body, timeout=60)
        values = zip(event["outputs"], answer.json()["data"], strict=True)
        return {str(page.parts[part]["props"].get("value")): value for part, value in values}

    def goes_on(button: str | None, *given: Any, endpoint: str) -> str:
        job = client.predict(*given, api_name=endpoint)["id"]
        assert client.predict(job, api_name="/cancel")["state"] == "cancelled"
        if button is not None:
            assert opened()[button]["visible"] is True
            page.fire(button, "click")
            assert opened()[button]["visible"] is False
        else:
            client.predict(job, api_name="/retry")
        ended = client.predict(job, files=False, api_name="/job")
        assert ended["state"] == "completed", (endpoint, ended["cause"])
        return str(job)

    files = [handle_file(str(path)) for path in photos]
    check = goes_on("Go on with these photos", files, "Ada", "woman", endpoint="/check_photos")
    run = goes_on("Go on with this run", check, endpoint="/train")
    made = goes_on("Go on with these pictures", run, "places", endpoint="/generate")
    goes_on("Go on with finishing", [], "plain_white", made, endpoint="/finish")
    goes_on("Go on with publishing", run, "ada/portrait", TOKEN, endpoint="/publish")
    goes_on(None, run, endpoint="/export")
    client.close()


def test_asking_twice_does_no_harm_and_a_completed_job_says_that_it_is(tmp_path: Path, photos: list[Path]) -> None:
    settings = Settings(home=tmp_path / "own")
    studio = Studio(settings)
    desk = StudioSession(studio, settings)
    job = desk.submit_check(photos, {})
    studio.cancel(job.id, owner=desk.owner)
    assert [desk.retry(job.id).state for _ in range(2)] == ["pending", "pending"]
    studio._store.finish(studio._store.claim(), Outcome("completed", result={}))
    with pytest.raises(ConflictError, match="is completed"):
        desk.retry(job.id)
    studio.close()


def test_the_command_line_lists_the_jobs_of_the_page_and_lets_one_go_on(
    studio_home: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    studio = Studio(Settings(home=studio_home))
    job = studio.submit_check(CheckConfig(subject="Ada"), photos, owner="local")
    studio.cancel(job.id, owner="local")
    assert main.run(["jobs", "list"]) == 0 and job.id in capsys.readouterr().out
    assert main.run(["jobs", "retry", job.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "pending"
    assert studio.get(job.id, owner="local").state == "pending"
    assert main.run(["jobs", "retry", "check-0"]) == 2 and "check-0" in capsys.readouterr().err
    studio.close()
