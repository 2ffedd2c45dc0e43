"""Hearts of pictures, and the names of subjects and photo sets, below ``/v1``."""

from typing import Annotated, Any

from pydantic import Field

from studio.core.errors import NotFoundError
from studio.core.strict import StrictModel
from studio.web.api import views
from studio.web.api.operations import Call, Operation

Data = dict[str, Any]


class HeartsBody(StrictModel):
    """Pictures that get a heart, or lose it."""

    files: Annotated[tuple[str, ...], Field(min_length=1, max_length=2000)]
    """The pictures, by the `file` of the job's result."""
    on: bool = True
    """Whether they get one."""


class NameBody(StrictModel):
    """A name."""

    name: Annotated[str, Field(max_length=300)]
    """The new name; an empty one takes a photo set's own name away."""


def _hearts(call: Call) -> Data:
    body: HeartsBody = call.body
    return views.whole_job(call.session, call.session.heart(call.path["job_id"], body.files, on=body.on))


def _name_set(call: Call) -> Data:
    (job_id,) = call.session.rename(call.body.name, check_job=call.path["job_id"])
    return views.whole_job(call.session, call.session.studio.get(job_id, owner=call.session.owner))


def _name_subject(call: Call) -> Data:
    subject = call.path["subject"]
    renamed = call.session.rename(call.body.name, subject=subject)
    if not renamed:
        raise NotFoundError(f"there is no subject {subject!r}.")
    return {"renamed": list(renamed)}


_JOB: Data = {"$ref": "#/components/schemas/Job"}
_RENAMED: Data = {
    "type": "object",
    "properties": {"renamed": {"type": "array", "items": {"type": "string"}}},
    "required": ["renamed"],
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "PUT", "/v1/jobs/{job_id}/hearts", "Give pictures of a job hearts, or take them back.", _hearts, _JOB,
        body=HeartsBody, example={"files": ["images/beach/00.png"]}, refuses=(404, 409, 413, 507),
    ),
    Operation(
        "PATCH", "/v1/jobs/{job_id}", "Give a photo set a name of its own.", _name_set, _JOB,
        body=NameBody, example={"name": "Ada in spring"}, refuses=(404, 409, 413, 507),
    ),
    Operation(
        "PATCH", "/v1/subjects/{subject}", "Give a subject another name.", _name_subject, _RENAMED,
        body=NameBody, example={"name": "Ada"}, refuses=(404, 409, 413, 507),
    ),
)  # fmt: skip
"""What names things and marks them."""
