"""Pictures of one job after another by a whole studio with the real verb on the real base: the second pack starts at
once, draws what a fresh process draws, and nobody meets what is another's.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from studio import infer
from studio.core.adapters import AdapterInfo, write_info
from studio.core.catalog import BASES
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import JobView
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs.runners.local import process_of
from studio.jobs.states import VERBS, VerbSpec
from studio.pictures.render import load_pipeline
from studio.service import Studio

WRITES_RUNS = """
import shutil
from pathlib import Path

def check(config, source, out, *, on_event, should_stop):
    out.mkdir(exist_ok=True)
    return {}

def train(config, source, out, *, on_event, should_stop):
    shutil.copytree(Path(RUNS) / config.instance_token, out, dirs_exist_ok=True)
    return {}
"""


def write_run(run: Path, seed: int) -> None:
    """Write a run folder whose adapter holds small random numbers."""
    unet = load_pipeline("pocket").unet
    unet.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    generator = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(unet)
    layers = {name: torch.randn(tensor.shape, generator=generator) * 0.03 for name, tensor in state.items()}
    (run / "adapter").mkdir(parents=True)
    StableDiffusionPipeline.save_lora_weights(run / "adapter", unet_lora_layers=layers)
    base = BASES["pocket"]
    info = AdapterInfo("pocket", None, base.family, "Ada", "woman", "sks", base.resolution_px, 3.0, 2, None, None, 1)
    write_info(run / "adapter", info)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("one", "two")):
        write_run(folder / name, seed)
    return folder


@pytest.fixture
def studio(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    (tmp_path / "writes_runs.py").write_text(f"RUNS = {str(runs)!r}\n{WRITES_RUNS}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    verbs = {
        **VERBS,
        "check": VerbSpec("writes_runs:check", CheckConfig, "checking", needs_device=False),
        "train": VerbSpec("writes_runs:train", TrainConfig, "training", needs_device=True),
    }
    # The threads are fixed, here and there: another number of them rounds the last bits otherwise.
    monkeypatch.setenv("STUDIO_THREADS", "1")
    settings = Settings(home=tmp_path / "home", device="cpu", owner="somebody", warm_s=60)
    studio = Studio(settings, verbs=verbs)
    studio.start()
    yield studio
    studio.close()


@pytest.fixture
def trained(studio: Studio, tmp_path: Path) -> Callable[..., str]:
    """Return a function that makes a train job of an owner, with one of the adapters."""
    (tmp_path / "photo.png").write_bytes(b"a photo")

    def train(adapter: str, owner: str) -> str:
        check = studio.submit_check(CheckConfig(class_noun="woman"), [tmp_path / "photo.png"], owner=owner)
        run = studio.submit_train(TrainConfig(instance_token=adapter), check.id, owner=owner)
        assert studio.wait(run.id, owner=owner, timeout_s=60).state == "completed"
        return run.id

    return train


PACK = GenerateConfig.parse(
    {"prompts": ["photo of {subject}", "{subject} at the beach"], "width_px": 64, "height_px": 64, "use_cache": False}
)


def pack(studio: Studio, run: str, owner: str) -> tuple[JobView, float, int | None]:
    """Order a pack and wait for it; gives the seconds until its pictures were begun, and the process that made them."""
    begun_s = time.monotonic()
    job = studio.submit_generate(PACK, run, owner=owner)
    started_s = None
    while started_s is None:
        events = studio.events(job.id, owner=owner)
        if any(event.kind == "stage" and event.data["name"] == "generating" for _, event in events):
            started_s = time.monotonic() - begun_s
        assert time.monotonic() < begun_s + 90
        time.sleep(0.005)
    done = studio.wait(job.id, owner=owner, timeout_s=60)
    assert done.state == "completed", done.cause
    return done, started_s, process_of(studio.out_dir(job.id, owner=owner).parent)


def pictures(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.png"))}


def test_the_second_pack_starts_at_once_whoever_orders_it_and_shows_what_a_fresh_process_shows(
    studio: Studio, trained: Callable[..., str], runs: Path, tmp_path: Path
) -> None:
    ada, bob = trained("one", "ada"), trained("two", "bob")
    _, _, process = pack(studio, ada, "ada")
    times = []
    for run, owner, name in ((bob, "bob", "two"), (ada, "ada", "one")):
        job, started_s, again = pack(studio, run, owner)
        times.append(started_s)
        assert again == process
        fresh = tmp_path / f"fresh-{job.id}"
        infer.generate(PACK, runs / name, fresh)
        assert pictures(studio.out_dir(job.id, owner=owner)) == pictures(fresh) != {}
    assert min(times) < 1.0  # the better one: others may hold the cores


@pytest.mark.slow
def test_who_may_use_what_this_machine_may_shares_no_process_with_others(
    studio: Studio, trained: Callable[..., str]
) -> None:
    guests, owners = trained("one", "ada"), trained("one", "somebody")
    _, _, process = pack(studio, guests, "ada")
    _, _, other = pack(studio, owners, "somebody")
    assert process is not None and other != process and not psutil.pid_exists(process)


@pytest.mark.slow
def test_the_device_is_free_for_a_training_and_where_the_server_is_about_to_stop(
    studio: Studio, trained: Callable[..., str]
) -> None:
    ada = trained("one", "ada")
    _, _, process = pack(studio, ada, "ada")
    assert process is not None and psutil.pid_exists(process)
    trained("two", "ada")
    assert not psutil.pid_exists(process)
    _, _, process = pack(studio, ada, "ada")
    assert studio.server.drain(60) and not psutil.pid_exists(process)


@pytest.mark.slow
def test_a_pack_whose_process_is_killed_is_made_by_another_one(
    studio: Studio, trained: Callable[..., str], runs: Path, tmp_path: Path
) -> None:
    ada = trained("one", "ada")
    _, _, process = pack(studio, ada, "ada")
    slow = PACK.model_copy(update={"num_inference_steps": 60})
    job = studio.submit_generate(slow, ada, owner="ada")
    while not any(event.kind == "image" for _, event in studio.events(job.id, owner="ada")):
        time.sleep(0.02)
    assert process is not None
    psutil.Process(process).kill()
    done: Any = studio.wait(job.id, owner="ada", timeout_s=90)
    out = studio.out_dir(job.id, owner="ada")
    assert (done.state, done.attempt, process_of(out.parent) == process) == ("completed", 2, False)
    infer.generate(slow, runs / "one", tmp_path / "fresh")
    assert pictures(out) == pictures(tmp_path / "fresh")


@pytest.mark.slow
def test_fifteen_packs_with_two_adapters_take_no_more_memory(studio: Studio, trained: Callable[..., str]) -> None:
    """Two hundred are ``benchmarks/warm.py``."""
    runs = (trained("one", "ada"), trained("two", "ada"))
    taken = []
    for number in range(15):
        _, _, process = pack(studio, runs[number % 2], "ada")
        assert process is not None
        taken.append((process, psutil.Process(process).memory_info().rss))
    assert len({process for process, _ in taken}) == 1
    assert max(rss for _, rss in taken[4:]) <= 1.02 * max(rss for _, rss in taken[2:4])
