"""The drawn pictures of a work folder: rendered once, read by every stage.

Pictures come in families: a person, the person's twin (another face under the same hair) and a near twin (one or two
features changed), each in scenes of their own. Whoever learns to tell people apart meets the hard cases in every batch.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studio.pocket.recipe.files import append_line, read_json, write_atomic, write_json
from studio.pocket.recipe.loop import TrainingContext
from studio.pocket.recipe.settings import Recipe
from studio.pocket.renderer import captions, people, portrait, words

HEADS: dict[str, tuple[str, ...]] = {
    "class_noun": words.CLASS_NOUNS,
    "background": words.BACKGROUNDS,
    "accessory": words.ACCESSORIES,
    "hair_colour": words.HAIR_COLOURS,
    "hair_style": words.HAIR_STYLES,
    "clothes": words.CLOTHES,
    "clothing_colour": words.CLOTHING_COLOURS,
    "style": words.STYLES,
    "expression": words.EXPRESSIONS,
    "gaze": words.GAZES,
    "beard": words.BEARDS,
}
"""Attribute -> the values it can take; the classifier has one head for each."""

TRAITS: dict[str, tuple[str, ...]] = {
    "face_shape": words.FACE_SHAPES,
    "eyes": words.EYES,
    "eye_colour": words.EYE_COLOURS,
    "brows": words.BROWS,
    "nose": words.NOSES,
    "mouth": words.MOUTHS,
    "ears": words.EARS,
    "mark": words.MARKS,
    "glasses": words.GLASSES,
}
"""Trait of a face -> the values it can take; the identity encoder learns to name them."""

LABELS: dict[str, tuple[str, ...]] = HEADS | TRAITS
"""Columns of the labels of a work folder."""

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth")
"""Landmarks in the order of every array of them."""

Split = Literal["train", "held"]


@dataclass(frozen=True)
class Pictures:
    """One split of the drawn pictures, read from ``DIR/data/<split>``."""

    pixels: NDArray[np.uint8]
    """``(N, H, W, 3)``, a memory map."""
    labels: NDArray[np.int16]
    """``(N, labels)``, indices into :data:`LABELS`, -1 where the picture cannot show it."""
    landmarks: NDArray[np.float32]
    """``(N, 4, 2)``, yx in [0, 1] of the frame, in the order of :data:`LANDMARKS`."""
    hidden: NDArray[np.bool_]
    """``(N, 4)``, whether something covers the landmark."""
    captions: list[list[str]]
    """N times the caption variants."""
    family: tuple[int, int, int]
    """Pictures of a person, the twin, the near twin; a family's rows are neighbours in this order."""

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: NDArray[np.int64] | Tensor, device: torch.device) -> Tensor:
        """Return pictures ``(B, 3, H, W)``, float32 in [-1, 1]."""
        return to_tensor(self.pixels[np.asarray(rows)], device)

    def label(self, rows: NDArray[np.int64] | Tensor, name: str) -> Tensor:
        """Return one attribute's or trait's indices, ``(B,)``, int64."""
        return torch.from_numpy(self.labels[np.asarray(rows), list(LABELS).index(name)].astype(np.int64))

    def points(self, rows: NDArray[np.int64] | Tensor) -> Tensor:
        """Return landmarks ``(B, 4, 2)``, yx in [0, 1]."""
        return torch.from_numpy(self.landmarks[np.asarray(rows)])


