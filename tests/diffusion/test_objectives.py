import diffusers
import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from studio.core.errors import InputError
from studio.diffusion.objectives import OBJECTIVES, Schedule


def ddpm(**changes: object) -> DDPMScheduler:
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **changes)


def batch(objective: str) -> tuple[Schedule, torch.Tensor, torch.Tensor, torch.Tensor]:
    schedule = Schedule.flow() if objective == "flow" else Schedule.from_scheduler(ddpm(prediction_type=objective))
    generator = torch.Generator().manual_seed(1)
    x0, noise = (torch.randn(5, 4, 8, 8, generator=generator) for _ in range(2))
    return schedule, x0, noise, torch.tensor([0, 1, 400, 700, 998])


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("objective", ["epsilon", "v_prediction"])
def test_noise_and_target_equal_those_of_diffusers(objective: str, rescale: bool) -> None:
    scheduler = ddpm(prediction_type=objective, rescale_betas_zero_snr=rescale)
    schedule = Schedule.from_scheduler(scheduler)
    _, x0, noise, timesteps = batch(objective)
    golden = {"epsilon": noise, "v_prediction": scheduler.get_velocity(x0, noise, timesteps)}
    torch.testing.assert_close(schedule.add_noise(x0, noise, timesteps), scheduler.add_noise(x0, noise, timesteps))
    torch.testing.assert_close(schedule.target(x0, noise, timesteps), golden[objective])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_perfect_output_means_the_clean_sample(objective: str) -> None:
    schedule, x0, noise, timesteps = batch(objective)
    noisy = schedule.add_noise(x0, noise, timesteps)
    found = schedule.x0(noisy, schedule.target(x0, noise, timesteps), timesteps)
    torch.testing.assert_close(found, x0, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_x0_error_says_how_an_output_error_arrives_in_x0(objective: str) -> None:
    schedule, x0, noise, timesteps = batch(objective)
    noisy, target = schedule.add_noise(x0, noise, timesteps), schedule.target(x0, noise, timesteps)
    moved = schedule.x0(noisy, target + 0.5, timesteps) - schedule.x0(noisy, target, timesteps)
    expected = 0.25 * schedule.objective.x0_error(schedule.signal[timesteps], schedule.sigma[timesteps])
    torch.testing.assert_close(moved.square().mean((1, 2, 3)), expected, atol=1e-4, rtol=1e-3)


def test_flow_runs_straight_from_data_to_noise() -> None:
    schedule, x0, noise, _ = batch("flow")
    last = torch.full((5,), 999)
    torch.testing.assert_close(schedule.add_noise(x0, noise, last), noise)
    torch.testing.assert_close(schedule.target(x0, noise, last), noise - x0)


def test_a_sampler_describes_the_same_betas_as_the_training_schedule() -> None:
    sampler = EulerDiscreteScheduler.from_config(ddpm(prediction_type="v_prediction").config)
    schedule = Schedule.from_scheduler(sampler)
    assert schedule.objective.name == "v_prediction"
    torch.testing.assert_close(schedule.signal, ddpm().alphas_cumprod.sqrt())


def test_zero_terminal_snr_of_the_scheduler_is_honoured() -> None:
    schedule = Schedule.from_scheduler(ddpm(prediction_type="v_prediction", rescale_betas_zero_snr=True))
    assert schedule.snr(torch.tensor([999])).item() < 1e-6


@pytest.mark.parametrize(
    "kind", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CMStochasticIterativeScheduler"]
)
def test_a_noise_schedule_that_is_not_known_is_refused_and_not_trained_as_another(kind: str) -> None:
    scheduler = getattr(diffusers, kind)()
    with pytest.raises(InputError, match=f"its {kind} has a noise schedule that cannot be trained"):
        Schedule.from_scheduler(scheduler)


def test_flow_sigmas_under_another_prediction_are_refused() -> None:
    with pytest.raises(InputError, match="noise schedule"):
        Schedule.from_scheduler(diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="epsilon"))
    flow = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    assert Schedule.from_scheduler(flow).objective.name == "flow"


def test_a_flow_matching_scheduler_is_trained_with_flow() -> None:
    assert Schedule.from_scheduler(FlowMatchEulerDiscreteScheduler()).objective.name == "flow"


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_shifted_as_the_scheduler_says(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    schedule = Schedule.from_scheduler(scheduler)
    torch.testing.assert_close(schedule.sigma.flip(0), scheduler.sigmas[:1000])
    # diffusers counts the timesteps down from pure noise.
    torch.testing.assert_close(schedule.clock(torch.arange(1000)).flip(0), scheduler.timesteps)


def test_a_shift_that_depends_on_the_picture_is_for_samplers_only() -> None:
    schedule = Schedule.from_scheduler(FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True))
    assert schedule.sigma[499].item() == pytest.approx(0.5)


def test_an_unknown_prediction_is_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"predicts 'sample'.*choose a base"):
        Schedule.from_scheduler(ddpm(prediction_type="sample"))
