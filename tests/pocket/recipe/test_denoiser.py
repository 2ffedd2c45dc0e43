"""The denoiser's training repeats exactly, and its words fit the captions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from studio.pocket.recipe.autoencoder import autoencoder_stage
from studio.pocket.recipe.denoiser import denoiser_stage, spread_timesteps, tokenise, v_weights
from studio.pocket.recipe.loop import TimeLimit, TrainingContext
from studio.pocket.recipe.settings import Recipe
from studio.pocket.tokenizer import train_tokenizer

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


def test_tokenizer_covers_every_text_and_survives_saving(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["photo of a woman with red hair, wearing a blue hoodie"], vocabulary=700)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 40 and len(again) == len(tokenizer) <= 700
    for text in ("photo of a woman with red hair", "sks woman, naïve café 🎉 42", "".join(map(chr, range(33, 1000)))):
        ids = again(text)["input_ids"]
        assert ids == tokenizer(text)["input_ids"]
        assert ids[0] == again.bos_token_id == 0
        assert ids[-1] == again.eos_token_id == 1
        assert again.unk_token_id not in ids[1:-1], "no byte may be unknown"
    assert len(again("woman with red hair")["input_ids"]) == 6
    padded = tokenise(again, ["a woman"])
    assert padded.shape == (1, 40) and padded[0, -1] == again.pad_token_id == 1
