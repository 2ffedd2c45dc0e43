"""Our trainer against the official diffusers DreamBooth LoRA script and kohya: pictures per second and peak memory.

Both train a LoRA of the same rank on the attention of a base of the true Stable Diffusion 1.5 shape with random
weights, on the same pictures, batch, steps and precision. The script is not part of this repository; give its path::

    python -m benchmarks.trainers --script ../diffusers/examples/dreambooth/train_dreambooth_lora.py
    python -m benchmarks.trainers --tiny --steps 2 --warmup 1       # does it work? ours and the bare loop only

Each side runs in a process of its own, told to stop after ``--steps`` steps. Its speed is that of the steps after
``--warmup`` (ours: each step's own time; a rival: a run of ``--steps`` less one of ``--warmup``), its memory the
most that its process held or, on a GPU that nobody else uses, what the GPU held above the start. Without ``--script``
the plain computation stands for it: autoencoder, text encoder, forward, backward and AdamW at each step, as a script
without caches does it, in a loop of our own. kohya trains the U-Net only, with its cache of latents and without: its
LoRA also sits on the feed-forward layers, and has no option for less. Results: ``benchmarks/results/trainers.json``;
ratios are of one call.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = 8
PROMPT = "photo of sks woman"
TARGET_RATIOS = {"plain": 1.5, "script": 1.5, "kohya": 1.2, "kohya, cached latents": 1.2}
_SAMPLED_EVERY_S = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    if options.side:
        SIDES[options.side](options)
        return 0
    options.work = options.work.absolute()  # the sides run in the repository
    options.work.mkdir(parents=True, exist_ok=True)
    base = write_base(options)
    write_photos(options.work / "photos", options.resolution)
    rows = {side: measured(options, own_side(options, side, base)) for side in ("ours", "plain")}
    if options.script:
        rows["script"] = rival_row(options, lambda steps: script_command(options, base, steps))
    if options.kohya:
        write_words(options.work / "tokenizers" / "openai_clip-vit-large-patch14")
        for name, cached in (("kohya", False), ("kohya, cached latents", True)):
            rows[name] = rival_row(options, lambda steps, cached=cached: kohya_command(options, base, steps, cached))
    ours = rows["ours"]
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "against": {
            name: {
                "ratio": round(ours["pictures_per_s"] / row["pictures_per_s"], 3),
                "target": TARGET_RATIOS[name],
                "never_more_memory": ours["peak_mb"] <= row["peak_mb"],
            }
            for name, row in rows.items()
            if name != "ours"
        },
        "rows": rows,
        "settings": {key: getattr(options, key) for key in ("resolution", "batch_size", "rank", "steps", "warmup")}
        | {"dtype": options.dtype, "tiny": options.tiny},
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "device": device()},
        "versions": {name: version(name) for name in ("torch", "diffusers", "peft", "accelerate", "transformers")},
    }
    text = json.dumps(report, indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n", encoding="utf-8")
    return 0


# ------------------------------------------------------------------------------------------------------- what is given


def write_base(options: argparse.Namespace) -> Path:
    """Write a Stable Diffusion 1.5 with random weights once; ``--tiny`` keeps its layers and makes them thin."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from studio.core.catalog import POCKET_FOLDER

    folder: Path = options.work / ("base-tiny" if options.tiny else "base")
    if (folder / "model_index.json").exists():
        return folder
    thin = 10 if options.tiny else 1
    torch.manual_seed(0)
    # The tokenizer of the embedded base: words cost the same whatever they are.
    tokenizer = StableDiffusionPipeline.from_pretrained(POCKET_FOLDER, use_safetensors=True).tokenizer
    tokenizer.model_max_length = 77
    text_width, cross = 768 // thin // 12 * 12, 768 // thin // 12 * 12
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=text_width,
        intermediate_size=4 * text_width,
        num_hidden_layers=12 // thin or 1,
        num_attention_heads=12,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=cross,
        attention_head_dim=8,
        block_out_channels=tuple(32 * (size // thin // 32 or 1) for size in (320, 640, 1280, 1280)),
    )
    vae = AutoencoderKL(
        block_out_channels=tuple(32 * (size // thin // 32 or 1) for size in (128, 256, 512, 512)),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        scaling_factor=0.18215,
    )
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
    )
    pipeline = StableDiffusionPipeline(
        vae, CLIPTextModel(text), tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder)
    return folder


def write_photos(folder: Path, side: int) -> None:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(PHOTOS):
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def pictures(options: argparse.Namespace) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted((options.work / "photos").glob("*.png"))]


# ----------------------------------------------------------------------------------------------------------- the sides


def own_side(options: argparse.Namespace, side: str, base: Path) -> list[str]:
    """Return the command that runs one of our sides in a process of its own."""
    kept = ("resolution", "batch_size", "rank", "steps", "warmup", "dtype", "work")
    given = [word for name in kept for word in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
    flags = ["--gradient-checkpointing"] if options.gradient_checkpointing else []
    return [sys.executable, "-m", "benchmarks.trainers", "--side", side, "--base", str(base), *given, *flags]


def _run(options: argparse.Namespace) -> Any:
    """Return the studio's run, its model and its data."""
    import torch

    from studio.bases.resolve import resolve_base
    from studio.compute.device import pick_device, pick_dtype
    from studio.core.train_config import TrainConfig
    from studio.training.run import PreparedPhoto, TrainingRun

    config = TrainConfig.parse(
        {
            "base": str(options.base),
            "method": {"rank": options.rank},
            "batch_size": options.batch_size,
            "resolution_px": options.resolution,
            "gradient_checkpointing": options.gradient_checkpointing,
            "dtype": options.dtype,
        }
    )
    photos = tuple(PreparedPhoto(one, one, "1:1", PROMPT, "photo of a woman") for one in pictures(options))
    where = pick_device()
    torch.manual_seed(0)
    return TrainingRun(
        config, options.work, resolve_base(str(options.base)), photos, where, pick_dtype(options.dtype, where), 1000
    )


def _ours(options: argparse.Namespace) -> None:
    from studio.families import registry as families
    from studio.methods import registry as methods
    from studio.training.data import cache
    from studio.training.run import AdaptedModel
    from studio.training.state import TrainingState
    from studio.training.steps import exact_arithmetic, train_step

    run = _run(options)
    family, method = families.family("sd"), methods.method("lora")
    with exact_arithmetic(run.device, None):
        parts = family.load(run.base.folder, dtype=run.dtype, device=run.device)
        groups: list[Any] = method.attach(parts, family.spec, run.config)
        if options.gradient_checkpointing:
            parts.denoiser.enable_gradient_checkpointing()
        model = AdaptedModel(run, family, method, parts)
        parts.text_encoders = []
        parts.denoiser.to(run.device)
        data = cache(run, model, [])
        parts.vae = None
        learner = TrainingState(run, groups, method.trainable(parts))
        tell(options, run.device, lambda step: train_step(model, data, learner.optimizer, learner.scaler, step))


def _plain(options: argparse.Namespace) -> None:
    """Train as a script without caches does: every part stays, and every step encodes its pictures and prompts."""
    import torch

    from studio.families import registry as families
    from studio.methods import registry as methods
    from studio.training.data import _pixels

    run = _run(options)
    family, method = families.family("sd"), methods.method("lora")
    parts = family.load(run.base.folder, dtype=run.dtype, device=run.device)
    groups: list[Any] = method.attach(parts, family.spec, run.config)
    if options.gradient_checkpointing:
        parts.denoiser.enable_gradient_checkpointing()
    parts.denoiser.to(run.device).train()
    optimizer = torch.optim.AdamW(groups)
    generator = torch.Generator().manual_seed(0)
    photos = _pixels([photo.picture for photo in run.photos])

    def step(number: int) -> float:
        chosen = [(number * options.batch_size + row) % PHOTOS for row in range(options.batch_size)]
        with torch.no_grad():
            latents = family.encode_images(parts, photos[chosen], generator)
            words = family.encode_prompts(parts, [PROMPT] * options.batch_size)
        noise = torch.randn(latents.shape, generator=generator).to(run.device)
        timesteps = torch.randint(1000, (options.batch_size,), generator=generator)
        noisy = parts.schedule.add_noise(latents, noise, timesteps)
        with run.autocast():
            output = family.predict(parts, noisy, timesteps.to(run.device), words)
        loss = torch.nn.functional.mse_loss(output.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    tell(options, run.device, step)


SIDES = {"ours": _ours, "plain": _plain}


def tell(options: argparse.Namespace, where: Any, step: Any) -> None:
    """Run the steps and print the time of those after the warm-up."""
    import torch

    times_s = []
    for number in range(options.steps):
        begun_s = time.perf_counter()
        step(number)
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        times_s.append(time.perf_counter() - begun_s)
    print(json.dumps({"step_s": statistics.median(times_s[options.warmup :])}), flush=True)


def script_command(options: argparse.Namespace, base: Path, steps: int) -> list[str]:
    precision = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[options.dtype]
    command = [
        sys.executable, str(options.script.absolute()), "--pretrained_model_name_or_path", str(base),
        "--instance_data_dir", str(options.work / "photos"), "--instance_prompt", PROMPT,
        "--output_dir", str(options.work / "script-out"), "--resolution", str(options.resolution),
        "--train_batch_size", str(options.batch_size), "--rank", str(options.rank),
        "--max_train_steps", str(steps), "--mixed_precision", precision, "--learning_rate", "1e-4",
        "--checkpointing_steps", "1000000", "--seed", "0", "--dataloader_num_workers", "0",
    ]  # fmt: skip
    return [*command, "--gradient_checkpointing"] if options.gradient_checkpointing else command


def kohya_command(options: argparse.Namespace, base: Path, steps: int, cached: bool) -> list[str]:
    photos = options.work / "kohya-photos" / f"1_{PROMPT}"  # it takes repeats and caption from the folder's name
    if not photos.exists():
        shutil.copytree(options.work / "photos", photos)
    precision = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[options.dtype]
    command = [
        str(options.kohya_python), str(options.kohya.absolute()), "--pretrained_model_name_or_path", str(base),
        "--train_data_dir", str(photos.parent), "--output_dir", str(options.work / "kohya-out"), "--output_name", "out",
        "--tokenizer_cache_dir", str(options.work / "tokenizers"), "--resolution", str(options.resolution),
        "--train_batch_size", str(options.batch_size), "--network_module", "networks.lora",
        "--network_dim", str(options.rank), "--network_train_unet_only", "--sdpa", "--max_train_steps", str(steps),
        "--mixed_precision", precision, "--save_precision", "float", "--save_model_as", "safetensors",
        "--learning_rate", "1e-4", "--optimizer_type", "AdamW", "--seed", "0", "--max_data_loader_n_workers", "0",
    ]  # fmt: skip
    command += ["--cache_latents"] if cached else []
    return [*command, "--gradient_checkpointing"] if options.gradient_checkpointing else command


def write_words(folder: Path) -> None:
    """Write the tokenizer in the two files that the slow tokenizer of older transformers reads."""
    from studio.core.catalog import POCKET_FOLDER

    made = json.loads((POCKET_FOLDER / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(made["vocab"]), encoding="utf-8")
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in made["merges"])
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *merges)) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 77}\n', encoding="utf-8")


