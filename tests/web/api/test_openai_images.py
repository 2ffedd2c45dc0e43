"""OpenAI's official client makes pictures with adapters of the studio."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from studio.core.errors import InputError
from studio.web.api.openai_images import ImageBody, openai_error


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/openai/v1", api_key="the-token") as made:
        yield made


def picture_of(text: str | None) -> Image.Image:
    assert text
    return Image.open(io.BytesIO(base64.b64decode(text)))


def newest(http: httpx.Client, kind: str) -> dict[str, Any]:
    job: dict[str, Any] = http.get("/v1/jobs", params={"kind": kind, "limit": 1}).json()["items"][0]
    return job


def test_adapters_are_models(client: openai.OpenAI, work: dict[str, Any]) -> None:
    run = work["train"]
    (row,) = (row for row in client.models.list() if row.id == run["code"])
    assert row.object == "model" and row.created == int(run["created_s"]) and row.to_dict()["name"] == "Ada"
    assert client.models.retrieve(run["id"]) == client.models.retrieve(run["code"]) == row
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("10000000")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("handle", ["code", "id"])
def test_pictures_are_made_with_an_adapter(
    client: openai.OpenAI, http: httpx.Client, work: dict[str, Any], handle: str
) -> None:
    made = client.images.generate(model=work["train"][handle], prompt="at the beach", n=2, size="256x256")
    assert made.created > 1_700_000_000 and made.data is not None and len(made.data) == 2
    assert all(picture_of(row.b64_json).format == "PNG" for row in made.data)
    assert made.data[0].revised_prompt == "photo of sks woman, at the beach"
    assert newest(http, "generate")["source"] == work["train"]["id"]


def test_two_equal_requests_are_two_sets_of_pictures_unless_they_carry_one_key(
    client: openai.OpenAI, http: httpx.Client, work: dict[str, Any]
) -> None:
    def seed(**more: Any) -> tuple[str, int]:
        client.images.generate(model=work["train"]["code"], prompt="{subject} at home", **more)
        job = newest(http, "generate")
        assert job["facts"]["prompt"] == "{subject} at home"
        return job["id"], job["result"]["images"][0]["seed"]

    assert seed()[1] != seed()[1]
    key = {"extra_headers": {"Idempotency-Key": "mine"}}
    assert seed(**key) == seed(**key)


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_links_lead_to_files_of_the_wanted_format(
    client: openai.OpenAI, http: httpx.Client, work: dict[str, Any], file_format: Any
) -> None:
    made = client.images.generate(
        model=work["train"]["code"],
        prompt="{subject} in the snow",
        n=2,
        response_format="url",
        output_format=file_format,
        output_compression=20,
    )
    assert made.data is not None and len(made.data) == 2 and made.output_format == file_format
    finish = newest(http, "finish")
    assert finish["facts"]["steps"] == ["fit"] and finish["source"] == newest(http, "generate")["id"]
    for row in made.data:
        assert row.url and row.url.startswith(str(http.base_url.join(f"/files/{finish['id']}/")))
        assert http.get(row.url).status_code == 200 and row.revised_prompt == "sks woman in the snow"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n": 11}, "n: input should be less than or equal to 10"),
        ({"size": "1000x1001"}, "size: is no size"),
        ({"size": "4096x4096"}, "size: is no size"),
        ({"extra_body": {"seed": 3}}, "seed: there is no such setting"),
        ({"stream": True}, "stream"),
        ({"output_format": "gif"}, "output_format"),
        ({"background": "transparent"}, "background"),
    ],
)
def test_what_is_wrong_comes_in_the_shape_that_the_client_knows(
    client: openai.OpenAI, work: dict[str, Any], wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        client.images.generate(model=work["train"]["code"], prompt="a", **wrong)
    assert caught.value.type == "invalid_request_error" and caught.value.param
    assert caught.value.response.headers["x-content-type-options"] == "nosniff"


def test_a_model_that_is_not_there_is_told_and_nothing_is_repeated(
    client: openai.OpenAI, work: dict[str, Any], http: httpx.Client
) -> None:
    for handle in (work["check"]["id"], "none", "10000000"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.images.generate(model=handle, prompt="a")
        assert caught.value.param == "model"
    assert http.get("/openai/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    late = openai_error(504, "this takes longer.", [])
    assert late.status == 504 and late.headers["x-should-retry"] == "false"
    assert late.body["error"] == {"message": "this takes longer.", "type": "server_error", "param": None, "code": None}
    assert openai_error(401, "a", []).body["error"]["code"] == "invalid_api_key"


def test_parameters_of_other_models_that_change_nothing_here_are_taken() -> None:
    body = ImageBody.parse({"model": "1", "prompt": "a", "quality": "hd", "style": "vivid", "user": "x", "n": None})
    assert body.size is None and ImageBody.parse({"model": "1", "prompt": "a", "size": "auto"}).size is None
    with pytest.raises(InputError, match="prompt"):
        ImageBody.parse({"model": "1", "prompt": ""})


@pytest.mark.parametrize("with_mask", [False, True])
def test_to_change_a_picture_is_refused_in_words_after_its_bytes_have_come(
    client: openai.OpenAI, work: dict[str, Any], photo: bytes, with_mask: bool
) -> None:
    large = photo + bytes(900_000)
    more = {"mask": large} if with_mask else {}
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=work["train"]["code"], image=[large], prompt="with a hat", **more)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.param) == ("unsupported", "image")
    assert "images/generations" in caught.value.message
