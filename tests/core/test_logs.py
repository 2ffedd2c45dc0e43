"""Everything that a process says is a line of JSON, without secrets, whoever says it."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from studio.core.logs import line
from studio.core.settings import PROJECT_ROOT

TALKS = """
import logging, sys
from studio.core import logs, redaction
logs.install()
logs.install()
redaction.install()
redaction.hide("planted-literally")
print("printed", "twice\\nhf_S3cretValue0123456789")
log = logging.getLogger("studio.web")
logs.REQUEST.set("r1"), logs.JOB.set("train-1")
log.info("a %s for %s", "word", "planted-literally", extra={logs.FIELDS: {"status": 200}})
logging.getLogger("foreign").info("not told: libraries talk a lot")
try:
    raise ValueError("Authorization: Bearer S3cretValue0123456789")
except ValueError:
    log.exception("failed")
print("unfinished", file=sys.stderr)
"""


def test_records_prints_and_traces_are_lines_of_json_without_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", TALKS], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    out = [json.loads(row) for row in done.stdout.splitlines()]
    said = [json.loads(row) for row in done.stderr.splitlines()]
    assert [(row["logger"], row["message"]) for row in out] == [("stdout", "printed twice"), ("stdout", "[hidden]")]
    assert [row["message"] for row in said] == ["a word for [hidden]", "failed", "unfinished"]
    first, failed, _ = said
    assert (first["request"], first["job"], first["status"], first["level"]) == ("r1", "train-1", 200, "info")
    assert "ValueError" in failed["trace"] and "[hidden]" in failed["trace"]
    assert "S3cret" not in done.stdout + done.stderr and "planted" not in done.stdout + done.stderr


def test_a_line_tells_when_in_utc_and_leaves_out_what_is_not_known() -> None:
    row = json.loads(line(1.25, "WARNING", "studio", "two\nlines"))
    assert row == {"time": "1970-01-01T00:00:01.250Z", "level": "warning", "logger": "studio", "message": "two\nlines"}


ASKS = """
import logging, sys
import httpx2
from studio.core.logs import log_to_stderr
log_to_stderr()
logging.getLogger("studio").info("it works")
httpx2.get(sys.argv[1] + "/photos.zip?signature=planted")
"""


class Nothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *told: object) -> None:
        pass


def test_the_log_of_a_process_at_work_names_no_address_that_it_asks() -> None:
    with HTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        command = [sys.executable, "-c", ASKS, f"http://127.0.0.1:{server.server_port}"]
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert "it works" in done.stderr
    assert "planted" not in done.stderr and "photos.zip" not in done.stderr
