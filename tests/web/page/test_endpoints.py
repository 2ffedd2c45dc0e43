"""Every named endpoint through gradio_client against a live server."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from studio.core.config import CheckConfig
from studio.core.settings import Settings
from studio.web.page.endpoints import ENDPOINTS

PROMISED = {
    "check_photos": "photos subject class_noun settings key edits consent",
    "train": "check_job base preset settings instance_token key publish_to public token publish_settings",
    "plan": "check_job base preset settings",
    "generate": "train_job pack prompts count keep seed settings key adapter token",
    "export": "train_job format settings key",
    "publish": "train_job repo token public pictures_job choose update dry_run settings key",
    "unpublish": "repo token",
    "finish": "pictures chain generate_job settings key",
    "remove_background": "pictures model background colour key",
    "upscale": "pictures model factor long_side_px prompt key",
    "contact_sheet": "pictures title columns generate_job key",
    "job": "job_id after files",
    "jobs": "limit",
    "find_jobs": "kind before limit",
    "retry": "job_id token",
    "cancel": "job_id",
    "forget": "job_id subject everything dry_run",
    "heart": "job_id files on",
    "rename": "name subject check_job",
    "presets": "",
    "packs": "",
    "chains": "",
    "bases": "",
    "admin": "",
    "admin_pause": "on",
    "admin_cancel": "job_id",
    "admin_retry": "job_id",
    "admin_clear_results": "",
}
"""Endpoint -> its parameters in order; programs rely on both."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "server.txt"


