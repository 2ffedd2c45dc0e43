"""Blocks that wait in main memory: on the CPU what is away is empty, so that nothing can compute with it unseen."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel

from studio.compute import offload
from studio.core.catalog import FAMILIES
from studio.core.errors import InputError, MissingExtraError
from studio.core.train_config import TrainConfig
from studio.families.registry import family
from studio.methods.registry import method
from studio.train import train

CPU = torch.device("cpu")


def gradients(name: str, base: Path, *, away: bool, checkpointing: bool = True) -> tuple[torch.Tensor, Any]:
    """Return a prediction and the gradients of the adapter; the prediction without gradients comes first."""
    speaks, learns = family(name), method("lora")
    parts = speaks.load(base, dtype=torch.float32, device=CPU)
    learns.attach(parts, speaks.spec, TrainConfig.parse({"method": {"rank": 4, "target": "attention+conv"}}))
    if checkpointing:
        parts.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    parts.denoiser.train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        noisy = torch.randn(speaks.encode_images(parts, torch.zeros(2, 3, 64, 64)).shape, generator=generator)
        words = speaks.encode_prompts(parts, ["photo of a woman", "a dog"])
    given = {**words, "framing": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)}
    if away:
        offload.keep_blocks_away(parts.denoiser, CPU)
        blocks = offload.blocks_of(parts.denoiser)
        assert len(blocks) > 1 and all(empty(block) for block in blocks)
    timesteps = torch.tensor([100, 700])
    with torch.no_grad():
        drawn = speaks.predict(parts, noisy, timesteps, given)
    speaks.predict(parts, noisy, timesteps, given).square().mean().backward()
    if away:
        assert sum(not empty(block) for block in blocks) == 1
        assert all(p.numel() for p in learns.trainable(parts).values()), "what learns stays"
    return drawn, {name: p.grad for name, p in learns.trainable(parts).items() if p.grad is not None}


def empty(block: torch.nn.Module) -> bool:
    return all(parameter.numel() == 0 for parameter in block.parameters() if not parameter.requires_grad)


@pytest.fixture
def nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "_away", lambda weights: weights.new_empty(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_one_block_at_a_time_predicts_and_learns_the_same(
    name: str, tiny_bases: Callable[[str], Path], nothing_away: None
) -> None:
    drawn, wanted = gradients(name, tiny_bases(name), away=False)
    found_drawn, found = gradients(name, tiny_bases(name), away=True)
    torch.testing.assert_close(found_drawn, drawn, rtol=1e-5, atol=1e-6)
    assert wanted.keys() == found.keys() != set()
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-7)


def test_without_recomputing_a_block_is_gone_before_its_gradients(
    tiny_bases: Callable[[str], Path], nothing_away: None
) -> None:
    with pytest.raises(RuntimeError):
        gradients("flux", tiny_bases("flux"), away=True, checkpointing=False)
    with pytest.raises(InputError, match="set gradient_checkpointing=true"):
        TrainConfig.parse({"block_offload": True})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"method": {"name": "full"}}, "weights that learn stay"),
        ({"quantization": "4bit"}, "quantised base is not moved"),
        ({"compile_blocks": True}, "compiled blocks are not moved"),
    ],
)
def test_settings_that_cannot_go_together_are_named(other: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainConfig.parse({"block_offload": True, "gradient_checkpointing": True, **other})


SHORT: dict[str, Any] = {
    "resolution_px": 64,  # the bases' own 1024 px are ten times slower, and show no more
    "steps": 2,
    "samples_per_checkpoint": 1,
    "sample_steps": 2,
    "certify": False,
    "method": {"rank": 4},
}


def test_a_run_with_blocks_away_ends_as_one_with_all_of_them_here(
    tiny_bases: Callable[[str], Path], make_dataset: Callable[..., Path], tmp_path: Path, nothing_away: None
) -> None:
    settings = {**SHORT, "base": str(tiny_bases("flux")), "gradient_checkpointing": True}
    settings |= {"prior": {"mode": "prediction"}}
    dataset = make_dataset()
    for out, away in (("here", False), ("away", True)):
        train(TrainConfig.parse({**settings, "block_offload": away}), dataset, tmp_path / out)
    weights = [tmp_path / out / "adapter" / "pytorch_lora_weights.safetensors" for out in ("here", "away")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


# ------------------------------------------------------------------------------------------------- compiled blocks


def test_the_catalog_knows_which_denoisers_say_what_repeats(tiny_bases: Callable[[str], Path]) -> None:
    for name, spec in FAMILIES.items():
        denoiser: Any = family(name).load(tiny_bases(name), dtype=torch.float32, device=CPU).denoiser
        assert bool(denoiser._repeated_blocks) is spec.compiles, name


def test_blocks_that_cannot_be_compiled_are_refused_before_loading(
    tiny_bases: Callable[[str], Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_compiler(*_: Any, **__: Any) -> Any:
        raise RuntimeError("C++ compiler not found")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", no_compiler)
        with pytest.raises(MissingExtraError, match=r"compiler not found.*set compile_blocks=false"):
            train(TrainConfig.parse({"compile_blocks": True}), make_dataset(), tmp_path / "run")
    monkeypatch.setattr("studio.train.require_compiler", lambda *_: None)
    config = TrainConfig.parse({"compile_blocks": True, "base": str(tiny_bases("sd3"))})
    with pytest.raises(InputError, match="cannot be compiled one by one"):
        train(config, make_dataset(name="other"), tmp_path / "run")


def test_what_is_compiled_is_the_denoiser_with_its_adapter(
    tiny_bases: Callable[[str], Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr("studio.train.require_compiler", lambda *_: None)
    monkeypatch.setattr(  # really compiling takes minutes on a CPU: see the slow test
        FluxTransformer2DModel, "compile_repeated_blocks", lambda self: compiled.append(bool(self.peft_config))
    )
    settings = {**SHORT, "steps": 1, "samples_per_checkpoint": 0, "base": str(tiny_bases("flux"))}
    train(TrainConfig.parse({**settings, "compile_blocks": True}), make_dataset(), tmp_path / "run")
    assert compiled == [True]


def test_the_denoiser_computes_with_the_attention_that_was_asked_for(
    tiny_bases: Callable[[str], Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    settings = {
        **SHORT,
        "steps": 1,
        "samples_per_checkpoint": 0,
        "base": str(tiny_bases("sd")),
        "attention": "xformers",
    }
    monkeypatch.setitem(sys.modules, "xformers", None)
    with pytest.raises(MissingExtraError, match="attention=xformers"):
        train(TrainConfig.parse(settings), make_dataset(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("studio.train.require_xformers", lambda *_: None)
    monkeypatch.setattr(  # it has no kernel for a CPU
        UNet2DConditionModel, "enable_xformers_memory_efficient_attention", lambda self: asked.append(True)
    )
    train(TrainConfig.parse(settings), make_dataset(name="other"), tmp_path / "run")
    assert asked == [True]


@pytest.mark.slow
# torch's tracer looks at it itself, and hides the warning from logs but not from a filter that makes it an error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_run_with_blocks_that_are_really_compiled(
    tiny_bases: Callable[[str], Path], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    settings = {**SHORT, "base": str(tiny_bases("flux")), "compile_blocks": True}
    assert train(TrainConfig.parse(settings), make_dataset(), tmp_path / "run").steps == 2
