"""The recipe of the pocket model: files that survive, runs that repeat, a folder that plain diffusers opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from studio.pocket import build
from studio.pocket.identity import load_classifier, load_encoder

# Not ours: numpy's remark on how diffusers' scheduler copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = build.Recipe(
    size_px=32,
    pictures=48,
    held_out=16,
    scenes_per_identity=4,
    latent_channels=4,
    vae_channels=8,
    vae_decoder_blocks=(1, 0, 0),
    vae_batch=4,
    identity_group=(2, 2),
    calibration_subjects=2,
    vocabulary=900,
    text_width=32,
    text_layers=1,
    unet_channels=(32, 32),
    denoiser_batch=4,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> build.Bench:
    """A work folder in which every training stage has run for three steps."""
    torch.set_num_threads(1)  # waking a second thread costs more than these tensors do
    bench = build.Bench(tmp_path_factory.mktemp("pocket"), torch.device("cpu"), "fp32")
    build.render_stage(TINY, bench, workers=1)
    budget = build.Budget(steps=3, log_every=1, observe_s=float("inf"))
    build.autoencoder_stage(TINY, bench, budget)
    build.identity_stage(TINY, bench, budget)
    build.denoiser_stage(TINY, bench, budget)
    return bench


def losses(log: Path) -> list[float]:
    """Return the losses of a stage's log, in order."""
    records: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def test_render_repeats_exactly_and_keeps_held_out_identities_apart(bench: build.Bench, tmp_path: Path) -> None:
    again = build.Bench(tmp_path, torch.device("cpu"))
    build.render_stage(TINY, again, workers=1, chunk_rows=7)
    first, second = build.open_pictures(bench.work, "train"), build.open_pictures(tmp_path, "train")
    assert np.array_equal(first.pixels, second.pixels)
    assert first.captions == second.captions
    assert len({*first.captions[0]}) > 1
    assert max(first.seeds) < build.portraits.HELD_OUT_SEED <= min(build.open_pictures(bench.work, "held").seeds)


@pytest.mark.parametrize("stage", ["autoencoder", "denoiser"])
def test_resumed_stage_equals_an_uninterrupted_one(bench: build.Bench, stage: str, tmp_path: Path) -> None:
    for name in ("data", "latents", "vae", "tokenizer", "tokens.npy"):
        (tmp_path / name).symlink_to(bench.work / name)
    paused = build.Bench(tmp_path, torch.device("cpu"), "fp32")
    run = {"autoencoder": build.autoencoder_stage, "denoiser": build.denoiser_stage}[stage]
    run(TINY, paused, build.Budget(steps=3, log_every=1, observe_s=float("inf"), stop_after=2))
    assert len(losses(tmp_path / f"{stage}.jsonl")) == 2
    if stage == "autoencoder":
        (tmp_path / "latents").unlink()
        (tmp_path / "vae").unlink()
    run(TINY, paused, build.Budget(steps=3, log_every=1, observe_s=float("inf")))
    assert losses(tmp_path / f"{stage}.jsonl") == losses(bench.work / f"{stage}.jsonl")


