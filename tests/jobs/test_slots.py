import pytest

from studio.core.settings import Settings
from studio.jobs.slots import kinds_beside, slots_of

AUTO = {"device": "auto", "gpus": "auto"}


@pytest.mark.parametrize(
    ("settings", "visible", "files", "expected"),
    [
        (AUTO, None, 0, [None]),
        (AUTO, None, 1, [None]),
        (AUTO, None, 3, ["0", "1", "2"]),
        (AUTO, "2, 3", 4, ["2", "3"]),
        (AUTO, "", 4, [None]),  # hidden on purpose
        ({**AUTO, "gpus": "0,GPU-5ab1"}, "7", 1, ["0", "GPU-5ab1"]),
        ({**AUTO, "gpus": "1"}, None, 2, ["1"]),
        ({"device": "cpu"}, None, 2, [None]),
        ({"device": "auto", "runner": "ray", "runner_jobs": 3}, None, 2, [None] * 3),
        ({**AUTO, "runner_jobs": 3}, None, 2, ["0", "1"]),  # they run here
    ],
)
def test_each_gpu_is_a_slot(tmp_path, monkeypatch, settings, visible, files, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in (*(f"nvidia{number}" for number in range(files)), "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    found = slots_of(Settings(**settings), tmp_path)
    assert found == tuple({} if name is None else {"CUDA_VISIBLE_DEVICES": name} for name in expected)


@pytest.mark.parametrize(("device", "kinds"), [("cpu", {"check", "finish"}), ("cuda", {"check"}), ("mps", {"check"})])
def test_what_needs_no_device_runs_beside(device, kinds):
    assert kinds_beside(Settings(device=device)) == kinds
