"""LoRA through peft, with an optional trained instance token (pivotal tuning).

The adapter is two files: ``pytorch_lora_weights.safetensors`` for ``load_lora_weights`` and, where the token learns,
``learned_embeds.safetensors`` for ``load_textual_inversion``. Neither names a photo, a path or a caption.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import cast_training_params
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from studio.adapters import EMBEDS_NAME, WEIGHTS_NAME
from studio.catalog import FamilySpec
from studio.config import TrainConfig
from studio.errors import InputError, Problem
from studio.families.base import Family, Parts
from studio.weights import write_safetensors

TEXT_ENCODER_RATE = 0.5
"""Learning rate of text-encoder LoRA layers, as a share of the denoiser's: what SD 1.5 trainers settled on."""

_ADAPTER = "default"
_TOKEN = "token_embedding"
# An older peft refuses a LoraConfig with keys that it does not know; these are enough for an exact reload.
_METADATA_KEYS = (
    "r",
    "lora_alpha",
    "target_modules",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "bias",
)


class TokenEmbedding(nn.Module):
    """The text encoder's embedding table plus one trainable row for a new token.

    Args:
        table: the base's own rows, left as they are.
        token: the word.
        token_id: its id, which is past the table's end.
        vector: start value, ``(D,)``.
    """

    def __init__(self, table: nn.Embedding, token: str, token_id: int, vector: Tensor) -> None:
        super().__init__()
        self.table = table
        self.token = token
        self.token_id = token_id
        self.vector = nn.Parameter(vector.detach().clone().float())

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return embeddings ``(B, L, D)`` of ``input_ids`` ``(B, L)``."""
        is_token = input_ids == self.token_id
        embeds = self.table(input_ids.masked_fill(is_token, 0))
        return torch.where(is_token[..., None], self.vector.to(embeds.dtype), embeds)


class Lora:
    """Low-rank updates of the denoiser, optionally of the text encoder and of one token."""

    def attach(self, parts: Parts, spec: FamilySpec, config: TrainConfig) -> list[dict[str, object]]:
        """See ``Method.attach``.

        Raises:
            InputError: the instance token is a piece of the base's own vocabulary.
        """
        lora = config.method
        if config.token_learning_rate is not None:
            # Before any LoRA layer, so that the embedding table is found where transformers put it.
            self._add_token(parts, config.instance_token, config.class_noun)

        def layers(targets: tuple[str, ...]) -> LoraConfig:
            return LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha or lora.rank,
                lora_dropout=lora.dropout,
                target_modules=list(targets),
                init_lora_weights="gaussian",
            )

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # peft initialises from the global generator
            denoiser: Any = parts.denoiser
            denoiser.add_adapter(layers(dict(spec.lora_targets)[lora.target]), adapter_name=_ADAPTER)
            if lora.text_encoder:
                text_encoder: Any
                for text_encoder in parts.text_encoders[: spec.learning_text_encoders]:
                    text_encoder.add_adapter(layers(spec.text_encoder_targets), adapter_name=_ADAPTER)
        # Neither transformers nor peft freezes what was there before in the same way; say it once for all.
        for module in (parts.denoiser, *parts.text_encoders):
            for name, parameter in module.named_parameters():
                parameter.requires_grad_("lora_" in name)
        token = parts.extra.get(_TOKEN)
        if token is not None:
            token.vector.requires_grad_(True)
        cast_training_params([parts.denoiser, *parts.text_encoders], dtype=torch.float32)

        rates = {"denoiser": config.learning_rate}
        rates |= dict.fromkeys(_encoders(parts), config.learning_rate * TEXT_ENCODER_RATE)
        groups: dict[str, dict[str, object]] = {}
        for name, parameter in self.trainable(parts).items():
            part = name.partition(".")[0]
            rate = rates.get(part, config.token_learning_rate)
            decay = config.weight_decay if part in rates else 0.0
            group = groups.setdefault(part, {"params": [], "lr": rate, "weight_decay": decay})
            group["params"].append(parameter)  # type: ignore[attr-defined]
        return list(groups.values())

    def trainable(self, parts: Parts) -> dict[str, nn.Parameter]:
        """See ``Method.trainable``; names start with ``denoiser.``, a text encoder's name or ``token_embedding.``."""
        found = {f"denoiser.{n}": p for n, p in parts.denoiser.named_parameters() if "lora_" in n}
        for part, text_encoder in _encoders(parts).items():
            found |= {f"{part}.{n}": p for n, p in text_encoder.named_parameters() if "lora_" in n}
        token = parts.extra.get(_TOKEN)
        return found if token is None else found | {f"{_TOKEN}.{token.token}": token.vector}

    def learns_from(self, parts: Parts, prompt: str) -> bool:
        """See ``Method.learns_from``: every prompt where the text encoder learns, else those with the trained token."""
        if any("lora_" in name for encoder in parts.text_encoders for name, _ in encoder.named_parameters()):
            return True
        token = parts.extra.get(_TOKEN)
        return token is not None and token.token_id in parts.tokenizers[0](prompt).input_ids

    def adapter_state(self, parts: Parts) -> dict[str, Tensor]:
        """See ``Method.adapter_state``."""
        state = {f"denoiser.{n}": t for n, t in get_peft_model_state_dict(parts.denoiser).items()}
        for part, text_encoder in _adapted(parts).items():
            state |= {f"{part}.{n}": t for n, t in get_peft_model_state_dict(text_encoder).items()}
        token = parts.extra.get(_TOKEN)
        if token is not None:
            state[f"{_TOKEN}.{token.token}"] = token.vector
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}

    def load_adapter_state(self, parts: Parts, state: Mapping[str, Tensor]) -> None:
        """See ``Method.load_adapter_state``."""
        by_part: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            by_part.setdefault(part, {})[rest] = tensor
        set_peft_model_state_dict(parts.denoiser, by_part["denoiser"], adapter_name=_ADAPTER)
        for part, text_encoder in _adapted(parts).items():
            set_peft_model_state_dict(text_encoder, by_part[part], adapter_name=_ADAPTER)
        token = parts.extra.get(_TOKEN)
        if token is not None:
            with torch.no_grad():
                token.vector.copy_(by_part[_TOKEN][token.token])

    def write(self, parts: Parts, family: Family, folder: Path) -> None:
        """See ``Method.write``."""
        state = self.adapter_state(parts)
        embeds = {name: state.pop(name) for name in list(state) if name.startswith(_TOKEN)}
        metadata = {
            f"{_exported(family, part)}{key}": sorted(value) if isinstance(value, set) else value
            for part, module in _peft_modules(parts).items()
            for key, value in module.peft_config[_ADAPTER].to_dict().items()
            if key in _METADATA_KEYS
        }
        write_safetensors(
            folder / WEIGHTS_NAME,
            family.export(state),
            {"format": "pt", "lora_adapter_metadata": json.dumps(metadata, sort_keys=True)},
        )
        if embeds:
            tokens = {name.removeprefix(f"{_TOKEN}."): vector for name, vector in embeds.items()}
            write_safetensors(folder / EMBEDS_NAME, tokens, {"format": "pt"})

    @contextmanager
    def without(self, parts: Parts) -> Iterator[None]:
        """See ``Method.without``. The trained token is a new word, so other prompts never see it."""
        modules: list[Any] = [parts.denoiser, *_adapted(parts).values()]
        for module in modules:
            module.disable_adapters()
        try:
            yield
        finally:
            for module in modules:
                module.enable_adapters()

    def _add_token(self, parts: Parts, token: str, class_noun: str) -> None:
        tokenizer = parts.tokenizers[0]
        text_encoder: Any = parts.text_encoders[0]
        if token.lower() in tokenizer.get_vocab():
            raise InputError.of(
                [
                    Problem(
                        "instance_token",
                        f"{token!r} is a piece of words that the base already knows",
                        "choose a rarer word, such as ohwx, or leave token_learning_rate out",
                        "token_taken",
                    )
                ]
            )
        noun_ids = tokenizer(class_noun, add_special_tokens=False, return_tensors="pt").input_ids.to(parts.device)
        table = text_encoder.get_input_embeddings()
        vector = table(noun_ids)[0].mean(0)  # (D,)
        tokenizer.add_tokens(token)
        token_id = tokenizer.convert_tokens_to_ids(token)
        parts.extra[_TOKEN] = TokenEmbedding(table, token, token_id, vector)
        text_encoder.set_input_embeddings(parts.extra[_TOKEN])


def _encoders(parts: Parts) -> dict[str, Any]:
    """Return the text encoders by diffusers' names: text_encoder, text_encoder_2 ..."""
    names = ("text_encoder" if number == 1 else f"text_encoder_{number}" for number in count(1))
    return dict(zip(names, parts.text_encoders, strict=False))


def _adapted(parts: Parts) -> dict[str, Any]:
    """Return the text encoders that carry LoRA layers, by name."""
    return {name: encoder for name, encoder in _encoders(parts).items() if getattr(encoder, "peft_config", None)}


def _peft_modules(parts: Parts) -> dict[str, Any]:
    return {"denoiser": parts.denoiser} | _adapted(parts)


def _exported(family: Family, part: str) -> str:
    """Return what the family's export makes of a part's prefix, such as "unet." for "denoiser."."""
    (prefix,) = family.export({f"{part}.": torch.empty(0)})
    return prefix