def rival_row(options: argparse.Namespace, command: Callable[[int], list[str]]) -> dict[str, Any]:
    """Run a rival twice; the difference of both runs is what its steps take."""
    runs = [measured(options, command(steps), speaks=False) for steps in (options.warmup, options.steps)]
    seconds = (runs[1]["seconds"] - runs[0]["seconds"]) / (options.steps - options.warmup)
    if seconds <= 0:
        raise SystemExit("the rival's steps are lost in the noise of its start; set a larger --steps")
    return {**row_of(options, seconds), "peak_mb": runs[1]["peak_mb"], "seconds": runs[1]["seconds"]}


# ----------------------------------------------------------------------------------------------------------- measuring


def measured(options: argparse.Namespace, command: Sequence[str], *, speaks: bool = True) -> dict[str, Any]:
    """Run a process to its end; return its speed (if it tells one) and the most memory that it held."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    begun_s = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    peaks = {"main": 0, "gpu": 0}
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    watcher.start()
    said, errors = process.communicate()
    watcher.join()
    seconds = time.perf_counter() - begun_s
    if process.returncode:
        raise SystemExit(f"{command[1]} failed:\n{errors[-2000:]}")
    row = row_of(options, 0.0) if not speaks else row_of(options, json.loads(said.strip().splitlines()[-1])["step_s"])
    # Both sides by the same ruler: what the driver says on a GPU, else what the process holds.
    return {**row, "peak_mb": round((peaks["gpu"] or peaks["main"]) / 2**20), "seconds": round(seconds, 2)}


def row_of(options: argparse.Namespace, step_s: float) -> dict[str, Any]:
    return {"step_s": round(step_s, 4), "pictures_per_s": round(options.batch_size / step_s, 4) if step_s else 0.0}


def _watch(pid: int, peaks: dict[str, int]) -> None:
    before = gpu_bytes()
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            peaks["main"] = max(peaks["main"], process.memory_info().rss)
            peaks["gpu"] = max(peaks["gpu"], gpu_bytes() - before)
            time.sleep(_SAMPLED_EVERY_S)
    except psutil.Error:
        return


def gpu_bytes() -> int:
    """Return how much memory of the first GPU is in use; 0 without one."""
    if device() == "cpu":
        return 0
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return int(said.splitlines()[0]) * 2**20


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, default=None, help="path of train_dreambooth_lora.py")
    parser.add_argument("--kohya", type=Path, default=None, help="path of kohya's train_network.py")
    parser.add_argument("--kohya-python", default=sys.executable, help="the Python that has kohya's packages")
    parser.add_argument("--resolution", type=int, default=256, help="pixels; 512 on a GPU")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rank", type=int, default=4, help="the script's default")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="thin layers: to see that it works")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "trainers-benchmark")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "trainers.json")
    parser.add_argument("--side", choices=("ours", "plain"), default=None, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 0 < options.warmup < options.steps:
        parser.error("--warmup must be between 1 and --steps - 1")
    if options.tiny and options.kohya:
        parser.error("--kohya: its U-Net has the true shape built in; leave --tiny out")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
