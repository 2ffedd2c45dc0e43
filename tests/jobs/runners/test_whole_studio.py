"""Photos here, a training on another machine, the run at home: a whole server, and machines of every kind but Ray's."""

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from studio.bases.tensorfile import read_header
from studio.client import Client
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig
from studio.core.files import sha256_of
from studio.core.train_config import TrainConfig
from studio.infer import generate
from studio.pocket.samples import sample_photos

TOKEN = "whole-studio-0123456789"
TRAINING = {
    "subject": "Ada", "class_noun": "woman", "base": "pocket", "steps": 4, "checkpoint_every_steps": 2,
    "samples_per_checkpoint": 1, "sample_steps": 1, "prior": {"mode": "none"},
}  # fmt: skip


@pytest.fixture
def ssh(machine: SimpleNamespace, tmp_path: Path) -> dict[str, Any]:
    """What a server is told of a machine behind sshd; ``ssh`` finds its key as by somebody's own settings."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = shutil.which("ssh")
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {program} {shlex.join(machine.options)} "$@"\n')
    (programs / "ssh").chmod(0o700)
    return {
        "STUDIO_RUNNER": f"ssh:{machine.host}",
        "STUDIO_RUNNER_PYTHON": sys.executable,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "left": lambda: [path for path in machine.home.rglob("*-*-1") if path.is_dir()],
    }


def rented(name: str, stand_ins: ModuleType, folder: Path) -> Iterator[dict[str, Any]]:
    service = stand_ins.STAND_INS[name](folder / name)
    yield {
        "STUDIO_RUNNER": name,
        "STUDIO_RENT_URL": service.url,
        "STUDIO_RENT_KEY": stand_ins.KEY,
        "STUDIO_RENT_MONTHLY_BUDGET": "20",
        "left": lambda: dict(service.machines),
        "created": lambda: service.created,
        "said": lambda: [path.read_text() for path in service.home.rglob("machine.log")],
    }
    service.close()


@pytest.fixture
def vast(stand_ins: ModuleType, tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield from rented("vast", stand_ins, tmp_path)


@pytest.fixture
def hf_jobs(stand_ins: ModuleType, tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield from rented("hf_jobs", stand_ins, tmp_path)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def served(home: Path, told: dict[str, Any], port: int | None = None) -> Iterator[tuple[Client, Any]]:
    """Serve a studio in a process of its own, as anybody does; give a client and the process."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    variables = {name: value for name, value in told.items() if isinstance(value, str)}
    environment = {
        **os.environ, "STUDIO_HOME": str(home), "STUDIO_PORT": str(port), "STUDIO_TOKEN": TOKEN, "STUDIO_DEVICE": "cpu",
        "STUDIO_PUBLIC_URL": address, "OMP_NUM_THREADS": "1", **variables,
    }  # fmt: skip
    command = [sys.executable, "-m", "studio", "serve"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None and server.stderr is not None
            assert address in (line := server.stdout.readline()), line or server.stderr.read()
            with Client(address, token=TOKEN) as client:
                yield client, server
        finally:
            server.terminate()
            said = server.communicate(timeout=60)[1]
            assert "Traceback" not in said, said


def until(is_so: Callable[[], Any], patience_s: float = 60.0) -> None:
    give_up_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["ssh", "vast", "hf_jobs"])
def test_photos_go_out_and_a_run_with_its_certificate_comes_home(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    told = request.getfixturevalue(name)
    home = tmp_path / "home"
    photos = sample_photos(tmp_path / "photos", count=5, size_px=256)
    with served(home, told) as (studio, _):
        check = studio.check(photos, CheckConfig(subject="Ada", class_noun="woman"))
        run = studio.train(check, TrainConfig.parse(TRAINING))
        pictures = studio.generate(
            run, GenerateConfig(prompts=("a photo of {subject}",), count=2, num_inference_steps=2)
        )
        export = studio.export(run, ExportConfig())
        trained = run.wait(timeout_s=400)
        assert trained.steps == TRAINING["steps"]
        run.download(tmp_path / "run")
        for adapter in (home / "jobs" / run.id / "out" / "adapter", tmp_path / "run" / "adapter"):
            certificate = json.loads((adapter / "certificate.json").read_text())
            weights = read_header(adapter / "pytorch_lora_weights.safetensors", "adapter").shapes
            assert certificate["tensors_in_file"] == certificate["tensors_matched"] == len(weights) > 0
            assert (certificate["missing"], certificate["unexpected"]) == (0, [])
            assert certificate["difference_max"] <= certificate["tolerance"]["max"]
        told_files = json.loads((home / "storage" / "jobs" / run.id / "result.json").read_text())["ending"]["files"]
        for row in told_files:
            assert sha256_of(home / "jobs" / run.id / "out" / row["path"]) == row["sha256"], row["path"]
        assert len(pictures.wait(timeout_s=400).images) == 2
        assert export.wait(timeout_s=400).certificate
        assert len([path for path in pictures.download(tmp_path / "pictures") if path.suffix == ".png"]) >= 2
        jobs = {job.id: job.view() for job in (run, pictures, export)}
        assert [view["attempt"] for view in jobs.values()] == [1, 1, 1]
        until(lambda: not told["left"]())  # the last job is told as completed before its machine is given back
        assert check.view()["cost_usd"] is None  # it stayed here
        costs = [studio.server.job(job_id)["cost_usd"] for job_id in jobs]
        assert all((cost is None) if name == "ssh" else (0 < cost < 0.5) for cost in costs), costs
        assert name == "ssh" or told["created"]() == 3
    pack = GenerateConfig(prompts=("a photo of {subject}",), count=1, num_inference_steps=2)
    drawn = generate(pack, tmp_path / "run", tmp_path / "here")  # with what was downloaded, and no server
    assert [image.file for image in drawn.images if (tmp_path / "here" / image.file).is_file()]
    assert not list((home / "storage" / "jobs").rglob("files/*")), "what machines fetched and brought is not kept"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["vast", "hf_jobs"])
def test_a_server_that_is_killed_leaves_no_machine_behind_and_its_training_goes_on_another_one(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    told = request.getfixturevalue(name)
    home, port = tmp_path / "home", free_port()
    photos = sample_photos(tmp_path / "photos", count=5, size_px=256)
    with served(home, told, port) as (studio, server):
        check = studio.check(photos, CheckConfig(subject="Ada", class_noun="woman"))
        run = studio.train(check, TrainConfig.parse({**TRAINING, "steps": 12, "certify": False}))
        until(lambda: run.view()["progress"].get("step"), 200.0)
        (first,) = told["left"]()
        server.kill()
    with served(home, told, port) as (studio, _):
        until(lambda: first not in told["left"]())
        view = {}
        while view.get("state") not in ("completed", "stalled"):
            view = studio.server.job(run.id)
            assert len(told["left"]()) <= 1, "one job never has two machines"
            time.sleep(0.2)
        assert (view["state"], view["attempt"]) == ("completed", 2), view["cause"]
        until(lambda: not told["left"]())
        assert told["created"]() == 2
        assert 0 < studio.server.job(run.id)["cost_usd"] < 1.0
