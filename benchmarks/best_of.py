"""What keeping the best is worth: mean likeness of 8 pictures out of 16 against that of all 16, on held-out identities.

    python -m benchmarks.best_of --identities 4 [--count 16] [--keep 8] [--out benchmarks/results/best_of.json]

For each drawn identity: 8 photos -> check -> train -> generate with ``keep``, through the studio's own verbs. The
choice is made by likeness to the user's photos; to see that it is more than a choice by chance that the same ruler
praises, pictures are also measured against new drawings of the same person that nothing of the run has seen.
``--runs`` takes the runs of ``benchmarks/likeness.py`` (a folder with ``identity_00/run`` and so on) and trains none.
It goes on where it was stopped.
"""

import argparse
import json
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.likeness import FIRST_SEED, noun_of
from studio.check import check
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import Image as Picture
from studio.core.presets import train_config
from studio.infer import generate
from studio.likeness.base import centroid, likeness
from studio.likeness.registry import get_engine
from studio.pocket.renderer.people import Identity, sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.train import train

PROMPTS = (
    "photo of {subject}, wearing a red shirt, at the beach",
    "photo of {subject}, wearing a grey suit, in an office",
)
PHOTOS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=4)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--keep", type=int, default=8)
    parser.add_argument("--runs", type=Path, help="work folder of benchmarks/likeness.py with trained runs")
    parser.add_argument("--train-steps", type=int, help="instead of the preset's")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "studio-best-of")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = [row_of(number, arguments) for number in range(arguments.identities)]
    result: dict[str, Any] = {
        "count": arguments.count,
        "keep": arguments.keep,
        "identities": len(rows),
        "mean": {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0] if name != "seed"},
        "rows": rows,
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")


def row_of(number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what keeping the best was worth for one identity."""
    identity = sample_identity(FIRST_SEED + number, noun_of(number))
    folder = arguments.work / f"{identity.seed}-{arguments.count}-{arguments.train_steps}-{arguments.steps}"
    if arguments.runs:
        run = arguments.runs / f"identity_{number:02}" / "run"
    else:
        run = trained(identity, number, folder, arguments.train_steps)
    config = GenerateConfig(
        prompts=PROMPTS,
        count=arguments.count,
        keep=arguments.keep,
        num_inference_steps=arguments.steps,
        use_cache=False,
    )
    out = folder / f"pictures-{arguments.keep}"
    made = generate(config, run, out)
    engine = get_engine("pocket")
    scale = engine.scale(identity.class_noun)
    unseen = centroid(engine.embed(drawings(identity, folder / "unseen", PHOTOS, 64)))

    def to_unseen(images: tuple[Picture, ...]) -> float:
        pictures = [Image.open(out / image.file).convert("RGB") for image in images]
        return round(float(np.nanmean(likeness(engine.embed(pictures), unseen, scale))), 4)

    everything = (*made.images, *made.left_out)
    row = {
        "seed": identity.seed,
        "likeness_all": made.likeness_mean_made,
        "likeness_kept": made.likeness_mean,
        "unseen_all": to_unseen(everything),
        "unseen_kept": to_unseen(made.images),
        "duplicates": sum(image.duplicate_of is not None for image in everything),
    }
    print(json.dumps(row), flush=True)
    return row


def trained(identity: Identity, number: int, folder: Path, steps: int | None) -> Path:
    """Return the folder of a run on eight drawings of a person."""
    words = {"subject": f"Id{number:02}", "class_noun": identity.class_noun}
    drawings(identity, folder / "photos", 0, 256)
    check(CheckConfig(**words, likeness="pocket"), folder / "photos", folder / "dataset")
    changes = {"seed": number, "certify": False, "likeness": "pocket", "steps": steps}
    train(train_config("pocket_lora_cpu", **words, **changes), folder / "dataset", folder / "run")
    return folder / "run"


def drawings(identity: Identity, folder: Path, first: int, size_px: int) -> list[Image.Image]:
    """Return PHOTOS drawings of a person in different scenes, written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(first, first + PHOTOS):
        scene = sample_scene(identity.seed * 100 + number, style="photo", accessory="none")
        picture = Image.fromarray(render(identity, scene, size_px))
        if not (folder / f"{number:02}.png").is_file():
            picture.save(folder / f"{number:02}.png")
        found.append(picture)
    return found


if __name__ == "__main__":
    main()
