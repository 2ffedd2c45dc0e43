from typing import Any

import pytest
import torch

from studio.exporting import reload


@pytest.mark.parametrize(("free_bytes", "expected"), [(1100, "cuda"), (600, "parts on cuda"), (400, "layers on cuda")])
def test_the_process_holds_only_a_part_on_a_gpu_that_has_no_room_for_all(
    monkeypatch: pytest.MonkeyPatch, free_bytes: int, expected: str
) -> None:
    class Pipeline:
        def __init__(self) -> None:
            # 400 bytes each
            self.components = {name: torch.nn.Linear(10, 10, bias=False) for name in ("unet", "vae")}
            self.placed = ""

        def to(self, device: torch.device) -> None:
            self.placed = device.type

        def enable_model_cpu_offload(self, device: torch.device) -> None:
            self.placed = f"parts on {device.type}"

        def enable_group_offload(self, onload_device: torch.device, **_: Any) -> None:
            self.placed = f"layers on {onload_device.type}"

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, 2 * free_bytes))
    pipeline = Pipeline()
    reload._place(pipeline, torch.device("cuda"))
    assert pipeline.placed == expected
