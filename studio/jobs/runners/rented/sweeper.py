"""Gives back what is rented for nobody: machines are listed by their label, whatever this server remembers."""

import logging
from dataclasses import dataclass, field

from studio.core.errors import StudioError
from studio.jobs.queue import JobQueue
from studio.jobs.runners.rented.launcher import RentLauncher

logger = logging.getLogger(__name__)


@dataclass
class Swept:
    """What a sweep has found."""

    kept: list[str] = field(default_factory=list)
    """Machines of attempts that count."""
    given_back: list[str] = field(default_factory=list)
    """Machines of nobody; each was seen to be gone."""
    left: dict[str, str] = field(default_factory=dict)
    """Machines that may still run, or ``*`` for the whole list, and why."""


def sweep(launcher: RentLauncher, store: JobQueue) -> Swept:
    """Give back every machine of this installation that belongs to no attempt which counts.

    Where it cannot be seen clearly what runs, nothing is concluded from that: it is reported in ``left``, and the next
    sweep tries again.
    """
    swept = Swept()
    try:
        machines = launcher.service.machines()
        for machine in machines:
            if launcher.belongs(machine):
                swept.kept.append(machine.id)
                continue
            logger.warning("machine %s (%s) belongs to no attempt; it is given back", machine.id, machine.label)
            try:
                launcher.end(machine)
                swept.given_back.append(machine.id)
            except StudioError as error:
                swept.left[machine.id] = str(error)
        _settle(launcher, store, {machine.id for machine in machines}, swept)
    except StudioError as error:
        swept.left["*"] = str(error)
    for machine_id, why in swept.left.items():
        logger.error("rented machines: %s: %s", machine_id, why)
    return swept


def _settle(launcher: RentLauncher, store: JobQueue, listed: set[str], swept: Swept) -> None:
    """Write down of machines that are in no list any more that they are gone."""
    for row in store.rentals.open_ones(launcher.name):
        try:
            if row.machine is None:
                if not store.is_attempt(row.job, row.attempt) and launcher.is_settled(row):
                    store.rentals.drop(row.label)
            elif row.machine not in listed and launcher.is_gone(row.machine):
                launcher.close(row.machine)
        except StudioError as error:
            swept.left[row.machine or row.label] = str(error)
