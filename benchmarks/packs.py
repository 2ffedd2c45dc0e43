"""Pictures per second of a pack on pocket: ``generate`` against a plain loop over StableDiffusionPipeline calls.

    python benchmarks/packs.py [--pictures 16] [--steps 20] [--swaps 200] [--out benchmarks/results/packs.json]

Both draw the same prompts and seeds with the same steps, with the same adapter fused, on the same device. The loop is
what the documentation of diffusers shows: one call per picture. Loading the base is not counted; that ``generate``
measures likeness and makes contact sheets, an index and a zip is counted against it. ``--swaps`` exchanges adapters on
one resident base and reports the memory of the process.
"""

import argparse
import gc
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from studio.compute.device import pick_device
from studio.core.adapters import AdapterInfo, write_info
from studio.core.catalog import BASES, POCKET_FOLDER
from studio.core.config import GenerateConfig
from studio.core.domain import Event
from studio.core.packs import takes
from studio.core.presets import load_pack
from studio.core.settings import load_settings
from studio.infer import generate
from studio.likeness.registry import get_engine
from studio.pictures.render import load_pipeline
from studio.pictures.swapper import AdapterSwapper
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render

PACK = "pocket_scenes"
WORDS = {"instance_token": "sks", "class_noun": "woman"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--swaps", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = pick_device(load_settings().device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = write_run(folder / "run", seed=1)
        # Once before, so that neither side pays for what a process does at its first picture.
        ours(run, folder / "warm", pictures=2, steps=1)
        loop(run / "adapter", device, pictures=2, steps=1)
        seconds = {
            "loop over StableDiffusionPipeline": loop(run / "adapter", device, arguments.pictures, arguments.steps),
            "generate": ours(run, folder / "out", arguments.pictures, arguments.steps),
        }
        rates = {who: round(arguments.pictures / value, 3) for who, value in seconds.items()}
        result: dict[str, Any] = {
            "pack": PACK,
            "pictures": arguments.pictures,
            "steps": arguments.steps,
            "pictures_per_s": rates,
            "ratio": round(rates["generate"] / rates["loop over StableDiffusionPipeline"], 2),
            "swaps": swaps(folder, arguments.swaps) if arguments.swaps else None,
            "machine": {
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                "cpu": platform.processor() or platform.machine(),
                "threads": torch.get_num_threads(),
            },
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")


def write_adapter(folder: Path, seed: int) -> Path:
    """Write a LoRA with small random numbers: what it draws does not matter here."""
    unet = load_pipeline("pocket").unet.cpu()
    unet.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    generator = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(unet)
    layers = {name: torch.randn(tensor.shape, generator=generator) * 0.01 for name, tensor in state.items()}
    folder.mkdir(parents=True)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


def write_run(run: Path, seed: int) -> Path:
    """Write a run folder with such an adapter and the likeness reference of a drawn person."""
    write_adapter(run / "adapter", seed)
    base, engine = BASES["pocket"], get_engine("pocket")
    scenes = [sample_scene(number, style="photo") for number in range(4)]
    photos = [Image.fromarray(render(sample_identity(seed), scene, 128)) for scene in scenes]
    mean = engine.embed(photos).mean(axis=0)
    info = AdapterInfo(
        base="pocket",
        revision=None,
        family=base.family,
        subject="Ada",
        class_noun="woman",
        instance_token="sks",
        resolution_px=base.resolution_px,
        guidance_scale=base.guidance_scale,
        num_inference_steps=base.num_inference_steps,
        likeness_engine="pocket",
        likeness_version=get_engine("pocket").version,
        centroid=tuple(float(value) for value in mean / np.linalg.norm(mean)),
        step=1,
    )
    write_info(run / "adapter", info)
    return run


def ours(run: Path, out: Path, pictures: int, steps: int) -> float:
    """Return the seconds from the loaded base to the last file of ``generate``."""
    shots = load_pack(PACK).shots
    prompts = [shots[number % len(shots)].prompt for number in range(pictures)]
    config = GenerateConfig(prompts=tuple(prompts), num_inference_steps=steps, use_cache=False)
    loaded_s = [0.0]

    def hear(event: Event) -> None:
        if event.kind == "stage" and event.data["name"] == "generating":
            loaded_s[0] = time.perf_counter()

    generate(config, run, out, on_event=hear)
    return time.perf_counter() - loaded_s[0]


def loop(adapter: Path, device: torch.device, pictures: int, steps: int) -> float:
    """Return the seconds of one call per picture, from the loaded base to the last PNG."""
    pack = load_pack(PACK)
    prompts = [
        takes(pack, pack.shots[number % len(pack.shots)], **WORDS, seed=0, count=1)[0].prompt
        for number in range(pictures)
    ]
    pipeline = StableDiffusionPipeline.from_pretrained(POCKET_FOLDER, safety_checker=None).to(device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(adapter)
    pipeline.fuse_lora()
    base = BASES["pocket"]
    with tempfile.TemporaryDirectory() as folder:
        started_s = time.perf_counter()
        for seed, prompt in enumerate(prompts):
            image = pipeline(
                prompt,
                height=base.resolution_px,
                width=base.resolution_px,
                num_inference_steps=steps,
                guidance_scale=base.guidance_scale,
                generator=torch.Generator().manual_seed(seed),
            ).images[0]
            image.save(Path(folder) / f"{seed:03}.png")
        return time.perf_counter() - started_s


def swaps(folder: Path, count: int) -> dict[str, Any]:
    """Exchange three adapters on one resident base and draw now and then."""
    adapters = [write_adapter(folder / f"adapter-{seed}", seed) for seed in range(3)]
    resident, process = AdapterSwapper("pocket"), psutil.Process()
    draw: Callable[[], Any] = lambda: resident.pipeline(  # noqa: E731
        "photo of a woman", height=64, width=64, num_inference_steps=1, output_type="latent"
    )
    taken: list[int] = []
    started_s, drawn_s = time.perf_counter(), 0.0
    for number in range(count):
        resident.use_adapter(adapters[number % len(adapters)])
        if number % 10 == 9 or number == count - 1:
            begun_s = time.perf_counter()
            draw()
            gc.collect()
            taken.append(process.memory_info().rss)
            drawn_s += time.perf_counter() - begun_s
    settled = taken[min(1, len(taken) - 1)]
    return {
        "count": count,
        "seconds_per_swap": round((time.perf_counter() - started_s - drawn_s) / count, 4),
        "memory_bytes_settled": settled,
        "memory_bytes_most": max(taken),
        "growth": round(max(taken) / settled - 1, 4),
    }


if __name__ == "__main__":
    main()
