"""What there is of each subject: photo sets, runs, pictures, what is at work. From the owner's jobs, without Gradio."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.core.domain import JobKind, JobView
from studio.web.hearts import hearted
from studio.web.session import StudioSession, is_open

KINDS: tuple[JobKind, ...] = ("check", "train", "generate", "finish", "export", "publish")
"""Kinds of jobs on a shelf, in the order in which they follow each other."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """All jobs about one subject, of each kind the newest first."""

    subject: str
    class_noun: str | None
    jobs: Mapping[JobKind, Sequence[JobView]]

    @property
    def at_work(self) -> list[JobView]:
        """The jobs that have not ended."""
        return [job for kind in KINDS for job in self.jobs[kind] if is_open(job)]

    @property
    def newest_s(self) -> float:
        """When the newest of its jobs was submitted, in seconds since the epoch."""
        return max(job.created_s for jobs in self.jobs.values() for job in jobs)

    @property
    def best_run(self) -> JobView | None:
        """The newest finished run of the highest likeness; an unmeasured one only where there is no other."""
        done = [job for job in self.jobs["train"] if job.result]
        return max(done, key=lambda job: (_likeness_of(job) is not None, _likeness_of(job) or 0.0), default=None)

    @property
    def likeness(self) -> Mapping[str, Any] | None:
        """Likeness of the best run as ``likeness_sentence`` takes it; None where none was measured."""
        run = self.best_run
        mean = _likeness_of(run) if run else None
        if run is None or run.result is None or mean is None:
            return None
        return run.result.get("likeness_summary") or {"mean": mean}


def shelves_of(session: StudioSession) -> list[Shelf]:
    """Return a shelf for each subject of the owner, the one with the newest job first."""
    return shelves_from({kind: session.jobs(kind) for kind in KINDS})


def shelves_from(jobs: Mapping[JobKind, Iterable[JobView]]) -> list[Shelf]:
    """Return a shelf for each subject.

    Args:
        jobs: of each kind the newest first. Those without a subject (pictures with a published adapter, own files that
            were finished) stand on no shelf.
    """
    found: dict[str, dict[JobKind, list[JobView]]] = {}
    for kind, of_kind in jobs.items():
        for job in of_kind:
            if job.facts.subject:
                found.setdefault(job.facts.subject, {name: [] for name in KINDS})[kind].append(job)
    shelves = [Shelf(subject, _class_noun(by_kind), by_kind) for subject, by_kind in found.items()]
    return sorted(shelves, key=lambda shelf: -shelf.newest_s)


def face_of(shelf: Shelf) -> list[tuple[str, str]]:
    """Return where a picture of the subject may lie, best first, as pairs of job and path below its output folder.

    A photo of the subject, and where the photos are gone the most alike picture.
    """
    found = []
    for job in shelf.jobs["check"]:
        verdicts = (job.result or {}).get("verdicts", ())
        good = sorted(verdicts, key=lambda verdict: -(verdict.get("likeness") or 0.0))
        found += [(job.id, row["preview"]) for row in good if row["status"] != "rejected" and row.get("preview")][:1]
    return [*found, *best_pictures(shelf, 1)]


def favourites(shelf: Shelf, count: int) -> list[tuple[str, str]]:
    """Return the pictures with a heart, the newest series first, as pairs of job and path below its output folder."""
    found = [(job.id, file) for job in shelf.jobs["generate"] for file in hearted(job)]
    return found[:count]


def best_pictures(shelf: Shelf, count: int) -> list[tuple[str, str]]:
    """Return the best pictures of the newest jobs, as pairs of job and path below its output folder."""
    found = []
    for job in shelf.jobs["generate"]:
        images = (job.result or {}).get("images", ())
        best = sorted(images, key=lambda image: (image.get("likeness") is None, -(image.get("likeness") or 0.0)))
        found += [(job.id, image["file"]) for image in best]
    return found[:count]


def _class_noun(by_kind: Mapping[JobKind, Sequence[JobView]]) -> str | None:
    nouns = (job.facts.class_noun for kind in KINDS for job in by_kind[kind])
    return next(filter(None, nouns), None)


def _likeness_of(job: JobView) -> float | None:
    return (job.result or {}).get("likeness_after")
