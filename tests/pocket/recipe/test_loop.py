"""How long a stage trains, how fast, and with which steps."""

import pytest
import torch

from studio.pocket.recipe.loop import TimeLimit, learning_rate
from studio.pocket.recipe.optimizers import orthogonalised


def test_learning_rate_follows_the_used_share_of_the_limit() -> None:
    assert TimeLimit(minutes=10).used(step=7, elapsed_s=150) == 0.25
    assert TimeLimit(minutes=20).used(step=7, elapsed_s=150) == 0.125  # extended
    assert learning_rate(0.0, step=0, warmup_steps=10, flat=0.5) == pytest.approx(0.1)
    assert learning_rate(0.5, step=99, warmup_steps=10, flat=0.5) == pytest.approx(1.0)
    assert learning_rate(1.0, step=99, warmup_steps=10, flat=0.5) == pytest.approx(0.01)


def test_orthogonalised_steps_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((2, 12, 30), (2, 30, 12)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.shape == (2, 12)
        assert values.min() > 0.5 and values.max() < 1.3
