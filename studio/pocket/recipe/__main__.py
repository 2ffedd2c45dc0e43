"""Command line of the recipe; see the package's docstring."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from studio.compute.device import pick_device
from studio.pocket.recipe.autoencoder import autoencoder_stage
from studio.pocket.recipe.data import render_stage
from studio.pocket.recipe.decoder import decoder_stage
from studio.pocket.recipe.denoiser import denoiser_stage
from studio.pocket.recipe.detector import faces_stage
from studio.pocket.recipe.exports import adopt, export_stage
from studio.pocket.recipe.identity_nets import identity_stage
from studio.pocket.recipe.loop import TimeLimit, TrainingContext
from studio.pocket.recipe.report import report_stage
from studio.pocket.recipe.settings import Recipe

log = logging.getLogger(__name__)

TRAINING = {
    "autoencoder": autoencoder_stage,
    "faces": faces_stage,
    "identity": identity_stage,
    "denoiser": denoiser_stage,
    "decoder": decoder_stage,
}
STAGES = ("render", *TRAINING, "export", "report")
DEFAULT_MINUTES = {"autoencoder": 20.0, "faces": 15.0, "identity": 30.0, "denoiser": 180.0, "decoder": 30.0}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m studio.pocket.recipe", description="Train the embedded base from drawn portraits."
    )
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--work", type=Path, required=True, help="folder for data, checkpoints and logs")
    parser.add_argument("--out", type=Path, default=Path("studio/pocket/base"), help="folder of the exported model")
    parser.add_argument("--base", type=Path, help="exported model to go on from, into a folder without checkpoints")
    parser.add_argument("--sheet", type=Path, default=Path("docs/pocket_sheet.png"), help="sheet of samples to write")
    parser.add_argument("--minutes", type=float, help=f"training time of a stage; default {DEFAULT_MINUTES}")
    parser.add_argument("--pictures", type=int, default=Recipe.pictures, help="pictures to draw and train on")
    parser.add_argument("--held-out", type=int, default=Recipe.held_out)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--observe-s", type=float, default=240.0, help="seconds between measurements on held-out data")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.set_flush_denormal(True)
    recipe = replace(Recipe(), pictures=given.pictures, held_out=given.held_out)
    context = TrainingContext(given.work, pick_device(given.device), given.precision)
    if given.base is not None:
        adopt(recipe, context, given.base)
    for stage in STAGES if given.stage == "all" else (given.stage,):
        log.info("%s starts", stage)
        if stage == "render":
            render_stage(recipe, context, workers=given.workers)
        elif stage == "export":
            export_stage(recipe, context, given.out)
        elif stage == "report":
            report_stage(recipe, context, given.out, given.sheet)
        else:
            minutes = given.minutes if given.minutes is not None else DEFAULT_MINUTES[stage]
            TRAINING[stage](recipe, context, TimeLimit(minutes=minutes, observe_s=given.observe_s))
        log.info("%s done", stage)


if __name__ == "__main__":
    main()
