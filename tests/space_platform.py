"""The platform that runs Spaces, played: its variables, how it starts an app.py, what ZeroGPU's package reports to."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import yaml


def front_matter(text: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    assert found, "a Space's README begins with front matter"
    data: dict[str, Any] = yaml.safe_load(found.group(1))
    return data


PLATFORM = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ada/studio",
    "SPACE_AUTHOR_NAME": "ada",
    "SPACE_REPO_NAME": "studio",
    "SPACE_HOST": "ada-studio.hf.space",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "PYTHONDONTWRITEBYTECODE": "1",
}
LOGIN = {  # what the platform adds where the front matter says hf_oauth
    "OAUTH_CLIENT_ID": "client",
    "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile read-repos",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
}
PROXIED = {"host": "ada-studio.hf.space"}


@contextmanager
def started(folder: Path, home: Path, *, python: str = sys.executable, **variables: str) -> Iterator[str]:
    """Yield the address of a built Space, started as the platform does: folder, variables, ``python app.py``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STUDIO_", "PYTHON"))}
    with socket.socket() as probe:  # the platform says 7860
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    login = LOGIN if front_matter((folder / "README.md").read_text(encoding="utf-8")).get("hf_oauth") else {}
    given = {**PLATFORM, **login, "GRADIO_SERVER_PORT": port, "HOME": str(home), **variables}
    with (
        (home / "said.txt").open("w+") as said,
        subprocess.Popen(
            [python, "app.py"],
            cwd=folder,
            env=kept | given,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        assert child.stdout is not None
        try:
            lines = iter(child.stdout.readline, "")
            address = next((found for line in lines if (found := re.search(r"http://\S+", line))), None)
            said.seek(0)
            assert address, f"app.py did not say where it is: {said.read()[-3000:]}"
            yield address.group().rstrip("/").replace("0.0.0.0", "127.0.0.1")
        finally:
            child.terminate()
            child.wait(60)
            with suppress(ProcessLookupError):  # what ZeroGPU's package forked outlives it
                os.killpg(child.pid, signal.SIGKILL)


def require_first_page(address: str, endpoints: Collection[str]) -> dict[str, Any]:
    """Ask for the first page under the platform's name, and return its description."""
    answer = httpx2.get(address, headers=PROXIED, timeout=60)
    assert answer.status_code == 200 and "Likeness Studio" in answer.text
    assert "https://*.hf.space" in answer.headers["content-security-policy"]
    config: dict[str, Any] = httpx2.get(f"{address}/config", headers=PROXIED, timeout=60).json()
    public = {row["api_name"] for row in config["dependencies"] if row["api_visibility"] == "public"}
    assert public >= set(endpoints)
    return config


@contextmanager
def device_api() -> Iterator[tuple[str, list[str]]]:
    """Play the service that lends GPUs to ZeroGPU's package; yields its address and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            idle = any(path.startswith("/schedule") for path in asked)  # whoever had the GPU before still has it
            asked.append(self.path)
            lent = {"idle": idle, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"}
            body = json.dumps(lent).encode() if self.path.startswith("/schedule") else b""
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def interpreter(wanted: str) -> str:
    """Return a Python of the wanted minor version, or of the nearest that is here: this one."""
    minor = ".".join(wanted.split(".")[:2])
    for path in (shutil.which(f"python{minor}"), *Path.home().glob(f".pyenv/versions/{minor}.*/bin/python")):
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return str(path)
    return sys.executable
