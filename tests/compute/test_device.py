import resource
import sys
from types import ModuleType

import psutil
import pytest
import torch

from studio.compute import device
from studio.core.errors import InputError, MissingExtraError

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


def test_weights_are_kept_in_the_memory_of_a_gpu_or_in_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < device.free_to_keep_bytes(torch.device("cpu")) <= psutil.virtual_memory().total
    monkeypatch.setattr(device, "free_bytes", lambda _: 5)
    assert device.free_to_keep_bytes(torch.device("cuda")) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_was_freed_in_small_pieces_is_given_back() -> None:
    process = psutil.Process()
    pieces = [torch.ones(20_000) for _ in range(2000)]  # 80 kB each: below what glibc maps by itself
    full = process.memory_info().rss
    pieces[:-1] = []  # the last one keeps the heap from shrinking by itself
    device.give_back()
    assert full - process.memory_info().rss > 100 * 10**6


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
        faults_of_ten()  # the heap grows until there is a hole of this size that nothing small lies in
        inside = faults_of_ten()
        kept = psutil.Process().memory_info().rss
    assert inside < outside / 10
    assert psutil.Process().memory_info().rss < kept - 2 * large


def attention_of(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    rows = (tensor.transpose(1, 2) for tensor in (query, key, value))  # xformers: batch, tokens, heads, numbers
    return torch.nn.functional.scaled_dot_product_attention(*rows).transpose(1, 2)


def without_a_gradient(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return attention_of(query.detach(), key.detach(), value.detach())


def test_xformers_is_believed_only_where_its_attention_and_its_gradient_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setitem(sys.modules, "xformers", None)
    device.require_xformers(False, cpu)
    with pytest.raises(MissingExtraError, match=r"xformers does not run here \(.*set attention=torch"):
        device.require_xformers(True, cpu)

    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    with pytest.raises(MissingExtraError, match="cannot import name"):
        device.require_xformers(True, cpu)
    ops.memory_efficient_attention = without_a_gradient  # type: ignore[attr-defined]
    with pytest.raises(MissingExtraError, match="does not require grad"):
        device.require_xformers(True, cpu)
    ops.memory_efficient_attention = attention_of  # type: ignore[attr-defined]
    device.require_xformers(True, cpu)


@pytest.mark.gpu
def test_attention_of_xformers_is_that_of_torch() -> None:
    ops = pytest.importorskip("xformers.ops")
    query = torch.randn(2, 64, 4, 40, device="cuda", dtype=torch.float16)
    difference = ops.memory_efficient_attention(query, query, query) - attention_of(query, query, query)
    assert difference.abs().max() < 5e-3
