"""Two small nets that measure pocket portraits: who is it, and what is in the picture.

:class:`IdentityEncoder` maps a picture to a unit vector that is the same for one identity in any scene;
:class:`AttributeClassifier` names background, accessory, colours and style. ``build.py`` trains both on the renderer's
pictures and on their reconstructions; the likeness room loads the first, the report the second::

    encoder = load_encoder(folder / "identity")
    vectors = encoder.embed(pixels)  # (B, 64), unit length
    value = encoder.likeness(cosine, "woman")  # 0 = a random other woman, 1 = a photo of her

Neither net normalises over the batch, so a picture's result never depends on its neighbours or on train/eval mode.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


class _Residual(nn.Module):
    """Two 3x3 convolutions with a skip; ``stride`` 2 halves the picture."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.skip = nn.Conv2d(channels_in, channels_out, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        skip = F.avg_pool2d(x, 2) if self.stride == 2 else x
        h = self.conv1(F.relu(self.norm1(x)))
        h = self.conv2(F.relu(self.norm2(h)))
        return self.skip(skip) + h


class _Trunk(nn.Module):
    """Pictures ``(B, 3, H, W)`` in [-1, 1], any size, to features ``(B, F)``."""

    def __init__(self, size_px: int, channels: Sequence[int], features: int) -> None:
        super().__init__()
        self.size_px = size_px
        self.stem = nn.Conv2d(3, channels[0], 4, 2, 1)
        blocks: list[nn.Module] = []
        for here, following in itertools.pairwise(channels):
            blocks.append(_Residual(here, following, 2))
        blocks.append(_Residual(channels[-1], channels[-1], 1))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.GroupNorm(8, channels[-1])
        # Position matters in a portrait (a beard is below the mouth), so the last map is kept, not averaged away.
        cells = size_px // 2 ** len(channels)
        self.out = nn.Linear(channels[-1] * cells * cells, features)

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-2:] != (self.size_px, self.size_px):
            pixels = F.interpolate(pixels, (self.size_px, self.size_px), mode="bilinear", antialias=True)
        h = self.blocks(self.stem(pixels))
        return self.out(F.relu(self.norm(h)).flatten(1))


class IdentityEncoder(nn.Module):
    """A picture's identity as a unit vector.

    Args:
        size_px: side to which every picture is resized.
        channels: widths of the stages; each stage halves the picture.
        embedding: length of the vector.
        calibration: for each class noun ``{"other": mean cosine of a reference centroid and a picture of another
            subject, "same": mean cosine of the centroid and a held-out picture of the subject}``.
    """

    def __init__(
        self,
        size_px: int = 64,
        channels: Sequence[int] = (32, 48, 96, 160),
        embedding: int = 64,
        calibration: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"size_px": size_px, "channels": list(channels), "embedding": embedding}
        self.calibration: dict[str, dict[str, float]] = {k: dict(v) for k, v in (calibration or {}).items()}
        self.trunk = _Trunk(size_px, channels, embedding)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed pictures with gradients; see :meth:`embed`."""
        return F.normalize(self.trunk(pixels).float(), dim=-1)

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """Embed pictures.

        Args:
            pixels: ``(B, 3, H, W)`` in [-1, 1], any size.

        Returns:
            Unit vectors, ``(B, 64)``, float32; the cosine of two is their dot product.
        """
        weight = self.trunk.stem.weight
        return self(pixels.to(weight.device, weight.dtype))

    def likeness(self, cosine: float, class_noun: str | None = None) -> float:
        """Put a cosine on the studio's scale.

        Args:
            cosine: of a subject's reference centroid and a picture, in [-1, 1].
            class_noun: the subject's class; unknown or ``None`` takes the mean of all classes.

        Returns:
            0 for a random other subject of the class, 1 for a held-out photo of the subject; not clamped.

        Raises:
            ValueError: the encoder holds no calibration.
        """
        if not self.calibration:
            raise ValueError("this identity encoder holds no calibration; run the identity stage of the recipe")
        known = [self.calibration[class_noun]] if class_noun in self.calibration else list(self.calibration.values())
        other = sum(entry["other"] for entry in known) / len(known)
        same = sum(entry["same"] for entry in known) / len(known)
        return (cosine - other) / (same - other)


class AttributeClassifier(nn.Module):
    """What a picture shows, one answer per head.

    Args:
        heads: for each attribute the names of its values, for example ``{"background": ("beach", "forest")}``.
        size_px: side to which every picture is resized.
        channels: widths of the stages; each stage halves the picture.
        features: width of the layer before the heads.
    """

    def __init__(
        self,
        heads: Mapping[str, Sequence[str]],
        size_px: int = 64,
        channels: Sequence[int] = (32, 48, 96, 160),
        features: int = 128,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "heads": {name: list(values) for name, values in heads.items()},
            "size_px": size_px,
            "channels": list(channels),
            "features": features,
        }
        self.trunk = _Trunk(size_px, channels, features)
        self.heads = nn.ModuleDict({name: nn.Linear(features, len(values)) for name, values in heads.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head, ``(B, values)``, float32."""
        features = F.relu(self.trunk(pixels))
        return {name: head(features).float() for name, head in self.heads.items()}

    @torch.no_grad()
    def classify(self, pixels: Tensor) -> dict[str, list[str]]:
        """Name what pictures show.

        Args:
            pixels: ``(B, 3, H, W)`` in [-1, 1], any size.

        Returns:
            For each attribute B names.
        """
        weight = self.trunk.stem.weight
        logits = self(pixels.to(weight.device, weight.dtype))
        names: dict[str, list[str]] = self.config["heads"]
        return {head: [names[head][i] for i in values.argmax(-1).tolist()] for head, values in logits.items()}


def save(net: IdentityEncoder | AttributeClassifier, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a net as ``model.safetensors`` and ``config.json``.

    Args:
        net: the net; stays as it is.
        folder: created when missing.
        dtype: of the stored weights; they are read back as float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().to(dtype).contiguous() for name, value in net.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    config = {"class": type(net).__name__, **net.config}
    if isinstance(net, IdentityEncoder):
        config["calibration"] = net.calibration
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _weights(folder: Path) -> dict[str, Tensor]:
    return {name: value.float() for name, value in load_file(folder / WEIGHTS_NAME).items()}


def load_encoder(folder: Path) -> IdentityEncoder:
    """Read an identity encoder that :func:`save` wrote, in float32, ready to use.

    Raises:
        FileNotFoundError: the folder holds no encoder.
    """
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    net = IdentityEncoder(config["size_px"], config["channels"], config["embedding"], config.get("calibration"))
    net.load_state_dict(_weights(folder))
    return net.eval().requires_grad_(False)


def load_classifier(folder: Path) -> AttributeClassifier:
    """Read an attribute classifier that :func:`save` wrote, in float32, ready to use.

    Raises:
        FileNotFoundError: the folder holds no classifier.
    """
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    net = AttributeClassifier(config["heads"], config["size_px"], config["channels"], config["features"])
    net.load_state_dict(_weights(folder))
    return net.eval().requires_grad_(False)
