"""Pictures with published adapters on a lent GPU: a lender that pickles, counts and takes away plays the platform."""

import dataclasses
import errno
import importlib.util
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx2
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from studio import infer
from studio.core.adapters import AdapterInfo, write_info
from studio.core.config import GenerateConfig
from studio.core.domain import GenerateResult
from studio.core.errors import InputError, MissingExtraError, NotFoundError, ResourceError, StudioError
from studio.core.settings import Settings, load_settings
from studio.pictures import render
from studio.pictures.swapper import AdapterSwappers
from studio.publishing.hub import push
from studio.web import zerogpu
from studio.web.zerogpu import GpuGenerator

WRITE, STRANGER = "hf_write0123456789", "hf_other0123456789"
REPO = "ada/portrait"
INFO = AdapterInfo(
    base="pocket", revision=None, family="sd", subject="Ada", class_noun="woman", instance_token="sks",
    resolution_px=64, guidance_scale=3.0, num_inference_steps=2, likeness_engine=None, centroid=None, step=10,
)  # fmt: skip


_spec = importlib.util.spec_from_file_location("space_platform", (Path(__file__).parents[1] / "space_platform.py"))
assert _spec and _spec.loader
platform = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(platform)


@pytest.fixture(scope="module")
def residents() -> AdapterSwappers:
    loaded = AdapterSwappers()
    loaded.load("pocket")
    return loaded


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pocket with an adapter of random numbers, which shows in its pictures."""
    run = tmp_path_factory.mktemp("run")
    unet = render.load_pipeline("pocket").unet
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * 0.3
        for name, tensor in get_peft_model_state_dict(unet).items()
    }
    StableDiffusionPipeline.save_lora_weights(run / "adapter", unet_lora_layers=state)
    write_info(run / "adapter", INFO)
    return run


@pytest.fixture
def published(hub: Any, run_dir: Path, tmp_path: Path) -> Callable[..., str]:
    """Return a function that puts the adapter on the Hub's stand-in and returns its id."""

    def publish(*, public: bool = True, **changes: Any) -> str:
        folder = tmp_path / "pushed"
        folder.mkdir()
        for path in (run_dir / "adapter").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        write_info(folder, dataclasses.replace(INFO, **changes))
        push(folder, REPO, WRITE, public=public, update=False, message="test")
        return REPO

    return publish


