"""LoRA and LoKr through peft, with an optional trained instance token (pivotal tuning).

The adapter is ``pytorch_lora_weights.safetensors`` and, where the token learns, ``learned_embeds.safetensors``. Plain
diffusers reads both with ``load_lora_weights`` and ``load_textual_inversion``; a LoKr it reads part by part
(``pipeline.unet.load_lora_adapter``), which ``read`` does for every kind. Neither file names a photo, path or caption.

Sources: Hu et al. 2021, arXiv:2106.09685 (LoRA); Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA); Liu et al. 2024,
arXiv:2402.09353 (DoRA); Yeh et al. 2023, arXiv:2309.14859 (LoKr).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import cast_training_params
from diffusers.utils import logging as diffusers_logging
from peft import LoKrConfig, LoraConfig, PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor, nn

from studio.bases.tensorfile import read_header, read_tensors, write_safetensors
from studio.core.adapters import WEIGHTS_NAME
from studio.core.catalog import FamilySpec
from studio.core.errors import InputError, Problem
from studio.core.train_config import MethodConfig, TrainConfig
from studio.families.base import Family, Parts
from studio.methods import tokens
from studio.methods.formats import lora_settings, portable_name
from studio.methods.groups import TOKEN_PART, encoder_names, optimizer_groups, parameters_of

_ADAPTER = "default"
_MARKS = ("lora_", "lokr_")
# An older peft refuses a config with keys that it does not know; these are enough for an exact reload.
_METADATA_KEYS = {
    LoraConfig: (
        "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "bias",
    ),
    LoKrConfig: ("r", "alpha", "target_modules", "rank_pattern", "alpha_pattern", "decompose_factor"),
}  # fmt: skip


def _lora(method: MethodConfig, targets: tuple[str, ...]) -> PeftConfig:
    return LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha or method.rank,
        lora_dropout=method.dropout,
        target_modules=list(targets),
        init_lora_weights="gaussian",
        use_rslora=method.rslora,
        use_dora=method.dora,
    )


def _lokr(method: MethodConfig, targets: tuple[str, ...]) -> PeftConfig:
    return LoKrConfig(
        r=method.rank,
        alpha=method.alpha or method.rank,
        rank_dropout=method.dropout,
        target_modules=list(targets),
        decompose_factor=method.factor or -1,
    )


_KINDS: dict[str, Callable[[MethodConfig, tuple[str, ...]], PeftConfig]] = {"lora": _lora, "lokr": _lokr}


class Lora:
    """Small updates of the denoiser, optionally of the text encoders and of one token."""

    def attach(self, parts: Parts, spec: FamilySpec, config: TrainConfig) -> list[dict[str, object]]:
        """See ``Method.attach``.

        Raises:
            InputError: the instance token is a piece of the base's own vocabulary, or the family cannot train its
                text encoders or new words.
        """
        method = config.method
        layers = _KINDS[method.name]
        if method.text_encoder and not spec.text_encoder_targets:
            cure = "set method.text_encoder=false"
            problem = Problem("method.text_encoder", f"the text encoders of {spec.name} cannot be trained", cure)
            raise InputError.of([problem])
        if config.token_learning_rate is not None:
            # Before any update, so that the embedding table is found where transformers put it.
            tokens.add_token(parts, spec, config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # peft initialises from the global generator
            denoiser: Any = parts.denoiser
            denoiser.add_adapter(layers(method, dict(spec.lora_targets)[method.target]), adapter_name=_ADAPTER)
            learning = list(encoder_names(parts).values())[: spec.learning_text_encoders]
            for encoder in learning if method.text_encoder else ():
                encoder.add_adapter(
                    layers(method, dict(spec.text_encoder_targets)[method.target]), adapter_name=_ADAPTER
                )
        # Neither transformers nor peft freezes what was there before in the same way; say it once for all.
        for module in (parts.denoiser, *parts.text_encoders):
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(_is_update(name))
        for vectors in tokens.parameters(parts).values():
            vectors.requires_grad_(True)
        cast_training_params([parts.denoiser, *parts.text_encoders], dtype=torch.float32)
        return optimizer_groups(self.trainable(parts), config)

    def trainable(self, parts: Parts) -> dict[str, nn.Parameter]:
        """See ``Method.trainable``; names start with ``denoiser.``, a text encoder's name or ``token_embedding.``."""
        found = {f"denoiser.{n}": p for n, p in parts.denoiser.named_parameters() if _is_update(n)}
        for part, encoder in encoder_names(parts).items():
            found |= {f"{part}.{n}": p for n, p in encoder.named_parameters() if _is_update(n)}
        return found | tokens.parameters(parts)

    def learns_from(self, parts: Parts, prompt: str) -> bool:
        """See ``Method.learns_from``: every prompt where the text encoder learns, else those with the trained token."""
        return bool(_adapted(parts)) or tokens.is_in(parts, prompt)

    def adapter_state(self, parts: Parts) -> dict[str, Tensor]:
        """See ``Method.adapter_state``."""
        state: dict[str, Tensor] = {}
        for part, module in _peft_modules(parts).items():
            state |= {f"{part}.{n}": t for n, t in get_peft_model_state_dict(module).items()}
        state |= tokens.parameters(parts)
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}

    def load_adapter_state(self, parts: Parts, state: Mapping[str, Tensor]) -> None:
        """See ``Method.load_adapter_state``."""
        by_part: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            by_part.setdefault(part, {})[rest] = tensor
        for part, module in _peft_modules(parts).items():
            set_peft_model_state_dict(module, by_part[part], adapter_name=_ADAPTER)
        tokens.load_state(parts, state)

    def write(self, parts: Parts, family: Family, folder: Path) -> None:
        """See ``Method.write``."""
        state = self.adapter_state(parts)
        metadata = {
            f"{_exported(family, part)}{key}": sorted(value) if isinstance(value, set) else value
            for part, module in _peft_modules(parts).items()
            for key, value in module.peft_config[_ADAPTER].to_dict().items()
            if key in _METADATA_KEYS[type(module.peft_config[_ADAPTER])]
        }
        updates = {name: tensor for name, tensor in state.items() if not name.startswith(TOKEN_PART)}
        write_safetensors(
            folder / WEIGHTS_NAME,
            family.export(updates),
            {"format": "pt", "lora_adapter_metadata": json.dumps(metadata, sort_keys=True)},
        )
        tokens.write(folder, state)

    def read(self, pipeline: Any, folder: Path, scale: float) -> None:
        """See ``Method.read``."""
        path = folder / WEIGHTS_NAME
        state = read_tensors(path, "adapter")
        _require_fit(pipeline, list(state))
        # Not the file's own words: some of peft's settings are regular expressions, or modules to import.
        settings = lora_settings(read_header(path, "adapter").metadata)
        tokens.read(pipeline, folder)
        with _quiet_diffusers():
            # Part by part, because load_lora_weights takes the settings from the file, and no LoKr.
            for part in sorted({key.partition(".")[0] for key in state}):
                given: dict[str, Any] = {"prefix": part, "adapter_name": _ADAPTER, "metadata": settings or None}
                if part.startswith("text_encoder"):
                    pipeline.load_lora_into_text_encoder(state, None, getattr(pipeline, part), **given)
                else:
                    getattr(pipeline, part).load_lora_adapter(state, **given)
        pipeline.set_adapters([_ADAPTER], [scale])
        # Layers beside the base's would cost time at each denoising step.
        pipeline.fuse_lora(components=list(pipeline.get_list_adapters()), adapter_names=[_ADAPTER])

    def touched(self, pipeline: Any, folder: Path) -> list[nn.Parameter]:
        """See ``Method.touched``: the weights of the layers that have an update."""
        with safe_open(folder / WEIGHTS_NAME, "pt") as file:
            layers = sorted({_layer(key) for key in file.keys()})  # noqa: SIM118  not a dict
        parts = dict.fromkeys(layer.partition(".")[0] for layer in layers)
        modules = {part: module for part in parts if (module := getattr(pipeline, part, None)) is not None}
        # A published adapter has the names that every release of diffusers reads.
        own = {
            portable_name(f"{p}.{name}"): f"{p}.{name}" for p, m in modules.items() for name, _ in m.named_parameters()
        }
        wanted = (f"{layer}.weight" for layer in layers)
        return parameters_of(pipeline, (own.get(portable_name(name), name) for name in wanted))

    def remove(self, pipeline: Any) -> None:
        """See ``Method.remove``."""
        with _quiet_diffusers():
            if fused := list(pipeline.get_list_adapters()):
                pipeline.unfuse_lora(components=fused)
            pipeline.unload_lora_weights()

    @contextmanager
    def without(self, parts: Parts) -> Iterator[None]:
        """See ``Method.without``. The trained token is a new word, so other prompts never see it."""
        modules = list(_peft_modules(parts).values())
        for module in modules:
            module.disable_adapters()
        try:
            yield
        finally:
            for module in modules:
                module.enable_adapters()


