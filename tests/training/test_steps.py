from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler

from studio.training.steps import learning_rate_factor, validation_loss


@pytest.mark.parametrize("name", ["constant_with_warmup", "cosine", "linear"])
def test_the_course_of_the_learning_rate_equals_that_of_diffusers(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    golden = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=20)
    for step in range(20):
        assert learning_rate_factor(name, step, 5, 20) == pytest.approx(golden.get_last_lr()[0])
        optimizer.step()
        golden.step()


def test_a_constant_rate_is_constant() -> None:
    assert {learning_rate_factor("constant", step, 0, 9) for step in range(10)} == {1.0}


def test_a_step_depends_on_its_number_and_on_nothing_before_it(setup: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    first = setup(batch_size=2)
    torch.manual_seed(2)
    second = setup(batch_size=2)
    loss = first.step(3)
    assert loss == second.step(3)
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items())
    assert setup(batch_size=2).step(4) != loss
    assert setup(batch_size=2, seed=1).step(3) != loss


def test_micro_batches_add_up_to_the_batch(setup: Callable[..., Any]) -> None:
    whole, pieces = setup(batch_size=4), setup(batch_size=4, micro_batch_size=1)
    for made in (whole, pieces):  # AdamW's first step hides the size of a gradient
        made.optimizer = torch.optim.SGD(made.model.method.trainable(made.model.parts).values(), lr=0.1)
    assert whole.step(0) == pytest.approx(pieces.step(0), rel=1e-5)
    for name, tensor in whole.state().items():
        torch.testing.assert_close(tensor, pieces.state()[name], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("mode", ["none", "images", "prediction"])
def test_every_prior_learns_and_weighs_in(setup: Callable[..., Any], mode: str) -> None:
    plain = setup(batch_size=2)
    pictures = [plain.run.photos[0].picture] * 3 if mode == "images" else None
    made = setup(batch_size=2, prior={"mode": mode, "weight": 0.5, "batch_size": 3}, pictures=pictures)
    # The prior of the untouched base against itself is exactly zero in mode prediction.
    loss, photo_loss = made.step(0), plain.step(0)
    assert loss == pytest.approx(photo_loss, rel=1e-4) if mode != "images" else loss > photo_loss
    later = made.step(1)
    assert later == plain.step(1) if mode == "none" else later > plain.step(1)


def test_prior_prediction_holds_the_class_back(setup: Callable[..., Any]) -> None:
    """After equal steps the class has moved less with the prior than without."""

    def moved(**changes: Any) -> float:
        made = setup(batch_size=4, learning_rate=1e-2, method={"rank": 4}, **changes)
        for step in range(6):
            made.step(step)
        noisy, timesteps = torch.ones(1, 4, 8, 8), torch.tensor([500])
        prompt = made.model.class_prompts[:1]
        with torch.no_grad():
            after = made.model.predict(noisy, timesteps, made.model.prompts.encode(prompt))
            with made.model.method.without(made.model.parts):
                before = made.model.predict(noisy, timesteps, made.model.prompts.encode_base(prompt))
        return (after - before).square().mean().item()

    assert moved(prior={"mode": "prediction", "weight": 5.0}) < 0.7 * moved()


def test_training_lowers_the_validation_loss(setup: Callable[..., Any]) -> None:
    made = setup(batch_size=4, learning_rate=5e-3, token_learning_rate=5e-3, min_snr_gamma=5)
    before = validation_loss(made.run, made.model, made.data)
    assert validation_loss(made.run, made.model, made.data) == before, "it is the same question each time"
    for step in range(12):
        made.step(step)
    assert validation_loss(made.run, made.model, made.data) < 0.95 * before


def test_dropout_is_repeatable_and_leaves_the_global_generator_alone(setup: Callable[..., Any]) -> None:
    losses = []
    for seed in (1, 2):
        made = setup(batch_size=2, method={"rank": 2, "dropout": 0.5})
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        losses.append([made.step(0), made.step(1), made.step(2)])
        assert torch.equal(before, torch.get_rng_state())
    assert losses[0] == losses[1]


def test_mirrored_photos_and_empty_captions_appear_when_asked_for(setup: Callable[..., Any]) -> None:
    from studio.training.steps import _photo_rows

    made = setup(batch_size=4, flip=True, caption_dropout=0.5)
    assert all(len(views) == 2 for views in made.data.latents.values())
    prompts = [prompt for step in range(8) for prompt in _photo_rows(made.model, made.data, step).prompts]
    assert 0 < prompts.count("") < len(prompts)


def test_cached_prompts_stay_and_living_ones_follow_the_token(setup: Callable[..., Any]) -> None:
    made = setup(batch_size=4, token_learning_rate=0.1)
    asked = ["photo of sks woman", "photo of a woman"]

    def encode() -> torch.Tensor:
        with torch.no_grad():
            return made.model.prompts.encode(asked)["prompt_embeds"].clone()

    before = encode()
    made.step(0)
    after = encode()
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_both_vectors_of_a_token_learn(setup: Callable[..., Any]) -> None:
    made = setup(token_learning_rate=1e-2, token_vectors=2)
    before = made.state()["token_embedding.sks"].clone()
    made.step(0)
    after = made.state()["token_embedding.sks"]
    assert after.shape == (2, 32) and torch.equal(before[0], before[1])
    assert not torch.equal(after[0], before[0]) and not torch.equal(after[0], after[1])
