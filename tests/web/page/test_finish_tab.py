"""What is handed over to the Finish and Publish tabs, and the Finish tab's own events, called as the browser does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from studio.core.settings import Settings


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, page_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt") as address:
        yield page_at(address)


@pytest.fixture
def client(page: Any) -> Iterator[Client]:
    client = Client(page.address, verbose=False, download_files=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture
def runs(client: Client, photos: list[Path]) -> list[str]:
    """A run each of two subjects; the page knows of both."""
    uploads = [handle_file(str(path)) for path in photos]
    checks = [client.predict(uploads, name, "woman", api_name="/check_photos")["id"] for name in ("Ada", "Bea")]
    return [client.predict(check, api_name="/train")["id"] for check in checks]


def test_pictures_and_runs_are_handed_over_to_finishing_and_publishing(
    page: Any, client: Client, runs: list[str]
) -> None:
    page.fire("Generate", "select")
    shown = page.fire("Generate", "click", Subject=runs[0], Pack="places")
    assert shown["Finish these"]["visible"] is True and shown["Publish these"]["visible"] is True
    assert "data-look" in shown["ls-pictures"] and "?small=1" in shown["ls-pictures"]
    pictures = shown["Earlier pictures"]["value"]
    client.predict(runs[1], pack="places", api_name="/generate")  # newer, and so what the tabs would choose themselves

    finish = page.fire("Finish these", "click")
    assert finish["Pictures"]["value"] == pictures and finish["What to finish"] == "Generated pictures"

    publish = page.fire("Publish these", "click")
    assert publish["Run"]["value"] == runs[0] and publish["Pictures for the gallery"]["value"] == pictures
    assert publish["Chosen pictures"]["visible"] is True and publish["Chosen pictures"]["choices"]


def test_hearts_are_kept_and_what_is_handed_over_is_them_alone(page: Any, client: Client, runs: list[str]) -> None:
    page.fire("Generate", "select")
    shown = page.fire("Generate", "click", Subject=runs[0], Pack="places", Pictures_per_prompt=2)
    job = shown["Earlier pictures"]["value"]
    files = re.findall(r'data-heart="(.*?)"', shown["ls-pictures"])
    assert len(files) == 4
    press = {"file": files[2], "on": True}
    said = page.fire("ls-pictures", "click", event_data=press)
    assert (
        "Download the heart (zip)" in said["ls-generate-status"] and f'data-job="{job}"' in said["ls-generate-status"]
    )
    assert client.predict(job, files=False, api_name="/job")["hearts"] == [files[2]]
    again = page.fire("Earlier pictures", "input", Earlier_pictures=job)["ls-pictures"]
    assert re.findall(r'data-heart="(.*?)" aria-pressed="true"', again) == [files[2]]
    assert re.search(r'data-heart="(.*?)"', again)[1] == files[2], "it comes first now"  # type: ignore[index]

    finish = page.fire("Finish these", "click")
    only = finish["Only the pictures with a heart"]
    assert only["visible"] is True and only["value"] is True
    done = page.fire("Finish", "click", Pictures=job, Only_the_pictures_with_a_heart=True)
    made = client.predict(done["Earlier"]["value"], files=False, api_name="/job")
    assert [row["source"] for row in made["result"]["pictures"]] == [files[2]]
    publish = page.fire("Publish these", "click")
    assert publish["Chosen pictures"]["value"] == [files[2]]


def test_one_press_compares_strengths_of_one_prompt_in_a_row(page: Any, client: Client, runs: list[str]) -> None:
    page.fire("Generate", "select")
    shown = page.fire(
        "Compare strengths", "click", Subject=runs[0], Pack="places", Pictures_per_prompt=3, Keep_the_best=2
    )
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", shown["ls-pictures"])
    assert [caption.partition(" · ")[0] for caption in captions] == [
        f"strength {one}" for one in ("0.5", "0.75", "1", "1.25")
    ]
    assert "--across:4" in shown["ls-pictures"]
    job = client.predict(shown["Earlier pictures"]["value"], files=False, api_name="/job")
    assert {row["seed"] for row in job["result"]["images"]} == {0}
    assert {row["prompt"] for row in job["result"]["images"]} == {"photo of sks woman at the beach"}


def test_whoever_comes_back_finds_the_pack_that_was_chosen(
    page: Any, client: Client, runs: list[str], settings: Settings
) -> None:
    packs = settings.presets_dir / "packs"
    (packs / "zoo.yaml").write_text((packs / "places.yaml").read_text().replace("Two places", "Zoo"))
    try:
        page.fire("Generate", "select")
        assert page.fire("Generate", "select", Subject=runs[0], Pack=None)["Pack"]["value"] == "places"
        assert page.fire("Generate", "select", Subject=runs[0], Pack="zoo")["Pack"]["value"] == "zoo"
        client.predict(runs[0], pack="zoo", api_name="/generate")
        assert page.fire("Generate", "select", Subject=runs[0], Pack=None)["Pack"]["value"] == "zoo", "drawn last"
        assert page.fire("Generate", "select", Subject=runs[1], Pack=None)["Pack"]["value"] == "places"
    finally:
        (packs / "zoo.yaml").unlink()


def test_a_run_is_handed_over_to_publishing(page: Any, client: Client, photos: list[Path]) -> None:
    check = client.predict([handle_file(str(path)) for path in photos], "Eve", "woman", api_name="/check_photos")["id"]
    page.fire("Train", "select")
    shown = page.fire("Train", "click", Photos=check)
    assert shown["Publish this run"]["visible"] is True
    newer = client.predict(check, settings={"seed": 5}, api_name="/train")["id"]
    publish = page.fire("Publish this run", "click")
    assert publish["Run"]["value"] == shown["Earlier runs"]["value"] != newer
    assert publish["Pictures for the gallery"]["value"] == ""


def test_size_and_background_are_chosen_by_name(page: Any, client: Client, runs: list[str]) -> None:
    pictures = client.predict(runs[0], pack="places", api_name="/generate")["id"]
    page.fire("Finish", "select")
    shown = page.fire("Background", "change", Background="colour")
    assert shown["Colour of the background"]["visible"] is True
    wrong = {"Pictures": pictures, "Size": "avatar", "Background": "colour", "Colour_of_the_background": "red"}
    said = page.fire("Finish", "click", **wrong)["ls-finish-notice"]
    assert "background.colour" in said
    done = page.fire("Finish", "click", **{**wrong, "Colour_of_the_background": "rgba(10.2, 20, 30, 1)"})
    assert done["ls-finish-notice"] == "" and "?small=1" in done["ls-finished"] and "data-choose" in done["ls-finished"]


def test_nothing_to_finish_is_said_in_plain_words(page: Any) -> None:
    said = page.fire("Finish", "click", What_to_finish="My own pictures")["ls-finish-notice"]
    assert "there is nothing to finish yet" in said and "drop pictures" in said
