"""What a look at a job takes while a real training runs: a whole server, asked over HTTP by many clients at once.

    python -m benchmarks.polling --seconds 120 --out benchmarks/results/polling.json

A training of the pocket base on drawn photos, which goes on for longer than that and is cancelled then; each client
asks for the job once a second. On SQLite and, if Debian's package is
installed, on Postgres.
"""

import argparse
import base64
import http.client
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.queue import ROOT, helper, summary
from studio.pocket.samples import sample_photos

_EVERY_S = 1.0
_GROWS_AFTER = 0.25
"""Of the time: until then a server has not seen everything once."""


@contextmanager
def server(home: Path, database: str | None) -> Iterator[tuple[psutil.Process, http.client.HTTPConnection]]:
    """Start a studio; give its process and a connection to it."""
    environment = {**os.environ, "STUDIO_HOME": str(home), "STUDIO_PORT": "0", "STUDIO_TOKEN": "off"}
    environment |= {"STUDIO_DEVICE": "cpu", "STUDIO_LANGUAGE": "en"}
    if database is not None:
        environment["STUDIO_DATABASE_URL"] = database
    command = [sys.executable, "-m", "studio", "serve", "--json"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            host = address.partition("://")[2].strip("/").partition("/")[0]
            yield psutil.Process(process.pid), http.client.HTTPConnection(host, timeout=60)
        finally:
            process.terminate()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    """Return what the studio answers; raises RuntimeError if it refuses."""
    headers = {"content-type": "application/json"} if isinstance(body, dict) else {}
    connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
    return json.loads(text)


def begin_training(connection: http.client.HTTPConnection, folder: Path) -> str:
    """Check drawn photos and begin a training on them; return its id when it makes steps."""
    photos = [
        {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in sample_photos(folder)
    ]
    asked = {"subject": "Ada", "class_noun": "woman", "photos": photos, "consent": True}
    check = ask(connection, "POST", "/v1/check", asked)["id"]
    asked = {
        "check": check,
        "base": "pocket",
        "steps": 20_000,
        "samples_per_checkpoint": 1,
        "checkpoint_every_steps": 1000,
    }
    run = ask(connection, "POST", "/v1/train", asked)["id"]
    while (view := ask(connection, "GET", f"/v1/jobs/{run}"))["state"] != "training":
        assert view["state"] not in ("stalled", "cancelled"), view
        time.sleep(0.5)
    return str(run)


def measure(home: Path, database: str | None, clients: int, seconds: float) -> dict[str, Any]:
    """Ask one server about one training for a while."""
    with server(home, database) as (process, connection):
        run = begin_training(connection, home.parent / "photos")
        steps = ask(connection, "GET", f"/v1/jobs/{run}")["progress"].get("step") or 0
        found_ms: list[float] = []
        failed: list[str] = []
        end_s = time.monotonic() + seconds

        def poll(number: int) -> None:
            own = http.client.HTTPConnection(connection.host, connection.port, timeout=60)
            next_s = time.monotonic() + number / clients * _EVERY_S
            while next_s < end_s:
                time.sleep(max(0.0, next_s - time.monotonic()))
                next_s += _EVERY_S
                begin_s = time.perf_counter()
                try:
                    ask(own, "GET", f"/v1/jobs/{run}")
                except (RuntimeError, OSError) as error:
                    failed.append(str(error))
                    own.close()
                else:
                    found_ms.append((time.perf_counter() - begin_s) * 1000)
            own.close()

        threads = [threading.Thread(target=poll, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        memory: list[int] = []
        while time.monotonic() < end_s:
            memory.append(process.memory_info().rss)
            time.sleep(1.0)
        for thread in threads:
            thread.join()
        connection.close()  # the server has, after so long
        view = ask(connection, "GET", f"/v1/jobs/{run}")
        ask(connection, "POST", f"/v1/jobs/{run}/cancel")
        settled = memory[int(len(memory) * _GROWS_AFTER)]
        return {
            "look_ups": len(found_ms),
            "failed": len(failed),
            "look_up": summary(found_ms),
            "training_steps_meanwhile": view["progress"]["step"] - steps,
            "memory_bytes_settled": settled,
            "growth": round(max(memory[-10:]) / settled - 1, 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "clients": arguments.clients, "seconds": arguments.seconds, "python": platform.python_version(),
        "cpus": os.cpu_count(), "load_at_start": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found["sqlite"] = measure(place / "sqlite" / "home", None, arguments.clients, arguments.seconds)
        postgres = helper(ROOT / "tests" / "reference" / "postgres_server.py")
        if postgres.program("initdb"):
            with postgres.serve(safe=True) as running:
                home = place / "postgres" / "home"
                found["postgres"] = measure(home, running.url, arguments.clients, arguments.seconds)
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