def to_tensor(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Turn ``(B, H, W, 3)`` uint8 into ``(B, 3, H, W)`` float32 in [-1, 1] (channels-last in memory)."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def attribute(identity: people.Identity, scene: people.Scene, name: str) -> str:
    """Return an attribute's value, whichever of the two holds it."""
    return str(getattr(identity if hasattr(identity, name) else scene, name))


def label_row(identity: people.Identity, scene: people.Scene, hidden: frozenset[str] = frozenset()) -> list[int]:
    """Return attributes and traits as indices into :data:`LABELS`, -1 where the picture cannot show them.

    Args:
        identity: who.
        scene: how.
        hidden: names of the landmarks that something covers.
    """
    unseen = set()
    if scene.style in words.COLOURLESS_STYLES:
        unseen |= {"hair_colour", "clothing_colour", "eye_colour"}
        if scene.background.startswith("plain"):
            unseen.add("background")
    if identity.hair_style == "bald":
        unseen.add("hair_colour")
    if scene.accessory in words.HATS:
        unseen.add("hair_style")
    if {"left_eye", "right_eye"} <= hidden:
        unseen |= {"eyes", "eye_colour", "gaze"}
    return [-1 if name in unseen else v.index(attribute(identity, scene, name)) for name, v in LABELS.items()]


def member(family_seed: int, place: int, family: tuple[int, int, int]) -> people.Identity:
    """Return who the picture at ``place`` of a family shows: the person, the twin, the near twin."""
    person = people.sample_identity(family_seed)
    if place < family[0]:
        return person
    if place < family[0] + family[1]:
        return people.twin(person, family_seed)
    return people.near_twin(person, family_seed, changes=1 + family_seed % 2)


@dataclass(frozen=True)
class _Chunk:
    folder: Path
    index: int
    first_row: int
    rows: int
    first_seed: int
    recipe: Recipe


def _render_chunk(chunk: _Chunk) -> int:
    """Draw the rows of one chunk into the memory maps; the captions' file says that it is complete."""
    arrays = {name: np.lib.format.open_memmap(chunk.folder / f"{name}.npy", mode="r+") for name in _ARRAYS}
    recipe, per_family = chunk.recipe, sum(chunk.recipe.family)
    texts = []
    for row in range(chunk.first_row, chunk.first_row + chunk.rows):
        identity = member(chunk.first_seed + row // per_family, row % per_family, recipe.family)
        scene = people.sample_scene(chunk.first_seed + row)
        marks = portrait.landmarks(identity, scene)
        arrays["pixels"][row] = portrait.render(identity, scene, recipe.size_px)
        arrays["labels"][row] = label_row(identity, scene, marks.hidden)
        arrays["landmarks"][row] = [getattr(marks, name) for name in LANDMARKS]
        arrays["hidden"][row] = [name in marks.hidden for name in LANDMARKS]
        texts.append([captions.caption(identity, scene, seed=n) for n in range(recipe.captions_per_picture)])
    for array in arrays.values():
        array.flush()
    write_json(chunk.folder / "chunks" / f"{chunk.index:05d}.json", texts)
    return chunk.rows


_ARRAYS: dict[str, type] = {"pixels": np.uint8, "labels": np.int16, "landmarks": np.float32, "hidden": np.bool_}


def render_stage(recipe: Recipe, context: TrainingContext, *, workers: int = 2, chunk_rows: int = 1600) -> None:
    """Draw both splits to ``DIR/data``; finished chunks are not drawn again.

    Raises:
        ValueError: the seeds of the training pictures would reach the held-out ones.
    """
    if recipe.pictures > words.HELD_OUT_SEED:
        raise ValueError(f"{recipe.pictures} pictures reach the held-out seeds; at most {words.HELD_OUT_SEED}")
    for split, count, seed in (("held", recipe.held_out, words.HELD_OUT_SEED), ("train", recipe.pictures, 0)):
        folder = context.work / "data" / split
        if (folder / "done.json").exists() and read_json(folder / "done.json")["pictures"] == count:
            continue
        (folder / "chunks").mkdir(parents=True, exist_ok=True)
        inner = {"pixels": (recipe.size_px, recipe.size_px, 3), "labels": (len(LABELS),), "landmarks": (4, 2)}
        for name, dtype in _ARRAYS.items():
            path, shape = folder / f"{name}.npy", (count, *inner.get(name, (4,)))
            if not path.exists() or np.load(path, mmap_mode="r").shape != shape:
                for old in (folder / "chunks").glob("*.json"):
                    old.unlink()
                write_atomic(path, _creator(shape, dtype))
        firsts = range(0, count, chunk_rows)
        chunks = [_Chunk(folder, i, f, min(chunk_rows, count - f), seed, recipe) for i, f in enumerate(firsts)]
        missing = [c for c in chunks if not (folder / "chunks" / f"{c.index:05d}.json").exists()]
        started, drawn = time.monotonic(), 0
        for rows in _map_processes(_render_chunk, missing, workers):
            drawn += rows
            speed = round(drawn / (time.monotonic() - started), 1)
            append_line(context.work / "render.jsonl", {"split": split, "drawn": drawn, "pictures_per_s": speed})
        texts = [row for c in chunks for row in read_json(folder / "chunks" / f"{c.index:05d}.json")]
        write_json(folder / "captions.json", texts)
        write_json(folder / "done.json", {"pictures": count, "size_px": recipe.size_px, "family": recipe.family})


def _creator(shape: tuple[int, ...], dtype: type) -> Callable[[Path], None]:
    # open_memmap leaves a file of zeros; the name must end in .npy only for np.save, not here.
    return lambda path: np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()


def _map_processes(function: Callable[[_Chunk], int], tasks: Sequence[_Chunk], workers: int) -> Iterator[int]:
    """Run tasks in processes; with one worker or one task in this one."""
    if workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    # Not fork: torch's threads do not survive it.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, tasks)


def open_pictures(work: Path, split: Split) -> Pictures:
    """Open a drawn split.

    Raises:
        FileNotFoundError: the render stage has not finished.
    """
    folder = work / "data" / split
    if not (folder / "done.json").exists():
        raise FileNotFoundError(f"{folder} is not complete; run the render stage first")
    return Pictures(
        np.load(folder / "pixels.npy", mmap_mode="r"),
        np.load(folder / "labels.npy"),
        np.load(folder / "landmarks.npy"),
        np.load(folder / "hidden.npy"),
        read_json(folder / "captions.json"),
        tuple(read_json(folder / "done.json")["family"]),
    )
