"""The plain routes and those below /v1 before a studio that is not started: it may be killed and is back at once.

Run as a script: ``python tests/remote_server.py HOME PORT``; it prints the address once it listens.
"""

import sys
from pathlib import Path

from fastapi import FastAPI

from studio.core.settings import Settings
from studio.service import Studio
from studio.web import guard, server
from studio.web.api.interfaces import add_interfaces
from studio.web.routes import add_routes
from studio.web.session import StudioSession


def create_app(settings: Settings, studio: Studio) -> FastAPI:
    """Return guard and routes, without Gradio's."""
    app = FastAPI()
    app.add_middleware(guard.GuardMiddleware, settings=settings)
    session = StudioSession(studio, settings)
    for add in (add_routes, add_interfaces):
        add(app, lambda request: session, settings)
    return app


if __name__ == "__main__":
    settings = Settings(home=Path(sys.argv[1]), port=int(sys.argv[2]))
    listener = server._listen(settings.host, settings.port)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(create_app(settings, Studio(settings)), listener)
