"""Runs trainings that are killed with SIGKILL at given moments; a program for test_kill_resume.py.

    python killed_trainings.py BASE DATASET OUT '[["name", null], ["other", "step 3"], ["other", null]]'

Each row is one process that trains into OUT/name, and where it kills itself: entering a training step, at several
places in writing a checkpoint, in sampling, in the export, or nowhere. "full 4" fills the disk instead while the
checkpoint of step 4 is written. The processes are forked from this one after the imports, which would cost several
seconds each. The last line of the output lists how they ended: 0, minus the signal, or 3 with a kind error.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from studio import train as train_module
from studio.core.errors import ResourceError
from studio.core.train_config import TrainConfig
from studio.training import checkpoints


def arm(moment: str) -> None:
    """Make this process kill itself at ``moment``, such as "step 3", "save 4" or "sample 2"."""
    kind, _, number = moment.partition(" ")

    def deadly(function: Any, fatal: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if fatal(*args):
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    if kind == "step":
        train_module.train_step = deadly(train_module.train_step, lambda *args: args[4] == int(number))
    elif kind == "write":
        # The adapter is there, what the run goes on from is not.
        checkpoints.write_safetensors = deadly(
            checkpoints.write_safetensors, lambda path, *args: path.parent.name == f".{number}.part"
        )
    elif kind == "save":
        # The files of the checkpoint are there, its DONE is not.
        checkpoints.sync_folder = deadly(
            checkpoints.sync_folder, lambda folder: folder.name == f".{number}.part" and not cut_short(folder)
        )
    elif kind == "sample":
        train_module.evaluate = deadly(train_module.evaluate, lambda *args: args[3] == int(number))
    elif kind == "scores":
        # The pictures are there, their scores are not.
        checkpoints.write_scores = deadly(checkpoints.write_scores, lambda run, step, row: step == int(number))
    elif kind == "export":
        # The adapter's files are copied, their description is not.
        train_module.write_info = deadly(train_module.write_info, lambda *args: True)
    elif kind == "report":
        train_module.draw_curve = deadly(train_module.draw_curve, lambda *args: True)
    elif kind == "full":
        real = checkpoints.save

        def save(run_dir: Path, step: int, *args: Any) -> None:
            if step == int(number):
                resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
            real(run_dir, step, *args)

        checkpoints.save = save
    else:
        raise ValueError(moment)


def cut_short(folder: Path) -> None:
    (folder / checkpoints.DONE_NAME).unlink()


def main() -> None:
    base, dataset, out, plan = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    config = TrainConfig.parse(
        {
            "base": base,
            "class_noun": "woman",
            "steps": 6,
            "batch_size": 2,
            "checkpoint_every_steps": 2,
            "samples_per_checkpoint": 1,
            "sample_steps": 1,
            "learning_rate": 1e-3,
            "token_learning_rate": 5e-3,
            "likeness": "none",
            "certify": False,
            "flip": True,
            "method": {"rank": 2, "dropout": 0.1},
            "prior": {"mode": "prediction", "batch_size": 1},
        }
    )
    ends = []
    for name, moment in plan:
        child = os.fork()
        if child == 0:
            if moment:
                arm(moment)
            try:
                train_module.train(config, dataset, out / name)
            except ResourceError as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(3)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
