"""Can the likeness of drawn portraits see a face? Scores of the person, of twins, of strangers and of spoilt faces.

For each person: photos that make the reference, then other pictures of the person, of the *twin* (another face under
the same hair, skin and beard), of *near twins* (one or two features changed), of a stranger of the same class, and the
person's own pictures with the face as a mosaic or blurred. 0 = another person, 1 = the person; a spoilt face must
not be measured at all. Run it with::

    python -m benchmarks.twins [FIRST_SEED ...] [--people 12] [--base DIR] [--json]

Each first seed stands for other people and scenes. It ends with status 1 if a target is missed by any of them.
Results: ``benchmarks/results/twins.json``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from studio.core.catalog import POCKET_FOLDER
from studio.likeness.base import LikenessEngine, centroid, likeness
from studio.likeness.pocket import PocketEngine
from studio.pocket.renderer.people import Identity, near_twin, sample_identity, sample_scene, twin
from studio.pocket.renderer.portrait import landmarks, render
from studio.pocket.renderer.words import CLASS_NOUNS

FIRST_SEED = 20_000_000
STRANGERS = 10_000_000
"""Distance from a person's seed to the stranger's."""
PICTURES = 6
PHOTO_PX = 256
SCENE = {"style": "photo", "accessory": "none", "light": "neutral"}
KINDS = ("self", "near twin", "twin", "stranger", "mosaic", "blur")
SPOILT = ("mosaic", "blur")


@dataclass(frozen=True)
class Targets:
    """What the measure has to reach."""

    self_least: float = 0.9
    twin_most: float = 0.35
    stranger_most: float = 0.15
    """Largest distance of strangers' mean from 0."""
    spoilt_refused_least: float = 0.95
    beats_twin_least: float = 0.97


def pictures(identity: Identity, seed: int, count: int = PICTURES) -> list[Image.Image]:
    """Draw a person in ``count`` scenes."""
    scenes = [sample_scene(seed + i, **SCENE) for i in range(count)]
    return [Image.fromarray(render(identity, scene, PHOTO_PX)) for scene in scenes]


def spoilt(identity: Identity, seed: int, how: str) -> list[Image.Image]:
    """Draw the pictures of :func:`pictures` with the face as a mosaic of 5 x 6 cells, or blurred."""
    made = []
    for i, picture in enumerate(pictures(identity, seed)):
        box = landmarks(identity, sample_scene(seed + i, **SCENE)).face_box_yxyx
        top, left, bottom, right = (round(PHOTO_PX * share) for share in box)
        # The middle of the face, with all features: what a newspaper would cover.
        middle = (left + (right - left) // 8, top + (bottom - top) // 5, right - (right - left) // 8, bottom)
        face = picture.crop(middle)
        if how == "mosaic":
            face = face.resize((5, 6)).resize(face.size, Image.Resampling.NEAREST)
        else:
            face = face.filter(ImageFilter.GaussianBlur(10))
        picture.paste(face, middle)
        made.append(picture)
    return made


def measure_people(engine: LikenessEngine, first_seed: int, people: int) -> dict[str, NDArray[np.float32]]:
    """Return for each of ``KINDS`` the likeness of all pictures, ``(people, pictures)``; NaN where not measured."""
    rows: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in KINDS}
    for n in range(people):
        noun = CLASS_NOUNS[n % len(CLASS_NOUNS)]
        person, stranger = sample_identity(first_seed + n, noun), sample_identity(first_seed + STRANGERS + n, noun)
        scene = first_seed % 1_000_000 + 1000 * n
        reference = centroid(engine.embed(pictures(person, scene)))
        drawn = {
            "self": pictures(person, scene + 500),
            "near twin": pictures(near_twin(person, n, changes=1 + n % 2), scene + 800),
            "twin": pictures(twin(person, n), scene + 700),
            "stranger": pictures(stranger, scene + 600),
        } | {how: spoilt(person, scene + 500, how) for how in SPOILT}
        for kind, shown in drawn.items():
            rows[kind].append(likeness(engine.embed(shown), reference, engine.scale(noun)))
    return {kind: np.stack(values) for kind, values in rows.items()}


def share_beaten(own: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the share of measured pairs, within people, in which the person's picture scores above the other's."""
    pairs = own[:, :, None] - others[:, None, :]
    return float((pairs[~np.isnan(pairs)] > 0).mean())


def summarise(values: dict[str, NDArray[np.float32]], targets: Targets) -> dict[str, Any]:
    """Turn likenesses into means, spreads, shares and a verdict."""
    kinds = {}
    for kind, scores in values.items():
        found = scores[~np.isnan(scores)]
        numbers = (
            (float(found.mean()), *np.percentile(found, (5, 95)).tolist(), float(found.std())) if len(found) else ()
        )
        kinds[kind] = {name: round(v, 3) for name, v in zip(("mean", "p5", "p95", "spread"), numbers, strict=False)}
        kinds[kind]["not_measured"] = round(float(np.isnan(scores).mean()), 3)
    beats = {kind: round(share_beaten(values["self"], values[kind]), 4) for kind in ("twin", "near twin", "stranger")}
    met = {
        "self": kinds["self"]["mean"] >= targets.self_least,
        "twin": kinds["twin"]["mean"] <= targets.twin_most,
        "stranger": abs(kinds["stranger"]["mean"]) <= targets.stranger_most,
        "spoilt": min(kinds[how]["not_measured"] for how in SPOILT) >= targets.spoilt_refused_least,
        "beats_twin": beats["twin"] >= targets.beats_twin_least,
    }
    return {"kinds": kinds, "self_beats": beats, "met": met}


def table(result: dict[str, Any]) -> str:
    """Write a result as lines for people."""
    lines = [f"{'':10s}  mean    5 %   95 %  not measured"]
    for kind, row in result["kinds"].items():
        numbers = [f"{row[name]:6.2f}" if name in row else "     -" for name in ("mean", "p5", "p95")]
        lines.append(f"{kind:10s}{' '.join(numbers)}  {row['not_measured']:8.1%}")
    for kind, share in result["self_beats"].items():
        lines.append(f"a picture of the person beats one of the {kind} in {share:.1%} of pairs")
    missed = [name for name, met in result["met"].items() if not met]
    lines.append(f"missed: {', '.join(missed)}" if missed else "all targets met")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twins", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first_seed", nargs="*", type=int, help=f"of each group of people; default {FIRST_SEED}")
    parser.add_argument("--people", type=int, default=12, help="in each group")
    parser.add_argument("--base", type=Path, default=POCKET_FOLDER, help="base folder with the measuring nets")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    given = parser.parse_args(arguments)
    engine = PocketEngine(given.base)
    groups = []
    for seed in given.first_seed or [FIRST_SEED]:
        result = summarise(measure_people(engine, seed, given.people), Targets())
        groups.append({"first_seed": seed, "people": given.people} | result)
        if not given.json:
            print(f"people from seed {seed} on:\n{table(result)}\n")
    if given.json:
        print(json.dumps({"engine": engine.name, "version": engine.version, "groups": groups}, indent=2))
    return 0 if all(met for group in groups for met in group["met"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
