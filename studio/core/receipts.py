"""What was forgotten, or would be: the record that a person gets, and its sentences.

``studio.jobs.forget`` makes it; the page, the endpoint and the command line show it. It names jobs by their random ids,
and nothing of a photo, a subject or an owner; only ``published`` does, and that is told and not kept.
"""

import time
from collections import Counter
from dataclasses import dataclass

from studio.core.language import say
from studio.core.units import bytes_text

_JOBS = {
    "check": ("photo set", "photo sets"),
    "train": ("training run", "training runs"),
    "generate": ("set of pictures", "sets of pictures"),
    "export": ("export", "exports"),
    "finish": ("set of finished pictures", "sets of finished pictures"),
    "publish": ("publishing", "publishings"),
}
_FILES = ("file", "files")
_PLACES = {
    "backup": "in the backup",
    "copies": "among uploads and copies for the page",
    "cache": "in the result cache",
    "adapters": "among downloaded adapters",
    "storage": "in the storage",
    "folders": "in folders of jobs",
    "logs": "among logs of commands",
    "rows": "in the table of jobs",
}
"""Where something of a job may be -> in words."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one place holds of what is forgotten."""

    place: str
    """A key of ``studio.jobs.forget.BELONGINGS``."""
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one call of ``forget`` deleted, or would delete."""

    id: str
    """Random; empty of a dry run."""
    jobs: tuple[str, ...]
    """Ids of the jobs, with everything that was made from them."""
    shares: tuple[Share, ...]
    """Each place that held something."""
    files: int
    """Of all places together."""
    bytes: int
    asked_s: float
    """Seconds since the epoch."""
    forgotten_s: float | None
    """When the last of it was gone; None of a dry run, and as long as a place cannot be reached."""
    dry_run: bool = False
    waits_for: tuple[str, ...] = ()
    """Places that could not be reached; the studio goes on trying."""
    published: tuple[str, ...] = ()
    """Repositories on the Hub that were made from it: they are not touched."""
    kept_days: float | None = None
    """The days without use after which it was deleted; None if somebody asked for it."""

    def words(self) -> str:
        """Return the receipt in full sentences, one a line."""
        if not self.jobs and not self.files and not self.waits_for:
            return say("There is nothing to delete.")
        held = ", ".join(_counted(count, _JOBS[kind]) for kind, count in self._kinds()) or say("nothing but files")
        told = {"held": held, "files": _counted(self.files, _FILES), "size": bytes_text(self.bytes)}
        if self.dry_run:
            lines = [say("This would be deleted for good: {held}; {files}, {size}.").format(**told)]
        else:
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.forgotten_s or self.asked_s))
            lines = [say("Deleted for good on {when}: {held}; {files}, {size}.").format(when=when, **told)]
        for share in self.shares:
            if share.place != "folders":
                files, place = _counted(share.files, _FILES), say(_PLACES[share.place])
                lines.append(say("Of that {files} {place}.").format(files=files, place=place))
        for name in self.waits_for:
            waiting = say("What is {place} could not be reached yet; it is deleted as soon as it can be.")
            lines.append(waiting.format(place=say(_PLACES[name])))
        if self.published:
            names = say(" and ").join(self.published)
            kept = say("Not touched: {names} on the Hugging Face Hub; the command unpublish deletes it there.")
            lines.append(kept.format(names=names))
        return "\n".join(lines)

    def _kinds(self) -> list[tuple[str, int]]:
        counts = Counter(job.partition("-")[0] for job in self.jobs)
        return [(kind, counts[kind]) for kind in _JOBS if counts[kind]]


def _counted(count: int, words: tuple[str, str]) -> str:
    return f"{count:,} {say(words[count != 1])}"
