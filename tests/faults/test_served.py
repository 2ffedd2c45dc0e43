"""A whole server as a process: it drains when a service manager stops it, and nothing that it writes holds a secret."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from studio.core.settings import PROJECT_ROOT

TESTS = Path(__file__).parents[1]
TOKEN = "planted-server-0123456789"
METRICS = "planted-metrics-0123456789"
PHOTO = base64.b64encode(b"photo").decode()


class Served:
    """A server, all that it prints, and a client that knows its token."""

    def __init__(self, process: "subprocess.Popen[str]", said: Path) -> None:
        self.process, self.said = process, said
        assert process.stdout is not None
        self.printed = process.stdout.readline()
        if not self.printed:
            raise AssertionError(said.read_text())
        found = json.loads(self.printed)["message"] if self.printed.startswith("{") else self.printed
        self.address = found.split()[-1].partition("/?")[0]
        self.http = httpx.Client(base_url=self.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)

    def check(self, words: str, **more: Any) -> httpx.Response:
        body = {"photos": [{"name": "a.jpg", "data": PHOTO}], "subject": words, "class_noun": "woman"}
        return self.http.post("/v1/check", json=body, **more)

    def until(self, job: str, *states: str) -> dict[str, Any]:
        end_s = time.monotonic() + 120
        while (view := self.http.get(f"/v1/jobs/{job}").json())["state"] not in states:
            assert time.monotonic() < end_s, view
            time.sleep(0.05)
        return dict(view)


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def new(**variables: str) -> Iterator[Served]:
        path = os.pathsep.join([str(TESTS / "jobs"), str(PROJECT_ROOT)])
        environment = {
            **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "STUDIO_HOME": str(tmp_path / "home"),
            "STUDIO_PORT": "0", "STUDIO_TOKEN": TOKEN, **variables,
        }  # fmt: skip
        said = tmp_path / "said.txt"
        command = [sys.executable, str(TESTS / "faults" / "served.py")]
        with (
            said.open("a") as stderr,
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
        ):
            try:
                made = Served(process, said)
                yield made
            finally:
                process.kill()
                made.http.close()

    return new


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_is_told_to_stop_refuses_new_jobs_ends_the_one_that_runs_and_keeps_those_that_wait(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    with serve(STUDIO_DRAIN_S="60") as served:
        quick = served.check("quick").json()["id"]
        served.until(quick, "completed")
        runs = served.check("meet").json()["id"]  # until there is a second note
        served.until(runs, "checking")
        order = {"check": quick, "base": "pocket", "instance_token": "quick"}
        waits = served.http.post("/v1/train", json=order).json()["id"]
        assert served.http.get("/v1/ready").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        end_s = time.monotonic() + 20
        while (ready := served.http.get("/v1/ready")).status_code == 200:
            assert time.monotonic() < end_s
        assert ready.status_code == 503 and ready.headers["retry-after"] == "10"
        refused = served.check("quick")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert refused.headers["content-type"] == "application/problem+json"
        assert served.http.get(f"/v1/jobs/{runs}").json()["state"] == "checking"
        note = tmp_path / "home" / "jobs" / "another" / "out" / "gpu.txt"
        note.parent.mkdir(parents=True)
        note.touch()
        assert served.process.wait(60) == -signal.SIGTERM
    with serve() as again:
        ended = again.http.get(f"/v1/jobs/{runs}").json()
        assert (ended["state"], ended["attempt"]) == ("completed", 1)
        again.until(waits, "completed")
        stops = again.check("count 2000 50").json()["id"]
        again.until(stops, "checking")
        again.process.send_signal(signal.SIGTERM)  # STUDIO_DRAIN_S is 0: at once
        assert again.process.wait(30) == -signal.SIGTERM
    said = (tmp_path / "said.txt").read_text()
    assert "Traceback" not in said, said


SECRETS = {
    "STUDIO_METRICS_TOKEN": METRICS,
    "STUDIO_HUB_TOKEN": "hf_PlantedMachine0123456789",
    "STUDIO_CIVITAI_KEY": "planted-civitai-0123456789",
    "STUDIO_REMOTE_TOKEN": "planted-remote-0123456789",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-0123456789",
    "OPENAI_API_KEY": "planted-openai-0123456789",
}
PLANTED = b"lanted"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_secrets_that_are_planted_everywhere_are_in_no_log_row_event_card_or_file(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    answers: list[bytes] = []

    def heard(answer: httpx.Response) -> httpx.Response:
        answers.append(answer.read() + str(answer.headers).encode())
        return answer

    with serve(STUDIO_LOG="json", **SECRETS) as served:
        http, out = served.http, [served.printed]
        assert served.process.stdout is not None
        reader = threading.Thread(target=lambda: out.extend(served.process.stdout), daemon=True)
        reader.start()
        check = served.check("quick").json()["id"]
        served.until(check, "completed")
        order = {"check": check, "base": "pocket", "instance_token": "quick"}
        run = http.post("/v1/train", json={**order, "token": "hf_PlantedBody0123456789"})
        assert heard(run).status_code == 202, run.text
        made = {"run": run.json()["id"], "prompts": ["boom"], "token": "hf_PlantedJob0123456789"}
        pictures = heard(http.post("/v1/generate", json=made)).json()["id"]
        served.until(pictures, "stalled", "completed")
        heard(http.post(f"/v1/jobs/{pictures}/retry", json={"token": "hf_PlantedRetry0123456789"}))
        publish = {"run": run.json()["id"], "repo": "a/b", "token": "hf_PlantedHub0123456789"}
        heard(http.post("/v1/publish", json=publish))
        for headers in (
            {"Authorization": "Bearer planted-wrong-0123456789"},
            {"X-Studio-Token": "planted-header-0123456789"},
            {"Cookie": "session=planted-cookie-0123456789"},
        ):
            heard(httpx.get(f"{served.address}/v1/jobs?token=planted-query-0123456789", headers=headers))
        heard(http.get("/v1/jobs?api_key=planted-query-0123456789"))
        heard(http.post("/v1/train?token=planted-query-0123456789", json={"check": check, "tokn": 1}))
        heard(http.post("/gradio_api/call/publish", json={"data": ["planted-values-0123456789"]}))
        heard(http.post("/openai/v1/images/generations", json={"model": "planted-0", "prompt": "x", "key": "y"}))
        opened = httpx.get(f"{served.address}/v1/metrics", headers={"Authorization": f"Bearer {METRICS}"})
        assert opened.status_code == 200 and "studio_attempt_seconds_count" in opened.text
        assert check not in opened.text
        for job in (check, run.json()["id"], pictures):
            heard(http.get(f"/v1/jobs/{job}"))
            heard(http.get(f"/v1/jobs/{job}/files"))
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(60)
        reader.join(10)
    lines = [json.loads(row) for row in [*out, *served.said.read_text().splitlines()]]
    requests = [row for row in lines if row["message"] == "request"]
    assert {row["route"] for row in requests} >= {"/v1/train", "/v1/jobs", "/v1/metrics", "other"}
    assert all(row["request"] for row in requests)
    # What was refused is repeated to its sender: the values that are no secrets by their place.
    leaks = [body for body in answers if PLANTED in body and b"planted-0" not in body]
    assert leaks == []
    assert PLANTED not in json.dumps(lines).encode()
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.name != "server-token"]
    assert len(files) > 10
    assert [str(path) for path in files if PLANTED in path.read_bytes()] == []
