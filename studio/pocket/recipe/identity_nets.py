"""Trains the two measuring nets: who is it (face and head), and what is in the picture."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.pocket.faces import FaceDetector, load_detector
from studio.pocket.identity import AttributeClassifier, IdentityEncoder, save
from studio.pocket.recipe.autoencoder import encode, load_autoencoder
from studio.pocket.recipe.calibration import calibrate
from studio.pocket.recipe.data import HEADS, TRAITS, Pictures, open_pictures
from studio.pocket.recipe.loop import TimeLimit, TrainingContext, fit
from studio.pocket.recipe.settings import Recipe
from studio.pocket.recipe.spoil import disturb

REDRAWN = 0.3
"""Share of the pictures that are decoded from noisy latents: what the denoiser will make looks like these."""


class IdentityNets(nn.Module):
    """What the identity stage trains; only encoder and classifier are kept.

    Args:
        encoder: who is it.
        classifier: what is in the picture.
    """

    def __init__(self, encoder: IdentityEncoder, classifier: AttributeClassifier) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, classifier
        width = 2 * encoder.config["embedding"]
        # Naming the traits of a face is what makes its features come apart within minutes.
        self.traits = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in TRAITS.items()})


def supervised_contrast(vectors: Tensor, subjects: Tensor, temperature: float = 0.1) -> Tensor:
    """Pull pictures of one subject together and push others away.

    Args:
        vectors: unit vectors, ``(B, E)``.
        subjects: who each shows, ``(B,)``.
        temperature: smaller looks at the nearest neighbours only.

    Source: Khosla et al. 2020, arXiv:2004.11362, equation 2.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    scores = (vectors @ vectors.T / temperature).masked_fill(itself, -1e9)
    logs = scores - scores.logsumexp(1, keepdim=True)
    same = (subjects[:, None] == subjects[None]) & ~itself
    return -((logs * same).sum(1) / same.sum(1).clamp(min=1)).mean()


def known_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits ``(B, values)`` over the rows whose label is known; 0 if none is."""
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / (labels >= 0).sum().clamp(min=1)


def draw_families(train: Pictures, pool: Tensor, families: int, per_person: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose pictures of several families: some of each person, of the twin and of the near twin.

    Args:
        train: the pictures.
        pool: numbers of the families to choose from.
        families: how many.
        per_person: pictures of each person.

    Returns:
        Rows, the person and the family that each shows, all ``(families * 3 * per_person,)``.
    """
    chosen = pool[torch.randperm(len(pool))[:families]]
    firsts = np.cumsum((0, *train.family))
    rows, persons = [], []
    for place, count in enumerate(train.family):
        scenes = torch.rand(len(chosen), count).argsort(1)[:, :per_person]
        rows.append((chosen[:, None] * sum(train.family) + int(firsts[place]) + scenes).flatten())
        persons.append((chosen * 3 + place).repeat_interleave(scenes.shape[1]))
    person_of = torch.cat(persons)
    return torch.cat(rows), person_of, person_of // 3


def identity_stage(recipe: Recipe, context: TrainingContext, limit: TimeLimit) -> None:
    """Train identity encoder and attribute classifier on the same batches; write them to ``DIR/nets``.

    Needs the face detector; where there is an autoencoder already, its pictures are shown too.
    """
    train, held = open_pictures(context.work, "train"), open_pictures(context.work, "held")
    detector = load_detector(context.work / "nets" / "faces").to(context.device)
    redraw = _Redraw(recipe, context) if (context.work / "autoencoder").exists() else None
    torch.manual_seed(recipe.seed)
    nets = IdentityNets(IdentityEncoder(recipe.size_px), AttributeClassifier(HEADS, recipe.size_px))
    size, per_family = recipe.size_px, sum(train.family)
    nouns = train.label(np.arange(0, len(train) - per_family + 1, per_family), "class_noun")
    # All families of a step share their class noun: telling a woman from a man teaches nothing about faces.
    pools = [p for n in range(len(HEADS["class_noun"])) if len(p := torch.nonzero(nouns == n)[:, 0]) >= recipe.families]
    pools = pools or [torch.arange(len(nouns))]

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        pool = pools[int(torch.randint(len(pools), ()))]
        rows, persons, families = draw_families(train, pool, recipe.families, recipe.pictures_per_person)
        persons, families = persons.to(context.device), families.to(context.device)
        pixels = train.batch(rows, context.device)
        if redraw is not None:
            pixels = redraw(pixels)
        pixels = disturb(pixels).contiguous(memory_format=torch.channels_last)
        # The detector is off by a pixel at times; the encoder must not mind.
        points = train.points(rows).to(context.device)
        points = points + torch.randn_like(points) * 1.0 / size
        with context.autocast():
            features = nets.encoder.face_features(pixels, points)
            face, head = nets.encoder.face_vector(features), nets.encoder.head_vector(pixels)
            logits = nets.classifier(pixels)
        traits = [known_entropy(m(features), train.label(rows, n).to(context.device)) for n, m in nets.traits.items()]
        attributes = [known_entropy(logits[h], train.label(rows, h).to(context.device)) for h in HEADS]
        parts = {
            "face": supervised_contrast(face, persons),
            "head": supervised_contrast(head, families),
            "traits": torch.stack(traits).sum(),
            "attributes": torch.stack(attributes).sum(),
        }
        loss = 2 * parts["face"] + parts["head"] + 0.5 * parts["traits"] + 0.5 * parts["attributes"]
        return loss, {name: float(part.detach()) for name, part in parts.items()}

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        assert isinstance(ema, IdentityNets)
        calibration = calibrate(ema.encoder, detector, context, size_px=size, subjects=8)
        return {
            "accuracy": accuracies(ema.classifier, held, context),
            "traits": trait_accuracies(ema, held, context),
            "calibration": {noun: _rounded(entry) for noun, entry in calibration.items()},
        }

    ema = fit(
        "identity",
        nets.to(memory_format=torch.channels_last),
        loss_of,
        context=context,
        limit=limit,
        lr=recipe.identity_lr,
        batch=recipe.families * 3 * recipe.pictures_per_person,
        flat=0.3,
        warmup_steps=25,
        ema_decay=0.99,
        observe=observe,
    )
    assert isinstance(ema, IdentityNets)
    if limit.stop_after is None:
        finish_identity(recipe, context, ema, detector, context.work / "nets")