def test_half_written_checkpoint_is_ignored(tmp_path: Path) -> None:
    build.save_checkpoint(tmp_path, {"step": 1, "weight": torch.ones(2)})
    whole = build.save_checkpoint(tmp_path, {"step": 2, "weight": torch.ones(2)}).read_bytes()
    (tmp_path / "step-00000003.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "step-00000004.pt.tmp").write_bytes(whole)
    state = build.newest_checkpoint(tmp_path)
    assert state is not None and state["step"] == 2


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        build.save_checkpoint(tmp_path, {"step": step}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002.pt", "step-00000003.pt"]


def test_learning_rate_follows_the_used_budget() -> None:
    assert build.Budget(minutes=10).progress(step=7, elapsed_s=150) == 0.25
    assert build.Budget(minutes=20).progress(step=7, elapsed_s=150) == 0.125  # extended
    assert build.learning_rate(0.0, step=0, warmup_steps=10, flat=0.5) == pytest.approx(0.1)
    assert build.learning_rate(0.5, step=99, warmup_steps=10, flat=0.5) == pytest.approx(1.0)
    assert build.learning_rate(1.0, step=99, warmup_steps=10, flat=0.5) == pytest.approx(0.01)


def test_orthogonalised_steps_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((2, 12, 30), (2, 30, 12)):
        values = torch.linalg.svdvals(build.orthogonalised(torch.randn(shape)))
        assert values.shape == (2, 12)
        assert values.min() > 0.5 and values.max() < 1.3


def test_encoder_is_the_linear_code_that_was_fitted() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(6, 3, 32, 32) * 2 - 1
    patches = build.fit_patches(pixels, TINY.latent_channels)
    vae = build.new_autoencoder(TINY, patches)
    with torch.no_grad():
        latents = vae.encode(pixels).latents * vae.config["scaling_factor"]
    blocks = pixels.unfold(2, 4, 4).unfold(3, 4, 4)  # (B, 3, 8, 8, 4, 4)
    flat = blocks.permute(0, 2, 3, 1, 4, 5).reshape(6, 8, 8, 48)
    wanted = ((flat - patches.mean) @ patches.code).permute(0, 3, 1, 2)
    assert torch.allclose(latents, wanted, atol=1e-5)
    assert latents.std().item() == pytest.approx(1, rel=0.01)


def test_extended_autoencoder_changes_the_decoder_and_leaves_the_latents_alone(
    bench: build.Bench, tmp_path: Path
) -> None:
    (tmp_path / "data").symlink_to(bench.work / "data")
    for name in ("vae", "latents", "autoencoder"):
        shutil.copytree(bench.work / name, tmp_path / name)
    extended = build.Bench(tmp_path, torch.device("cpu"), "fp32")
    stamp = (tmp_path / "latents" / "train.npy").stat().st_mtime_ns
    build.autoencoder_stage(TINY, extended, build.Budget(steps=4, observe_s=float("inf")))
    before, after = build.load_autoencoder(bench).state_dict(), build.load_autoencoder(extended).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}
    assert (tmp_path / "latents" / "train.npy").stat().st_mtime_ns == stamp


def test_adopted_weights_are_the_exported_ones_and_train_on(bench: build.Bench, tmp_path: Path) -> None:
    build.export_stage(TINY, bench, tmp_path / "base")
    build.report_stage(TINY, bench, tmp_path / "base", tmp_path / "sheet.png", generated=1, steps=1, guidances=(2.0,))
    again = build.Bench(tmp_path / "again", torch.device("cpu"), "fp32")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "data").symlink_to(bench.work / "data")
    build.adopt(TINY, again, tmp_path / "base")
    for stage in build.TRAINED:
        old, new = (build.newest_checkpoint(b.work / stage) for b in (bench, again))
        assert old is not None and new is not None and new["step"] == old["step"] == 3
        for name, value in old["ema"].items():
            assert torch.equal(new["ema"][name], value.half().float()), f"{stage}: {name}"
    budget = build.Budget(steps=5, log_every=1, observe_s=float("inf"), stop_after=4)
    build.autoencoder_stage(TINY, again, budget)
    build.identity_stage(TINY, again, budget)
    build.denoiser_stage(TINY, again, budget)
    for stage in build.TRAINED:
        state = build.newest_checkpoint(again.work / stage)
        assert state is not None and state["step"] == 4 and state["begun"] == 3
    encoder = build.load_autoencoder(bench).encoder.half().float().state_dict()
    assert all(torch.equal(v, encoder[k]) for k, v in build.load_autoencoder(again).encoder.state_dict().items())
    with pytest.raises(FileExistsError, match="empty folder"):
        build.adopt(TINY, again, tmp_path / "base")


def test_middle_of_a_picture_counts_more_than_its_corners() -> None:
    weights = build.middle_weights(16)
    assert weights.mean().item() == pytest.approx(1)
    assert weights[7, 8] > 1.5 * weights[0, 0]


def test_v_target_and_weights_follow_their_equations() -> None:
    x, noise, signal = torch.tensor([2.0]), torch.tensor([3.0]), torch.tensor([0.36])
    assert build.v_target(x, noise, signal).item() == pytest.approx(0.6 * 3 - 0.8 * 2)
    weights = build.v_weights(torch.tensor([0.5, 0.99, 1e-6]), gamma=5.0)
    assert weights.tolist() == pytest.approx([1.0, 6 * 0.01, 1.0], rel=1e-4)


def test_psnr_of_known_errors() -> None:
    wanted = torch.zeros(2, 3, 4, 4)
    made = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 2.0)])  # the second is cut to 1
    assert build.psnr(made, wanted).tolist() == pytest.approx([20.0, 6.0206], abs=1e-3)


def test_export_opens_in_plain_stable_diffusion(bench: build.Bench, tmp_path: Path) -> None:
    out = tmp_path / "base"
    build.export_stage(TINY, bench, out)
    assert json.loads((out / "model_index.json").read_text())["safety_checker"] == [None, None]
    assert not [file for file in out.rglob("*.json") if str(bench.work) in file.read_text()], (
        "a folder of its maker is named"
    )
    pipeline = StableDiffusionPipeline.from_pretrained(out)
    assert {p.dtype for p in (*pipeline.unet.parameters(), *pipeline.text_encoder.parameters())} == {torch.float32}
    pictures = build.generate(pipeline, ["photo of a woman", "a man, wearing a hat"], steps=2)
    assert pictures.shape == (2, 3, 32, 32) and pictures.isfinite().all()
    assert set(load_encoder(out / "identity").calibration) == set(build.HEADS["class_noun"])
    assert load_classifier(out / "attributes").config["heads"]["background"] == list(build.HEADS["background"])


def test_report_measures_the_exported_folder(bench: build.Bench, tmp_path: Path) -> None:
    build.export_stage(TINY, bench, tmp_path / "base")
    result = build.report_stage(
        TINY, bench, tmp_path / "base", tmp_path / "sheet.png", generated=2, guidances=(3.0,), steps=2
    )
    assert set(result["followed"]) == set(build.FOLLOWED)
    assert json.loads((tmp_path / "base" / "report.json").read_text())["psnr_db"]["mean"] > 0
    assert (tmp_path / "sheet.png").exists()
