import resource
import sys

import pytest
import torch

from studio import device
from studio.errors import InputError

GB = 2**30
FLUX = {"transformer": 24 * GB, "text_encoder": GB // 4, "text_encoder_2": 9 * GB, "vae": GB // 6}


@pytest.mark.parametrize(
    ("free", "placement"),
    [
        (None, "device"),
        (48 * GB, "device"),
        (40 * GB, "model_offload"),
        (31 * GB, "model_offload"),
        (24 * GB, "group_offload"),
        (12 * GB, "group_offload"),
    ],
)
def test_parts_take_turns_where_all_of_them_do_not_fit(free: int | None, placement: str) -> None:
    assert device.choose_placement(FLUX, free) == placement


def test_the_cpu_has_no_other_place_to_put_parts() -> None:
    assert device.free_bytes(torch.device("cpu")) is None
    assert (device.room_bytes(torch.device("cpu")) or 0) > 0


def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="use auto or one of: cpu"):
            device.pick_device("cuda")


@pytest.mark.skipif(sys.platform != "linux", reason="what glibc does with freed memory")
def test_freed_memory_is_kept_inside_the_block_and_given_back_after_it() -> None:
    large = 16 * 2**20  # 64 MB in floats: more than glibc keeps by itself

    def faults_of_ten() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(large)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    outside = faults_of_ten()
    with device.freed_memory_kept():
        torch.ones(large)
        inside = faults_of_ten()
    assert inside < outside / 10
    assert faults_of_ten() > outside / 2
