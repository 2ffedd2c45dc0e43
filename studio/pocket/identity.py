"""Two nets that measure drawn portraits: who is it, and what is in the picture.

:class:`IdentityEncoder` maps a picture to a unit vector that is the same for one person in any scene. It looks twice:
at the face, cut out by its landmarks in full resolution, and at the whole head. Its cosine is the weighted mean of
both::

    cosine = face_weight * cosine of the faces + (1 - face_weight) * cosine of the heads

The head part is trained to see no face at all (a person and the twin are one and the same to it), the face part to tell
twins apart; so another face under the same hair scores about ``1 - face_weight``. :class:`AttributeClassifier` names
background, accessory, colours and style. ``recipe/`` trains both on the renderer's pictures; the likeness room loads
the first, the report the second::

    faces = load_detector(folder / "faces").find(pixels)
    encoder = load_encoder(folder / "identity")
    vectors = encoder.embed(pixels[faces.readable], faces.points[faces.readable])  # (B, 192), unit length
    value = encoder.likeness(cosine, "woman")  # 0 = a random other woman, 1 = a photo of her
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.pocket.faces import aligned
from studio.pocket.layers import Trunk, fill_net, read_config, resized, write_net


class IdentityEncoder(nn.Module):
    """A picture's identity as a unit vector.

    Args:
        size_px: side of the pictures that faces are cut out of; others are resized to it.
        face_px: side of the aligned crop of the face.
        eyes_px: distance between the eyes of a mean face in the crop.
        channels: widths of the stages of each of the two trunks.
        embedding: length of the face's and of the head's vector.
        face_weight: share of the face in a cosine, in [0, 1].
        calibration: for each class noun the numbers of :class:`studio.likeness.base.Scale`: ``other``, ``same`` and
            ``borders``.
        version: of the weights; scores of different versions are never compared.
    """

    def __init__(
        self,
        size_px: int = 128,
        face_px: int = 80,
        eyes_px: float = 28.0,
        channels: Sequence[int] = (32, 64, 96, 128),
        embedding: int = 96,
        face_weight: float = 0.8,
        calibration: Mapping[str, Mapping[str, Any]] | None = None,
        version: str = "0",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "size_px": size_px,
            "face_px": face_px,
            "eyes_px": eyes_px,
            "channels": list(channels),
            "embedding": embedding,
            "face_weight": face_weight,
            "version": version,
        }
        self.calibration: dict[str, dict[str, Any]] = {k: dict(v) for k, v in (calibration or {}).items()}
        self.face = Trunk(face_px, channels, 2 * embedding)
        self.face_out = nn.Linear(2 * embedding, embedding)
        self.head = Trunk(size_px // 2, channels, embedding)

    def face_features(self, pixels: Tensor, points: Tensor) -> Tensor:
        """Return what the face part sees before it is brought to its vector, ``(B, 2 * embedding)``."""
        crop = aligned(resized(pixels, self.config["size_px"]), points, self.config["face_px"], self.config["eyes_px"])
        return F.relu(self.face(crop)).float()

    def face_vector(self, features: Tensor) -> Tensor:
        """Return the face's unit vector, ``(B, embedding)``, of its features."""
        return F.normalize(self.face_out(features).float(), dim=-1)

    def head_vector(self, pixels: Tensor) -> Tensor:
        """Return the head's unit vector, ``(B, embedding)``."""
        return F.normalize(self.head(pixels).float(), dim=-1)

    def forward(self, pixels: Tensor, points: Tensor) -> Tensor:
        """Embed pictures with gradients; see :meth:`embed`."""
        face, head = self.face_vector(self.face_features(pixels, points)), self.head_vector(pixels)
        weight = float(self.config["face_weight"])
        return torch.cat([weight**0.5 * face, (1 - weight) ** 0.5 * head], -1)

    @torch.no_grad()
    def embed(self, pixels: Tensor, points: Tensor) -> Tensor:
        """Embed pictures whose faces a detector has found.

        Args:
            pixels: ``(B, 3, H, W)`` in [-1, 1], any size.
            points: landmarks ``(B, 4, 2)``, yx in [0, 1] of the frame, see :class:`studio.pocket.faces.Faces`.

        Returns:
            Unit vectors, ``(B, 2 * embedding)``, float32: the face's entries first, then the head's; the cosine of two
            is their dot product.
        """
        weight = self.head.stem.weight
        return self(pixels.to(weight.device, weight.dtype), points.to(weight.device))

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
        size_px: int = 128,
        channels: Sequence[int] = (24, 48, 96, 128),
        features: int = 128,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "heads": {name: list(values) for name, values in heads.items()},
            "size_px": size_px,
            "channels": list(channels),
            "features": features,
        }
        self.trunk = Trunk(size_px, channels, features)
        self.heads = nn.ModuleDict({name: nn.Linear(features, len(values)) for name, values in heads.items()})

    def features(self, pixels: Tensor) -> Tensor:
        """Return the features that the heads read, ``(B, features)``, float32; for Frechet distances."""
        return F.relu(self.trunk(pixels)).float()

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head, ``(B, values)``, float32."""
        features = self.features(pixels)
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
    calibration = {"calibration": net.calibration} if isinstance(net, IdentityEncoder) else {}
    write_net(net, net.config | calibration, folder, dtype)


def load_encoder(folder: Path) -> IdentityEncoder:
    """Read an identity encoder that :func:`save` wrote, in float32, ready to use.

    Raises:
        FileNotFoundError: the folder holds no encoder.
    """
    config = read_config(folder)
    del config["class"]
    net = IdentityEncoder(**config)
    fill_net(net, folder)
    return net


def load_classifier(folder: Path) -> AttributeClassifier:
    """Read an attribute classifier that :func:`save` wrote, in float32, ready to use.

    Raises:
        FileNotFoundError: the folder holds no classifier.
    """
    config = read_config(folder)
    net = AttributeClassifier(config["heads"], config["size_px"], config["channels"], config["features"])
    fill_net(net, folder)
    return net
