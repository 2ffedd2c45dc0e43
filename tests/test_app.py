import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "app.py"


def test_importing_the_app_does_nothing(tmp_path: Path) -> None:
    code = "import sys, app; print([name for name in ('gradio', 'torch', 'studio') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.whole
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
            # The printed address holds the token, which becomes a cookie of the page.
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with browser.open(address, timeout=60) as page:
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
    code = "from studio.core.settings import load_settings; print(load_settings().port)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown.stdout.strip() == "4321"


WRITE = "hf_write0123456789"
SHORT = {"steps": 4, "samples_per_checkpoint": 1, "sample_steps": 2, "certify": False, "prior.mode": "none"}


@pytest.mark.slow
def test_a_program_goes_the_whole_way_from_photos_to_a_published_run(
    hub: Any, near_hub: dict[str, str], tmp_path: Path
) -> None:
    from gradio_client import Client, handle_file
    from huggingface_hub import HfApi, ModelCard
    from safetensors import safe_open

    from studio.pocket.samples import sample_photos

    photos = sample_photos(tmp_path / "photos", count=5, size_px=256)
    environment = {**near_hub, "STUDIO_PORT": "0", "STUDIO_HOME": str(tmp_path / "home"), "STUDIO_DEVICE": "cpu"}
    log = tmp_path / "server.txt"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, str(APP)], stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        ) as server,
    ):
        assert server.stdout is not None
        try:
            address, _, token = server.stdout.readline().rsplit(" ", 1)[-1].strip().partition("/?token=")
            downloads = tmp_path / "downloads"
            studio = Client(address, token=token, verbose=False, analytics_enabled=False, download_files=downloads)

            def ended(job: dict[str, Any]) -> dict[str, Any]:
                while job["state"] not in ("completed", "stalled", "cancelled"):
                    time.sleep(0.3)
                    job = studio.predict(job["id"], files=False, api_name="/job")
                assert job["state"] == "completed", job["cause"]
                return job

            files = [handle_file(str(path)) for path in photos]
            check = ended(studio.predict(files, "Ada", "woman", api_name="/check_photos"))
            then = {"publish_to": "ada/at-once", "token": WRITE, "publish_settings": {"gallery": 1}}
            run = ended(studio.predict(check["id"], settings=SHORT, **then, api_name="/train"))
            made = ended(
                studio.predict(
                    run["id"], prompts=["photo of {subject} at the beach"], settings={"num_inference_steps": 2},
                    api_name="/generate",
                )
            )  # fmt: skip
            finished = ended(studio.predict([], "avatar", made["id"], api_name="/finish"))
            first = ended(studio.predict(run["publish_job"], files=False, api_name="/job"))
            job = ended(studio.predict(run["id"], "ada/portrait", WRITE, False, finished["id"], api_name="/publish"))
            shown = studio.predict(finished["id"], api_name="/job")["files"][finished["result"]["pictures"][0]["file"]]
            studio.close()
        finally:
            server.terminate()
    assert "Traceback" not in log.read_text() and WRITE not in log.read_text()
    assert first["result"]["commit"] == hub.repos["ada/at-once"].head.oid

    # From here on with nothing of the studio's.
    pulled = HfApi(endpoint=hub.address, token=WRITE)
    assert pulled.model_info("ada/portrait").sha == job["result"]["commit"]
    there = pulled.list_repo_files("ada/portrait")

    def fetched(name: str) -> str:
        return str(pulled.hf_hub_download("ada/portrait", name, cache_dir=tmp_path / "cache"))

    with safe_open(fetched("pytorch_lora_weights.safetensors"), "np") as adapter:
        names = list(adapter.keys())
    assert len(names) > 10 and all("lora" in name for name in names)
    assert "kohya/Ada.safetensors" in there
    for name in ("certificate.json", "kohya/certificate.json"):
        certificate = json.loads(Path(fetched(name)).read_text())
        assert certificate["tensors_matched"] == certificate["tensors_in_file"] > 0
    card = ModelCard.load(fetched("README.md"))
    card.validate()
    assert card.data.widget[0]["text"].endswith("woman at the beach")
    with Image.open(fetched(card.data.widget[0]["output"]["url"])) as published, Image.open(shown) as picture:
        assert published.size == picture.size == (512, 512)
        assert np.array_equal(np.asarray(published.convert("RGB")), np.asarray(picture.convert("RGB")))
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert kept and not any(WRITE.encode() in path.read_bytes() for path in kept)
