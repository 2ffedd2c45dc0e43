"""Tokens, keys and passwords appear in no log, whoever logs them."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core import redaction
from studio.core.settings import PROJECT_ROOT

SECRET = "S3cretValue0123456789"


@pytest.mark.parametrize(
    "text",
    [
        "hf_S3cretValue0123456789",
        f"signed with whsec_{SECRET}==",
        f"Authorization: Bearer {SECRET}",
        f"authorization: basic {SECRET}",
        f"http://127.0.0.1:7860/?token={SECRET}&job=1",
        f"https://civitai.com/api/download/1?api_key={SECRET}",
        f"https://s3.example/x?X-Amz-Signature={SECRET}",
        f"redis://name:{SECRET}@host:6379/0",
        f"{{'token': '{SECRET}', 'repo': 'ada/x'}}",
        f'{{"hub_token": "{SECRET}"}}',
        f"STUDIO_HUB_TOKEN={SECRET}",
    ],
)
def test_a_secret_is_hidden_and_the_rest_stays(text: str) -> None:
    clean = redaction.redact(text)
    assert SECRET not in clean and redaction.HIDDEN in clean
    assert redaction.redact(clean) == clean
    for kept in ("127.0.0.1:7860", "job=1", "civitai.com", "ada/x", "name:", "host:6379"):
        assert (kept in text) == (kept in clean)


@pytest.mark.parametrize(
    "text",
    ["step 3 of 60", "key=remote", "Basic settings", "http://127.0.0.1:7860/?job=train-1", "the token is missing"],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redaction.redact(text) == text


PROGRAM = f"""
import logging, sys, traceback
early = logging.StreamHandler()
logging.getLogger("early").addHandler(early)
from studio.core import redaction
redaction.hide("a very own secret")
redaction.install(); redaction.install()
logging.basicConfig(filename=sys.argv[1], level="INFO")
logging.getLogger("other").addHandler(logging.StreamHandler())
for name in ("early", "other"):
    logging.getLogger(name).warning("called with %s", {{"token": "{SECRET}"}})
    logging.getLogger(name).info("a very own secret")
try:
    raise ValueError('Received inputs: ["hf_{SECRET}"]')
except ValueError:
    traceback.print_exc()
    logging.getLogger("other").exception("failed with Bearer {SECRET}")
print("printed hf_{SECRET}")
sys.stdout.writelines(["a very own secret\\n"])
"""


def test_no_handler_and_no_stream_lets_a_secret_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "log")],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    written = (tmp_path / "log").read_text()
    for text in (done.stdout, done.stderr, written):
        assert SECRET not in text and "very own" not in text and redaction.HIDDEN in text
    assert "Received inputs" in done.stderr and "Traceback" in done.stderr


def test_a_record_without_secrets_keeps_its_arguments() -> None:
    make = redaction._RecordFactory(logging.LogRecord)
    record = make("studio", logging.INFO, "", 0, "%d of %d", (1, 2), None)
    assert record.args == (1, 2) and record.getMessage() == "1 of 2"
