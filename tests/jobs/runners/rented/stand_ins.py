"""Services that rent machines out, on loopback: a machine is a process of this one, and answers fail as asked for.

A fault is put under the word of a call: ``list``, ``look``, ``create``, ``destroy``, ``offers``.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT_ROOT = Path(__file__).resolve().parents[4]
LATE_S = 0.7
"""A late answer takes so long."""
KEY = "rent-key-0123456789"
PAGE = 2
"""Machines in one part of a list."""


@dataclass
class Rented:
    """A machine that runs, and costs."""

    id: str
    labels: Any
    price: float
    process: "subprocess.Popen[bytes] | None" = None
    secrets: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    stage: str = "running"


class StandIn:
    """What both services have; a subclass knows addresses and shapes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.machines: dict[str, Rented] = {}
        self.gone: dict[str, Rented] = {}
        self.created = 0
        self.price = 0.40
        """Of a machine per hour, as it is asked for once it is rented."""
        self.starts = True
        """Whether a machine does anything."""
        self.hurry = lambda: None
        """Lets clients wait for less than a late answer takes."""
        self.hidden: set[str] = set()
        """Machines that the list leaves out though they run."""
        self.asked: Counter[str] = Counter()
        self._faults: dict[str, list[str]] = {}
        self._lock = threading.RLock()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stand_in.answer(self, json.loads(body) if body else {})

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # a client that did not wait

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def fail(self, call: str, *faults: str) -> None:
        """Let the next calls fail in these ways, one after the other."""
        self._faults[call] = list(faults)
        if "late" in faults:
            self.hurry()

    def close(self) -> None:
        """End everything that a broken test has left."""
        for machine_id in list(self.machines):
            self.end(machine_id)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def start(self, machine: Rented, command: list[str]) -> None:
        """Boot a machine: its command in a home of its own, with nothing of ours."""
        with self._lock:
            self.created += 1
            self.machines[machine.id] = machine
        if not self.starts:
            return
        place = self.home / machine.id
        place.mkdir(parents=True)
        verbs = Path(__file__).resolve().parents[2]
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(place)}
        environment |= {"TMPDIR": str(place), "PYTHONPATH": f"{PROJECT_ROOT}:{verbs}", "STUDIO_DEVICE": "cpu"}
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with (place / "machine.log").open("wb") as log:
            machine.process = subprocess.Popen(
                command, env=environment | machine.secrets, cwd=place, stdout=log, stderr=log, start_new_session=True
            )

    def end(self, machine_id: str) -> None:
        """Take a machine away with all its processes."""
        with self._lock:
            machine = self.machines.pop(machine_id, None)
        if machine is None:
            return
        self.gone[machine_id] = machine
        if machine.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.process.pid, signal.SIGKILL)
            machine.process.wait()

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        """Answer one request, or fail as asked for."""
        url = urlsplit(handler.path)
        call, subject = self.call_of(handler.command, url.path)
        self.asked[call] += 1
        fault = self._faults[call].pop(0) if self._faults.get(call) else ""
        if handler.headers.get("Authorization") != f"Bearer {KEY}":
            return self.send(handler, *self.wrong_key())
        if fault == "500":
            return self.send(handler, 500, {"error": "server error"})
        if fault == "429":
            return self.send(handler, 429, {"detail": "too many"})
        if fault == "empty":
            return self.send(handler, 200, b"")
        if fault == "html":
            return self.send(handler, 200, b"<html>maintenance</html>")
        if fault == "malformed":
            return self.send(handler, 200, b'{"instances": [')
        if fault == "nothing":
            return self.send(handler, 200, {})
        if fault == "no list":
            return self.send(handler, 200, {"success": False, "error": "deprecated_endpoint", "instances": ""})
        if fault == "refused":
            return self.send(handler, 400, {"success": False, "error": "no_such_ask", "msg": "It is taken."})
        if fault == "late":
            time.sleep(LATE_S)
        if fault == "ignored":
            return self.send(handler, 200, {"success": True})
        status, told, headers = self.do(call, subject, body, parse_qs(url.query), fault)
        if fault == "lost":  # it is done, and nobody hears of it
            handler.connection.close()
            return None
        return self.send(handler, status, told, headers)

    def send(self, handler: Any, status: int, told: Any, headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def listed(self) -> list[Rented]:
        """Return what a list shows."""
        return [machine for machine in self.machines.values() if machine.id not in self.hidden]

    def call_of(self, method: str, path: str) -> tuple[str, str]:
        raise NotImplementedError

    def wrong_key(self) -> tuple[int, Any]:
        raise NotImplementedError

    def do(self, call: str, subject: str, body: Any, query: Any, fault: str) -> tuple[int, Any, dict[str, str]]:
        raise NotImplementedError

    def foreign(self) -> str:
        """Rent a machine that is somebody else's; return its id."""
        raise NotImplementedError


class VastStandIn(StandIn):
    """Vast.ai, as its documentation and its client describe it."""

    name = "vast"
    offers: tuple[dict[str, Any], ...] = (
        {"id": 11, "gpu_name": "RTX 4090", "gpu_ram": 24564, "dph_total": 0.40, "inet_down_cost": 0.001},
        {"id": 12, "gpu_name": "RTX 3090", "gpu_ram": 24576, "dph_total": 0.45, "inet_down_cost": None},
        {"id": 13, "gpu_name": "H100", "gpu_ram": 81559, "dph_total": 2.90},
        {"id": 14, "gpu_name": "of no price", "gpu_ram": 24576, "dph_total": None},
    )

    def call_of(self, method: str, path: str) -> tuple[str, str]:
        if path == "/api/v0/bundles/":
            return "offers", ""
        if path == "/api/v1/instances/":
            return "list", ""
        found = re.fullmatch(r"/api/v0/(asks|instances)/(\d+)/", path)
        assert found, path
        return {("asks", "PUT"): "create", ("instances", "GET"): "look", ("instances", "DELETE"): "destroy"}[
            found[1], method
        ], found[2]

    def wrong_key(self) -> tuple[int, Any]:
        return 404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}

    def foreign(self) -> str:
        self.machines["7"] = Rented("7", "somebody's own training", 0.3)
        return "7"

    def do(self, call: str, subject: str, body: Any, query: Any, fault: str) -> tuple[int, Any, dict[str, str]]:
        if call == "offers":
            least_mb = body["gpu_ram"]["gte"]
            return 200, {"offers": [row for row in self.offers if row["gpu_ram"] >= least_mb]}, {}
        if call == "create":
            assert body["runtype"] == "args" and body["disk"] >= 10 and len(json.dumps(body["args"])) < 16_000
            machine = Rented(str(1000 + self.created), body["label"], self.price, secrets=body["env"], body=body)
            self.start(machine, body["args"])
            return 200, {"success": True, "new_contract": int(machine.id)}, {}
        if call == "destroy":
            if subject not in self.machines:
                return 404, {"success": False, "error": "no_such_instance", "msg": "no such instance"}, {}
            self.end(subject)
            return 200, {"success": True}, {}
        if call == "look":
            machine = self.machines.get(subject)
            if machine is None:
                return 404, {"success": False, "error": "no_such_instance"}, {}
            return 200, {"instances": self._row(machine)}, {}
        rows = sorted((self._row(machine) for machine in self.listed()), key=lambda row: row["id"])
        after = int(query.get("after_token", ["0"])[0])
        page = [row for row in rows if row["id"] > after][:PAGE]
        rest = [row for row in rows if page and row["id"] > page[-1]["id"]]
        token = str(page[-1]["id"]) if rest and fault != "part" else None
        if fault == "other":  # a list of something else
            return 200, {"success": True, "instances": ["x"], "total_instances": 1, "next_token": None}, {}
        if fault == "part":  # pages are missing
            page, token = page[:1] if len(rows) > 1 else [], None
        total = len(rows) or (1 if fault == "part" else 0)
        told = {"success": True, "instances_found": len(page), "total_instances": total, "instances": page}
        return 200, told | {"next_token": token}, {}

    def _row(self, machine: Rented) -> dict[str, Any]:
        status = {"starting": "loading", "over": "exited"}.get(machine.stage, machine.stage)
        if machine.process is not None and machine.process.poll() is not None:
            status = "exited"
        return {"id": int(machine.id), "label": machine.labels, "actual_status": status, "dph_total": machine.price}


