"""Full DreamBooth fine-tuning: every weight of the denoiser learns, optionally those of the text encoders too.

The adapter is ``full_weights.safetensors``: what the training added to each weight, float16, under diffusers' own names
(``unet.conv_in.weight``). A difference keeps more digits than the weight itself would in half precision, and it has a
strength like any adapter. Plain diffusers has no loader for it; ``read`` adds it to a pipeline, whose
``save_pretrained`` then writes a model that every program opens.

Source: Ruiz et al. 2022, arXiv:2208.12242, sec. 4.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import cast_training_params
from safetensors import safe_open
from torch import Tensor, nn

from studio.bases.tensorfile import plain, write_safetensors
from studio.core.adapters import FULL_NAME
from studio.core.catalog import FamilySpec
from studio.core.train_config import TrainConfig
from studio.families.base import Family, Parts
from studio.methods import tokens
from studio.methods.groups import encoder_names, optimizer_groups, parameters_of

_BASE = "full.base"


class Full:
    """Every weight learns; the base's own are kept beside them."""

    def attach(self, parts: Parts, spec: FamilySpec, config: TrainConfig) -> list[dict[str, object]]:
        """See ``Method.attach``.

        Raises:
            InputError: the instance token is a piece of the base's own vocabulary, or the family takes no new words.
        """
        if config.token_learning_rate is not None:
            tokens.add_token(parts, spec, config)
        parts.denoiser.requires_grad_(True)
        for number, encoder in enumerate(parts.text_encoders):
            encoder.requires_grad_(config.method.text_encoder and number < spec.learning_text_encoders)
        for vectors in tokens.parameters(parts).values():
            vectors.requires_grad_(True)
        # Where the base is asked at every step its weights stay on the device; otherwise they would only fill it.
        device = parts.device if config.prior.mode == "prediction" else torch.device("cpu")
        parts.extra[_BASE] = {
            name: parameter.detach().to(device, copy=True) for name, parameter in self._weights(parts).items()
        }
        cast_training_params([parts.denoiser, *parts.text_encoders], dtype=torch.float32)
        return optimizer_groups(self.trainable(parts), config)

    def trainable(self, parts: Parts) -> dict[str, nn.Parameter]:
        """See ``Method.trainable``; names start with ``denoiser.``, ``text_encoder.`` or ``token_embedding.``."""
        return self._weights(parts) | tokens.parameters(parts)

    def learns_from(self, parts: Parts, prompt: str) -> bool:
        """See ``Method.learns_from``: every prompt where a text encoder learns, else those with the trained token."""
        return any(not name.startswith("denoiser.") for name in self._weights(parts)) or tokens.is_in(parts, prompt)

    def adapter_state(self, parts: Parts) -> dict[str, Tensor]:
        """See ``Method.adapter_state``: the weights themselves, float32."""
        trainable = self.trainable(parts)
        return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in trainable.items()}

    def load_adapter_state(self, parts: Parts, state: Mapping[str, Tensor]) -> None:
        """See ``Method.load_adapter_state``."""
        with torch.no_grad():
            for name, parameter in self.trainable(parts).items():
                parameter.copy_(state[name])

    def write(self, parts: Parts, family: Family, folder: Path) -> None:
        """See ``Method.write``; plain diffusers loads the result of ``read`` and ``save_pretrained``."""
        base = parts.extra[_BASE]
        added = {
            name: (parameter.detach().cpu() - base[name].cpu().float()).half().contiguous()
            for name, parameter in self._weights(parts).items()
        }
        write_safetensors(folder / FULL_NAME, family.export(added), {"format": "pt", "kind": "difference"})
        tokens.write(folder, tokens.parameters(parts))

    def read(self, pipeline: Any, folder: Path, scale: float) -> None:
        """See ``Method.read``."""
        with safe_open(folder / FULL_NAME, "pt") as file:
            names = list(file.keys())
            weights = dict(zip(names, parameters_of(pipeline, names), strict=True))
            for name in names:
                if list(weights[name].shape) != file.get_slice(name).get_shape():
                    raise ValueError(f"the shape of its {name} differs from this base's: it is for another base")
            tokens.read(pipeline, folder)
            with torch.no_grad():
                for name, weight in weights.items():
                    # Once rounded, not twice: the sum is made in float32.
                    added = file.get_tensor(name).to(weight.device).float()
                    if not bool(torch.isfinite(added).all()):
                        raise ValueError(f"its {plain(name)} contains NaN or infinity")
                    weight.copy_((weight.float() + scale * added).to(weight.dtype))

    def touched(self, pipeline: Any, folder: Path) -> list[nn.Parameter]:
        """See ``Method.touched``."""
        with safe_open(folder / FULL_NAME, "pt") as file:
            return parameters_of(pipeline, file.keys())

    def remove(self, pipeline: Any) -> None:
        """See ``Method.remove``: nothing is beside the parameters."""

    @contextmanager
    def without(self, parts: Parts) -> Iterator[None]:
        """See ``Method.without``: exchanges the weights for the base's own, without touching what autograd knows."""
        base, learned = parts.extra[_BASE], {}
        weights = self._weights(parts)
        for name, parameter in weights.items():
            learned[name] = parameter.data
            parameter.data = base[name].to(parameter.device, parameter.dtype)
        try:
            yield
        finally:
            for name, parameter in weights.items():
                parameter.data = learned[name]

    def _weights(self, parts: Parts) -> dict[str, nn.Parameter]:
        """Return what learns of the base itself, by name."""
        token_vectors = {id(vectors) for vectors in tokens.parameters(parts).values()}
        return {
            f"{part}.{name}": parameter
            for part, module in ({"denoiser": parts.denoiser} | encoder_names(parts)).items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and id(parameter) not in token_vectors
        }
