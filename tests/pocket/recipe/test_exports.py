"""The exported folder opens in plain diffusers, and the recipe can go on from it."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from studio.pocket.faces import load_detector
from studio.pocket.identity import load_classifier, load_encoder
from studio.pocket.recipe.autoencoder import autoencoder_stage, load_autoencoder
from studio.pocket.recipe.data import HEADS
from studio.pocket.recipe.decoder import decoder_stage
from studio.pocket.recipe.denoiser import denoiser_stage
from studio.pocket.recipe.detector import faces_stage
from studio.pocket.recipe.exports import adopt, export_stage
from studio.pocket.recipe.files import newest_checkpoint
from studio.pocket.recipe.identity_nets import identity_stage
from studio.pocket.recipe.loop import TimeLimit, TrainingContext
from studio.pocket.recipe.report import report_stage
from studio.pocket.recipe.sampling import FOLLOWED, generate
from studio.pocket.recipe.settings import Recipe

# Not ours: numpy's remark on how diffusers' scheduler copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STAGES = {
    "autoencoder": autoencoder_stage,
    "faces": faces_stage,
    "identity": identity_stage,
    "denoiser": denoiser_stage,
}


@pytest.fixture(scope="module")
def base(tiny: Recipe, trained: TrainingContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained work folder, exported and reported."""
    folder = tmp_path_factory.mktemp("exported") / "base"
    export_stage(tiny, trained, folder)
    report_stage(tiny, trained, folder, folder.parent / "sheet.png", generated=2, guidances=(3.0,), steps=2)
    return folder


def test_export_opens_in_plain_stable_diffusion(trained: TrainingContext, base: Path) -> None:
    assert json.loads((base / "model_index.json").read_text())["safety_checker"] == [None, None]
    named = [file for file in base.rglob("*.json") if str(trained.work) in file.read_text()]
    assert not named, "a folder of its maker is named"
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    assert {p.dtype for p in (*pipeline.unet.parameters(), *pipeline.text_encoder.parameters())} == {torch.float32}
    pictures = generate(pipeline, ["photo of a woman", "a man, wearing a hat"], steps=2)
    assert pictures.shape == (2, 3, 32, 32) and pictures.isfinite().all()


def test_measuring_nets_are_exported_too(base: Path) -> None:
    assert set(load_encoder(base / "identity").calibration) == set(HEADS["class_noun"])
    assert load_classifier(base / "attributes").config["heads"]["background"] == list(HEADS["background"])
    assert load_detector(base / "faces").config["size_px"] == 32


def test_report_measures_the_exported_folder(base: Path) -> None:
    result = json.loads((base / "report.json").read_text())
    assert set(result["followed"]) == set(FOLLOWED)
    assert set(result["faces"]) == {"readable", "complete", "left_eye", "right_eye", "nose", "mouth"}
    assert result["psnr_db"]["mean"] > 0 and result["frechet_distance"] > 0
    assert (base.parent / "sheet.png").exists()


def test_adopted_weights_are_the_exported_ones_and_train_on(
    tiny: Recipe, trained: TrainingContext, fresh: TrainingContext, base: Path
) -> None:
    adopt(tiny, fresh, base)
    for stage in ("autoencoder", "faces", "denoiser"):
        old, new = newest_checkpoint(trained.work / stage), newest_checkpoint(fresh.work / stage)
        assert old is not None and new is not None and new.step == old.step == 3
        for name, value in old.ema.items():
            assert torch.equal(new.ema[name], value.half().float()), f"{stage}: {name}"
    limit = TimeLimit(steps=5, log_every=1, observe_s=float("inf"), stop_after=4)
    for stage, run in STAGES.items():
        run(tiny, fresh, limit)
        state = newest_checkpoint(fresh.work / stage)
        assert state is not None and (state.step, state.begun) == (4, 3), stage
    encoder = load_autoencoder(trained).encoder.half().float().state_dict()
    assert all(torch.equal(v, encoder[k]) for k, v in load_autoencoder(fresh).encoder.state_dict().items())
    with pytest.raises(FileExistsError, match="empty folder"):
        adopt(tiny, fresh, base)


def test_last_stage_changes_the_decoder_alone(tiny: Recipe, trained: TrainingContext, fresh: TrainingContext) -> None:
    import shutil

    for name in ("latents", "tokenizer", "tokens.npy", "denoiser", "nets"):
        (fresh.work / name).symlink_to(trained.work / name)
    shutil.copytree(trained.work / "vae", fresh.work / "vae")
    decoder_stage(tiny, fresh, TimeLimit(steps=2, log_every=1, observe_s=float("inf")))
    before, after = load_autoencoder(trained).state_dict(), load_autoencoder(fresh).state_dict()
    assert {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])} == {"decoder"}
