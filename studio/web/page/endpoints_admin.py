"""The operator's endpoints, for programs that watch and steer a studio; all others are refused."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from studio.web.page import words_api
from studio.web.page.endpoint_spec import Endpoint, Parameter
from studio.web.session import StudioSession

Form = dict[str, Any]
Given = Mapping[str, Any]


def _admin(session: StudioSession, form: Form, given: Given) -> Form:
    operation = session.operation
    seen = asdict(operation.look())
    return {"queue": seen, "activity": asdict(operation.activity()), "holdings": asdict(operation.measure())}


def _admin_pause(session: StudioSession, form: Form, given: Given) -> Form:
    session.operation.pause(on=given["on"])
    return asdict(session.operation.look())


def _admin_cancel(session: StudioSession, form: Form, given: Given) -> Form:
    session.operation.cancel(given["job_id"], by=session.owner)
    return asdict(session.operation.look())


def _admin_retry(session: StudioSession, form: Form, given: Given) -> Form:
    session.operation.retry(given["job_id"])
    return asdict(session.operation.look())


def _admin_clear(session: StudioSession, form: Form, given: Given) -> Form:
    pictures, size = session.operation.clear_results()
    return {"pictures": pictures, "bytes": size}


_JOB_ID = Parameter("job_id", str, words_api.API_ADMIN_JOB_ID)

ADMIN_ENDPOINTS = (
    Endpoint("admin", words_api.API_ADMIN, _admin, (), words_api.API_ADMIN_RETURNS),
    Endpoint(
        "admin_pause",
        words_api.API_ADMIN_PAUSE,
        _admin_pause,
        (Parameter("on", bool, words_api.API_ADMIN_PAUSE_ON, True),),
        words_api.API_ADMIN_QUEUE,
    ),
    Endpoint("admin_cancel", words_api.API_ADMIN_CANCEL, _admin_cancel, (_JOB_ID,), words_api.API_ADMIN_QUEUE),
    Endpoint("admin_retry", words_api.API_ADMIN_RETRY, _admin_retry, (_JOB_ID,), words_api.API_ADMIN_QUEUE),
    Endpoint("admin_clear_results", words_api.API_ADMIN_CLEAR, _admin_clear, (), words_api.API_ADMIN_CLEAR_RETURNS),
)
"""Each asks the session for the operation, which refuses whoever is no operator."""
