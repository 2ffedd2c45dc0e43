"""Checkpoints survive whatever stops a run."""

from pathlib import Path

import pytest
import torch

from studio.pocket.recipe.files import Checkpoint, newest_checkpoint, save_checkpoint
from studio.pocket.recipe.optimizers import optimizers_for


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, 2.5 * step, {"a.weight": torch.ones(2)}, {"a.weight": torch.zeros(2)})


def test_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    whole = save_checkpoint(tmp_path, checkpoint(2)).read_bytes()
    (tmp_path / "step-00000003.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "step-00000004.safetensors.tmp").write_bytes(whole)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.step == 2


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002.safetensors", "step-00000003.safetensors"]


def test_folder_without_a_checkpoint_has_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None


def test_optimizers_go_on_from_a_checkpoint_as_if_they_had_never_stopped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    batch = torch.randn(4, 8)

    def advance(optimizers: list[torch.optim.Optimizer]) -> None:
        net.zero_grad()
        net(batch).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()

    first = optimizers_for(net, 0.01)
    advance(first)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    save_checkpoint(tmp_path, Checkpoint(1, 1.0, weights, weights, 0, [o.state_dict() for o in first]))
    advance(first)
    uninterrupted = net(batch).detach()

    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.optimizers is not None
    net.load_state_dict(newest.net)
    second = optimizers_for(net, 0.01)
    for optimizer, state in zip(second, newest.optimizers, strict=True):
        optimizer.load_state_dict(state)
    advance(second)
    assert torch.equal(net(batch), uninterrupted)


def test_adopted_weights_come_without_a_generator(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(7))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.step, newest.elapsed_s, newest.optimizers, newest.rng) == (7, 17.5, None, None)
    assert newest.ema["a.weight"].tolist() == pytest.approx([0, 0])
