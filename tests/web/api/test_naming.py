"""Hearts and names below /v1."""

from typing import Any

import httpx


def test_pictures_get_hearts_and_lose_them(http: httpx.Client, work: dict[str, Any]) -> None:
    job = work["generate"]
    address = f"/v1/jobs/{job['id']}/hearts"
    first, second = [row["file"] for row in job["result"]["images"][:2]]
    given = http.put(address, json={"files": [first, second]})
    assert given.status_code == 200 and given.json()["hearts"] == [first, second]
    assert http.put(address, json={"files": [first], "on": False}).json()["hearts"] == [second]
    assert http.put(address, json={"files": [second], "on": False}).json()["hearts"] == []
    for body in ({}, {"files": []}, {"files": [first], "marks": 1}):
        assert http.put(address, json=body).status_code == 422, body


def test_a_photo_set_and_a_subject_get_other_names(http: httpx.Client, work: dict[str, Any]) -> None:
    check = work["check"]["id"]
    assert http.patch(f"/v1/jobs/{check}", json={"name": "In spring"}).json()["facts"]["name"] == "In spring"
    assert http.patch(f"/v1/jobs/{check}", json={"name": ""}).json()["facts"]["name"] is None
    renamed = http.patch("/v1/subjects/Ada", json={"name": "Ada Lovelace"})
    assert renamed.status_code == 200 and check in renamed.json()["renamed"]
    back = http.patch("/v1/subjects/Ada%20Lovelace", json={"name": "Ada"})
    assert set(back.json()["renamed"]) == set(renamed.json()["renamed"])
    assert http.patch("/v1/subjects/Nobody", json={"name": "Eve"}).status_code == 404
    assert http.patch(f"/v1/jobs/{check}", json={}).status_code == 422