@pytest.fixture(scope="module")
def address(settings: Settings, serving: Any, log: Path) -> Iterator[str]:
    with serving(settings, log) as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made = Client(address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"), analytics_enabled=False)
    yield made
    made.close()


@pytest.fixture
def check_id(client: Client, photos: list[Path]) -> str:
    files = [handle_file(str(path)) for path in photos]
    return client.predict(files, "Ada", "woman", api_name="/check_photos")["id"]


def test_programs_see_exactly_the_promised_endpoints_and_parameters(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {f"/{name}" for name in PROMISED}
    for name, parameters in PROMISED.items():
        rows = named[f"/{name}"]["parameters"]
        assert [row["parameter_name"] for row in rows] == parameters.split()
        for row in rows:
            assert row["type"], f"{name}.{row['parameter_name']} has no type"
    optional = {row["parameter_name"]: row["parameter_has_default"] for row in named["/generate"]["parameters"]}
    assert optional == {name: name != "train_job" for name in optional}


def test_programs_read_what_every_parameter_and_every_answer_means(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for endpoint in ENDPOINTS:
        shown = described[f"/{endpoint.name}"]
        assert shown["description"] == endpoint.summary
        said = {row["parameter_name"]: row["python_type"]["description"] for row in shown["parameters"]}
        assert said == {row.name: row.sentence for row in endpoint.parameters} and all(said.values())
        (answer,) = shown["returns"]
        assert answer["python_type"]["description"] == endpoint.returns_sentence
    noun = next(row for row in described["/check_photos"]["parameters"] if row["parameter_name"] == "class_noun")
    assert noun["python_type"]["description"] == CheckConfig.model_fields["class_noun"].description
    assert "What the subject is" in client.view_api(return_format="str", print_info=False)


def test_a_run_is_planned_without_being_started(client: Client, check_id: str) -> None:
    before = len(client.predict(api_name="/jobs"))
    plan = client.predict(check_id, settings={"steps": 60}, api_name="/plan")
    assert plan["steps"] == 60 and plan["words"].startswith("60 steps, ") and plan["fits"] is True
    assert len(client.predict(api_name="/jobs")) == before


def test_photos_become_a_checked_job_and_gradios_copies_are_deleted(
    client: Client, check_id: str, settings: Settings
) -> None:
    job = client.predict(check_id, api_name="/job")
    assert job["state"] == "completed" and job["owner"] == settings.owner
    assert [verdict["status"] for verdict in job["result"]["verdicts"]] == ["good"] * 3 + ["usable"] + ["good"] * 2
    assert {event["kind"] for event in job["events"]} == {"verdict", "progress"}
    left = [path for path in (settings.home / "web-cache").rglob("sample-*.jpg") if path.is_file()]
    assert left == []


def test_a_photo_set_is_edited_by_the_id_of_its_check(client: Client, check_id: str) -> None:
    edits = {"exclude": ["sample-01.jpg"], "captions": {"sample-02.jpg": "at the sea"}}
    edited = client.predict([], settings=edits, edits=check_id, api_name="/check_photos")
    result = client.predict(edited["id"], files=False, api_name="/job")["result"]
    assert (result["subject"], result["class_noun"]) == ("Ada", "woman"), "what is not given stays"
    assert [row["status"] for row in result["verdicts"]].count("rejected") == 1 and len(result["photos"]) == 5
    assert result["photos"][0]["caption"] == "at the sea"
    renamed = client.predict([], "Eve", edits=edited["id"], api_name="/check_photos")
    result = client.predict(renamed["id"], files=False, api_name="/job")["result"]
    assert result["subject"] == "Eve" and len(result["photos"]) == 5, "earlier edits stay, too"


def test_the_whole_way_from_photos_to_a_zip_that_opens(client: Client, check_id: str) -> None:
    run = client.predict(check_id, settings={"steps": 60, "method.rank": 4}, instance_token="zqx", api_name="/train")
    answer = client.predict(run["id"], api_name="/job")
    assert answer["result"]["likeness_after"] == 0.86
    assert any(event["data"].get("file") == "samples/60/00.png" for event in answer["events"])
    assert Path(answer["files"]["adapter/adapter.json"]).is_file()
    made = client.predict(run["id"], pack="places", count=2, seed=5, api_name="/generate")
    answer = client.predict(made["id"], api_name="/job")
    with zipfile.ZipFile(answer["files"]["pictures.zip"]) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == 4
    assert sorted(image["seed"] for image in answer["result"]["images"]) == [5, 6, 7, 8]
    best = client.predict(run["id"], pack="places", count=3, keep=1, api_name="/generate")
    result = client.predict(best["id"], files=False, api_name="/job")["result"]
    assert (len(result["images"]), len(result["left_out"])) == (2, 4)
    assert result["likeness_mean"] > result["likeness_mean_made"]
    with pytest.raises(AppError, match=r"cannot be more than count \(1\)"):
        client.predict(run["id"], pack="places", keep=2, api_name="/generate")
    prompted = client.predict(run["id"], prompts=["{subject} in space"], api_name="/generate")
    answer = client.predict(prompted["id"], files=False, api_name="/job")
    assert answer["files"] == {} and answer["result"]["images"][0]["prompt"] == "sks woman in space"
    exported = client.predict(run["id"], "kohya", {"dtype": "float16"}, api_name="/export")
    answer = client.predict(exported["id"], api_name="/job")
    assert answer["result"]["format"] == "kohya" and set(answer["files"]) == {"Ada.safetensors", "certificate.json"}


def test_pictures_are_finished_by_chain_by_steps_and_from_a_generate_job(client: Client, photos: list[Path]) -> None:
    assert "plain_white" in [row["name"] for row in client.predict(api_name="/chains")]
    files = [handle_file(str(path)) for path in photos[:2]]
    made = client.predict(files, "plain_white", settings={"fit.max_bytes": 90000}, api_name="/finish")
    answer = client.predict(made["id"], api_name="/job")
    assert answer["kind"] == "finish" and answer["state"] == "completed"
    assert set(answer["files"]) == {"pictures.zip", "contact_sheet.png", "pictures/0.png", "pictures/1.png"}
    cut_out = client.predict(files, "silueta", "blur", api_name="/remove_background")
    assert (cut_out["title"], cut_out["facts"]["steps"]) == ("Finishing: cutout, background", ["cutout", "background"])
    assert client.predict(files, "x4plus", 2, api_name="/upscale")["facts"]["steps"] == ["upscale"]
    assert client.predict(files, "Ours", api_name="/contact_sheet")["title"] == "Finishing: contact sheet"
    with pytest.raises(AppError, match="bria-rmbg"):
        client.predict(files, "bria-rmbg", api_name="/remove_background")


def test_a_run_is_published_by_a_token_that_may_and_the_token_shows_nowhere(
    client: Client, check_id: str, settings: Settings, log: Path
) -> None:
    token = "hf_write0123456789"
    run = client.predict(check_id, settings={"steps": 60}, api_name="/train")["id"]
    made = client.predict(run, pack="places", api_name="/generate")["id"]
    shown = client.predict(run, "ada/portrait", dry_run=True, api_name="/publish")
    assert client.predict(shown["id"], api_name="/job")["result"]["commit"] is None
    done = client.predict(
        run, "ada/portrait", token, False, made, ["beach/000.png"], settings={"title": "Ada"}, api_name="/publish"
    )
    answer = client.predict(done["id"], api_name="/job")
    assert answer["kind"] == "publish" and answer["result"]["commit"] == "c" * 40
    assert set(answer["files"]) == {"repo/README.md", "repo/gallery/01.png"}
    for bad, words in (("", "is missing"), ("hf_read0123456789", "may only read")):
        with pytest.raises(AppError, match=words) as caught:
            client.predict(run, "ada/portrait", bad, api_name="/publish")
        assert not bad or bad not in str(caught.value)
    with pytest.raises(AppError, match="not a valid repository name"):
        client.predict(run, "portrait", token, api_name="/publish")
    with pytest.raises(AppError, match="is not there"):
        client.predict(run, "ada/portrait", token, False, "check-foreign", api_name="/publish")
    with pytest.raises(AppError, match="there is no such setting"):
        client.predict(run, "ada/x", token, settings={"picture": "/etc"}, api_name="/publish")
    assert client.predict("ada/portrait", token, api_name="/unpublish") == {"deleted": "ada/portrait"}
    pulled = client.predict("", prompts=["{subject}"], adapter="ada/portrait", token=token, api_name="/generate")
    assert pulled["kind"] == "generate" and pulled["source"] is None
    assert token not in log.read_text() and token not in str(client.predict(api_name="/jobs"))
    kept = [path for path in settings.home.rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in kept)


def test_a_job_is_forgotten_with_everything_made_from_it_and_the_answer_is_a_receipt(
    client: Client, photos: list[Path], settings: Settings
) -> None:
    check = client.predict([handle_file(str(path)) for path in photos], "Mona", api_name="/check_photos")["id"]
    run = client.predict(check, settings={"steps": 60}, api_name="/train")["id"]
    told = client.predict(subject="Mona", dry_run=True, api_name="/forget")
    assert set(told["jobs"]) == {check, run} and told["dry_run"] and "would be deleted" in told["words"]
    assert client.predict(run, files=False, api_name="/job")["state"] == "completed", "a dry run changes nothing"
    done = client.predict(check, api_name="/forget")
    assert set(done["jobs"]) == {check, run} and done["files"] > 0
    assert "Deleted for good" in done["words"] and "1 photo set, 1 training run" in done["words"]
    for job in (check, run):
        assert not (settings.home / "jobs" / job).exists()
        with pytest.raises(AppError, match="is not there"):
            client.predict(job, api_name="/job")
    with pytest.raises(AppError, match="is not there"):
        client.predict("check-foreign", api_name="/forget")


def test_a_run_is_published_when_it_is_done_if_the_token_may(
    client: Client, check_id: str, settings: Settings, log: Path
) -> None:
    token = "hf_write0123456789"
    before = len(client.predict(api_name="/jobs"))
    with pytest.raises(AppError, match="may only read"):
        client.predict(check_id, publish_to="ada/portrait", token="hf_read0123456789", api_name="/train")
    with pytest.raises(AppError, match="not a valid repository name"):
        client.predict(check_id, publish_to="portrait", token=token, api_name="/train")
    with pytest.raises(AppError, match="publish_to: is empty"):
        client.predict(check_id, token=token, api_name="/train")
    assert len(client.predict(api_name="/jobs")) == before, "refused before anything is started"
    then = {"publish_to": "ada/portrait", "public": True, "token": token, "publish_settings": {"title": "Ada"}}
    run = client.predict(check_id, settings={"steps": 60}, key="both", **then, api_name="/train")
    published = client.predict(run["publish_job"], api_name="/job")
    assert published["source"] == run["id"] and published["result"]["commit"] == "c" * 40
    assert published["result"]["public"] is True
    assert client.predict(run["id"], files=False, api_name="/job")["publish_job"] == run["publish_job"]
    plain = client.predict(check_id, settings={"steps": 60}, api_name="/train")
    assert plain["publish_job"] is None
    assert token not in log.read_text() and token not in str(client.predict(api_name="/jobs"))
    assert not any(token.encode() in path.read_bytes() for path in settings.home.rglob("*") if path.is_file())


def test_events_go_on_after_the_number_that_was_seen(client: Client, check_id: str) -> None:
    events = client.predict(check_id, api_name="/job")["events"]
    rest = client.predict(check_id, events[-3]["seq"], api_name="/job")["events"]
    assert [event["seq"] for event in rest] == [events[-2]["seq"], events[-1]["seq"]]


def test_lists_name_jobs_presets_packs_and_bases(client: Client, check_id: str) -> None:
    assert client.predict(api_name="/jobs")[0]["id"] == check_id
    assert [row["id"] for row in client.predict(1, api_name="/jobs")] == [check_id]
    assert [row["name"] for row in client.predict(api_name="/presets")] == ["pocket_lora_cpu"]
    assert client.predict(api_name="/packs")[0]["shots"][0]["name"] == "beach"
    assert client.predict(api_name="/bases")[0]["name"] == "pocket"


def test_jobs_of_a_kind_are_found_page_by_page_and_a_wrong_kind_is_named(client: Client, check_id: str) -> None:
    ids = [job["id"] for job in client.predict("check", api_name="/find_jobs")]
    assert check_id in ids and all(name.startswith("check-") for name in ids)
    first = client.predict("check", limit=1, api_name="/find_jobs")
    older = client.predict("check", before=first[0]["id"], api_name="/find_jobs")
    assert [job["id"] for job in first + older] == ids
    with pytest.raises(AppError, match="is not a kind of job; use one of: check, train"):
        client.predict("chek", api_name="/find_jobs")


def test_cancelling_a_finished_job_leaves_it_finished(client: Client, check_id: str) -> None:
    assert client.predict(check_id, api_name="/cancel")["state"] == "completed"


def test_the_same_key_is_the_same_job(client: Client, check_id: str) -> None:
    first = client.predict(check_id, key="once", api_name="/train")
    assert client.predict(check_id, key="once", api_name="/train")["id"] == first["id"]
    with pytest.raises(AppError, match="another request"):
        client.predict(check_id, settings={"seed": 4}, key="once", api_name="/train")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"job_id": "no-such-job", "api_name": "/job"}, "no-such-job"),
        ({"check_job": "no-such-job", "api_name": "/train"}, "no-such-job"),
        ({"train_job": "no-such-job", "pack": "places", "api_name": "/generate"}, "no-such-job"),
        ({"job_id": "no-such-job", "api_name": "/cancel"}, "no-such-job"),
        ({"photos": [], "api_name": "/check_photos"}, "add 5 to 20 photos"),
    ],
)
def test_errors_reach_the_client_in_the_studios_words(
    client: Client, call: dict[str, Any], words: str, log: Path
) -> None:
    with pytest.raises(AppError, match=words) as caught:
        client.predict(**call)
    assert "Traceback" not in str(caught.value)
    assert "Traceback" not in log.read_text()