def finish_identity(
    recipe: Recipe, context: TrainingContext, nets: IdentityNets, detector: FaceDetector, folder: Path
) -> None:
    """Calibrate the encoder on held-out people and write both nets into ``folder``."""
    nets.encoder.calibration = calibrate(
        nets.encoder, detector, context, size_px=recipe.size_px, subjects=recipe.calibration_subjects
    )
    nets.encoder.config["version"] = version_of(nets.encoder, detector)
    save(nets.encoder, folder / "identity")
    save(nets.classifier, folder / "attributes")


def version_of(*nets: nn.Module) -> str:
    """Name nets by config and weights (in fp16, as they are stored): ten digits that change whenever scores would."""
    digest = hashlib.sha256()
    for net in nets:
        config: dict[str, Any] = getattr(net, "config", {})
        digest.update(json.dumps({k: v for k, v in config.items() if k != "version"}, sort_keys=True).encode())
        for name, value in sorted(net.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:10]


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: [round(x, 3) for x in v] if isinstance(v, list) else round(v, 3) for k, v in entry.items()}


class _Redraw:
    """Sends some pictures of a batch through the autoencoder, with noise in the latents."""

    def __init__(self, recipe: Recipe, context: TrainingContext) -> None:
        self.vae, self.factor, self.context = load_autoencoder(context), recipe.factor, context

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        chosen = torch.nonzero(torch.rand(len(pixels)) < REDRAWN)[:, 0].to(pixels.device)
        if not len(chosen):
            return pixels
        z = encode(self.vae, pixels[chosen], self.factor)
        z = z + 0.3 * torch.rand(len(z), 1, 1, 1, device=z.device) * torch.randn_like(z)
        with self.context.autocast():
            drawn = self.vae.decode(z / float(self.vae.config["scaling_factor"])).sample
        made = pixels.clone()
        made[chosen] = drawn.float().clamp(-1, 1)
        return made


@torch.no_grad()
def accuracies(classifier: nn.Module, pictures: Pictures, context: TrainingContext) -> dict[str, float]:
    """Return the share of pictures that each head names rightly, among those that show the attribute."""
    right, shown = dict.fromkeys(HEADS, 0), dict.fromkeys(HEADS, 0)
    for first in range(0, len(pictures), 128):
        rows = np.arange(first, min(first + 128, len(pictures)))
        logits = classifier(pictures.batch(rows, context.device).contiguous())
        for head in HEADS:
            labels = pictures.label(rows, head)
            right[head] += int((logits[head].argmax(-1).cpu() == labels).sum())
            shown[head] += int((labels >= 0).sum())
    return {head: round(right[head] / max(1, shown[head]), 4) for head in HEADS}


@torch.no_grad()
def trait_accuracies(nets: IdentityNets, pictures: Pictures, context: TrainingContext) -> dict[str, float]:
    """Return the share of pictures in which the face part names each trait rightly."""
    right, shown = dict.fromkeys(TRAITS, 0), dict.fromkeys(TRAITS, 0)
    for first in range(0, len(pictures), 128):
        rows = np.arange(first, min(first + 128, len(pictures)))
        pixels, points = pictures.batch(rows, context.device), pictures.points(rows).to(context.device)
        features = nets.encoder.face_features(pixels, points)
        for name, layer in nets.traits.items():
            labels = pictures.label(rows, name)
            right[name] += int((layer(features).argmax(-1).cpu() == labels).sum())
            shown[name] += int((labels >= 0).sum())
    return {name: round(right[name] / max(1, shown[name]), 4) for name in TRAITS}
