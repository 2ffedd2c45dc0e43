"""Rents a machine for each attempt, and gives it back.

Before one is rented it is seen clearly that none of the job is there; a request whose answer was lost is looked for by
its label, and while nobody knows what became of it, no other one is made.
"""

import inspect
import logging
import time
from dataclasses import dataclass

from studio.core.errors import InputError, Problem, ResourceError, StudioError
from studio.core.units import dollars, duration_text, gigabytes_text
from studio.jobs.queue import JobQueue
from studio.jobs.rentals import Money, Rental
from studio.jobs.runners.agents import Launcher
from studio.jobs.runners.desk import AgentDesk, GoneError
from studio.jobs.runners.needs import NEEDS
from studio.jobs.runners.rented import start
from studio.jobs.runners.rented.base import Label, Machine, Offer, RefusedError, Service, Start, Wants
from studio.jobs.runners.rented.money import Bounds, NotYetError, most_for, seconds_for, too_dear
from studio.jobs.runners.ticket import Ticket

logger = logging.getLogger(__name__)

_MOST_TRIES = 5
"""Offers that are asked for, one after the other, before it is given up."""
_PRICE_SLACK = 1.05
"""A machine that costs so much more than was offered is given back at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things are waited for, seconds."""

    pauses_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
    """Between two looks at what a service has done."""
    unclear_s: float = 600.0
    """So long an attempt waits for a clear answer before it begins."""
    settled_s: float = 900.0
    """A machine that was asked for and is in no list after so long was never rented."""
    again_s: float = 15.0
    """Between two looks at whether money, or a clear answer, is there."""
    look_s: float = 30.0
    """Between two looks at a machine that is silent."""


@dataclass(frozen=True, slots=True)
class Terms:
    """For how long a machine is rented."""

    since_s: float
    """On the monotonic clock."""
    max_s: float
    price_per_hour: float


