"""What an installation can run jobs on: its own devices, the runner that was chosen, and machines that are rented.

Called by the commands ``runners``; it starts nothing and rents nothing.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from studio.core import machine
from studio.core.errors import InputError, Problem, StudioError
from studio.core.settings import Settings
from studio.core.units import dollars
from studio.jobs.runners.local import LocalRunner
from studio.jobs.slots import slots_of
from studio.jobs.states import VERBS
from studio.jobs.store import open_store

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class RunnerView:
    """One runner."""

    name: str
    chosen: bool
    """Whether jobs that need a GPU go to it."""
    alive: bool | None
    """Whether it can be reached now; None where nobody can ask."""
    cause: str = ""
    """Why not, in words."""
    slots: int = 1
    """Jobs that it runs at the same time."""
    device: str = ""
    price: str = ""
    """What it costs, in words; empty for machines of one's own."""


@dataclass(frozen=True, slots=True)
class RentedView:
    """One machine that is rented now, or may be."""

    machine: str | None
    service: str
    job: str
    attempt: int
    state: str
    """``starting``, ``running``, ``over``; ``unknown`` where it is in no list."""
    price_per_hour: float | None
    since_s: float | None
    """When it was asked for, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of it; money is US dollars."""

    runners: tuple[RunnerView, ...]
    rented: tuple[RentedView, ...] = ()
    money: dict[str, Any] | None = None
    """``month``, ``spent``, ``reserved``, ``budget``; None where nothing can be rented."""


@dataclass
class _Found:
    rented: list[RentedView] = field(default_factory=list)
    money: dict[str, Any] | None = None


def look(settings: Settings) -> Inventory:
    """Return what is there; what cannot be reached says why.

    Raises:
        StudioError: the table of jobs cannot be read.
    """
    here = machine.look(settings.device)
    is_here = settings.runner == LOCAL
    slots = len(slots_of(settings.model_copy(update={"runner": LOCAL})))
    local = RunnerView(LocalRunner.name, is_here, True, "", slots, here.kind)
    if is_here:
        return Inventory((local,))
    found = _Found()
    kind = settings.runner.partition(":")[0]
    view = LOOKS.get(kind, _look_elsewhere)(settings, found)
    return Inventory((local, view), tuple(found.rented), found.money)


def _look_elsewhere(settings: Settings, found: _Found) -> RunnerView:
    return RunnerView(settings.runner, True, None, "this runner cannot be asked", len(slots_of(settings)))


def _look_there(settings: Settings, found: _Found) -> RunnerView:
    """See whether the machine, or the cluster, is reached."""
    from studio.jobs.runners.opened import launcher_of

    launcher = launcher_of(settings)
    try:
        launcher.reach()
    except StudioError as error:
        return RunnerView(settings.runner, True, False, str(error), len(slots_of(settings)))
    finally:
        launcher.hang_up()
    return RunnerView(settings.runner, True, True, "", len(slots_of(settings)))


def _look_rented(settings: Settings, found: _Found) -> RunnerView:
    """Ask the service for what it has on offer and what is rented; the books for what it costs."""
    from studio.jobs.runners.rented.opened import open_rented

    home = settings.home.expanduser().absolute()
    store = open_store(settings, home, VERBS)
    try:
        _, runner = open_rented(settings, home, store, grace_s=1.0)
        launcher = runner.launcher
        money = store.rentals.money()
        found.money = {
            "month": money.month,
            "spent": money.spent,
            "reserved": money.reserved,
            "budget": settings.rent_monthly_budget,
        }
        books = {row.machine or row.label: row for row in store.rentals.open_ones(launcher.name)}
        cause, price, alive = "", "", True
        try:
            listed = launcher.service.machines()
            for rented in listed:
                row = books.pop(rented.id, None)
                hourly = rented.price_per_hour if row is None else row.price_per_hour
                label, since_s = rented.label, None if row is None else row.begun_s
                found.rented.append(
                    RentedView(rented.id, launcher.name, label.job, label.attempt, rented.state, hourly, since_s)
                )
            offers = launcher.service.offers(launcher.wants)
            price = f"{dollars(offers[0].price_per_hour)} an hour ({offers[0].what})" if offers else "nothing on offer"
        except StudioError as error:
            alive, cause = False, str(error)
        for row in books.values():
            hourly, since_s = row.price_per_hour, row.begun_s
            found.rented.append(
                RentedView(row.machine, launcher.name, row.job, row.attempt, "unknown", hourly, since_s)
            )
        return RunnerView(settings.runner, True, alive, cause, len(slots_of(settings)), launcher.wants.gpu, price)
    except StudioError as error:
        return RunnerView(settings.runner, True, False, str(error), len(slots_of(settings)))
    finally:
        store.close()


LOOKS: dict[str, Callable[[Settings, _Found], RunnerView]] = {
    "ssh": _look_there,
    "ray": _look_there,
    "vast": _look_rented,
    "hf_jobs": _look_rented,
}
"""Kind of runner -> what asks it."""


def sweep_now(settings: Settings) -> dict[str, Any]:
    """Give back what is rented for nobody, as the clock does.

    Returns:
        ``kept``, ``given_back``, ``left``; see ``rented.sweeper.Swept``.

    Raises:
        InputError: nothing is rented here, or settings lack. StudioError: the table of jobs cannot be read.
    """
    from studio.jobs.runners.rented.opened import SERVICES, open_rented
    from studio.jobs.runners.rented.sweeper import sweep

    if settings.runner not in SERVICES:
        cure = f"set it to {' or '.join(SERVICES)} to look after machines that are rented there"
        raise InputError.of([Problem("STUDIO_RUNNER", "rents no machines", cure, "not_rented")])
    home = settings.home.expanduser().absolute()
    store = open_store(settings, home, VERBS)
    try:
        _, runner = open_rented(settings, home, store, grace_s=1.0)
        return asdict(sweep(runner.launcher, store))
    finally:
        store.close()
