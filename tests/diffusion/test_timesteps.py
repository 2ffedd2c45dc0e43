import pytest
import torch

from studio.diffusion.timesteps import TIMESTEP_SAMPLERS, noise, spread


@pytest.mark.parametrize("density", TIMESTEP_SAMPLERS)
def test_every_draw_stays_in_range_and_repeats(density: str) -> None:
    draw = TIMESTEP_SAMPLERS[density]
    first, second = (draw(2000, 1000, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.int64
    assert first.min() >= 0 and first.max() <= 999


def test_logit_normal_favours_the_middle() -> None:
    drawn = TIMESTEP_SAMPLERS["logit_normal"](4000, 1000, torch.Generator().manual_seed(0))
    middle = ((drawn > 250) & (drawn < 750)).float().mean().item()
    assert middle == pytest.approx(0.728, abs=0.03)  # P(|normal| < log 3)


def test_spread_covers_the_whole_range_evenly() -> None:
    assert spread(4, 1000).tolist() == [125, 375, 625, 875]


def test_noise_offset_moves_whole_channels() -> None:
    plain = noise((2, 3, 64, 64), torch.Generator().manual_seed(0))
    moved = noise((2, 3, 64, 64), torch.Generator().manual_seed(0), offset=0.5)
    difference = moved - plain
    assert difference.std((2, 3)).max() < 1e-5
    assert difference[..., 0, 0].std() > 0.1
