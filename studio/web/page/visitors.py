"""Who calls a handler of the page: the visitor of the request, as the guard in front of the server has marked it."""

from pathlib import Path

from gradio.context import LocalContext
from gradio.utils import get_upload_folder

from studio.core.private import served_folder
from studio.web.asgi import Scope
from studio.web.login import VISITOR, Visitor, visitor_of


def _scope() -> Scope | None:
    """Return the scope of the request behind the running handler; None outside of one."""
    request = LocalContext.request.get(None)
    scope: Scope | None = getattr(getattr(request, "request", None), "scope", None)
    return scope


def current_visitor() -> Visitor:
    """Return the visitor of the request that is being handled.

    Raises:
        LoginError: nobody is logged in, or there is no request.
    """
    return visitor_of(_scope())


def upload_folder() -> Path:
    """Return Gradio's folder; where people log in, the part of it that is the visitor's.

    Raises:
        LoginError: people log in here, and nobody is logged in.
    """
    root, scope = Path(get_upload_folder()), _scope()
    return root if scope is None or VISITOR not in scope else served_folder(root, visitor_of(scope).owner)
