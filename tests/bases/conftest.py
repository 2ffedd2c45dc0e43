"""Servers of our own on the loopback interface that stand in for the Hub and for Civitai."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from studio.bases import hub as sources
from studio.bases import single_file
from studio.core.catalog import BASES
from studio.families.registry import family
from studio.methods.formats import clip_to_original, unet_to_original, vae_to_original

COMMIT = "a" * 40


class Answers:
    """What a stand-in answers: path -> (status, headers, body); it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.table: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.address = ""

    def json(self, path: str, data: Any, status: int = 200, **headers: str) -> None:
        self.table[path] = (status, {"content-type": "application/json", **headers}, json.dumps(data).encode())

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]

    def publish(self, folder: Path, repo: str = "owner/model", commit: str = COMMIT) -> None:
        """Put a folder on the stand-in, as ``main`` and by its commit."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        files |= {"v1-5-pruned.ckpt": b"pickle", "unet/diffusion_pytorch_model.bin": b"pickle", "README.md": b"#"}
        tree = []
        for name, body in files.items():
            digest = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            tree.append({"type": "file", "path": name, "size": len(body), "oid": digest})
            headers = {"x-repo-commit": commit, "etag": f'"{digest}"'}
            self.table[f"/{repo}/resolve/{commit}/{name}"] = (200, headers, body)
        siblings = [{"rfilename": row["path"], "size": row["size"], "blobId": row["oid"]} for row in tree]
        facts = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        info = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, **facts}
        for revision in ("", "/revision/main", f"/revision/{commit}"):
            self.json(f"/api/models/{repo}{revision}", info)
        self.json(f"/api/models/{repo}/tree/{commit}", tree)


@pytest.fixture
def serve() -> Iterator[Callable[[], Answers]]:
    servers = []

    def start() -> Answers:
        answers = Answers()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                answers.asked.append((self.command, path, dict(self.headers)))
                status, headers, body = answers.table.get(path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815  the server's own naming

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        answers.address = f"http://127.0.0.1:{server.server_address[1]}"
        return answers

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def model_hub(serve: Callable[[], Answers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """A stand-in of the Hub that knows no model yet."""
    answers = serve()
    # The client's own ENDPOINT stays: it builds its addresses from it and puts ours in its place.
    shared = str(tmp_path / "shared")
    for module in (sources, single_file):
        monkeypatch.setattr(module, "constants", SimpleNamespace(ENDPOINT=answers.address, HF_HUB_CACHE=shared))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 60)  # a busy machine is not a broken line
    monkeypatch.setattr(constants, "HF_HUB_CACHE", shared)
    return answers


@pytest.fixture(scope="session")
def checkpoint(tiny_base_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base as one file in the original layout, half precision."""
    parts = family("sd").load(tiny_base_clip, dtype=torch.float32, device=torch.device("cpu"))
    vae: Any = parts.vae
    tensors = {
        **unet_to_original(parts.denoiser.state_dict(), 1),
        **vae_to_original(vae.state_dict()),
        **clip_to_original(parts.text_encoders[0].state_dict(), "cond_stage_model.transformer."),
    }
    path = tmp_path_factory.mktemp("checkpoint") / "ada.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture
def configured(model_hub: Answers, tiny_base_clip: Path) -> Answers:
    """The Hub holds the configuration that single files of Stable Diffusion 1 are read with."""
    model_hub.publish(tiny_base_clip, repo=BASES["sd15"].source)
    return model_hub
