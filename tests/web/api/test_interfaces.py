"""All interfaces together: the limits of their bodies over HTTP, and that everything is its owner's only."""

import base64
from typing import Any

import httpx
import pytest


@pytest.mark.parametrize(("path", "field"), [("/v1/check", "photos"), ("/v1/finish", "pictures")])
def test_a_picture_inside_a_request_may_be_as_large_as_an_upload(http: httpx.Client, path: str, field: str) -> None:
    """Uploads of this app may take 1 MB: less than every JSON body may take, so the picture itself is refused."""
    row = {"name": "a.png", "data": base64.b64encode(bytes(10**6 + 1)).decode()}
    answer = http.post(path, json={field: [row]})
    assert answer.status_code == 422 and answer.json()["problems"][0]["code"] == "too_large"
    assert http.post(path, content=b" " * (4 * 2**20 + 1)).status_code == 413


def test_a_refused_order_leaves_no_file_behind(http: httpx.Client, app_settings: Any, photo: bytes) -> None:
    row = {"name": "a.png", "data": base64.b64encode(photo).decode()}
    answer = http.post("/v1/finish", json={"pictures": [row], "chain": "nowhere"})
    assert answer.status_code == 404
    assert not [path for path in (app_settings.home / "uploads").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("path", "field"), [("/remove", "input_image"), ("/remove-opacity", "input_image"), ("/upsampler", "image")]
)
def test_one_picture_may_be_as_large_as_an_upload(http: httpx.Client, path: str, field: str) -> None:
    answer = http.post(path, json={field: base64.b64encode(bytes(10**6 + 1)).decode()})
    assert answer.status_code == 422 and answer.json()["problems"][0]["code"] == "too_large"
    assert http.post(path, content=b" " * (4 * 2**20 + 1)).status_code == 413
