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
