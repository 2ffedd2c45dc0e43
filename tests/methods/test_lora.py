import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME
from studio.core.train_config import MethodConfig, TrainConfig
from studio.families.base import Parts
from studio.families.registry import family
from studio.methods.lora import Lora

CPU = torch.device("cpu")
SD = family("sd")
METHOD = Lora()


def config(**changes: object) -> TrainConfig:
    given = {"method": MethodConfig(rank=4), "class_noun": "woman", "seed": 3}
    return TrainConfig.parse({**given, **changes})


def attached(base: Path, wanted: TrainConfig, *, scramble: bool = False) -> Parts:
    """Load and attach; ``scramble`` moves every trainable number, as training would."""
    parts = SD.load(base, dtype=torch.float32, device=CPU)
    METHOD.attach(parts, SD.spec, wanted)
    if scramble:
        generator = torch.Generator().manual_seed(0)
        for parameter in METHOD.trainable(parts).values():
            with torch.no_grad():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return parts


def predict(parts: Parts, prompt: str = "photo of a woman") -> torch.Tensor:
    noisy = torch.ones(1, 4, 8, 8)
    with torch.no_grad():
        return SD.predict(parts, noisy, torch.tensor([500]), SD.encode_prompts(parts, [prompt]))


def draw(pipeline: StableDiffusionPipeline, prompt: str) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    images = pipeline(prompt, num_inference_steps=2, generator=generator, output_type="pt").images
    return images


def test_a_fresh_adapter_changes_nothing(tiny_base: Path) -> None:
    untouched = predict(SD.load(tiny_base, dtype=torch.float32, device=CPU))
    assert torch.equal(predict(attached(tiny_base, config())), untouched)


def test_the_same_seed_makes_the_same_adapter_and_leaves_the_global_generator_alone(tiny_base: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    states = [METHOD.adapter_state(attached(tiny_base, config(seed=seed))) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_only_adapter_parameters_learn_and_each_group_has_its_rate(tiny_base: Path) -> None:
    wanted = config(
        method={"rank": 4, "target": "attention+conv", "text_encoder": True},
        learning_rate=1e-3,
        token_learning_rate=5e-3,
    )
    parts = SD.load(tiny_base, dtype=torch.float32, device=CPU)
    groups = METHOD.attach(parts, SD.spec, wanted)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 1e-2), (5e-4, 1e-2), (5e-3, 0.0)]
    trainable = METHOD.trainable(parts)
    assert sum(len(group["params"]) for group in groups) == len(trainable)
    everything = [*parts.denoiser.parameters(), *parts.text_encoders[0].parameters()]
    assert {id(p) for p in everything if p.requires_grad} == {id(p) for p in trainable.values()}
    assert any("conv1" in name for name in trainable)
    assert all(p.dtype == torch.float32 for p in trainable.values())


def test_without_is_the_untouched_base_and_with_is_not(tiny_base: Path) -> None:
    untouched = predict(SD.load(tiny_base, dtype=torch.float32, device=CPU))
    parts = attached(tiny_base, config(method={"rank": 4, "text_encoder": True}), scramble=True)
    changed = predict(parts)
    assert not torch.allclose(changed, untouched)
    with METHOD.without(parts):
        assert torch.equal(predict(parts), untouched)
    assert torch.equal(predict(parts), changed)


def test_every_prompt_learns_where_the_text_encoder_does(tiny_base: Path) -> None:
    parts = attached(tiny_base, config(method={"rank": 4, "text_encoder": True}))
    assert METHOD.learns_from(parts, "")


def test_state_goes_back_bit_for_bit(tiny_base: Path) -> None:
    wanted = config(method={"rank": 4, "text_encoder": True}, token_learning_rate=1e-2)
    state = METHOD.adapter_state(attached(tiny_base, wanted, scramble=True))
    other = attached(tiny_base, wanted)
    METHOD.load_adapter_state(other, state)
    again = METHOD.adapter_state(other)
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)


@pytest.mark.parametrize(
    ("target", "text_encoder", "token", "alpha"),
    [
        ("attention", False, None, None),
        ("attention+conv", False, 1e-2, None),
        ("attention+conv", True, 1e-2, 8),
    ],
)
def test_plain_diffusers_loads_what_was_written_and_draws_the_same(
    tiny_base: Path, tmp_path: Path, target: str, text_encoder: bool, token: float | None, alpha: int | None
) -> None:
    lora = {"rank": 4, "alpha": alpha, "target": target, "text_encoder": text_encoder}
    parts = attached(tiny_base, config(method=lora, token_learning_rate=token), scramble=True)
    METHOD.write(parts, SD, tmp_path)
    prompt = "photo of sks woman at the beach"
    expected = draw(SD.pipeline(parts), prompt)

    fresh = StableDiffusionPipeline.from_pretrained(tiny_base, use_safetensors=True)
    base_picture = draw(fresh, prompt)
    if token:
        fresh.load_textual_inversion(tmp_path, weight_name=EMBEDS_NAME, use_safetensors=True)
    fresh.load_lora_weights(tmp_path, weight_name=WEIGHTS_NAME, use_safetensors=True)
    torch.testing.assert_close(draw(fresh, prompt), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(base_picture, expected, atol=1e-3)


def test_equal_adapters_are_equal_files_without_foreign_metadata(tiny_base: Path, tmp_path: Path) -> None:
    wanted = config(token_learning_rate=1e-2)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        METHOD.write(attached(tiny_base, wanted, scramble=True), SD, tmp_path / name)
    for name in (WEIGHTS_NAME, EMBEDS_NAME):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert load_file(tmp_path / "first" / EMBEDS_NAME)["sks"].shape == (32,)
    with safe_open(tmp_path / "first" / WEIGHTS_NAME, "pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"format", "lora_adapter_metadata"}
    lora = json.loads(metadata["lora_adapter_metadata"])
    assert lora["unet.r"] == lora["unet.lora_alpha"] == 4
    assert {key.removeprefix("unet.") for key in lora} <= {
        "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "bias",
    }  # fmt: skip