def _is_update(name: str) -> bool:
    return any(mark in name for mark in _MARKS)


def _adapted(parts: Parts) -> dict[str, Any]:
    """Return the text encoders that carry updates, by name."""
    named = encoder_names(parts)
    return {name: encoder for name, encoder in named.items() if getattr(encoder, "peft_config", None)}


def _peft_modules(parts: Parts) -> dict[str, Any]:
    return {"denoiser": parts.denoiser} | _adapted(parts)


def _exported(family: Family, part: str) -> str:
    """Return what the family's export makes of a part's prefix, such as "unet." for "denoiser."."""
    (prefix,) = family.export({f"{part}.": torch.empty(0)})
    return prefix


def _layer(key: str) -> str:
    """Return the name of the layer that a tensor of an adapter belongs to."""
    return re.split(r"\.(?:lora|lokr)_", key)[0]


def _require_fit(pipeline: Any, keys: list[str]) -> None:
    """Refuse an adapter of another family: diffusers would load the layers it knows and silently ignore the rest.

    Raises:
        ValueError: a layer that the adapter changes is not in this base.
    """
    modules: dict[str, set[str]] = {}
    for key in keys:
        part, _, rest = key.partition(".")
        if part not in modules:
            module = getattr(pipeline, part, None)
            names = (name for name, _ in module.named_modules()) if module is not None else ()
            # A published adapter has the names that every release of diffusers reads.
            modules[part] = {portable_name(f"{part}.{name}") for name in names}
        layer = _layer(rest)
        if portable_name(f"{part}.{layer}") not in modules[part]:
            raise ValueError(f"it changes {part}.{layer}, which this base does not have: it is for another family")


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Keep diffusers from warning that an adapter has no text encoder layers: most have none."""
    before = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(before)
