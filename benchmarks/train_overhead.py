"""What a training step costs above the bare loop: forward, backward and optimizer on the same tensors.

    python -m benchmarks.train_overhead [--base pocket] [--steps 30] [--out benchmarks/results/train_overhead.json]

Both sides take the same LoRA model, batch, prompts and optimizer. The bare loop has its noisy latents, timesteps,
targets and prompt embeddings ready; ``train_step`` draws, mixes and looks them up, clips gradients, reports the loss.
The sides alternate step by step, so that a noisy machine disturbs both alike, and medians are compared.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from studio.bases.resolve import resolve_base
from studio.core.presets import train_config
from studio.families import registry as families
from studio.methods import registry as methods
from studio.training.data import cache
from studio.training.run import AdaptedModel, PreparedPhoto, TrainingRun
from studio.training.steps import _photo_rows, exact_arithmetic, train_step

PHOTOS = 8
LIMIT = 1.10


def main() -> None:
    arguments = parse()
    changes = {"base": arguments.base, "prior": {"mode": "none"}, "batch_size": arguments.batch_size}
    config = train_config("pocket_lora_cpu", **changes)
    if arguments.no_token:
        config = config.model_copy(update={"token_learning_rate": None})
    base = resolve_base(config.base)
    side = base.spec.resolution_px
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(PHOTOS)]
    caption, class_caption = f"photo of {config.instance_token} woman", "photo of a woman"
    photos = tuple(PreparedPhoto(picture, picture, "1:1", caption, class_caption) for picture in pictures)
    with tempfile.TemporaryDirectory() as out, exact_arithmetic(torch.device("cpu"), arguments.threads):
        run = TrainingRun(config, Path(out), base, photos, torch.device("cpu"), torch.float32, steps=1000)
        ours, bare = contestants(run)
        for step in range(3):
            ours(step), bare(step)
        timed = [(seconds(ours, step), seconds(bare, step)) for step in range(3, 3 + arguments.steps)]
    ours_s, bare_s = (statistics.median(row[i] for row in timed) for i in (0, 1))
    result = {
        "ratio": round(ours_s / bare_s, 4),
        "limit": LIMIT,
        "train_step_s": round(ours_s, 5),
        "bare_step_s": round(bare_s, 5),
        "steps": arguments.steps,
        "base": arguments.base,
        "batch_size": config.batch_size,
        "token": config.token_learning_rate is not None,
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": arguments.threads or torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "date": datetime.now(UTC).date().isoformat(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")


def contestants(run: TrainingRun) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """Return ``train_step`` and the bare loop over one and the same model."""
    family, method = families.family(run.base.family), methods.method("lora")
    parts = family.load(run.base.folder, dtype=run.dtype, device=run.device)
    groups: list[Any] = method.attach(parts, family.spec, run.config)
    optimizer = torch.optim.AdamW(groups, fused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    model = AdaptedModel(run, family, method, parts)
    data = cache(run, model, [])
    rows = _photo_rows(model, data, 0)
    # Where the token learns, its encoding belongs to the forward pass of the bare loop too.
    ids = parts.tokenizers[0](
        list(rows.prompts), padding="max_length", max_length=parts.tokenizers[0].model_max_length, return_tensors="pt"
    ).input_ids
    fixed = None if model.prompts.learns else model.prompts.encode(rows.prompts)["prompt_embeds"]

    def bare(step: int) -> None:
        embeds = parts.text_encoders[0](ids)[0] if fixed is None else fixed
        output = parts.denoiser(rows.noisy, rows.timesteps, embeds, return_dict=False)[0]
        torch.nn.functional.mse_loss(output, rows.target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return (lambda step: train_step(model, data, optimizer, scaler, step)), bare


def seconds(function: Callable[[int], Any], step: int) -> float:
    begun_s = time.perf_counter()
    function(step)
    return time.perf_counter() - begun_s


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="pocket", help="catalog name or local diffusers folder")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--no-token", action="store_true", help="leave the instance token as it is")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
