"""What the worker may run side by side: one job for each GPU, or one job; and beside them what needs no device.

Two GPUs on one subject gain about a quarter; two subjects on two GPUs gain twofold.
"""

import os
from pathlib import Path

from studio.core import machine
from studio.core.domain import JobKind
from studio.core.settings import Settings

Slot = dict[str, str]
"""Variables of the environment that tie a job's process to its device."""

_RENTED = ("vast", "hf_jobs")
"""Runners that have a machine for each job."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"

BESIDE: Slot = {"STUDIO_DEVICE": "cpu", _VISIBLE: ""}
"""Slot of a job that runs beside those that hold the devices: it must not take their memory."""


def kinds_beside(settings: Settings) -> frozenset[JobKind]:
    """Return the kinds of jobs that do not wait for a device that is busy.

    A photo check is short. Finishing enlarges pictures, which a GPU does many times faster: where there is one, it is
    worth waiting for.
    """
    on_cpu = machine.look(settings.device).kind == "cpu"
    return frozenset({"check", "finish"}) if on_cpu else frozenset({"check"})


def slots_of(settings: Settings, devices_dir: Path = Path("/dev")) -> tuple[Slot, ...]:
    """Return one slot for each GPU that jobs may use, or for each machine that may be rented.

    Without several, that is the one slot that changes nothing.

    Never imports torch: this runs before the first page is shown.

    Args:
        settings: ``gpus`` names them; "auto" takes all NVIDIA GPUs, or those of ``CUDA_VISIBLE_DEVICES`` if it is set.
            Where jobs run on other machines, ``runner_jobs`` says how many.
        devices_dir: where the drivers' device files are.
    """
    if settings.runner in _RENTED:
        return ({},) * settings.rent_machines
    if settings.runner != "local" and settings.runner_jobs is not None:
        return ({},) * settings.runner_jobs
    if settings.device in ("cpu", "mps"):
        return ({},)
    if settings.gpus != "auto":
        names = settings.gpus.split(",")
    elif _VISIBLE in os.environ:
        names = os.environ[_VISIBLE].split(",")
    else:  # their numbers, as CUDA counts them: those of the files may have gaps in a container
        names = [str(number) for number, _ in enumerate(devices_dir.glob("nvidia[0-9]*"))]
    names = [name.strip() for name in names if name.strip()]
    if settings.gpus == "auto" and len(names) < 2:
        return ({},)
    return tuple({_VISIBLE: name} for name in names)
