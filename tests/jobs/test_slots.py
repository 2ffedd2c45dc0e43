import json

import pytest

from studio.core import machine
from studio.core.config import GenerateConfig
from studio.core.domain import JobFacts
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs import slots
from studio.jobs.queue import Claim
from studio.jobs.slots import Sharing, kinds_beside, slots_of

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


GB = 10**9
TRAINING = Claim("train-1", "train", 1)
TWO = ({"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"})


@pytest.fixture
def sharing(tmp_path):
    """Return a function that makes one over made-up GPUs, with a training and pictures that ask for its base."""
    requests = {"train-1": TrainConfig(base="sd15"), "generate-1": GenerateConfig(prompts=("a",))}
    for name, config in requests.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "request.json").write_text(json.dumps({"config": config.model_dump(mode="json")}))

    def make(memory_gb, own=TWO, **settings):
        memory = None if memory_gb is None else memory_gb * GB
        return Sharing(Settings(**{"device": "cuda", **settings}), own, tmp_path, lambda slot: memory)

    return make


def takes(sharing, slot, base="sd15", job="generate-1"):
    """Ask for pictures with a base; None if none suit, or if nobody was asked."""
    return sharing.take(slot, lambda suits: Claim(job, "generate", 1) if suits(job, JobFacts(base=base)) else None)


@pytest.mark.parametrize(
    ("memory_gb", "base", "fits"),
    [
        (24, "sd15", True),
        (8, "sd15", False),
        (24, "flux", False),
        (24, "unknown/base", False),
        (None, "sd15", False),
    ],
)
def test_pictures_are_made_beside_a_training_where_the_memory_of_both_fits(sharing, memory_gb, base, fits):
    one = sharing(memory_gb)
    beside = one.beside[0]
    assert beside["CUDA_VISIBLE_DEVICES"] == "0"
    assert takes(one, beside, base) is None  # no training
    one.begins(TWO[0], TRAINING)
    assert takes(one, one.beside[1], base) is None  # its GPU is another one
    assert (takes(one, beside, base) is not None) is fits
    assert one.may_begin(TWO[0]) is not fits and one.may_begin(TWO[1])


def test_what_comes_after_the_training_waits_for_the_pictures_and_no_new_ones_come_first(sharing):
    one = sharing(24)
    one.begins(TWO[0], TRAINING)
    assert takes(one, one.beside[0]) is not None
    assert one.blocked() == 0, "its slot is taken"
    one.ends(TWO[0])  # the training
    assert not one.may_begin(TWO[0]) and one.blocked() == 1
    one.ends(one.beside[0])
    assert one.may_begin(TWO[0]) and one.blocked() == 0
    assert takes(one, one.beside[0]) is None


def test_pictures_of_a_damaged_job_or_beside_one_or_beside_no_training_are_not_taken(sharing, tmp_path):
    one = sharing(24)
    one.begins(TWO[0], Claim("export-1", "export", 1))
    assert takes(one, one.beside[0]) is None
    one.begins(TWO[0], TRAINING)
    assert takes(one, one.beside[0], job="generate-2") is None
    (tmp_path / "train-1" / "request.json").write_text("{")
    one.begins(TWO[0], TRAINING)
    assert takes(one, one.beside[0]) is None
    assert one.may_begin(TWO[0])


@pytest.mark.parametrize(
    "settings", [{"device": "cpu"}, {"device": "mps"}, {"share_gpu": False}, {"runner": "ray"}, {"runner": "ssh:host"}]
)
def test_elsewhere_a_device_has_one_job_at_a_time(sharing, settings):
    assert sharing(24, **settings).beside == ()


def test_the_memory_of_a_gpu_is_its_own_or_that_of_the_smallest(monkeypatch):
    found = tuple(machine.Gpu("a GPU", 0, gb * GB) for gb in (24, 8))
    monkeypatch.setattr(machine, "gpus", lambda: found)
    asked = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}, {"CUDA_VISIBLE_DEVICES": "GPU-5ab1"}, {}]
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert [slots.gpu_bytes(slot) for slot in asked] == [8 * GB] * 4, "CUDA may count them in another order"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [slots.gpu_bytes(slot) for slot in asked] == [24 * GB, 8 * GB, 8 * GB, 8 * GB]
    monkeypatch.setattr(machine, "gpus", lambda: ())
    assert slots.gpu_bytes({}) is None
