"""Every family, on a tiny base of every kind that it speaks for, through the same questions."""

from pathlib import Path

import pytest
import torch

from studio.catalog import FAMILIES
from studio.errors import InputError, NotFoundError
from studio.families.base import Family, Parts
from studio.families.registry import family

# family, fixture of its base
BASES = [("sd", "tiny_base"), ("sd", "tiny_base_kl")]


@pytest.fixture(params=BASES, ids=[f"{name}-{base}" for name, base in BASES])
def loaded(request: pytest.FixtureRequest) -> tuple[Family, Parts]:
    name, base = request.param
    adapter = family(name)
    return adapter, adapter.load(request.getfixturevalue(base), dtype=torch.float32, device=torch.device("cpu"))


def test_every_family_of_the_catalog_has_an_adapter_and_a_tiny_base() -> None:
    assert {name for name, _ in BASES} == set(FAMILIES)
    for name in FAMILIES:
        assert family(name).spec is FAMILIES[name]


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(NotFoundError, match="'nope'"):
        family("nope")


def test_a_loaded_base_is_frozen_and_in_evaluation_mode(loaded: tuple[Family, Parts]) -> None:
    _, parts = loaded
    for module in (parts.denoiser, parts.vae, *parts.text_encoders):
        assert module is not None
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())


def test_latents_are_finite_float32_and_scaled(loaded: tuple[Family, Parts]) -> None:
    adapter, parts = loaded
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = adapter.encode_images(parts, pixels)
    assert latents.shape == (2, parts.denoiser.config.in_channels, 8, 8)
    assert latents.dtype == torch.float32
    assert torch.isfinite(latents).all()
    assert torch.equal(latents, adapter.encode_images(parts, pixels)), "without a generator nothing is random"


def test_a_row_of_conditioning_does_not_depend_on_its_neighbours(loaded: tuple[Family, Parts]) -> None:
    adapter, parts = loaded
    with torch.no_grad():
        both = adapter.encode_prompts(parts, ["photo of a woman", ""])
        alone = adapter.encode_prompts(parts, ["photo of a woman"])
    for name, rows in both.items():
        torch.testing.assert_close(rows[:1], alone[name])
        assert not torch.allclose(rows[0], rows[1])


def test_predict_keeps_the_shape_and_hears_prompt_and_timestep(loaded: tuple[Family, Parts]) -> None:
    adapter, parts = loaded
    noisy = torch.randn(1, parts.denoiser.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = [
            adapter.predict(parts, noisy, torch.tensor([t]), adapter.encode_prompts(parts, [prompt]))
            for t, prompt in ((10, "photo of a woman"), (900, "photo of a woman"), (10, "dog at the beach"))
        ]
    assert all(output.shape == noisy.shape for output in outputs)
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_the_pipeline_draws_the_same_after_parts_were_dropped(loaded: tuple[Family, Parts]) -> None:
    adapter, parts = loaded

    def draw() -> list:
        pipeline = adapter.pipeline(parts)
        generator = torch.Generator().manual_seed(0)
        return pipeline("photo of a woman", num_inference_steps=1, generator=generator, output_type="np").images

    before = draw()
    parts.vae, parts.text_encoders = None, []
    assert (before == draw()).all()


def test_export_gives_every_tensor_a_name_of_its_own(loaded: tuple[Family, Parts]) -> None:
    adapter, _ = loaded
    tensors = {"denoiser.a.lora_A.weight": torch.zeros(1), "text_encoder.a.lora_A.weight": torch.ones(1)}
    exported = adapter.export(tensors)
    assert len(exported) == 2
    assert all("lora" in name for name in exported)


def test_another_familys_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    for name in FAMILIES:
        with pytest.raises(InputError, match="FluxPipeline"):
            family(name).load(tmp_path, dtype=torch.float32, device=torch.device("cpu"))
