"""All interfaces for programs beside Gradio's endpoints and the plain routes, and the shapes of their refusals."""

from collections.abc import Mapping

from fastapi import FastAPI

from studio.core.settings import Settings
from studio.web.api.errors import Shape, problem_json
from studio.web.api.known import add_known, upsampler_words
from studio.web.api.native import add_native
from studio.web.api.openai_images import add_openai, openai_error
from studio.web.api.operations import Desk
from studio.web.api.replicate_runs import add_replicate
from studio.web.api.service_routes import service_words
from studio.web.routes import SessionOf, Uploads

SHAPES: Mapping[str, Shape] = {
    "/v1": problem_json,
    "/upsampler": upsampler_words,
    "/upscaler": upsampler_words,
    "/service": service_words,
    "/dreambooth": service_words,
    "/openai": openai_error,
    "/replicate": problem_json,
}
"""Beginning of a path -> shape of the refusals below it."""


def add_interfaces(app: FastAPI, session_of: SessionOf, settings: Settings) -> None:
    """Add the routes of every interface to the app; every one sees only what belongs to the owner of its request."""
    desk = Desk(session_of, settings, Uploads(settings))
    add_native(app, desk)
    add_known(app, desk)
    add_openai(app, desk)
    add_replicate(app, desk)
