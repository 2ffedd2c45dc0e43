"""Bases in 8 and 4 bits. Tests of the real thing need bitsandbytes (pip install bitsandbytes) and run on the CPU.

It is not in requirements-dev.txt: diffusers imports it wherever it is installed, and it imports torch's compiler, which
costs each of the suite's many processes a second. The check script installs it for this file alone.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import BitsAndBytesConfig

from studio.compute import quantization
from studio.core.catalog import FAMILIES
from studio.core.errors import InputError, MissingExtraError
from studio.core.train_config import Quantization, TrainConfig
from studio.exporting import certificate, reload
from studio.families.registry import family
from studio.methods.registry import method
from studio.train import train

CPU = torch.device("cpu")
BITS: tuple[Quantization, ...] = ("8bit", "4bit")
Bases = Callable[[str], Path]
real = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="pip install bitsandbytes to test the real thing"
)


@pytest.mark.parametrize("name", BITS)
def test_a_missing_package_is_named_with_its_cure(name: Quantization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        MissingExtraError, match=f"quantization={name} does not run here.*pip install bitsandbytes.*=none"
    ):
        quantization.require(name, CPU)
    quantization.require("none", CPU)


def test_a_run_asks_before_it_looks_for_its_base(
    make_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    config = TrainConfig.parse({"base": "flux", "quantization": "4bit"})
    with pytest.raises(MissingExtraError, match="quantization=4bit"):
        train(config, make_dataset(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_base_of_convolutions_is_not_quantised(
    make_dataset: Callable[..., Path], tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "require", lambda *_: None)
    config = TrainConfig.parse({"base": str(tiny_base), "quantization": "8bit"})
    with pytest.raises(InputError, match=r"convolutions.*set quantization=none"):
        train(config, make_dataset(), tmp_path / "run")
    assert {name for name, spec in FAMILIES.items() if not spec.quantizes} == {"sd", "sdxl"}


def test_only_lora_trains_on_a_quantised_base() -> None:
    for name in ("full", "lokr"):
        with pytest.raises(InputError, match="only lora trains on a quantised base"):
            TrainConfig.parse({"quantization": "4bit", "method": {"name": name}})


def test_what_another_process_is_told_is_plain_data_that_diffusers_takes() -> None:
    assert quantization.arguments("none", torch.bfloat16) == quantization.quantized("none", torch.bfloat16) == {}
    assert json.loads(json.dumps(quantization.arguments("8bit", torch.bfloat16))) == {"load_in_8bit": True}
    found = json.loads(json.dumps(quantization.arguments("4bit", torch.bfloat16)))
    assert found == {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    assert BitsAndBytesConfig(**quantization.arguments("8bit", torch.bfloat16)).load_in_8bit


# ---------------------------------------------------------------------------------------------------- the real thing


@pytest.fixture
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let diffusers quantise on the CPU: bitsandbytes can, and everything else of diffusers' check stays."""
    from diffusers.quantizers.bitsandbytes import bnb_quantizer

    # Its layout for inference on CPUs with bfloat16 takes no layers as small as these.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    for kind in (bnb_quantizer.BnB4BitDiffusersQuantizer, bnb_quantizer.BnB8BitDiffusersQuantizer):

        def check(self: Any, *given: Any, _whole: Any = kind.validate_environment, **named: Any) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(torch.cuda, "is_available", lambda: True)
                _whole(self, *given, **named)

        monkeypatch.setattr(kind, "validate_environment", check)


@real
@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
@pytest.mark.parametrize("name", BITS)
def test_without_a_gpu_diffusers_quantises_nothing_and_the_studio_says_so(name: Quantization) -> None:
    with pytest.raises(MissingExtraError, match=r"does not run here \(No GPU found"):
        quantization.require(name, CPU)


