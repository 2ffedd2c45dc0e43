import json
from pathlib import Path

import pytest
import torch

from studio.training import checkpoints


def save(run: Path, step: int, value: float = 0.0) -> None:
    checkpoints.save(
        run,
        step,
        {"adapter.x": torch.full((3,), value)},
        {"scaler": {}},
        lambda folder: (folder / "pytorch_lora_weights.safetensors").write_bytes(b"weights %d" % step),
    )


def resumable(run: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in run.glob(f"checkpoints/*/{checkpoints.RESUME_NAME}"))


def test_the_newest_whole_checkpoint_is_taken_up(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    save(tmp_path, 9, 0.9)
    save(tmp_path, 10, 1.0)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.step, found.tensors["adapter.x"].tolist()) == (10, [1.0] * 3)


@pytest.mark.parametrize("damage", ["cut", "no DONE", "empty DONE", "missing file"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 5, 0.5)
    save(tmp_path, 10, 1.0)
    folder = checkpoints.folder_of(tmp_path, 10)
    if damage == "cut":
        path = folder / checkpoints.RESUME_NAME
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "no DONE":
        (folder / checkpoints.DONE_NAME).unlink()
    elif damage == "empty DONE":
        (folder / checkpoints.DONE_NAME).write_text("")
    else:
        (folder / "pytorch_lora_weights.safetensors").unlink()
    found = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 5


def test_a_half_written_folder_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / "checkpoints" / ".10.part").mkdir()
    (tmp_path / "checkpoints" / ".10.part" / checkpoints.RESUME_NAME).write_bytes(b"half")
    found = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 5
    save(tmp_path, 10)
    assert not (tmp_path / "checkpoints" / ".10.part").exists()


def test_pruning_keeps_every_due_adapter_and_the_newest_states(tmp_path: Path) -> None:
    for step in (5, 7, 10, 15, 20):  # 7 is where a run was cancelled
        save(tmp_path, step)
    checkpoints.prune(tmp_path, 2, {5, 10, 15, 20})
    assert resumable(tmp_path) == [15, 20]
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [5, 10, 15, 20]
    assert checkpoints.is_whole(checkpoints.folder_of(tmp_path, 5))
    names = [path.name for path in checkpoints.adapter_files(checkpoints.folder_of(tmp_path, 5))]
    assert names == ["pytorch_lora_weights.safetensors"]


def test_saving_again_replaces_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 5, 0.1)
    save(tmp_path, 5, 0.2)
    found = checkpoints.newest(tmp_path)
    assert found is not None and found.tensors["adapter.x"][0].item() == pytest.approx(0.2)


def test_rewound_metrics_hold_no_step_twice_and_no_half_line(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 1}, {"step": 2, "loss": 1}, {"step": 2, "val_loss": 1}, {"step": 3, "loss": 1}]
    path = tmp_path / checkpoints.METRICS_NAME
    text = "".join(json.dumps(row) + "\n" for row in rows)

    def rewound(step: int, scored: bool) -> list[dict]:
        path.write_text(text + '{"step": 4, "lo')
        checkpoints.rewind_metrics(tmp_path, step, scored=scored)
        return [json.loads(line) for line in path.read_text().splitlines()]

    assert rewound(2, scored=True) == rows[:3]
    assert rewound(2, scored=False) == rows[:2]
    assert rewound(9, scored=True) == rows


def test_scores_are_read_up_to_a_step_in_order(tmp_path: Path) -> None:
    for step in (10, 0, 5):
        checkpoints.write_scores(tmp_path, step, {"step": step})
    assert list(checkpoints.read_scores(tmp_path, 5)) == [0, 5]