class HfStandIn(StandIn):
    """Jobs of Hugging Face, as ``huggingface_hub`` asks them."""

    name = "hf_jobs"
    hardware: tuple[dict[str, Any], ...] = (
        {"name": "cpu-basic", "prettyName": "CPU", "unitCostUSD": 0.0002, "unitLabel": "minute"},
        {
            "name": "l4x1", "prettyName": "1x L4", "unitCostUSD": 0.40 / 60, "unitLabel": "minute",
            "accelerator": {"type": "gpu", "model": "L4", "quantity": "1", "vram": "24 GB", "manufacturer": "Nvidia"},
        },
        {
            "name": "l4x4", "prettyName": "4x L4", "unitCostUSD": 0.01, "unitLabel": "minute",
            "accelerator": {"type": "gpu", "model": "L4", "quantity": "4", "vram": "96 GB", "manufacturer": "Nvidia"},
        },
        {
            "name": "h200", "prettyName": "1x H200", "unitCostUSD": 5.0 / 60, "unitLabel": "minute",
            "accelerator": {"type": "gpu", "model": "H200", "quantity": "1", "vram": "141 GB", "manufacturer": "N"},
        },
    )  # fmt: skip

    def call_of(self, method: str, path: str) -> tuple[str, str]:
        if path == "/api/whoami-v2":
            return "whoami", ""
        if path == "/api/jobs/hardware":
            return "offers", ""
        found = re.fullmatch(r"/api/jobs/ada(?:/(\w+)(/cancel)?)?", path)
        assert found, path
        if found[1] is None:
            return ("create" if method == "POST" else "list"), ""
        return ("destroy" if found[2] else "look"), found[1]

    def wrong_key(self) -> tuple[int, Any]:
        return 401, {"error": "Invalid credentials in Authorization header"}

    def foreign(self) -> str:
        self.machines["0x7"] = Rented("0x7", {"app": "somebodys"}, 0.3)
        return "0x7"

    def do(self, call: str, subject: str, body: Any, query: Any, fault: str) -> tuple[int, Any, dict[str, str]]:
        if call == "whoami":
            return 200, {"name": "ada"}, {}
        if call == "offers":
            return 200, list(self.hardware), {}
        if call == "create":
            assert body["environment"] == {} and body["timeoutSeconds"] > 0
            assert all(re.fullmatch(r"[\w.-]*", value) for value in body["labels"].values())
            machine = Rented(f"0a{self.created}", body["labels"], self.price, secrets=body["secrets"], body=body)
            self.start(machine, body["command"])
            return 200, self._row(machine), {}
        if call == "destroy":
            if subject not in self.machines:
                return (409, {"error": "It has ended."}, {}) if subject in self.gone else (404, {"error": "none"}, {})
            self.end(subject)
            return 200, {}, {}
        if call == "look":
            machine = self.machines.get(subject) or self.gone.get(subject)
            return (404, {"error": "none"}, {}) if machine is None else (200, self._row(machine), {})
        wanted = {name: value for label in query.get("label", []) for name, _, value in [label.partition("=")]}
        rows = [self._row(machine) for machine in (*self.gone.values(), *self.listed())]
        rows = [row for row in rows if wanted.items() <= row["labels"].items()]
        if fault == "other":
            return 200, [{"id": 3}], {}
        start = int(query.get("from", ["0"])[0])
        if fault == "part":  # the next page is elsewhere
            return 200, rows[:1] or [{}], {"Link": '<http://127.0.0.1:1/elsewhere>; rel="next"'}
        more = f"{self.url}/api/jobs/ada?from={start + PAGE}&" + "&".join(f"label={n}%3D{v}" for n, v in wanted.items())
        headers = {"Link": f'<{more}>; rel="next"'} if rows[start + PAGE :] else {}
        return 200, rows[start : start + PAGE], headers

    def _row(self, machine: Rented) -> dict[str, Any]:
        stage = {"starting": "SCHEDULING", "over": "ERROR"}.get(machine.stage, "RUNNING")
        if machine.id in self.gone:
            stage = "CANCELED"
        if machine.process is not None and machine.process.poll() is not None:
            stage = "COMPLETED"
        return {"id": machine.id, "labels": machine.labels, "status": {"stage": stage, "message": None}}


STAND_INS: dict[str, type[StandIn]] = {"vast": VastStandIn, "hf_jobs": HfStandIn}