class RentLauncher(Launcher):
    """Rents machines of one service.

    Args:
        service: rents them out.
        desk: gives out tickets, and knows which attempt is still to begin.
        store: with the rentals, and told what is done.
        address: of this server, as those machines reach it.
        wants: which machine.
        bounds: what may be spent.
        image: what it starts.
        pace: how long things are waited for.
    """

    def __init__(
        self,
        service: Service,
        desk: AgentDesk,
        store: JobQueue,
        address: str,
        wants: Wants,
        bounds: Bounds,
        image: str,
        pace: Pace | None = None,
    ) -> None:
        self.name = service.name
        self.address = address.rstrip("/")
        self.service = service
        self._desk = desk
        self._store = store
        self._rentals = store.rentals
        self.wants = wants
        self.bounds = bounds
        self._image = image
        self._pace = pace or Pace()
        self._terms: dict[str, Terms] = {}
        self._seen: dict[str, tuple[float, bool]] = {}
        """Machine -> when it was looked at, and whether it ran."""

    def terms(self, place: str | None) -> Terms | None:
        """Return for how long a machine is rented; None where none is."""
        return self._terms.get(place or "")

    def launch(self, ticket: Ticket) -> str:
        """Rent a machine that fetches the ticket; return its id.

        Raises:
            InputError: none is allowed, for the reasons given. GoneError: the attempt is over.
            ResourceError: none can be had now, or nobody knows.
        """
        label = Label(self.service.installation, ticket.job, ticket.attempt)
        self._see_clearly(label)
        refused: StudioError | None = None
        for offer in self._offers()[:_MOST_TRIES]:
            seconds = self._reserve(label, offer)
            began_s = time.monotonic()
            try:
                place = self._create(label, offer, ticket, seconds)
            except RefusedError as error:
                self._rentals.drop(str(label))
                refused = error
                continue
            self._terms[place] = Terms(began_s, seconds, offer.price_per_hour)
            self._check_price(place, offer)
            self._tell(
                ticket.job,
                f"Rented a machine ({offer.what}) for {dollars(offer.price_per_hour)} an hour, for"
                f" {duration_text(seconds)} at most.",
            )
            return place
        raise ResourceError(str(refused))

    def is_alive(self, place: str) -> bool:
        """Tell whether a machine is there and works."""
        looked_s, alive = self._seen.get(place, (-self._pace.look_s, True))
        if time.monotonic() - looked_s >= self._pace.look_s:
            try:
                machine = self.service.look(place)
            except InputError as error:  # the key is no longer accepted: nobody knows
                raise ResourceError(str(error)) from error
            alive = machine is not None and machine.state != "over"
            self._seen[place] = time.monotonic(), alive
        return alive

    def kill(self, place: str) -> None:
        """Give a machine back, and see that it is gone; raises ResourceError where that cannot be seen."""
        self.give_back(place)
        self._terms.pop(place, None)
        self._seen.pop(place, None)

    def end(self, machine: Machine) -> None:
        """Give a machine back that was found in a list, also one of which nobody knew that it was rented."""
        self._rentals.rented(str(machine.label), machine.id)
        self.give_back(machine.id)

    def give_back(self, place: str) -> float | None:
        """Give a machine back, and see that it is gone.

        Returns:
            What it has cost, US dollars; None if that was written down before.

        Raises:
            ResourceError: nobody can say that it is gone.
        """
        said: StudioError | None = None
        for pause_s in (0.0, *self._pace.pauses_s):
            time.sleep(pause_s)
            try:
                self.service.destroy(place)
            except StudioError as error:
                said = error
            try:
                if self.is_gone(place):
                    return self.close(place)
            except StudioError as error:
                said = error
        raise ResourceError(f"machine {place} of {self.name} may still run and cost money ({said or 'it is listed'}).")

    def is_gone(self, place: str) -> bool:
        """Tell whether a machine is gone: it is found neither by its id nor in a list that is whole."""
        return self.service.look(place) is None and place not in {machine.id for machine in self.service.machines()}

    def close(self, place: str) -> float | None:
        """Write down that a machine is gone, and what it has cost; return that, None if that is known."""
        job = next((row.job for row in self._rentals.open_ones(self.name) if row.machine == place), "")
        cost: float | None = self._rentals.gone(self.name, place)
        if cost is not None:
            self._tell(job, f"The rented machine was given back; it has cost {dollars(cost)} at most.")
        return cost

    def belongs(self, machine: Machine) -> bool:
        """Tell whether a machine is that of an attempt which still counts; raises ResourceError."""
        return bool(self._store.is_attempt(machine.label.job, machine.label.attempt))

    def is_settled(self, row: Rental) -> bool:
        """Tell whether a machine that was asked for and is in no list was never rented."""
        return bool(self._rentals.age_s(row) >= self._pace.settled_s)

    # Below: steps of a launch

    def _see_clearly(self, label: Label) -> None:
        """Wait until it is clear that no machine of this job is there; give earlier ones back."""
        give_up_s = time.monotonic() + self._pace.unclear_s
        while True:
            try:
                for machine in self.service.machines():
                    if machine.label.job == label.job:
                        self.end(machine)
                doubtful = self._doubtful(label.job)
                if doubtful is None:
                    return
                error: StudioError = ResourceError(doubtful)
            except ResourceError as found:
                error = found
            if time.monotonic() >= give_up_s:
                raise error
            self._wait(label)

    def _doubtful(self, job: str) -> str | None:
        """Return why a machine of this job may still run that is in no list."""
        for row in self._rentals.open_ones(self.name, job):
            if row.machine is not None:
                if self.is_gone(row.machine):
                    self.close(row.machine)
                    continue
                return f"machine {row.machine} of {self.name} may still run."
            if not self.is_settled(row):
                return (
                    f"{self.name} has not said whether it rented a machine for this job; another one would cost twice."
                )
            self._rentals.drop(row.label)
        return None

    def _offers(self) -> list[Offer]:
        offers = self.service.offers(self.wants)
        if not offers:
            wants = self.wants
            gpu = f"{wants.gpu} with" if wants.gpu else "a GPU with"
            memory, most = gigabytes_text(wants.memory_gb), dollars(wants.max_price_per_hour)
            words = f"finds no machine on offer at {self.name} that has {gpu} {memory} for {most} or less"
            cure = "raise it, lower STUDIO_RENT_MEMORY_GB or change STUDIO_RENT_GPU, or retry the job later"
            raise InputError.of([Problem("STUDIO_RENT_MAX_PRICE_PER_HOUR", words, cure, "rent_offers")])
        return offers

    def _reserve(self, label: Label, offer: Offer) -> float:
        """Reserve the money for a machine, and wait while it is reserved for others; return for how many seconds."""
        rental = {
            "label": str(label), "service": self.name, "job": label.job, "attempt": label.attempt, "what": offer.what,
            "price_per_hour": offer.price_per_hour, "extra": offer.extra,
        }  # fmt: skip
        told = False
        seconds = 0.0

        def afford(money: Money) -> float:
            nonlocal seconds
            seconds = seconds_for(self.bounds, offer.price_per_hour, offer.extra, money)
            return most_for(offer.price_per_hour, offer.extra, seconds)

        while True:
            try:
                self._rentals.reserve(rental, afford)
                return seconds
            except NotYetError:
                if not told:
                    told = True
                    self._tell(label.job, "Waits: the rest of the month's budget is reserved for jobs that run now.")
                self._wait(label)

    def _create(self, label: Label, offer: Offer, ticket: Ticket, seconds: float) -> str:
        secrets = {
            "STUDIO_START_URL": f"{self.address}/attempts/{ticket.job}/{ticket.attempt}",
            "STUDIO_START_TOKEN": ticket.token,
        }
        command = ("python3", "-c", inspect.getsource(start), *NEEDS)
        try:
            place = self.service.create(
                offer, label, Start(self._image, command, secrets, self.wants.disk_gb, max_s=seconds)
            )
        except ResourceError as error:
            logger.warning("job %s: %s It is looked for.", ticket.job, error)
            place = self._lost_one(label, error)
        self._rentals.rented(str(label), place)
        return place

    def _lost_one(self, label: Label, error: ResourceError) -> str:
        """Find the machine that was asked for with an answer that is lost."""
        for pause_s in (0.0, *self._pace.pauses_s):
            time.sleep(pause_s)
            try:
                found = next((machine for machine in self.service.machines() if machine.label == label), None)
            except ResourceError as unclear:
                error = unclear
                continue
            if found is not None:
                return found.id
        raise error

    def _check_price(self, place: str, offer: Offer) -> None:
        """Give a machine back that costs more than was offered."""
        try:
            machine = self.service.look(place)
        except ResourceError:  # the watchdogs know the price that was offered, and the time
            return
        price = machine.price_per_hour if machine is not None else None
        if price is not None and price > max(self.bounds.max_price_per_hour, offer.price_per_hour * _PRICE_SLACK):
            self.kill(place)
            raise too_dear(price, self.bounds)

    def _wait(self, label: Label) -> None:
        time.sleep(self._pace.again_s)
        if not self._desk.is_wanted(label.job, label.attempt):
            raise GoneError("The attempt was ended before a machine was rented for it.")

    def _tell(self, job_id: str, text: str) -> None:
        try:
            self._store.tell(job_id, "info", text)
        except StudioError:
            logger.info("job %s: %s", job_id, text)
