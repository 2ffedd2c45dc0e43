"""Every family, on a tiny base of every kind that it speaks for, through the same questions."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from studio.bases.resolve import resolve_base
from studio.core.catalog import FAMILIES
from studio.core.config import GenerateConfig
from studio.core.errors import InputError, NotFoundError
from studio.core.train_config import TrainConfig
from studio.exporting import certificate, reload
from studio.families.base import Conditioning, Family, Parts
from studio.families.registry import family, opened
from studio.infer import generate
from studio.methods.registry import method
from studio.train import train

CPU = torch.device("cpu")
SIDE_PX = 64
FRAMING = (SIDE_PX, SIDE_PX, 0, 0, SIDE_PX, SIDE_PX)
# The families, and a second kind of base that the first of them speaks for.
POCKET = "sd-like-pocket"
KINDS = [*FAMILIES, POCKET]

Loaded = tuple[Family, Parts]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest) -> Path:
    if request.param == POCKET:
        return request.getfixturevalue("tiny_base")
    return request.getfixturevalue("tiny_bases")(request.param)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    """One base for all questions that leave it as it is."""
    adapter = family(resolve_base(str(folder)).family)
    return adapter, adapter.load(folder, dtype=torch.float32, device=CPU)


def draw(pipeline: Any, inputs: dict[str, Any], seed: int = 0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    size = {"height": SIDE_PX, "width": SIDE_PX}
    return pipeline(**inputs, **size, num_inference_steps=2, generator=generator, output_type="np").images


def inputs(adapter: Family, parts: Parts, prompt: str) -> dict[str, Any]:
    with torch.no_grad():
        encoded = [adapter.encode_prompts(parts, [text]) for text in (prompt, "")]
    return adapter.pipeline_inputs(*encoded, guidance_scale=3.0)


def framed(conditioning: Conditioning) -> Conditioning:
    rows = len(conditioning["prompt_embeds"])
    return {**conditioning, "framing": torch.tensor([FRAMING] * rows, dtype=torch.float32)}


def test_every_family_of_the_catalog_has_an_adapter() -> None:
    for known in FAMILIES:
        assert family(known).spec is FAMILIES[known]


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(NotFoundError, match="'nope'"):
        family("nope")


def test_a_loaded_base_is_frozen_and_in_evaluation_mode(loaded: Loaded) -> None:
    _, parts = loaded
    for module in (parts.denoiser, parts.vae, *parts.text_encoders):
        assert module is not None
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())


def test_latents_are_finite_float32_and_repeat(loaded: Loaded) -> None:
    adapter, parts = loaded
    pixels = torch.rand(2, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents, again = (adapter.encode_images(parts, pixels) for _ in range(2))
    assert latents.shape[0] == 2 and latents.ndim == 4
    assert SIDE_PX % latents.shape[2] == 0 and latents.shape[2] == latents.shape[3]
    assert latents.dtype == torch.float32
    assert torch.isfinite(latents).all()
    assert torch.equal(latents, again), "without a generator nothing is random"
    assert not torch.allclose(latents[0], latents[1])


def test_a_row_of_conditioning_does_not_depend_on_its_neighbours(loaded: Loaded) -> None:
    adapter, parts = loaded
    with torch.no_grad():
        both = adapter.encode_prompts(parts, ["photo of a woman", ""])
        alone = adapter.encode_prompts(parts, ["photo of a woman"])
    assert "prompt_embeds" in both
    for key, rows in both.items():
        torch.testing.assert_close(rows[:1], alone[key])
        assert not torch.equal(rows[0], rows[1])


def test_predict_keeps_the_shape_and_hears_prompt_and_timestep(loaded: Loaded) -> None:
    adapter, parts = loaded
    with torch.no_grad():
        shape = adapter.encode_images(parts, torch.zeros(1, 3, SIDE_PX, SIDE_PX)).shape
        noisy = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        outputs = [
            adapter.predict(parts, noisy, torch.tensor([t]), framed(adapter.encode_prompts(parts, [prompt])))
            for t, prompt in ((10, "photo of a woman"), (900, "photo of a woman"), (10, "dog at the beach"))
        ]
    assert all(output.shape == noisy.shape for output in outputs)
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_prompts_of_different_lengths_share_a_batch(loaded: Loaded) -> None:
    adapter, parts = loaded
    texts = ["a", "photo of a woman at the beach"]
    with torch.no_grad():
        shape = adapter.encode_images(parts, torch.zeros(1, 3, SIDE_PX, SIDE_PX)).shape
        noisy = torch.randn((2, *shape[1:]), generator=torch.Generator().manual_seed(0))
        timesteps = torch.tensor([10, 900])
        together = adapter.predict(parts, noisy, timesteps, framed(adapter.encode_prompts(parts, texts)))
        for i, text in enumerate(texts):
            encoded = framed(adapter.encode_prompts(parts, [text]))
            alone = adapter.predict(parts, noisy[i : i + 1], timesteps[i : i + 1], encoded)
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)


def test_encoded_prompts_draw_what_plain_diffusers_draws_from_words(loaded: Loaded, folder: Path) -> None:
    adapter, parts = loaded
    ours = inputs(adapter, parts, "photo of a woman")
    guidance = {key: value for key, value in ours.items() if key in ("guidance_scale", "true_cfg_scale")}
    # Where negatives count, the words of "no negative prompt" must be given: Qwen-Image guides only then.
    words = {"prompt": ["photo of a woman"], **guidance}
    if "true_cfg_scale" in guidance:
        words["negative_prompt"] = [""]
    plain: Any = DiffusionPipeline.from_pretrained(folder)
    assert np.abs(draw(adapter.pipeline(parts), ours) - draw(plain, words)).max() < 1e-4


def test_the_pipeline_draws_the_same_after_parts_were_dropped(loaded: Loaded) -> None:
    adapter, parts = loaded
    wanted = inputs(adapter, parts, "photo of a woman")
    small = replace(parts, vae=None, text_encoders=[])
    assert (draw(adapter.pipeline(parts), wanted) == draw(adapter.pipeline(small), wanted)).all()


def test_a_pipeline_is_recognised_and_opened_again(loaded: Loaded) -> None:
    adapter, parts = loaded
    found, again = opened(adapter.pipeline(parts))
    assert found.spec is adapter.spec
    assert again.denoiser is parts.denoiser
    assert again.text_encoders == parts.text_encoders


def test_export_gives_every_tensor_a_name_of_its_own(loaded: Loaded) -> None:
    adapter, _ = loaded
    names = ("denoiser", "text_encoder", "text_encoder_2")
    exported = adapter.export({f"{part}.a.lora_A.weight": torch.zeros(1) for part in names})
    assert len(exported) == len(names)
    assert all("lora" in key for key in exported)


def test_plain_diffusers_loads_the_adapter_and_draws_the_same(loaded: Loaded, folder: Path, tmp_path: Path) -> None:
    adapter, untouched = loaded
    spec, lora = adapter.spec, method("lora")
    config = TrainConfig(
        method={"rank": 2, "target": "attention+conv", "text_encoder": bool(spec.learning_text_encoders)}
    )
    parts = adapter.load(folder, dtype=torch.float32, device=CPU)
    lora.attach(parts, spec, config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lora.trainable(parts).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    lora.write(parts, adapter, tmp_path)
    prompt = "photo of a woman"
    wanted = inputs(adapter, parts, prompt)
    ours = draw(adapter.pipeline(parts), wanted)

    pipeline: Any = DiffusionPipeline.from_pretrained(folder)
    pipeline.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors", use_safetensors=True)
    found, again = opened(pipeline)
    theirs = draw(pipeline, inputs(found, again, prompt))
    assert np.abs(ours - theirs).max() < 1e-4
    before = draw(adapter.pipeline(untouched), inputs(adapter, untouched, prompt))
    assert np.abs(ours - before).max() > 1e-3, "the adapter must be seen"
    learned = {key.partition(".")[0] for key in lora.adapter_state(parts)}
    assert len(learned) == 1 + spec.learning_text_encoders


def test_it_trains_certifies_and_generates(
    loaded: Loaded,
    folder: Path,
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read_back(command: Sequence[str], *_: Any) -> tuple[int, str]:
        reload.main(Path(command[-1]))  # here: another process would only cost time
        return 0, ""

    monkeypatch.setattr(certificate, "_run", read_back)
    spec = loaded[0].spec
    config = TrainConfig(
        base=str(folder),
        class_noun="woman",
        method={"rank": 2, "text_encoder": bool(spec.learning_text_encoders)},
        resolution_px=SIDE_PX,
        steps=2,
        batch_size=2,
        micro_batch_size=1,
        caption_dropout=0.5,
        gradient_checkpointing=True,
        prior={"mode": "prediction"},
        checkpoint_every_steps=2,
        samples_per_checkpoint=1,
        sample_steps=2,  # Qwen-Image's scheduler divides by zero with one
        likeness="none",
    )
    run_dir = tmp_path / "run"
    result = train(config, make_dataset(photos=2), run_dir)
    assert result.best_step == 2
    assert np.isfinite(result.checkpoints[0]["val_loss"])
    found = json.loads((run_dir / "adapter" / "certificate.json").read_text())
    assert found["tensors_matched"] == found["tensors_in_file"] > 0 and found["pictures"] == 1
    wanted = GenerateConfig(prompts=("photo of {subject}",), count=2, num_inference_steps=2, likeness="none")
    made = generate(wanted, run_dir, tmp_path / "pictures")
    assert len(made.images) == 2


def test_it_trains_in_half_precision_as_on_a_gpu(
    loaded: Loaded, folder: Path, make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    spec = loaded[0].spec
    config = TrainConfig(
        base=str(folder),
        class_noun="woman",
        method={"rank": 2, "text_encoder": bool(spec.learning_text_encoders)},
        token_learning_rate=1e-3 if spec.learns_token else None,
        resolution_px=SIDE_PX,
        steps=2,
        learning_rate=1e-3,
        prior={"mode": "prediction"},
        gradient_checkpointing=True,
        dtype="bfloat16",
        certify=False,
        checkpoint_every_steps=2,
        samples_per_checkpoint=1,
        sample_steps=2,
        likeness="none",
    )
    result = train(config, make_dataset(photos=2), tmp_path / "run")
    assert np.isfinite(result.checkpoints[0]["val_loss"])
    assert json.loads((tmp_path / "run" / "report.json").read_text())["dtype"] == "bfloat16"
    learned = load_file(tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors")
    assert {tensor.dtype for tensor in learned.values()} == {torch.float32}, "what learns is never rounded"
    assert all(bool(tensor.isfinite().all()) for tensor in learned.values())


def test_another_familys_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "KolorsPipeline"}')
    for known in FAMILIES:
        with pytest.raises(InputError, match="KolorsPipeline"):
            family(known).load(tmp_path, dtype=torch.float32, device=CPU)
