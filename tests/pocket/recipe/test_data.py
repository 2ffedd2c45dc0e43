"""Drawn pictures come in families, with labels that a picture can show, and the same every time."""

from pathlib import Path

import numpy as np
import torch

from studio.pocket.recipe.data import HEADS, LABELS, TRAITS, label_row, member, open_pictures, render_stage
from studio.pocket.recipe.loop import TrainingContext
from studio.pocket.recipe.settings import Recipe
from studio.pocket.renderer import people


def test_rendering_in_other_chunks_gives_the_same_pictures(
    tiny: Recipe, trained: TrainingContext, tmp_path: Path
) -> None:
    render_stage(tiny, TrainingContext(tmp_path, torch.device("cpu")), workers=1, chunk_rows=7)
    first, second = open_pictures(trained.work, "train"), open_pictures(tmp_path, "train")
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.landmarks, second.landmarks)
    assert first.captions == second.captions
    assert len({*first.captions[0]}) > 1


def test_family_is_a_person_a_twin_and_a_near_twin() -> None:
    family = (4, 2, 2)
    person, twin, near = (member(3, place, family) for place in (0, 4, 6))
    assert member(3, 3, family) == person
    assert all(getattr(twin, name) == getattr(person, name) for name in people.LOOK_TRAITS)
    changed = [name for name in people.FACE_TRAITS if getattr(near, name) != getattr(person, name)]
    assert 1 <= len(changed) <= 2
    assert sum(getattr(twin, name) != getattr(person, name) for name in people.FACE_TRAITS) >= 4


def test_what_a_picture_cannot_show_has_no_label() -> None:
    columns = list(LABELS)
    person = people.sample_identity(1, "man")
    row = label_row(person, people.sample_scene(1, style="sepia", background="plain blue", accessory="none"))
    for name in ("hair_colour", "clothing_colour", "background", "eye_colour"):
        assert row[columns.index(name)] == -1
    seen = label_row(person, people.sample_scene(1, style="photo"), frozenset({"left_eye", "right_eye"}))
    assert seen[columns.index("eyes")] == seen[columns.index("gaze")] == -1
    assert seen[columns.index("nose")] == TRAITS["nose"].index(person.nose)
    assert seen[columns.index("class_noun")] == HEADS["class_noun"].index("man")


def test_landmarks_lie_in_the_frame_in_the_order_of_a_face(trained: TrainingContext) -> None:
    points = open_pictures(trained.work, "held").landmarks
    assert points.min() > 0 and points.max() < 1
    left, right, nose, mouth = points.transpose(1, 0, 2)
    assert (left[:, 1] < right[:, 1]).all()
    assert (nose[:, 0] < mouth[:, 0]).all()