def round_weights(whole: torch.nn.Module, few_bits: torch.nn.Module) -> None:
    """Give a whole denoiser the weights that a quantised one stands for."""
    from bitsandbytes.functional import dequantize_4bit

    layers = dict(whole.named_modules())
    for name, layer in few_bits.named_modules():
        weight: Any = getattr(layer, "weight", None)
        if type(layer).__name__ == "Linear4bit":
            layers[name].weight.copy_(dequantize_4bit(weight.data, weight.quant_state))  # type: ignore[operator,union-attr]
        elif type(layer).__name__ == "Linear8bitLt":
            scales: Any = layer.state.SCB if weight.SCB is None else weight.SCB  # type: ignore[union-attr]
            layers[name].weight.copy_(weight.data * (scales / 127)[:, None])  # type: ignore[operator,union-attr]


@real
@pytest.mark.parametrize("name", [name for name, spec in FAMILIES.items() if spec.quantizes])
@pytest.mark.parametrize("bits", BITS)
def test_a_quantised_family_predicts_nearly_the_same_and_its_adapter_learns(
    name: str, bits: Quantization, tiny_bases: Bases, without_a_gpu: None
) -> None:
    quantization.require(bits, CPU)
    speaks, learns, base = family(name), method("lora"), tiny_bases(name)
    whole = speaks.load(base, dtype=torch.float32, device=CPU)
    parts = speaks.load(base, dtype=torch.float32, device=CPU, quantization=bits)
    sizes = [sum(p.nbytes for p in loaded.denoiser.parameters()) for loaded in (whole, parts)]
    assert sizes[1] < 0.6 * sizes[0], "in float32 even 8 bits are a quarter"
    channels = speaks.encode_images(whole, torch.zeros(1, 3, 64, 64)).shape[1]
    noisy = torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        words = speaks.encode_prompts(whole, ["photo of a woman"])
        given = {**words, "framing": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
        untouched = speaks.predict(whole, noisy, torch.tensor([500]), given)
        found = speaks.predict(parts, noisy, torch.tensor([500]), given)
        round_weights(whole.denoiser, parts.denoiser)
        wanted = speaks.predict(whole, noisy, torch.tensor([500]), given)
    assert not torch.allclose(untouched, found, atol=1e-3), "fewer bits show"
    # 8 bits round what goes through the layers, too.
    tolerance = 1e-6 if bits == "4bit" else 0.02
    assert float((found - wanted).square().mean() / wanted.square().mean()) < tolerance

    reached = []
    for loaded in (whole, parts):
        learns.attach(loaded, speaks.spec, TrainConfig.parse({"method": {"rank": 4}}))
        loaded.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        loaded.denoiser.train()
        speaks.predict(loaded, noisy, torch.tensor([500]), given).square().mean().backward()
        trainable = learns.trainable(loaded)
        assert all(parameter.dtype == torch.float32 for parameter in trainable.values())
        reached.append({n for n, p in trainable.items() if p.grad is not None and p.grad.abs().sum() > 0})
    assert reached[0] == reached[1] != set(), "the same layers learn"


@real
@pytest.mark.parametrize("bits", BITS)
def test_a_run_on_a_quantised_base_goes_its_whole_way(
    bits: Quantization,
    tiny_bases: Bases,
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    without_a_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(command: Sequence[str], *_: Any) -> tuple[int, str]:
        reload.main(Path(command[-1]))  # in this process, where diffusers has been talked round
        return 0, ""

    monkeypatch.setattr(certificate, "_run", run)
    settings = {
        "base": str(tiny_bases("flux")),
        "steps": 4,
        "samples_per_checkpoint": 1,
        "sample_steps": 2,
        "checkpoint_every_steps": 4,
        "learning_rate": 1e-2,
        "prior": {"mode": "prediction"},
        "quantization": bits,
        "method": {"rank": 4},
    }
    out = tmp_path / "run"
    result = train(TrainConfig.parse(settings), make_dataset(), out)
    assert result.best_step == 4 and (out / "DONE").exists()
    assert json.loads((out / "report.json").read_text())["quantization"] == bits
    found = json.loads((out / "adapter" / "certificate.json").read_text())
    assert found["difference_max"] <= 3 and found["tensors_matched"] == found["tensors_in_file"] > 0
    assert found["tolerance"] == {"mean": 6.0}
