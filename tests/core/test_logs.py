"""Everything that a process says is a line of JSON, without secrets, whoever says it."""

import json
import subprocess
import sys

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
