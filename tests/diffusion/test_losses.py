import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from studio.diffusion.losses import min_snr_weights, squared_error
from studio.diffusion.objectives import Schedule


def scheduler(prediction_type: str) -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type
    )


@pytest.mark.parametrize(("prediction_type", "offset"), [("epsilon", 0.0), ("v_prediction", 1.0)])
def test_min_snr_weights_equal_those_of_the_official_scripts(prediction_type: str, offset: float) -> None:
    # huggingface/diffusers, examples/text_to_image/train_text_to_image_lora.py: min(snr, gamma) / (snr + 1 for v)
    ddpm = scheduler(prediction_type)
    timesteps = torch.tensor([0, 10, 300, 700, 999])
    snr = compute_snr(ddpm, timesteps)
    golden = torch.minimum(snr, torch.tensor(5.0)) / (snr + offset)
    found = min_snr_weights(Schedule.from_scheduler(ddpm), timesteps, 5.0)
    torch.testing.assert_close(found, golden, rtol=1e-4, atol=1e-7)


def test_without_gamma_all_timesteps_weigh_alike() -> None:
    schedule = Schedule.from_scheduler(scheduler("epsilon"))
    assert min_snr_weights(schedule, torch.tensor([0, 999]), None).tolist() == [1.0, 1.0]


def test_zero_terminal_snr_weighs_nothing_and_stays_finite() -> None:
    ddpm = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )
    assert min_snr_weights(Schedule.from_scheduler(ddpm), torch.tensor([999]), 5.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_numbers_at_every_timestep_without_terminal_signal(prediction_type: str) -> None:
    ddpm = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=prediction_type, rescale_betas_zero_snr=True)
    weights = min_snr_weights(Schedule.from_scheduler(ddpm), torch.arange(1000), 5.0)
    assert bool(torch.isfinite(weights).all())
    assert weights[999].item() == pytest.approx({"epsilon": 1.0, "v_prediction": 0.0}[prediction_type], abs=1e-6)
    assert bool(torch.isfinite(min_snr_weights(Schedule.flow(), torch.arange(1000), 5.0)).all())


def test_squared_error_is_per_sample_and_in_float32() -> None:
    output = torch.tensor([[1.0, 3.0], [0.0, 0.0]], dtype=torch.bfloat16)
    found = squared_error(output, torch.zeros(2, 2))
    assert found.tolist() == [5.0, 0.0]
    assert found.dtype == torch.float32


def test_a_mask_takes_the_background_out_of_the_error() -> None:
    output, target = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    target[0, :, :, 0] = 1.0  # wrong on the left, where the first mask looks away
    target[1, :, :, 0] = 1.0
    left = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    mask = torch.stack([2.0 - left, left])[:, None]
    torch.testing.assert_close(squared_error(output, target, mask), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(squared_error(output, target), torch.tensor([0.5, 0.5]))
