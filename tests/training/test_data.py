from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image


def test_every_epoch_shows_every_photo_once(setup: Callable[..., Any]) -> None:
    made = setup(batch_size=2)
    epochs = [sorted(made.data.batches(2 * i) + made.data.batches(2 * i + 1)) for i in range(5)]
    assert epochs == [[0, 1, 2, 3]] * 5
    assert len({tuple(made.data.batches(2 * i)) for i in range(8)}) > 1, "the order changes"


def test_a_batch_holds_one_bucket_and_is_filled_up(
    setup: Callable[..., Any], make_dataset: Callable[..., Path]
) -> None:
    dataset = make_dataset(photos=5, name="mixed", buckets=("1:1", "3:4"))
    made = setup(dataset=dataset, batch_size=4)
    for step in range(6):
        batch = made.data.batches(step)
        assert len(batch) == 4
        assert len({made.run.photos[i].bucket for i in batch}) == 1
        assert made.step(step) > 0


def test_a_mask_moves_the_loss_to_the_subject_and_turns_with_the_photo(
    setup: Callable[..., Any], make_dataset: Callable[..., Path]
) -> None:
    dataset = make_dataset(photos=2, name="masked")
    (dataset / "masks").mkdir()
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 16, 64))  # the left quarter
    mask.save(dataset / "masks" / "000.png")
    made = setup(dataset=dataset, background_weight=0.25, flip=True)
    upright, mirrored = made.data.masks[0]
    assert upright.shape == (1, 8, 8) and float(upright.mean()) == pytest.approx(1)
    assert float(upright[0, 0, 0]) == pytest.approx(4 * float(upright[0, 0, 7]))
    assert torch.equal(mirrored, upright.flip(-1))
    assert torch.equal(made.data.masks[1], torch.ones(2, 1, 8, 8)), "a photo without a mask counts everywhere"
    assert torch.isfinite(torch.tensor(made.step(0)))
