"""What the worker may run side by side: one job for each GPU, or one job; and beside them what needs no device.

Pictures are also made beside a training, on its own GPU, where the fit plan has room for both and no GPU is free.
Two GPUs on one subject gain about a quarter; two subjects on two GPUs gain twofold.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from studio.core import fit, machine
from studio.core.config import GenerateConfig
from studio.core.domain import JobFacts, JobKind
from studio.core.errors import StudioError
from studio.core.files import read_json
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs.child import REQUEST_FILE
from studio.jobs.queue import Claim, Suits

Slot = dict[str, str]
"""Variables of the environment that tie a job's process to its device."""

RENTING = ("vast", "hf_jobs")
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
    if settings.runner in RENTING:
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


def device_of(slot: Mapping[str, str]) -> str:
    """Return what tells the device of a slot from that of others."""
    return slot.get(_VISIBLE, "")


class Sharing:
    """Which pictures are made beside a training on its own GPU, and who has the GPU next.

    Only while every slot is taken, one of them by a training on this machine. What comes to the slot after that
    training waits until the pictures are made: nobody has looked whether both fit.

    Args:
        settings: with the devices, and the folder where fit plans are.
        slots: of the worker.
        jobs_dir: folder that holds one folder per job.
        memory_of: slot -> memory of its GPU, bytes; None where it is not known.
    """

    def __init__(
        self,
        settings: Settings,
        slots: Sequence[Slot],
        jobs_dir: Path,
        memory_of: Callable[[Slot], int | None] = lambda slot: gpu_bytes(slot),
    ) -> None:
        self._home = settings.home.expanduser().absolute()
        self._jobs_dir = jobs_dir
        self._memory_of = memory_of
        on_gpu = settings.runner == "local" and machine.look(settings.device).kind == "cuda"
        # A process beside a training keeps no base: what it would keep was not counted.
        beside = [{**slot, "STUDIO_WARM_MAX_BYTES": "0"} for slot in slots]
        self.beside: tuple[Slot, ...] = tuple(beside) if on_gpu and settings.share_gpu else ()
        """One more slot for each GPU."""
        self._slots = tuple(slots)
        self._memory: dict[str, int | None] = {}
        self._left_bytes: dict[str, int] = {}
        """What the training on a device leaves."""
        self._drawing: set[str] = set()
        self._deciding = threading.Lock()

    def may_begin(self, slot: Slot) -> bool:
        """Tell whether a slot may take a job, whichever comes: not while pictures are made beside."""
        with self._deciding:
            return device_of(slot) not in self._drawing

    def blocked(self) -> int:
        """Return how many slots may take nothing though they run nothing: pictures beside them outlasted a training."""
        with self._deciding:
            return len(self._drawing - self._left_bytes.keys())

    def begins(self, slot: Slot, claim: Claim) -> None:
        """Note what a slot runs."""
        if claim.kind == "train" and self.beside:
            left_bytes = self._left_by(claim, slot)
            with self._deciding:
                self._left_bytes[device_of(slot)] = left_bytes

    def ends(self, slot: Slot) -> None:
        """Note that a slot runs nothing any more, or that the pictures beside it are made."""
        with self._deciding:
            if any(slot is one for one in self.beside):
                self._drawing.discard(device_of(slot))
            else:
                self._left_bytes.pop(device_of(slot), None)

    def take(self, slot: Slot, claim: Callable[[Suits], Claim | None]) -> Claim | None:
        """Take pictures for a slot beside a training, if some fit.

        Args:
            slot: one of ``beside``.
            claim: takes a job that suits.
        """
        device = device_of(slot)
        with self._deciding:
            left_bytes = self._left_bytes.get(device, 0)
            if left_bytes <= 0:
                return None
            self._drawing.add(device)  # before asking: the training may end meanwhile
        taken = None
        try:
            taken = claim(lambda job_id, facts: self._fits(job_id, facts, left_bytes))
        finally:
            if taken is None:
                with self._deciding:
                    self._drawing.discard(device)
        return taken

    def _left_by(self, training: Claim, slot: Slot) -> int:
        try:
            config = TrainConfig.parse(self._config_of(training.id))
        except StudioError:
            return 0
        device = device_of(slot)
        if device not in self._memory:
            self._memory[device] = self._memory_of(slot)
        plan = fit.plan_of(config, 1, fit.recall(self._home, config), room_bytes=self._memory[device])
        return fit.bytes_beside(plan)

    def _fits(self, job_id: str, facts: JobFacts, left_bytes: int) -> bool:
        try:
            wanted = fit.drawing_bytes(facts.base, GenerateConfig.parse(self._config_of(job_id)))
        except StudioError:
            return False
        return wanted is not None and wanted <= left_bytes

    def _config_of(self, job_id: str) -> object:
        request = read_json(self._jobs_dir / job_id / REQUEST_FILE)
        return request.get("config") if isinstance(request, dict) else None


def gpu_bytes(slot: Slot) -> int | None:
    """Return the memory of a slot's GPU; that of the smallest one where its name does not tell which it is."""
    found = [gpu.total_bytes for gpu in machine.gpus()]
    name = device_of(slot)
    # CUDA counts the fastest first unless it is told otherwise, and those who list them count by their place.
    in_order = len(set(found)) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if name.isdecimal() and int(name) < len(found) and in_order:
        return found[int(name)]
    return min(found, default=None)
