import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from studio.cli import main, serve
from studio.cli.output import open_output
from studio.cli.serve import ports
from studio.cli.together import Part, Together
from studio.core.errors import InputError
from studio.core.settings import PROJECT_ROOT, Settings

TOKEN = "several-servers-0123456789"


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that nobody has now."""
    for first in range(21000 + os.getpid() % 9000, 32000, count):
        with socket.socket() as one, socket.socket() as other:
            if one.connect_ex(("127.0.0.1", first)) and other.connect_ex(("127.0.0.1", first + count - 1)):
                return first
    raise AssertionError


def test_several_servers_without_a_database_are_refused_with_what_is_possible(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["serve", "--workers", "3"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "STUDIO_DATABASE_URL to a Postgres database" in said
    assert "one server runs a job on each GPU, too" in said


def test_ports_follow_the_settings_own_and_end_with_the_last_one(tmp_path: Path) -> None:
    assert ports(Settings(home=tmp_path, port=7860), 3, "servers") == [7860, 7861, 7862]
    assert ports(Settings(home=tmp_path, port=0), 2, "servers") == [0, 0]
    with pytest.raises(InputError, match="STUDIO_PORT: leaves no ports for 3 servers; set it to 65533 at most"):
        ports(Settings(home=tmp_path, port=65534), 3, "servers")


@pytest.mark.parametrize(("works", "shares"), [("always", ["0", "1"]), ("lead", [None, None])])
def test_servers_that_all_run_jobs_have_gpus_of_their_own(
    works: str, shares: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Part] = []

    class Recorded(Together):
        def start(self) -> dict[str, str]:
            begun.extend(self._parts)
            return {part.name: "http://127.0.0.1" for part in self._parts}

        def watch(self) -> None:
            pass

    monkeypatch.setattr(serve, "Together", Recorded)
    given = {"home": tmp_path, "database_url": "postgresql://x/y", "device": "auto", "gpus": "0,1", "works": works}
    serve._serve_many(Settings(**given), 2, open_output(True))  # type: ignore[arg-type]
    assert [part.variables.get("STUDIO_GPUS") for part in begun] == shares


@pytest.mark.parametrize(
    ("works", "said"),
    [("lead", "One of them leads and runs"), ("always", "Each of them runs jobs"), ("never", "None of them runs jobs")],
)
def test_what_is_said_of_several_servers_is_what_they_do(
    works: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUDIO_DATABASE_URL", "postgresql://studio@/x")
    monkeypatch.setenv("STUDIO_WORKS", works)
    monkeypatch.setattr(Together, "start", lambda self: {"server 1": "http://a", "server 2": "http://b"})
    monkeypatch.setattr(Together, "watch", lambda self: None)
    assert main.run(["serve", "--workers", "2"]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_servers_answer_one_leads_and_sigterm_ends_both(
    new_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    port = free_ports(2)
    environment = {
        **os.environ, "PYTHONPATH": str(PROJECT_ROOT), "STUDIO_HOME": str(tmp_path / "home"), "STUDIO_TOKEN": TOKEN,
        "STUDIO_PORT": str(port), "STUDIO_DATABASE_URL": new_postgres_url(), "STUDIO_DEVICE": "cpu",
        "STUDIO_METRICS_TOKEN": "metrics-0123456789abcdef",
    }  # fmt: skip
    command = [sys.executable, "-m", "studio", "serve", "--workers", "2", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as both:
        try:
            assert both.stdout is not None and both.stderr is not None
            line = both.stdout.readline()
            assert line, both.stderr.read()
            addresses = [address.partition("/?")[0] for address in json.loads(line)["addresses"]]
            assert addresses == [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
            headers = {"Authorization": f"Bearer {TOKEN}"}
            give_up_s = time.monotonic() + 30
            while any(httpx.get(f"{each}/v1/ready", headers=headers).status_code != 200 for each in addresses):
                assert time.monotonic() < give_up_s
            leads = [
                "studio_leads 1.0" in httpx.get(f"{each}/v1/metrics", headers=headers, timeout=20).text
                for each in addresses
            ]
            assert sorted(leads) == [False, True]
            both.send_signal(signal.SIGTERM)
            assert both.wait(60) == 0
        finally:
            both.kill()
    for address in addresses:
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/v1/health")
