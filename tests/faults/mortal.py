"""A server over fake verbs that dies where the tests want it to; a program of the kill loops.

    python mortal.py '{"home": ..., "runner": "local" | "elsewhere" | "ray", "port": ..., "places": ...,
                       "elsewhere": ..., "database": null}'

It says "started", and ends by SIGTERM. Its agents, if it has any, are of a quick pace.
"""

import contextlib
import functools
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import away
import fake_verbs
import places
import uvicorn

from studio.core.settings import Settings
from studio.jobs.runners import opened
from studio.jobs.runners.agents import AgentRunner
from studio.jobs.runners.ray import RayLauncher, environment_of
from studio.jobs.runners.ticket import Ticket
from studio.service import Studio
from studio.web.machines import machines_app


class PacedRayLauncher(RayLauncher):
    def launch(self, ticket: Ticket) -> str:
        return super().launch(ticket.model_copy(update={"beat_s": 0.1, "snapshot_s": 0.3, "patience_s": 60.0}))


def main() -> None:
    told: dict[str, Any] = json.loads(sys.argv[1])
    address = f"http://127.0.0.1:{told['port']}"
    more: dict[str, Any] = {}
    if told["runner"] != "local":
        launcher: Any = (
            away.Elsewhere(Path(told["elsewhere"]), address)
            if told["runner"] == "elsewhere"
            else PacedRayLauncher(address, environment=environment_of(), patience_s=30.0)
        )
        opened.launcher_of = lambda settings: launcher  # type: ignore[assignment]
        opened.AgentRunner = functools.partial(AgentRunner, lost_s=1.0)  # type: ignore[misc, assignment]
        more = {"runner": launcher.name, "runner_jobs": 2}
    places.arm(Path(told["places"]), places.SERVER | places.LOSS | (places.DESK if more else {}))
    settings = Settings(home=told["home"], device="cpu", database_url=told["database"], **more)
    studio = Studio(settings, verbs=fake_verbs.VERBS, grace_s=5.0, max_losses=50)
    studio.start()
    print("started", flush=True)
    if studio.desk is None:
        over = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: over.set())
        over.wait()
    else:
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.run(machines_app(studio.desk), port=told["port"], log_level="warning", timeout_graceful_shutdown=1)
    studio.close()


if __name__ == "__main__":
    main()
