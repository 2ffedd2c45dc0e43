"""The denoiser's training repeats exactly, and its words fit the captions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.pocket.recipe.autoencoder import autoencoder_stage
from studio.pocket.recipe.denoiser import denoiser_stage, spread_timesteps, v_weights
from studio.pocket.recipe.loop import TimeLimit, TrainingContext
from studio.pocket.recipe.settings import Recipe

STAGES = {"autoencoder": autoencoder_stage, "denoiser": denoiser_stage}


def losses(log: Path) -> list[float]:
    """Return the losses of a stage's log, in order."""
    records: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


@pytest.mark.parametrize("stage", STAGES)
def test_resumed_stage_equals_an_uninterrupted_one(
    tiny: Recipe, trained: TrainingContext, fresh: TrainingContext, stage: str
) -> None:
    if stage == "denoiser":
        for name in ("latents", "vae", "tokenizer", "tokens.npy"):
            (fresh.work / name).symlink_to(trained.work / name)
    STAGES[stage](tiny, fresh, TimeLimit(steps=3, log_every=1, observe_s=float("inf"), stop_after=2))
    assert len(losses(fresh.work / f"{stage}.jsonl")) == 2
    STAGES[stage](tiny, fresh, TimeLimit(steps=3, log_every=1, observe_s=float("inf")))
    assert losses(fresh.work / f"{stage}.jsonl") == losses(trained.work / f"{stage}.jsonl")


def test_weights_of_timesteps_follow_their_equation() -> None:
    weights = v_weights(torch.tensor([0.5, 0.99, 1e-6]).sqrt(), gamma=5.0)
    assert weights.tolist() == pytest.approx([1.0, 6 * 0.01, 1.0], rel=1e-4)


def test_timesteps_of_a_batch_are_spread_over_the_whole_schedule() -> None:
    torch.manual_seed(0)
    times = spread_timesteps(64, 1000)
    assert times.min() < 20 and times.max() > 950
    assert times.float().median() < 500
