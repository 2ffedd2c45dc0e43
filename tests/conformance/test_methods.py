"""Every training method, in every shape that its settings allow, through the same questions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from studio.bases.tensorfile import write_safetensors
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME
from studio.core.errors import InputError
from studio.core.train_config import READ_WITH, MethodConfig, TrainConfig
from studio.families.base import Parts
from studio.families.registry import family
from studio.methods.base import Method
from studio.methods.registry import method, method_of
from studio.pictures.render import load_adapter

CPU = torch.device("cpu")
SD = family("sd")
PROMPT = "photo of sks woman at the beach"

# settings of the method, and of the token
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({"name": "lora", "rank": 4}, {}),
    "lora-text-tokens": ({"name": "lora", "rank": 4, "text_encoder": True}, {"rate": 1e-2, "vectors": 2}),
    "rslora": ({"name": "lora", "rank": 4, "alpha": 2, "rslora": True}, {}),
    "dora": ({"name": "lora", "rank": 4, "dora": True, "target": "attention+conv"}, {}),
    "lokr": ({"name": "lokr", "rank": 2, "target": "attention+conv"}, {}),
    "lokr-token": ({"name": "lokr", "rank": 64, "factor": 4, "alpha": 32}, {"rate": 1e-2, "vectors": 1}),
    "full-tokens": ({"name": "full"}, {"rate": 1e-2, "vectors": 2}),
    "full-text": ({"name": "full", "text_encoder": True}, {}),
}


def config(shape: str) -> TrainConfig:
    settings, token = SHAPES[shape]
    given = {"method": settings, "class_noun": "woman", "seed": 3}
    if token:
        given |= {"token_learning_rate": token["rate"], "token_vectors": token["vectors"]}
    return TrainConfig.parse(given)


def attached(base: Path, wanted: TrainConfig) -> tuple[Method, Parts, list[Any]]:
    learns = method(wanted.method.name)
    parts = SD.load(base, dtype=torch.float32, device=CPU)
    groups: list[Any] = learns.attach(parts, SD.spec, wanted)
    return learns, parts, groups


def move(learns: Method, parts: Parts, size: float) -> None:
    """Move every trainable number, as training would."""
    generator = torch.Generator().manual_seed(0)
    for parameter in learns.trainable(parts).values():
        with torch.no_grad():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def predict(learns: Method, parts: Parts, prompt: str = "photo of a woman") -> torch.Tensor:
    with torch.no_grad():
        words = SD.encode_prompts(parts, [prompt])
        return SD.predict(parts, torch.ones(1, 4, 8, 8), torch.tensor([500]), words)


def draw(pipeline: Any, prompt: str = PROMPT) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return pipeline(prompt, num_inference_steps=2, generator=generator, output_type="pt").images


def test_every_method_of_the_configuration_has_a_shape_here() -> None:
    names = MethodConfig.model_fields["name"].annotation.__args__  # type: ignore[union-attr]
    assert {settings["name"] for settings, _ in SHAPES.values()} == set(names) == set(READ_WITH)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_method_keeps_its_promises(shape: str, tiny_base: Path, tmp_path: Path) -> None:
    wanted = config(shape)
    plain = SD.load(tiny_base, dtype=torch.float32, device=CPU)
    learns, parts, groups = attached(tiny_base, wanted)
    untouched = predict(learns, plain)

    # A fresh adapter changes nothing; what learns is float32, and nothing else does.
    torch.testing.assert_close(predict(learns, parts), untouched, rtol=1e-4, atol=1e-5)
    trainable = learns.trainable(parts)
    everything = [*parts.denoiser.parameters(), *parts.text_encoders[0].parameters()]
    assert {id(p) for p in everything if p.requires_grad} == {id(p) for p in trainable.values()}
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in trainable.values()}
    assert all(p.dtype == torch.float32 for p in trainable.values())
    assert all(group["part"] == name.partition(".")[0] for group in groups for name in [_name(trainable, group)])

    # Gradients reach the denoiser and, where they shall, the words.
    live = learns.learns_from(parts, PROMPT)
    assert live == (wanted.method.text_encoder or wanted.token_learning_rate is not None)
    words = SD.encode_prompts(parts, [PROMPT])
    SD.predict(parts, torch.ones(1, 4, 8, 8), torch.tensor([500]), words).square().sum().backward()
    reached = {name.partition(".")[0] for name, p in trainable.items() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {name.partition(".")[0] for name in trainable}

    # Without it the base is itself again, but for the last bits: weights at other addresses take other kernels.
    move(learns, parts, 0.02 if wanted.method.name == "full" else 0.2)
    changed = predict(learns, parts)
    assert not torch.allclose(changed, untouched, atol=1e-3)
    with learns.without(parts):
        torch.testing.assert_close(predict(learns, parts), untouched, rtol=1e-4, atol=1e-6)
    assert torch.equal(predict(learns, parts), changed)

    # Its state goes back bit for bit, and equal adapters are equal files.
    learns.write(parts, SD, tmp_path)
    _, other, _ = attached(tiny_base, wanted)
    learns.load_adapter_state(other, learns.adapter_state(parts))
    assert torch.equal(predict(learns, other, PROMPT), predict(learns, parts, PROMPT))
    (tmp_path / "again").mkdir()
    learns.write(other, SD, tmp_path / "again")
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert (EMBEDS_NAME in files) == (wanted.token_learning_rate is not None)
    for name in files:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()

    # A fresh pipeline that reads the files draws what the trained one draws; half the strength is something else.
    assert type(method_of(tmp_path)) is type(learns)
    expected = draw(SD.pipeline(parts))
    fresh = SD.pipeline(SD.load(tiny_base, dtype=torch.float32, device=CPU))
    load_adapter(fresh, tmp_path)
    torch.testing.assert_close(draw(fresh), expected, atol=1e-4, rtol=1e-3)
    half = SD.pipeline(SD.load(tiny_base, dtype=torch.float32, device=CPU))
    load_adapter(half, tmp_path, scale=0.5)
    assert not torch.allclose(draw(half), expected, atol=1e-3, rtol=1e-3)


def _name(trainable: dict[str, Any], group: dict[str, Any]) -> str:
    return next(name for name, parameter in trainable.items() if parameter is group["params"][0])


def test_plain_diffusers_reads_a_lokr_part_by_part_and_not_at_once(tiny_base: Path, tmp_path: Path) -> None:
    learns, parts, _ = attached(tiny_base, config("lokr"))
    move(learns, parts, 0.2)
    learns.write(parts, SD, tmp_path)
    expected = draw(SD.pipeline(parts))
    plain = StableDiffusionPipeline.from_pretrained(tiny_base, use_safetensors=True)
    with pytest.raises(ValueError, match="Invalid LoRA checkpoint"):
        plain.load_lora_weights(tmp_path, weight_name=WEIGHTS_NAME, use_safetensors=True)
    plain.unet.load_lora_adapter(tmp_path, weight_name=WEIGHTS_NAME, use_safetensors=True, prefix="unet")
    torch.testing.assert_close(draw(plain), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", ["lora", "lokr", "full-text"])
def test_an_adapter_of_another_family_is_refused_in_words(shape: str, tiny_base: Path, tmp_path: Path) -> None:
    learns, parts, _ = attached(tiny_base, config(shape))
    learns.write(parts, SD, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    with safe_open(path, "pt") as file:
        foreign = {f"transformer.blocks.{key.partition('.')[2]}": file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    write_safetensors(path, foreign, {"format": "pt"})
    pipeline = SD.pipeline(parts)
    with pytest.raises(InputError, match="for another family"):
        load_adapter(pipeline, tmp_path)


@pytest.mark.parametrize("shape", ["lora-text-tokens", "lokr", "full-tokens"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_adapter_that_holds_no_numbers_is_refused_and_not_drawn_black(
    shape: str, number: float, tiny_base: Path, tmp_path: Path
) -> None:
    learns, parts, _ = attached(tiny_base, config(shape))
    learns.write(parts, SD, tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        content = path.read_bytes()
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            said = file.metadata()
        next(iter(tensors.values())).view(-1)[0] = number
        write_safetensors(path, tensors, said)
        with pytest.raises(InputError, match="NaN or infinity"):
            load_adapter(SD.pipeline(SD.load(tiny_base, dtype=torch.float32, device=CPU)), tmp_path)
        path.write_bytes(content)


@pytest.mark.parametrize(
    "settings",
    [
        {"unet.alpha_pattern": {"(.*.*)*$!": 4}},
        {"unet.target_modules": "((a+)+)+$"},
        {"unet.lora_alpha": 1e300},
        {"unet.lora_alpha": float("nan")},
        {"unet.r": 10**9},
        {"unet.bias": "all"},
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", ["lora", "lokr"])
def test_settings_that_no_adapter_has_are_refused_at_once(
    shape: str, settings: object, tiny_base: Path, tmp_path: Path
) -> None:
    learns, parts, _ = attached(tiny_base, config(shape))
    learns.write(parts, SD, tmp_path)
    path = tmp_path / WEIGHTS_NAME
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        said = json.loads(file.metadata()["lora_adapter_metadata"])
    said = {**said, **settings} if isinstance(settings, dict) else settings
    write_safetensors(path, tensors, {"format": "pt", "lora_adapter_metadata": json.dumps(said)})
    with pytest.raises(InputError, match="lora_adapter_metadata"):
        load_adapter(SD.pipeline(parts), tmp_path)


def test_settings_beyond_the_known_ones_reach_no_library(tiny_base: Path, tmp_path: Path) -> None:
    learns, parts, _ = attached(tiny_base, config("lora"))
    move(learns, parts, 0.2)
    learns.write(parts, SD, tmp_path)
    expected = draw(SD.pipeline(parts))
    with safe_open(tmp_path / WEIGHTS_NAME, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        said = json.loads(file.metadata()["lora_adapter_metadata"])
    said |= {"unet.megatron_config": {"a": 1}, "unet.megatron_core": "antigravity", "unet.layers_pattern": "(a+)+$"}
    write_safetensors(tmp_path / WEIGHTS_NAME, tensors, {"lora_adapter_metadata": json.dumps(said)})
    fresh = SD.pipeline(SD.load(tiny_base, dtype=torch.float32, device=CPU))
    load_adapter(fresh, tmp_path)
    torch.testing.assert_close(draw(fresh), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "tensors",
    [{"sks": torch.ones(7)}, {"text_encoder_9.sks": torch.ones(32)}, {"__class__.sks": torch.ones(32)}],
    ids=str,
)
def test_a_word_for_another_base_is_refused(tensors: dict, tiny_base: Path, tmp_path: Path) -> None:
    learns, parts, _ = attached(tiny_base, config("lora"))
    learns.write(parts, SD, tmp_path)
    write_safetensors(tmp_path / EMBEDS_NAME, tensors, {"format": "pt"})
    with pytest.raises(InputError, match=r"does not load into this base .its word"):
        load_adapter(SD.pipeline(SD.load(tiny_base, dtype=torch.float32, device=CPU)), tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": {"name": "lokr", "dora": True}}, "method lokr has no dora"),
        ({"method": {"name": "full", "alpha": 4}}, "method full has no alpha"),
        ({"method": {"rank": 4096}}, "method.rank.*use at most 512"),
        ({"token_vectors": 2}, "set token_learning_rate or token_vectors=1"),
        ({"method": {"name": "full", "text_encoder": True}, "token_learning_rate": 1e-3}, "leave token_learning_rate"),
        ({"method": {"dora": True, "text_encoder": True}}, "set method.text_encoder=false or method.dora=false"),
        ({"optimizer": "prodigy"}, "set learning_rate=1"),
        ({"optimizer": "prodigy", "learning_rate": 1, "token_learning_rate": 1e-3}, "prodigy knows one rate"),
        ({"optimizer": "schedule_free", "lr_scheduler": "cosine"}, "set lr_scheduler=constant"),
        ({"optimizer": "schedule_free", "ema_decay": 0.99}, "leave ema_decay out"),
        ({"optimizer": "sgd"}, "use one of: 'adamw'"),
        ({"steps": 0}, "steps: must be between 1"),
        ({"steps": -5}, "steps: must be between 1"),
        ({"learning_rate": 0}, "learning_rate.*use more than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_named_with_their_cure(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainConfig.parse(settings)
