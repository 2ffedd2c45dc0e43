import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "app.py"


def test_importing_the_app_does_nothing(tmp_path: Path) -> None:
    code = "import sys, app; print([name for name in ('gradio', 'torch', 'studio') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_app_prints_one_line_serves_without_torch_and_stops_when_told(tmp_path: Path) -> None:
    environment = {**os.environ, "STUDIO_PORT": "0", "STUDIO_HOME": str(tmp_path / "home")}
    code = (
        "import sys; sys.path.insert(0, '.'); import app; code = app.main();"
        "print('torch' in sys.modules, flush=True); sys.exit(code)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        try:
            line = child.stdout.readline()
            address = line.rsplit(" ", 1)[-1].strip()
            with urllib.request.urlopen(address, timeout=60) as page:
                text = page.read().decode()
            assert "Likeness Studio" in text and "fonts.googleapis" not in text
            child.send_signal(signal.SIGINT)
            rest, errors = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 0 and rest.strip() == "False" and "Traceback" not in errors


@pytest.mark.parametrize("variable", [{"STUDIO_PORT": "99999999"}, {"STUDIO_PORT": "taken"}])
def test_a_start_that_fails_says_why_in_words(variable: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if variable["STUDIO_PORT"] == "taken":
            variable = {"STUDIO_PORT": str(taken.getsockname()[1])}
        environment = {**os.environ, **variable, "STUDIO_HOME": str(tmp_path / "home")}
        done = subprocess.run([sys.executable, str(APP)], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2 and "STUDIO_PORT" in done.stderr and "Traceback" not in done.stderr


def test_a_host_that_gives_only_port_is_understood(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "STUDIO_PORT"} | {"PORT": "4321"}
    code = "from studio.settings import load_settings; print(load_settings().port)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown.stdout.strip() == "4321"
