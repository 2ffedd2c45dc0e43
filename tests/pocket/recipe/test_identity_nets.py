"""Who is in a batch of the identity stage, and how the scale is measured."""

import pytest
import torch

from studio.pocket.identity import load_classifier, load_encoder
from studio.pocket.recipe.calibration import Cosines, scale_of
from studio.pocket.recipe.data import HEADS, open_pictures
from studio.pocket.recipe.identity_nets import draw_families, known_entropy, supervised_contrast, version_of
from studio.pocket.recipe.loop import TrainingContext


def test_every_person_of_a_batch_stands_beside_the_twin_and_the_near_twin(trained: TrainingContext) -> None:
    train = open_pictures(trained.work, "train")
    rows, persons, families = draw_families(train, torch.arange(6), families=2, per_person=2)
    assert len(rows) == len(set(rows.tolist())) == 2 * 3 * 2
    assert torch.equal(families, rows // sum(train.family))
    place = rows % sum(train.family)
    kind = (place >= 4).long() + (place >= 6).long()
    assert torch.equal(persons, 3 * families + kind)


def test_contrast_is_small_where_subjects_are_apart_and_large_where_they_are_mixed() -> None:
    apart = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert supervised_contrast(apart, torch.tensor([0, 0, 1, 1])) < 0.01
    assert supervised_contrast(apart, torch.tensor([0, 1, 0, 1])) > 5


def test_unknown_labels_do_not_count() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 9.0]])
    alone = known_entropy(logits[:1], torch.tensor([0]))
    assert known_entropy(logits, torch.tensor([0, -1])) == pytest.approx(alone.item())
    assert known_entropy(logits, torch.tensor([-1, -1])) == 0


def test_scale_ends_and_borders_are_what_was_measured() -> None:
    people = torch.linspace(0, 1, 101)
    own, twin = 0.8 + 0 * people, 0.3 + 0.1 * people
    cosines = Cosines(own[:, None], own[:, None] - 0.2, twin[:, None], (0.1 * people)[:, None, None])
    scale = scale_of(cosines)
    assert (scale["other"], scale["same"]) == (pytest.approx(0.05), pytest.approx(0.8))
    somewhat, alike, very = scale["borders"]
    assert somewhat == pytest.approx((0.095 - 0.05) / 0.75)
    assert alike == pytest.approx((0.395 - 0.05) / 0.75)
    assert very == pytest.approx(1.0)
    assert scale["beats_twin"] == 1.0


def test_pictures_without_a_face_leave_the_scale_alone() -> None:
    nan = float("nan")
    own = torch.tensor([[0.8, nan], [0.8, 0.8]])
    scale = scale_of(Cosines(own, own, own * 0.5, torch.tensor([[[0.0, nan]], [[0.0, 0.0]]])))
    assert (scale["other"], scale["same"]) == (0.0, pytest.approx(0.8))


def test_version_changes_with_the_weights_of_any_net_and_not_with_saving() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    version = version_of(one, other)
    assert len(version) == 10 and version == version_of(one, other)
    stored = torch.nn.Linear(2, 2)
    stored.load_state_dict({name: value.half().float() for name, value in other.state_dict().items()})
    assert version_of(one, stored) == version
    with torch.no_grad():
        other.bias += 0.1
    assert version_of(one, other) != version


def test_trained_nets_are_written_with_their_calibration(trained: TrainingContext) -> None:
    encoder = load_encoder(trained.work / "nets" / "identity")
    assert set(encoder.calibration) == set(HEADS["class_noun"])
    assert load_classifier(trained.work / "nets" / "attributes").config["heads"]["gaze"] == list(HEADS["gaze"])
