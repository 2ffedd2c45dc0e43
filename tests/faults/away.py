"""A server whose trainings have agents on another machine, which is this one; a program for test_adopted.py.

    python away.py HOME PORT ELSEWHERE [ADDRESS [SETTINGS]]

ADDRESS is where agents find it, behind a gateway; SETTINGS are more of them, as JSON. It is stopped by
SIGTERM. An agent is a process of its own that knows nothing but its ticket, as anywhere.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import fake_verbs
import uvicorn

from studio.core.settings import PROJECT_ROOT, Settings
from studio.jobs.runners import opened
from studio.jobs.runners.agents import Launcher
from studio.jobs.runners.ticket import Ticket
from studio.service import Studio
from studio.web.machines import machines_app


class Elsewhere(Launcher):
    name = "ssh:elsewhere"

    def __init__(self, home: Path, address: str) -> None:
        self.home = home
        self.address = address

    def launch(self, ticket: Ticket) -> str:
        place = self.home / f"{ticket.job}-{ticket.attempt}"
        place.mkdir(parents=True)
        pace = {"beat_s": 0.1, "snapshot_s": 0.3, "patience_s": 60.0}
        (place / "ticket.json").write_text(ticket.model_copy(update=pace).model_dump_json())
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "STUDIO_HOME": str(self.home / "studio")}
        path = [*filter(None, [os.environ.get("PYTHONPATH")]), str(PROJECT_ROOT), fake_verbs.FOLDER]
        environment |= {"PYTHONPATH": os.pathsep.join(path), "STUDIO_DEVICE": "cpu"}
        command = [sys.executable, "-m", "studio", "attempt", "ticket.json"]
        with (place / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                command, env=environment, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=agent.wait, daemon=True).start()  # one that has ended is no zombie of ours
        (place / "pid").write_text(str(agent.pid))
        return str(place)

    def is_alive(self, place: str) -> bool:
        return Path(f"/proc/{(Path(place) / 'pid').read_text()}").exists()

    def kill(self, place: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((Path(place) / "pid").read_text()), signal.SIGKILL)


def main() -> None:
    home, port, elsewhere, *more = sys.argv[1:]
    address, given = [*more, *(f"http://127.0.0.1:{port}", "{}")[len(more) :]]
    launcher = Elsewhere(Path(elsewhere), address)
    opened.launcher_of = lambda settings: launcher  # type: ignore[assignment]
    settings = Settings(home=Path(home), device="cpu", runner=launcher.name, **json.loads(given))
    studio = Studio(settings, verbs=fake_verbs.VERBS, grace_s=5.0)
    assert studio.desk is not None
    studio.start()
    print("started", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(machines_app(studio.desk), port=int(port), log_level="warning", timeout_graceful_shutdown=1)
    studio.close()


if __name__ == "__main__":
    main()
