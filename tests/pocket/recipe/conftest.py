from pathlib import Path

import pytest
import torch

from studio.pocket.recipe.autoencoder import autoencoder_stage
from studio.pocket.recipe.data import render_stage
from studio.pocket.recipe.denoiser import denoiser_stage
from studio.pocket.recipe.detector import faces_stage
from studio.pocket.recipe.identity_nets import identity_stage
from studio.pocket.recipe.loop import TimeLimit, TrainingContext
from studio.pocket.recipe.settings import Recipe

THREE_STEPS = TimeLimit(steps=3, log_every=1, observe_s=float("inf"))


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    """The smallest recipe that runs every stage."""
    return Recipe(
        size_px=32,
        pictures=48,
        held_out=16,
        family=(4, 2, 2),
        latent_channels=4,
        vae_channels=8,
        vae_decoder_blocks=(1, 0, 0, 0),
        vae_batch=4,
        faces_batch=4,
        families=2,
        pictures_per_person=2,
        calibration_subjects=2,
        vocabulary=900,
        text_width=32,
        text_layers=1,
        unet_channels=(32, 32),
        denoiser_batch=4,
    )


@pytest.fixture(scope="session")
def trained(tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> TrainingContext:
    """A work folder in which every training stage but the last has run for three steps."""
    torch.set_num_threads(1)  # waking a second thread costs more than these tensors do
    context = TrainingContext(tmp_path_factory.mktemp("recipe"), torch.device("cpu"), "fp32")
    render_stage(tiny, context, workers=1)
    autoencoder_stage(tiny, context, THREE_STEPS)
    faces_stage(tiny, context, THREE_STEPS)
    identity_stage(tiny, context, THREE_STEPS)
    denoiser_stage(tiny, context, THREE_STEPS)
    return context


@pytest.fixture
def fresh(trained: TrainingContext, tmp_path: Path) -> TrainingContext:
    """An empty work folder beside the trained one, with its drawn pictures."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data").symlink_to(trained.work / "data")
    return TrainingContext(tmp_path / "work", torch.device("cpu"), "fp32")
