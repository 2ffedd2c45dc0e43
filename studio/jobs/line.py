"""The line of waiting jobs: in which order they will be served, and about when.

The order is that of ``Store.claim``: owners take turns, whoever was served longest ago comes first, and each one's
oldest job goes first.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that only waits for its turn."""

    id: str
    owner: str
    turn: int
    """When the owner was served last, counted in jobs; 0 for never."""
    kind: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands in the line."""

    number: int
    """1 for the job that is served next."""
    starts_in_s: float | None
    """An estimate in seconds; None where nothing is known of a job before it."""


def served_in_order(waiting: Sequence[Waiting]) -> list[Waiting]:
    """Return jobs in the order in which they will be served.

    Args:
        waiting: jobs of all owners, the oldest first.
    """
    of_owner: dict[str, list[Waiting]] = {}
    for job in waiting:
        of_owner.setdefault(job.owner, []).append(job)
    newest = max((job.turn for job in waiting), default=0)
    # Owners by turn; of two who were never served the one with the older job.
    turns = [(jobs[0].turn, number, owner) for number, (owner, jobs) in enumerate(of_owner.items())]
    heapq.heapify(turns)
    served = []
    while turns:
        _, number, owner = heapq.heappop(turns)
        served.append(of_owner[owner].pop(0))
        if of_owner[owner]:
            newest += 1
            heapq.heappush(turns, (newest, number, owner))
    return served


def places(
    waiting: Sequence[Waiting], left_s: Sequence[float | None], usual_s: Mapping[str, float]
) -> dict[str, Place]:
    """Return the place of each waiting job.

    Args:
        waiting: jobs of all owners, the oldest first.
        left_s: for each job that runs now how long it will still take, None where that is unknown.
        usual_s: kind of job -> how long one usually takes.

    Returns:
        Job id -> place.
    """
    # An unknown time is endless: whatever waits behind it has no estimate, and a free slot goes first.
    free = [float("inf") if left is None else left for left in left_s] or [0.0]
    heapq.heapify(free)
    found = {}
    for number, job in enumerate(served_in_order(waiting), 1):
        start = heapq.heappop(free)
        found[job.id] = Place(number, None if start == float("inf") else start)
        heapq.heappush(free, start + usual_s.get(job.kind, float("inf")))
    return found


def usual_times(finished: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return kind -> median of how long its newest finished jobs took, from pairs of kind and seconds."""
    by_kind: dict[str, list[float]] = {}
    for kind, seconds in finished:
        by_kind.setdefault(kind, []).append(seconds)
    return {kind: median(times) for kind, times in by_kind.items()}
