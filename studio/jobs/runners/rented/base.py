"""What is asked of a service that rents machines out; ``vast`` and ``hf_jobs`` answer it.

Every answer is taken for what it says or for nothing: a listing that is not whole, comes late or cannot be read raises
ResourceError, and never means that nothing runs. What is rented carries a label, by which it is found again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from studio.core.errors import StudioError

APP = "likeness-studio"

MachineState = Literal["starting", "running", "over"]


class RefusedError(StudioError):
    """The service says clearly that it does not do this: nothing was rented."""

    status = 502


@dataclass(frozen=True, slots=True)
class Label:
    """For what a machine is rented."""

    installation: str
    job: str
    """Empty where a label of this installation says no more."""
    attempt: int

    def __str__(self) -> str:
        return f"{APP}/{self.installation}/{self.job}/{self.attempt}"

    @classmethod
    def read(cls, text: object, installation: str) -> "Label | None":
        """Return the label that a text is; None for machines that are not of this installation."""
        words = text.split("/") if isinstance(text, str) else []
        if words[:2] != [APP, installation]:
            return None
        if len(words) == 4 and words[3].isdecimal():
            return cls(installation, words[2], int(words[3]))
        return cls(installation, "", 0)


@dataclass(frozen=True, slots=True)
class Wants:
    """Which machine is wanted."""

    gpu: str
    """Name of its GPU or of its kind, empty for any."""
    memory_gb: float
    disk_gb: int
    max_price_per_hour: float
    """US dollars."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that can be rented; all money is US dollars."""

    id: str
    what: str
    """In words, ``RTX 4090, 24 GB``."""
    price_per_hour: float
    extra: float = 0.0
    """Most that traffic costs beside that."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a rented machine does."""

    image: str
    command: tuple[str, ...]
    secrets: Mapping[str, str]
    """Variables for that command that the service shows to nobody, where it can."""
    disk_gb: int
    max_s: float
    """The service ends it by then, where it can."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is rented, and costs money."""

    id: str
    label: Label
    state: MachineState
    """``over``: what it did has ended, but it is still there."""
    price_per_hour: float | None = None


class Service(Protocol):
    """A service that rents machines out.

    Every call raises ResourceError when the answer is not clear, and InputError when the key is not accepted.
    """

    name: str
    """As ``STUDIO_RUNNER`` names it."""
    installation: str
    """Whose machines it sees."""

    def offers(self, wants: Wants) -> list[Offer]:
        """Return what is on offer and fits, the cheapest first."""

    def create(self, offer: Offer, label: Label, start: Start) -> str:
        """Rent a machine; return its id.

        Raises:
            RefusedError: it was clearly not rented. ResourceError: nobody knows.
        """

    def machines(self) -> list[Machine]:
        """Return all machines of this installation that may cost money."""

    def look(self, machine_id: str) -> Machine | None:
        """Return a machine; None if it is clearly gone."""

    def destroy(self, machine_id: str) -> None:
        """Give a machine back with everything on it; one that is gone is no error. ``look`` says when it is done."""
