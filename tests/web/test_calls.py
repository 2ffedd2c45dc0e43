"""Calls that fit no endpoint are refused in words, logged without their values, and kept nowhere."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from studio.core.settings import Settings

TOKEN = "hf_write0123456789"
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    3.5,
    "",
    "x" * 300,
    [],
    [None],
    [{}],
    {},
    {"path": 1},
    [["a"]],
    {"a": {"b": [1]}},
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "server.txt"


@pytest.fixture(scope="module")
def api(serving: Any, settings: Settings, log: Path) -> Iterator[httpx.Client]:
    with serving(settings, log) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def refusal(answer: httpx.Response) -> str:
    """Return the words of a refusal, which every one of them must have."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    words = answer.json()["error"]
    assert isinstance(words, str) and words and words.rstrip().endswith((".", "?")), words
    return words


@pytest.mark.parametrize("way", ["call/v2", "call", "run", "api"])
def test_an_endpoint_that_is_not_there_is_404_with_the_one_that_was_meant(api: httpx.Client, way: str) -> None:
    answer = api.post(f"/gradio_api/{way}/job_s", json={"data": []})
    assert answer.status_code == 404 and "/jobs" in refusal(answer)
    assert api.post(f"/gradio_api/{way}/zzzz", json={}).status_code == 404


def test_the_answer_to_a_call_that_is_not_there_is_404(api: httpx.Client) -> None:
    assert "start it again" in refusal(api.get("/gradio_api/call/jobs/0123"))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 3000, b'{"data": 3}', b'{"data": {}}'])
def test_a_body_that_is_no_call_is_422(api: httpx.Client, body: bytes) -> None:
    for way in ("call", "run"):
        answer = api.post(f"/gradio_api/{way}/jobs", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422 and refusal(answer)


def test_each_wrong_argument_is_named_with_its_cure(api: httpx.Client) -> None:
    answer = api.post("/gradio_api/call/v2/jobs", json={"limit": "many", "limt": 3})
    assert answer.status_code == 422
    assert {row["where"] for row in answer.json()["problems"]} == {"limit", "limt"}
    assert "use only: limit" in refusal(answer)
    missing = api.post("/gradio_api/call/v2/unpublish", json={"repo": "ada/x"})
    assert "token: is missing" in refusal(missing)
    nested = api.post("/gradio_api/call/v2/check_photos", json={"photos": [{"path": 7}]})
    assert nested.json()["problems"][0]["where"] == "photos.0.path"


def test_a_call_with_too_few_values_does_not_log_the_others(api: httpx.Client, log: Path) -> None:
    for way in ("call", "run"):
        answer = api.post(f"/gradio_api/{way}/publish", json={"data": ["train-1", "ada/x", TOKEN]})
        assert "takes 10 values (train_job, repo, token" in refusal(answer)
    page = api.get("/config").json()["dependencies"]
    event = next(row for row in page if len(row["inputs"]) > 2 and row["backend_fn"])
    answer = api.post("/gradio_api/run/predict", json={"fn_index": event["id"], "data": [TOKEN], "session_hash": "s"})
    assert "this event takes" in refusal(answer)
    assert TOKEN not in log.read_text() and TOKEN not in answer.text


def test_no_call_whatsoever_answers_null_or_500(api: httpx.Client) -> None:
    """What was 191 of 1,584 calls: values of the wrong kind for every endpoint and for the page's events."""
    info = api.get("/gradio_api/info").json()["named_endpoints"]
    draw = random.Random(7)
    asked = 0
    for name, row in info.items():
        names = [parameter["parameter_name"] for parameter in row["parameters"]]
        for value in draw.sample(WRONG, 2):
            body: dict[str, Any] = dict.fromkeys(draw.sample(names, min(len(names), 1 + asked % 3)), value)
            asked += 1
            _answered(api.post(f"/gradio_api/run{name}", json={"data": [draw.choice(WRONG) for _ in names]}))
            started = api.post(f"/gradio_api/call/v2{name}", json=body)
            if _answered(started) == 200:
                stream = api.get(f"/gradio_api/call{name}/{started.json()['event_id']}").text
                assert "data: null" not in stream.partition("event: error")[2] and '"error": null' not in stream
    events = [row for row in api.get("/config").json()["dependencies"] if row["backend_fn"]][:24]
    for event, value in itertools.islice(zip(events, itertools.cycle(WRONG), strict=False), 24):
        body = {"fn_index": event["id"], "data": [value] * len(event["inputs"]), "session_hash": "fuzz"}
        _answered(api.post("/gradio_api/run/predict", json=body), may_fail=True)


def _answered(answer: httpx.Response, *, may_fail: bool = False) -> int:
    told = answer.json()
    assert answer.status_code == 200 or (isinstance(told["error"], str) and told["error"]), answer.text
    assert answer.status_code < 500 or may_fail, answer.text
    return answer.status_code
