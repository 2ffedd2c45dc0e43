"""Reading a network: its tensors without running anything of the file, its architecture from the layout of its keys.

Called by ``studio.upscaling``; spandrel knows the architectures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from studio.core.errors import InputError, Problem
from studio.finishing.networks.ncnn import read_ncnn

Weights = Mapping[str, Tensor]


def read_weights(path: Path) -> Weights:
    """Return the tensors of a ``.safetensors``, ``.pth`` or ncnn ``.bin`` file, by the network's own names.

    Raises:
        InputError: the file is not there, damaged, or holds anything but tensors.
    """
    from spandrel import canonicalize_state_dict

    try:
        if path.suffix == ".bin":
            return {name: torch.from_numpy(values) for name, values in read_ncnn(path).items()}
        if path.suffix == ".safetensors":
            return canonicalize_state_dict(load_file(path))
        return canonicalize_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except InputError:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise refused(path, f"cannot be read ({reason})", "check the file") from None
    except Exception:  # torch answers hostile and broken pickles with many kinds of exception
        raise refused(path, "holds more than tensors, or is damaged", "give the weights as safetensors") from None


def mix(first: Weights, second: Weights, share: float) -> Weights:
    """Return ``share * first + (1 - share) * second``: deep network interpolation of two networks of one shape.

    Source: Wang et al. 2019, "Deep Network Interpolation for Continuous Imagery Effect Transition", eq. 1.
    """
    return {name: share * values + (1 - share) * second[name] for name, values in first.items()}


def build(weights: Weights, name: str) -> Any:
    """Return spandrel's description of a network with these weights; raises InputError for a layout it does not know.

    (spandrel's types are not seen by mypy through its registry, hence Any.)
    """
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    try:
        model = ModelLoader().load_from_state_dict(dict(weights))
    except (UnsupportedModelError, RuntimeError, KeyError, ValueError, AttributeError, TypeError):
        raise refused(name, "is no network that is known here", "give an ESRGAN-like or Compact network") from None
    if not isinstance(model, ImageModelDescriptor) or (model.input_channels, model.output_channels) != (3, 3):
        raise refused(name, "does not turn a colour picture into a colour picture", "give another network")
    return model.eval()


def refused(where: Path | str, message: str, cure: str) -> InputError:
    """Return the error for weights that cannot be used."""
    name = where.name if isinstance(where, Path) else where
    return InputError.of([Problem(name, message, cure, "bad_weights")])
