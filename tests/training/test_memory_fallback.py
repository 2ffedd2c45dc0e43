from pathlib import Path

import pytest
import torch

from studio.core.train_config import TrainConfig
from studio.training import memory_fallback


def test_the_fallback_steps_give_up_speed_first_and_detail_last() -> None:
    config = TrainConfig.parse({"batch_size": 4, "prior": {"mode": "prediction", "batch_size": 2}})
    taken, resolution_px = [], 512
    while (fallback := memory_fallback.next_fallback(config, resolution_px, 64, on_gpu=True)) is not None:
        taken.append(dict(fallback.changes))
        config = memory_fallback.with_changes(config, fallback.changes)
        resolution_px = config.resolution_px or resolution_px
    assert taken == [
        {"micro_batch_size": 4},
        {"micro_batch_size": 2},
        {"micro_batch_size": 1},
        {"gradient_checkpointing": True},
        {"block_offload": True},
        {"resolution_px": 384},
        {"resolution_px": 256},
    ]


def test_fallback_steps_already_taken_are_not_offered_again() -> None:
    config = TrainConfig.parse({"batch_size": 1, "gradient_checkpointing": True})
    assert memory_fallback.next_fallback(config, 256, 8, on_gpu=False) is None
    assert memory_fallback.next_fallback(config, 64, 8, on_gpu=False) is None


def test_blocks_wait_in_main_memory_only_where_there_is_another_and_they_can_move() -> None:
    still = {"batch_size": 1, "gradient_checkpointing": True}
    fallback = memory_fallback.next_fallback(TrainConfig.parse(still), 64, 8, on_gpu=True)
    assert fallback is not None and fallback.changes == {"block_offload": True}
    for fixed in ({"method": {"name": "full"}}, {"quantization": "4bit"}, {"compile_blocks": True}):
        assert memory_fallback.next_fallback(TrainConfig.parse(still | fixed), 64, 8, on_gpu=True) is None


def test_a_run_that_never_ran_short_has_no_fallback_steps(tmp_path: Path) -> None:
    assert memory_fallback.read(tmp_path) == {}


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception, answer: bool) -> None:
    assert memory_fallback.is_out_of_memory(error) is answer
