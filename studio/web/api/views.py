"""Jobs, adapters and pictures as the operations below ``/v1`` answer them, and the schemas of these answers."""

from dataclasses import asdict
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from studio.core.domain import FinishedPicture, Image, JobView
from studio.web.codes import code_of
from studio.web.session import StudioSession

Data = dict[str, Any]

PICTURES_OF = {"generate": "images", "finish": "pictures"}
"""Kind of job -> where its result lists the pictures."""


def job(view: JobView) -> Data:
    """Return a job."""
    data = asdict(view)
    data["queue_position"] = data.pop("place")
    if view.kind == "train":
        data["code"] = code_of(view.id)
    return data


def whole_job(session: StudioSession, view: JobView) -> Data:
    """Return a job, of a training also the one that publishes it."""
    data = job(view)
    if view.kind == "train":
        then = session.publishing_of(view)
        data["publish_job"] = then.id if then else None
    return data


def adapter(session: StudioSession, view: JobView) -> Data:
    """Return what a completed training has made."""
    result, facts = view.result or {}, session.adapter_facts(view.id)
    return {
        "id": view.id,
        "code": code_of(view.id),
        "subject": view.facts.subject,
        "class_noun": facts.get("class_noun") or view.facts.class_noun,
        "instance_token": facts.get("instance_token"),
        "base": facts.get("base") or view.facts.base,
        "preset": view.facts.preset,
        "likeness": result.get("likeness_after"),
        "likeness_summary": result.get("likeness_summary"),
        "bleed": result.get("bleed"),
        "best_step": result.get("best_step"),
        "created_s": view.created_s,
        "finished_s": view.finished_s,
        "files_url": f"{session.settings.root_path}/files/{view.id}",
    }


def images(view: JobView, root: str = "") -> list[Data]:
    """Return the pictures of a generate or finish job with their addresses; none of any other.

    Args:
        view: the job.
        root: what stands before all addresses of the studio.
    """
    rows = (view.result or {}).get(PICTURES_OF.get(view.kind, ""), ())
    place = f"{root}/files/{view.id}"
    urls = [f"{place}/{row['file']}" for row in rows]
    return [{**row, "url": url, "small_url": f"{url}?small=true"} for row, url in zip(rows, urls, strict=True)]


def a_list(item: Data) -> Data:
    """Return the schema of a part of a list."""
    properties = {"items": {"type": "array", "items": item}, "next_cursor": _OR_NULL["string"]}
    return {"type": "object", "required": ["items"], "properties": properties}


_OR_NULL = {kind: {"anyOf": [{"type": kind}, {"type": "null"}]} for kind in ("string", "number", "integer", "object")}

ADAPTER = {
    "type": "object",
    "title": "Adapter",
    "properties": {
        "id": {"type": "string"},
        "code": {"type": "string", "pattern": "^[1-9][0-9]{7}$"},
        **dict.fromkeys(("subject", "class_noun", "instance_token", "base", "preset"), _OR_NULL["string"]),
        **dict.fromkeys(("likeness", "bleed", "finished_s"), _OR_NULL["number"]),
        "likeness_summary": _OR_NULL["object"],
        "best_step": _OR_NULL["integer"],
        "created_s": {"type": "number"},
        "files_url": {"type": "string"},
    },
    "required": ["id", "code", "created_s", "files_url"],
}
"""Schema of ``adapter``."""

FILES = {
    "type": "object",
    "properties": {
        "job": {"type": "string"},
        "kind": {"type": "string"},
        "state": {"type": "string"},
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "path": {"type": "string"},
                    "bytes": {"type": "integer"},
                    "sha256": {"type": "string"},
                    "url": {"type": "string"},
                },
                "required": ["path", "bytes", "sha256", "url"],
            },
        },
    },
    "required": ["job", "kind", "state", "files"],
}
"""Schema of the files of a job."""


@cache
def schemas() -> dict[str, Data]:
    """Return name -> schema of the answers that follow from records: Job and Image."""
    found = TypeAdapter(JobView).json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    below = found.pop("$defs", {})
    properties = found["properties"]
    properties["queue_position"] = properties.pop("place")
    properties["code"] = {"type": "string", "description": "Of a training: stands for its adapter, like the id."}
    properties["publish_job"] = {**_OR_NULL["string"], "description": "Of a single training: what publishes it."}
    found["title"] = "Job"
    found["required"] = [name for name in found.get("required", ()) if name in properties]
    image: Data = {"type": "object", "title": "Image", "properties": {}}
    for record in (Image, FinishedPicture):
        image["properties"] |= TypeAdapter(record).json_schema(mode="serialization")["properties"]
    image["properties"] |= {"url": {"type": "string"}, "small_url": {"type": "string"}}
    image["required"] = ["file", "url", "small_url"]
    return {**below, "Job": found, "Image": image}
