"""The description of the interface: whole, in itself right, with a sentence for everything that can be sent."""

import json
import re
from typing import Any

import jsonschema
import pytest

from studio.web.api import bodies
from studio.web.api.native import OPERATIONS
from studio.web.api.schema import openapi


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return openapi(OPERATIONS, version="1")


def test_every_reference_leads_somewhere_and_every_schema_is_one(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)))
    assert named <= set(schemas) and not re.search(r'"#/\$defs', json.dumps(described))
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_operation_has_a_name_of_its_own_and_says_what_it_refuses(described: dict[str, Any]) -> None:
    rows = [row for path in described["paths"].values() for row in path.values()]
    assert len({row["operationId"] for row in rows}) == len(rows) == len(OPERATIONS)
    for row in rows:
        assert row["summary"].endswith(".") and {"401", "422", "500"} <= set(row["responses"])
        assert any(status.startswith("2") for status in row["responses"])


def test_every_parameter_and_every_setting_has_its_sentence(described: dict[str, Any]) -> None:
    for path in described["paths"].values():
        for row in path.values():
            bare = [one["name"] for one in row["parameters"] if one["in"] != "path" and not one.get("description")]
            assert not bare, row["summary"]
    for body in (bodies.CheckBody, bodies.TrainBody, bodies.GenerateBody, bodies.FinishBody):
        properties = described["components"]["schemas"][body.__name__]["properties"]
        assert [name for name, one in properties.items() if not one.get("description")] == [], body


def test_submitting_takes_a_key_and_lists_take_a_tag(described: dict[str, Any]) -> None:
    def headers(path: str, method: str) -> set[str]:
        return {one["name"] for one in described["paths"][path][method]["parameters"] if one["in"] == "header"}

    assert headers("/v1/train", "post") == {"Idempotency-Key"}
    assert headers("/v1/jobs", "get") == {"If-None-Match"}
    assert headers("/v1/jobs/{job_id}/events", "get") == {"Last-Event-ID"}
    assert described["paths"]["/v1/train"]["post"]["requestBody"]["required"]
    assert "409" in described["paths"]["/v1/train"]["post"]["responses"]
