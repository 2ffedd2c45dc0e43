"""Reading a network: its tensors without running anything of the file, its architecture from the layout of its keys.

Called by ``studio.upscaling``; spandrel knows the architectures.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.bases.tensorfile import first_not_finite, read_tensors
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
            return canonicalize_state_dict(read_tensors(path, path.name))
        return canonicalize_state_dict(_unpickled(path))
    except InputError:
        raise
    except OSError as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise refused(path, f"cannot be read ({reason})", "check the file") from None
    except Exception:  # torch answers hostile and broken pickles with many kinds of exception
        raise refused(path, "holds more than tensors, or is damaged", "give the weights as safetensors") from None


def _unpickled(path: Path) -> Any:
    """Read a ``.pth`` file after looking at what it would take: packed or repeated, 2 MB can say gigabytes.

    Raises:
        InputError: it says more than it holds, or holds NaN or infinity. Any other exception: it is no such file.
    """
    file_bytes = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        # torch stores; each entry lies there once.
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > file_bytes:
            raise refused(path, "is packed in a way that no training program writes", "give the weights as safetensors")
    # On the device "meta" nothing takes memory.
    told = list(_tensors(torch.load(path, map_location="meta", weights_only=True)))
    if sum(tensor.numel() * tensor.element_size() for tensor in told) > file_bytes:
        raise refused(path, "says that it holds more than it does", "give the weights as safetensors")
    found = torch.load(path, map_location="cpu", weights_only=True)
    if first_not_finite({str(index): tensor for index, tensor in enumerate(_tensors(found))}):
        raise refused(path, "holds NaN or infinity", "fetch it again")
    return found


def _tensors(data: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested tables."""
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _tensors(value)


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
