"""Measures an exported base: ``report.json`` and a sheet of samples."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

from studio.pocket.faces import load_detector
from studio.pocket.identity import load_classifier, load_encoder
from studio.pocket.recipe.autoencoder import psnr
from studio.pocket.recipe.data import open_pictures
from studio.pocket.recipe.detector import measure_detector
from studio.pocket.recipe.exports import TRAINED
from studio.pocket.recipe.files import append_line, newest_checkpoint, write_json
from studio.pocket.recipe.identity_nets import accuracies
from studio.pocket.recipe.loop import TrainingContext
from studio.pocket.recipe.sampling import followed, found_faces, frechet_distance, generate, held_out_prompts
from studio.pocket.recipe.settings import Recipe
from studio.pocket.recipe.sheets import sheet

_TRIED = 64  # pictures for each guidance scale
_REDRAWN = 128  # held-out pictures sent through the autoencoder


def report_stage(
    recipe: Recipe,
    context: TrainingContext,
    out: Path,
    sheet_path: Path,
    *,
    generated: int = 256,
    steps: int = 20,
    guidances: Sequence[float] = (2.0, 3.0, 4.5),
) -> dict[str, Any]:
    """Measure the exported folder and write ``out/report.json`` and the sheet of samples.

    Args:
        recipe: for the report.
        context: holds the held-out pictures.
        out: the exported folder.
        sheet_path: PNG to write.
        generated: how many pictures to generate for the final numbers.
        steps: of each generation.
        guidances: scales to try first; the one with the most complete faces and followed prompts is recommended.

    Returns:
        What ``report.json`` holds.
    """
    held = open_pictures(context.work, "held")
    pipeline = StableDiffusionPipeline.from_pretrained(out).to(context.device)
    pipeline.set_progress_bar_config(disable=True)
    classifier = load_classifier(out / "attributes").to(context.device)
    detector = load_detector(out / "faces").to(context.device)
    rows = np.arange(min(_REDRAWN, len(held)))
    pixels = held.batch(rows, context.device)
    with torch.no_grad():
        made = torch.cat([pipeline.vae.decode(pipeline.vae.encode(p).latents).sample for p in pixels.split(32)])
        decibels = psnr(made, pixels)
        reference = torch.cat(
            [classifier.features(p) for p in held.batch(np.arange(len(held)), context.device).split(64)]
        )
    prompts, wanted = held_out_prompts(generated)
    few = min(_TRIED, generated)
    by_guidance = {}
    for guidance in guidances:
        pictures = generate(pipeline, prompts[:few], guidance=guidance, steps=steps)
        by_guidance[str(guidance)] = {
            "followed": followed(classifier, pictures, {h: v[:few] for h, v in wanted.items()}),
            "faces": found_faces(detector, pictures, wanted["accessory"][:few]),
        }
    best = max(by_guidance, key=lambda g: _merit(by_guidance[g]))
    pictures = generate(pipeline, prompts, guidance=float(best), steps=steps, seed=1)
    started = time.monotonic()
    generate(pipeline, prompts[:1], guidance=float(best), steps=steps)
    seconds = time.monotonic() - started
    sheet_path.parent.mkdir(parents=True, exist_ok=True)
    sheet(pictures[:48], 8).save(sheet_path)
    with torch.no_grad():
        features = torch.cat([classifier.features(p.to(context.device)) for p in pictures.split(64)])
    result = {
        "size_px": recipe.size_px,
        "pictures_trained_on": recipe.pictures,
        "psnr_db": {"mean": round(float(decibels.mean()), 2), "lowest": round(float(decibels.min()), 2)},
        "followed": followed(classifier, pictures, wanted),
        "faces": found_faces(detector, pictures, wanted["accessory"]),
        "frechet_distance": round(frechet_distance(features, reference), 2),
        "by_guidance": by_guidance,
        "guidance_scale": float(best),
        "num_inference_steps": steps,
        "generated": generated,
        "seconds_per_picture": round(seconds, 3),
        "device": str(context.device),
        "threads": torch.get_num_threads(),
        "detector_on_drawn_pictures": measure_detector(detector, held, context),
        "classifier_accuracy_on_drawn_pictures": accuracies(classifier, held, context),
        "likeness": load_encoder(out / "identity").calibration,
        "training": {
            stage: {"steps": state.step, "minutes": round(state.elapsed_s / 60, 1)}
            for stage in TRAINED
            if (state := newest_checkpoint(context.work / stage)) is not None
        },
        "bytes": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()),
        "prompts": prompts[:48],
    }
    write_json(out / "report.json", result, indent=2)
    append_line(context.work / "report.jsonl", {k: v for k, v in result.items() if k != "prompts"})
    return result


def _merit(measured: dict[str, dict[str, float]]) -> float:
    """Return one number for a guidance scale: complete faces count as much as all that prompts ask for."""
    shares = measured["followed"].values()
    return sum(shares) / len(shares) + measured["faces"]["complete"]
