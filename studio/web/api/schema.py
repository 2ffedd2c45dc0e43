"""The description of an interface (OpenAPI 3.1), made from its operations and the classes that they parse with."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from studio.web.api import views
from studio.web.api.errors import PROBLEM_JSON, phrase
from studio.web.api.operations import Operation

Data = dict[str, Any]

_REFS = "#/components/schemas/{model}"
_REFUSES = (401, 403, 405, 421, 422, 429, 500)
"""Statuses of refusals that every operation knows: token or login, origin or scope, method, host name, parameters, a
quota, a fault."""

PROBLEM: Data = {
    "type": "object",
    "title": "Problem",
    "description": "A refusal, as in RFC 9457, with everything that is wrong.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("where", "message", "cure", "code")},
            },
        },
    },
    "required": ["type", "title", "status", "detail", "problems"],
}

_KEY: Data = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "The same key with the same request is the same job; with another request it is refused (409).",
}
_TAG: Data = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "ETag of an earlier answer: if nothing has changed since, the answer is 304 without a body.",
}
_LAST_EVENT: Data = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Number of the last event that arrived.",
}


def openapi(operations: Iterable[Operation], *, version: str) -> Data:
    """Return the description as JSON data.

    Args:
        operations: all of the interface.
        version: of the studio.
    """
    schemas: Data = {**views.schemas(), "Adapter": views.ADAPTER, "Problem": PROBLEM}
    paths: Data = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Likeness Studio",
            "version": version,
            "description": "From photos of a subject to a trained adapter and finished pictures. See docs/API.md.",
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The server's token, an API key, or, where people log in, their Hugging Face token.",
                }
            },
        },
    }


def _described(operation: Operation, schemas: Data) -> Data:
    good = {operation.status: operation.answer, **operation.also}
    responses: Data = {str(status): _response(status, answer, operation, schemas) for status, answer in good.items()}
    if operation.tagged:
        responses["304"] = {"description": phrase(304)}
    stopping = (503,) if operation.status == 202 else ()
    for status in sorted({*_REFUSES, *operation.refuses, *stopping}):
        content = {PROBLEM_JSON: {"schema": {"$ref": _REFS.format(model="Problem")}}}
        responses[str(status)] = {"description": phrase(status), "content": content}
    found: Data = {
        "summary": operation.summary,
        "operationId": _identifier(operation),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, schemas), *_headers(operation)],
        "responses": responses,
    }
    if operation.body is not None:
        content = {"schema": _schema_of(operation.body, schemas, "validation")}
        if operation.example is not None:
            content["example"] = operation.example
        needed = bool(schemas[operation.body.__name__].get("required"))
        found["requestBody"] = {"required": needed, "content": {"application/json": content}}
    return found


def _identifier(operation: Operation) -> str:
    words = re.findall(r"[a-z_0-9]+", operation.path.removeprefix("/v1"))
    return "_".join([operation.method.lower(), *words])


def _path_parameters(operation: Operation) -> list[Data]:
    names = re.findall(r"{(\w+)}", operation.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(operation: Operation, schemas: Data) -> list[Data]:
    described = operation.query.model_json_schema(ref_template=_REFS)
    schemas.update(described.pop("$defs", {}))
    needed = described.get("required", ())
    rows = []
    for name, schema in described["properties"].items():
        row = {"name": name, "in": "query", "required": name in needed, "schema": schema}
        rows.append({**row, "description": schema["description"]} if "description" in schema else row)
    return rows


def _headers(operation: Operation) -> list[Data]:
    takes_key = operation.status == 202 and not operation.path.endswith("/retry")
    is_stream = operation.path.endswith("/events")
    rows = ((_KEY, takes_key), (_TAG, operation.tagged), (_LAST_EVENT, is_stream))
    return [row for row, applies in rows if applies]


def _response(status: int, answer: Any, operation: Operation, schemas: Data) -> Data:
    found: Data = {"description": operation.summary if status == operation.status else phrase(status)}
    if answer is None:
        return found
    schema = _schema_of(answer, schemas, "serialization")
    media_type = schema.pop("x-media-type", "application/json")
    found["content"] = {media_type: {"schema": schema}}
    if operation.tagged:
        found["headers"] = {"ETag": {"schema": {"type": "string"}}}
    return found


def _schema_of(answer: Any, schemas: Data, mode: Any) -> Data:
    """Return the schema of a type, a reference to it in ``schemas``; a pair is a type and what is added to it."""
    if isinstance(answer, Mapping):
        return dict(answer)
    if isinstance(answer, tuple):
        return {"allOf": [_schema_of(answer[0], schemas, mode), dict(answer[1])]}
    schema = TypeAdapter(answer).json_schema(mode=mode, ref_template=_REFS)
    schemas.update(schema.pop("$defs", {}))
    schemas[answer.__name__] = schema
    return {"$ref": _REFS.format(model=answer.__name__)}
