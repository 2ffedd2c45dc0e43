"""What every method says of its parameters in the same way: the names of parts, and the optimizer's groups."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from studio.core.train_config import TrainConfig
from studio.families.base import Parts

TOKEN_PART = "token_embedding"
"""Names of the instance token's tensors start with this."""

TEXT_ENCODER_RATE = 0.5
"""Learning rate of text encoders, as a share of the denoiser's: what SD 1.5 trainers settled on."""


def encoder_names(parts: Parts) -> dict[str, Any]:
    """Return the text encoders by diffusers' names: text_encoder, text_encoder_2 ..."""
    return {
        "text_encoder" + (f"_{number}" if number > 1 else ""): encoder
        for number, encoder in enumerate(parts.text_encoders, start=1)
    }


def parameters_of(pipeline: Any, names: Iterable[str]) -> list[nn.Parameter]:
    """Return parameters of a pipeline by part and name, such as ``unet.conv_in.weight``.

    Raises:
        ValueError: the base has no such parameter.
    """
    found = []
    for name in names:
        part, _, rest = name.partition(".")
        try:
            found.append(getattr(pipeline, part).get_parameter(rest))
        except AttributeError:
            raise ValueError(f"it changes {name}, which this base does not have: it is for another family") from None
    return found


def optimizer_groups(trainable: Mapping[str, nn.Parameter], config: TrainConfig) -> list[dict[str, object]]:
    """Return one group per part: its parameters, learning rate, weight decay, and the part's name."""
    found: dict[str, dict[str, object]] = {}
    for name, parameter in trainable.items():
        part = name.partition(".")[0]
        is_token = part == TOKEN_PART
        # Prodigy finds one rate for all groups and refuses different ones.
        share = TEXT_ENCODER_RATE if part.startswith("text_encoder") and config.optimizer != "prodigy" else 1.0
        rate = config.token_learning_rate if is_token else config.learning_rate * share
        decay = 0.0 if is_token else config.weight_decay
        group = found.setdefault(part, {"params": [], "lr": rate, "weight_decay": decay, "part": part})
        group["params"].append(parameter)  # type: ignore[attr-defined]
    return list(found.values())