def test_all_wrong_settings_come_in_one_answer(client: Client, check_id: str) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(check_id, settings={"sed": 1, "method.rank": 0}, api_name="/train")
    assert "sed" in str(caught.value) and "method.rank" in str(caught.value)


def test_a_file_of_the_server_is_not_taken_for_a_photo(
    address: str, client: Client, settings: Settings, photos: list[Path]
) -> None:
    before = client.predict(api_name="/jobs")
    for path in ("/etc/passwd", str(photos[0]), "http://127.0.0.1:1/face.jpg"):
        photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [[photo], "Ada", "woman", None, None]}
        assert httpx.post(f"{address}/gradio_api/run/check_photos", json=body).status_code == 422
    assert client.predict(api_name="/jobs") == before
    assert not list((settings.home / "web-cache").rglob("passwd"))


def test_gradio_checks_paths_only_once_it_believes_that_it_was_launched() -> None:
    """The reason why create_app sets ``has_launched``; fails when Gradio no longer needs it."""
    from gradio.context import LocalContext
    from gradio.exceptions import InvalidPathError
    from gradio.processing_utils import _check_allowed

    page = SimpleNamespace(has_launched=False, allowed_paths=[], blocked_paths=[])
    token = LocalContext.blocks.set(page)  # type: ignore[arg-type]
    try:
        _check_allowed("/etc/passwd", check_in_upload_folder=True)
        page.has_launched = True
        with pytest.raises(InvalidPathError):
            _check_allowed("/etc/passwd", check_in_upload_folder=True)
    finally:
        LocalContext.blocks.reset(token)


def test_another_owners_job_is_not_there_for_any_endpoint_or_link(client: Client, address: str) -> None:
    for call in ("/job", "/cancel", "/train"):
        with pytest.raises(AppError, match="is not there"):
            client.predict("check-foreign", api_name=call)
    assert "check-foreign" not in {row["id"] for row in client.predict(api_name="/jobs")}
    assert httpx.get(f"{address}/files/check-foreign/previews/000.webp").status_code == 404


def test_links_serve_pictures_of_a_job_and_nothing_else(address: str, check_id: str, settings: Settings) -> None:
    answer = httpx.get(f"{address}/files/{check_id}/previews/000.webp")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")
    (settings.home / "jobs" / check_id / "secret.png").write_bytes(b"secret")
    (settings.home / "jobs" / check_id / "out" / "page.html").write_text("<script>")
    for path in ("..%2Fsecret.png", "%2e%2e/secret.png", "page.html", "previews", "..%2F..%2F..%2Fjobs.sqlite3"):
        answer = httpx.get(f"{address}/files/{check_id}/{path}")
        assert answer.status_code == 404 and "secret" not in answer.text.replace(path, "")
    assert httpx.get(f"{address}/files/no-such-job/previews/000.webp").status_code == 404