class Lender:
    """Plays ``spaces.GPU``: asks for seconds, passes everything through pickle, and may take the GPU away."""

    def __init__(self) -> None:
        self.asked_s: list[int] = []
        self.takes_away: Callable[[Path], None] | None = None

    def __call__(self, function: Callable[..., Any], *, duration: Callable[..., int]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.asked_s.append(duration(*arguments))
            answer = function(*pickle.loads(pickle.dumps(arguments)))
            if self.takes_away:
                self.takes_away(arguments[2])
            return pickle.loads(pickle.dumps(answer))

        return call


@pytest.fixture
def lender() -> Lender:
    return Lender()


@pytest.fixture
def gpu_generator(residents: AdapterSwappers, lender: Lender) -> GpuGenerator:
    return GpuGenerator(load_settings(), residents, lender)


def wanted(**changes: Any) -> GenerateConfig:
    usual = {"adapter": REPO, "prompts": ["photo of {subject}"], "count": 1, "likeness": "none", "use_cache": False}
    return GenerateConfig.parse({**usual, **changes})


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def test_a_published_adapter_draws_what_the_verb_draws_at_home_and_the_next_one_is_not_touched_by_it(
    gpu_generator: GpuGenerator, lender: Lender, published: Callable[..., str], run_dir: Path, tmp_path: Path
) -> None:
    published()
    made = gpu_generator.paint(wanted())
    bare = gpu_generator.paint(wanted(adapter_scale=0.0))
    again = gpu_generator.paint(wanted())
    home = infer.generate(wanted(adapter=None), run_dir, tmp_path / "ours")
    for number, image in enumerate(home.images):
        at_home = pixels(tmp_path / "ours" / image.file)
        assert (pixels(made.pictures[number][0]) == at_home).all()
        assert (pixels(again.pictures[number][0]) == at_home).all()
        assert np.abs(pixels(bare.pictures[number][0]) - at_home).mean() > 2, "the adapter shows"
    assert len(lender.asked_s) == 3 and all(10 < seconds <= 20 for seconds in lender.asked_s)
    assert made.archive is not None and made.archive.read_bytes()[:2] == b"PK"
    assert made.pictures[0][1] == "prompt 1" and made.remark == ""


def test_seconds_follow_the_work() -> None:
    small = render.PictureRequest("p", "", 0, (512, 512), 20, 1.0)
    one, two = zerogpu.seconds_for([small], "sd"), zerogpu.seconds_for([small] * 2, "sd")
    guided = zerogpu.seconds_for([dataclasses.replace(small, guidance_scale=5.0)], "sd")
    large = zerogpu.seconds_for([dataclasses.replace(small, size_hw=(1024, 1024))], "sd")
    slow = zerogpu.seconds_for([small], "flux")
    assert 10 < one < two and two == pytest.approx(guided) and one < large and one < slow
    assert zerogpu.seconds_for([small], "a family of tomorrow") > one


def test_what_cannot_be_is_refused_before_a_gpu_is_asked_for(
    gpu_generator: GpuGenerator, lender: Lender, published: Callable[..., str]
) -> None:
    published(public=True)
    for changes, kind, words in (
        ({"adapter": "ada/nothing"}, NotFoundError, "ada/nothing"),
        ({"count": 256, "num_inference_steps": 200}, InputError, "a request may have 120 s"),
        ({"prompts": [], "pack": "nothing"}, NotFoundError, "nothing"),
    ):
        with pytest.raises(kind, match=words):
            gpu_generator.paint(wanted(**changes))
    assert lender.asked_s == []


def test_an_adapter_of_another_base_is_refused_with_what_is_here(
    gpu_generator: GpuGenerator, lender: Lender, published: Callable[..., str]
) -> None:
    published(base="sdxl", family="sdxl")
    with pytest.raises(InputError, match="was trained on sdxl; use one that was trained on pocket"):
        gpu_generator.paint(wanted())
    assert lender.asked_s == []


def test_a_private_adapter_opens_with_its_owners_token_only_and_leaves_nothing_behind(
    gpu_generator: GpuGenerator,
    published: Callable[..., str],
    hub: Any,
    studio_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published(public=False)
    monkeypatch.setenv("STUDIO_HUB_TOKEN", WRITE)  # the Space's own, which must not open it
    assert len(gpu_generator.paint(wanted(), WRITE).pictures) == 1
    pinned = f"{REPO}@{hub.repos[REPO].head.oid}"
    for token in (None, STRANGER):
        for name in (REPO, pinned):
            with pytest.raises(NotFoundError, match="or it is private"):
                gpu_generator.paint(wanted(adapter=name), token)
    assert not list(studio_home.glob("bases/adapter--*"))
    left = [path for path in studio_home.rglob("*") if path.is_file() and WRITE.encode() in path.read_bytes()]
    assert left == []


def test_what_a_verb_refuses_comes_through_with_all_its_words(
    gpu_generator: GpuGenerator, published: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    published()

    def refuse(*_: Any, **__: Any) -> GenerateResult:
        raise ResourceError("one picture of 64 x 64 px does not fit.")

    monkeypatch.setattr(zerogpu, "generate", refuse)
    with pytest.raises(ResourceError, match="does not fit"):
        gpu_generator.paint(wanted())


def test_pictures_that_were_made_before_the_time_ran_out_are_shown(
    gpu_generator: GpuGenerator, lender: Lender, published: Callable[..., str]
) -> None:
    published()

    def aborted(out: Path) -> None:
        for path in [*out.glob("*.zip"), *sorted(out.glob("*/[0-9]*.png"))[1:]]:
            path.unlink()
        raise gr.Error("GPU task aborted")

    lender.takes_away = aborted
    made = gpu_generator.paint(wanted(count=2))
    assert len(made.pictures) == 1 and made.archive is None and "GPU task aborted" in made.remark

    def refused(out: Path) -> None:
        for path in out.glob("*/[0-9]*.png"):
            path.unlink()
        raise gr.Error("You have exceeded your quota")

    lender.takes_away = refused
    with pytest.raises(gr.Error, match="quota"):
        gpu_generator.paint(wanted())


def test_pictures_are_deleted_after_an_hour(gpu_generator: GpuGenerator, published: Callable[..., str]) -> None:
    published()
    old = gpu_generator.paint(wanted()).pictures[0][0]
    hours_ago = time.time() - 2 * zerogpu.KEPT_S
    os.utime(old.parent.parent, (hours_ago, hours_ago))
    new = gpu_generator.paint(wanted()).pictures[0][0]
    assert not old.parent.parent.exists() and new.is_file()


def test_bases_that_cannot_be_had_are_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Some:
        def __init__(self, base: str) -> None:
            if base != "pocket":
                raise MissingExtraError(f"{base} is not on this machine.")
            self.pipeline = SimpleNamespace()

    monkeypatch.setattr("studio.pictures.swapper.AdapterSwapper", Some)
    loaded, remarks = zerogpu.load_bases(["sdxl", "pocket"])
    assert loaded.names == ("pocket",) and remarks == ("sdxl is not on this machine.",)
    with pytest.raises(MissingExtraError, match="sdxl"):
        zerogpu.load_bases(["sdxl"])
    with pytest.raises(StudioError, match="STUDIO_RESIDENT_BASES"):
        zerogpu.load_bases([])


def test_the_page_has_the_shields_of_every_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    kept: list[Settings] = []

    def launch(**arguments: Any) -> tuple[None, str, None]:
        given.update(arguments)
        return None, "http://127.0.0.1:1", None

    page = SimpleNamespace(launch=launch, block_thread=lambda: None)
    monkeypatch.setattr(zerogpu, "load_bases", lambda names: (AdapterSwappers(), ()))
    monkeypatch.setattr(zerogpu, "build", lambda *_, **__: page)
    monkeypatch.setattr(zerogpu, "keep_secrets_out_of_logs", kept.append)
    settings = Settings(home=tmp_path)
    zerogpu.serve(settings, lend=None, login=False, side_by_side=False, on_ready=lambda _: None)
    assert kept == [settings]

    async def upload(_: Request) -> None:
        raise OSError(errno.ENOSPC, "no room")

    app = Starlette(routes=[Route("/", upload, methods=["POST"])], middleware=given["app_kwargs"]["middleware"])
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    answer = client.post("/")
    assert answer.status_code == 507 and "disk of the studio is full" in answer.json()["detail"]


@pytest.mark.whole
def test_the_built_space_serves_its_endpoint_to_programs_with_their_own_token(
    hub: Any, published: Callable[..., str], run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradio_client import Client

    from studio.web import spaces

    monkeypatch.setenv("STUDIO_THREADS", "1")  # as many as the Space has: another number rounds last bits otherwise
    published(public=False)
    spaces.build("zerogpu", tmp_path / "space")
    (tmp_path / "visitor").mkdir()
    asked = {"adapter": REPO, "pack": "", "prompts": "photo of {subject}", "count": 1, "strength": 1, "seed": 0}
    home = infer.generate(wanted(adapter=None), run_dir, tmp_path / "ours")
    with platform.started(tmp_path / "space", tmp_path, HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="0") as address:
        stranger = Client(address, verbose=False, download_files=str(tmp_path / "stranger"))
        notice, pictures, archive = stranger.predict(**asked, api_name="/generate")
        assert "or it is private" in notice and (pictures, archive) == ([], None)
        owner = Client(address, verbose=False, download_files=str(tmp_path / "visitor"), oauth_token=WRITE)
        notice, pictures, archive = owner.predict(**asked, api_name="/generate")
        assert notice == "" and Path(archive).read_bytes()[:2] == b"PK"
        theirs, ours = pixels(Path(pictures[0]["image"])), pixels(tmp_path / "ours" / home.images[0].file)
        assert np.abs(theirs.astype(int) - ours.astype(int)).max() <= 1
        config = platform.require_first_page(address, {"generate"})
        assert any(row["props"].get("value") == "Sign in with Hugging Face" for row in config["components"])
        for path in ("monitoring", "gradio_api/file=http://127.0.0.1:9/x"):
            answer = httpx2.get(f"{address}/{path}", headers=platform.PROXIED, timeout=60)
            assert answer.status_code == 404, "the guard stands in front of this page, too"


WITHOUT_A_GPU = """
import os, runpy, sys
import spaces.zero.torch as lent
lent.init = lambda nvidia_uuid: None  # would wake the GPU
lent.move = lambda callback=None: None  # would move the weights there
sys.path.insert(0, os.getcwd())
runpy.run_path("own_app.py", run_name="__main__")
"""


@pytest.mark.slow
def test_the_platforms_own_package_runs_it_in_the_process_that_it_forks(
    hub: Any, published: Callable[..., str], run_dir: Path, tmp_path: Path
) -> None:
    """It needs a package index for one small wheel, and no GPU: the base stays on the CPU."""
    from gradio_client import Client

    from studio.web import spaces

    published()
    folder, lib = tmp_path / "space", tmp_path / "lib"
    spaces.build("zerogpu", folder)
    (pin,) = [line for line in spaces.pinned("zerogpu") if line.startswith("spaces==")]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(lib), pin]
    subprocess.run(install, check=True, capture_output=True)
    (folder / "app.py").rename(folder / "own_app.py")
    (folder / "app.py").write_text(WITHOUT_A_GPU)
    asked = {"adapter": REPO, "pack": "", "prompts": "photo of {subject}", "count": 1, "strength": 1, "seed": 0}
    home = infer.generate(wanted(adapter=None), run_dir, tmp_path / "ours")
    at_home = pixels(tmp_path / "ours" / home.images[0].file)
    with platform.device_api() as (api, requests):
        variables = {
            "SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": api, "PYTHONPATH": str(lib),
            "STUDIO_DEVICE": "cpu", "STUDIO_RESIDENT_BASES": "pocket", "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0",
        }  # fmt: skip
        with platform.started(folder, tmp_path, **variables) as address:
            client = Client(address, verbose=False, download_files=str(tmp_path / "visitor"))
            for strength in (1, 0, 1):
                notice, pictures, _ = client.predict(**{**asked, "strength": strength}, api_name="/generate")
                assert notice == ""
                difference = np.abs(pixels(Path(pictures[0]["image"])) - at_home)
                # One thread there, several here: the last bits may be rounded otherwise.
                assert difference.max() <= 2 if strength else difference.mean() > 2
    scheduled = [path for path in requests if path.startswith("/schedule")]
    assert len(scheduled) == 3 and all("durationSeconds=11" in path for path in scheduled)
    assert sum(path.startswith("/allow") for path in requests) == 1, "one process drew all, adapter after adapter"
