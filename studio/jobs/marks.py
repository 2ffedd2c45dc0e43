"""What an owner writes on jobs afterwards: hearts on pictures, another name for a subject, a name for a photo set.

Also who is to be told of them, how long they are kept, what was deleted, and what the owner has of what quotas limit.
A part of ``studio.service.Studio``. Hearts and names lie in the job's row, so that they go where it goes.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from studio.core.domain import TERMINAL_STATES, JobKind, JobView
from studio.core.errors import ConflictError, InputError, NotFoundError, Problem
from studio.core.files import read_json, write_json
from studio.core.keys import Use
from studio.core.private import make_home
from studio.core.receipts import Receipt
from studio.core.retention import Retention, most_days, require_within, retention
from studio.core.settings import Settings
from studio.core.strict import Name, NameOrEmpty, StrictModel
from studio.jobs import forgotten, request
from studio.jobs.backup import Backup
from studio.jobs.child import OUT_FOLDER, PHOTOS_FOLDER, REQUEST_FILE, resolve
from studio.jobs.here import HereAndNow
from studio.jobs.intake import disk_errors
from studio.jobs.queue import late
from studio.jobs.states import VerbSpec
from studio.jobs.weights import ALL, Weights

if TYPE_CHECKING:
    from studio.jobs.webhooks.desk import WebhookDesk

_RECORDS: dict[JobKind, str] = {"check": f"{OUT_FOLDER}/dataset.json", "train": f"{OUT_FOLDER}/adapter/adapter.json"}
"""Record of a job that tells those made from it whose they are, below the job's folder."""


class _Subject(StrictModel):
    name: Name


class _PhotoSet(StrictModel):
    name: NameOrEmpty


class _Keeping(StrictModel):
    days: float | None = Field(gt=0, le=36500)


LINK_FILE = "link.json"
"""In a job's folder: digests of the link that its photos came by and of the rest of its request; no more of either."""


class Marks(HereAndNow):
    """The studio as far as owners write on their jobs.

    Args:
        settings: folders and limits.
        verbs: how each kind of job is run.
    """

    def __init__(self, settings: Settings, verbs: Mapping[JobKind, VerbSpec]) -> None:
        super().__init__(settings, verbs)
        self._jobs_dir = self._home / "jobs"
        self._store = late(lambda: resolve("studio.jobs.store:open_store")(settings, self._home, verbs))
        self._backup: Backup | None = None
        self._weights = Weights(settings, self._store, self._jobs_dir)
        self._ready = False

    @property
    def webhooks(self) -> "WebhookDesk":
        """Where owners say who is to be told of their jobs; raises ResourceError."""
        self._make_home()
        reach = resolve("studio.jobs.webhooks.addresses:Reach")(loopback=self._settings.webhook_loopback)
        desk: WebhookDesk = resolve("studio.jobs.webhooks.desk:WebhookDesk")(self._store.webhooks, reach)
        return desk

    def heart(self, job_id: str, files: Collection[str], *, owner: str, on: bool = True) -> JobView:
        """Give hearts to pictures of a generate job, or take them back.

        Args:
            job_id: the job, finished or not.
            files: the pictures, by their ``file``; those that have one, or have none, stay as they are.
            owner: whose job it is.
            on: whether they get one.

        Raises:
            NotFoundError: the owner has no such job. InputError: it is another kind of job, or has no such pictures;
                each is named.
        """
        self._make_home()
        view = self._store.get(job_id, owner)
        request.require_kind(view, "job", "generate")
        if view.result:
            made = {row["file"] for which in ("images", "left_out") for row in view.result.get(which, ())}
        else:
            events = self._store.events(job_id, owner, 0)
            made = {event.data["file"] for _, event in events if event.kind == "image"}
        cure = "name pictures by the file that stands in the job's result"
        problems = [
            Problem(file, "is no picture of this job", cure, "no_picture") for file in files if file not in made
        ]
        if problems:
            raise InputError.of(problems)
        view = self._store.heart(job_id, owner, list(dict.fromkeys(files)), on=on)
        self._changed([job_id])
        return view

    def rename(self, subject: str, name: str, *, owner: str) -> tuple[str, ...]:
        """Give a subject another name: in all its jobs, and in all that is made from them from now on.

        The instance token stays, and so do the names of files that were made so far and what is published.

        Args:
            subject: its name so far.
            name: its new name.
            owner: whose it is.

        Returns:
            The ids of its jobs.

        Raises:
            NotFoundError: the owner has no such subject. InputError: it cannot be called like that.
            ConflictError: a job of it has not ended, or another subject is called like that. ResourceError: the disk
                is full.
        """
        name = _Subject.parse({"name": name}).name
        self._make_home()
        views = self._store.newest(owner, -1)
        known = {view.facts.subject for view in views if view.facts.subject}
        if subject not in known:
            names = ", ".join(sorted(known)) or "none"
            raise NotFoundError(f"there is nothing of {subject!r}; there are jobs of: {names}.")
        if name != subject and name in known:
            raise ConflictError(f"there is a {name!r} already; choose another name.")
        own = [view for view in views if view.facts.subject == subject]
        if any(view.state not in TERMINAL_STATES for view in own):
            raise ConflictError(f"a job of {subject!r} has not ended; wait for it, or cancel it, and rename then.")
        # Files first: whoever is killed between the two finds the old name, and does the same again.
        for view in own:
            with disk_errors():
                _rename_in_files(self._jobs_dir / view.id, view.kind, subject, name)
        self._store.rename(owner, {view.id: replace(view.facts, subject=name) for view in own})
        self._changed([view.id for view in own])
        return tuple(view.id for view in own)

    def name_set(self, job_id: str, name: str, *, owner: str) -> JobView:
        """Give a photo set a name beside its subject's, or take it away with an empty one.

        Raises:
            NotFoundError: the owner has no such job. InputError: it is another kind of job, or the name cannot be used.
        """
        given = _PhotoSet.parse({"name": name}).name
        self._make_home()
        view = self._store.get(job_id, owner)
        request.require_kind(view, "job", "check")
        self._store.rename(owner, {job_id: replace(view.facts, name=given or None)})
        self._changed([job_id])
        return self._store.get(job_id, owner)

    def usage(self, *, owner: str) -> Use:
        """Return what an owner has of what quotas limit: photos, open jobs, and how long jobs have run this month."""
        self._make_home()
        use, uncounted = self._store.use(owner)
        folders = (self._jobs_dir / job_id / PHOTOS_FOLDER for job_id in uncounted)
        waiting = sum(path.suffix != ".txt" for folder in folders if folder.is_dir() for path in folder.rglob("*.*"))
        return replace(use, photos=use.photos + waiting)

    def retention(self, *, owner: str) -> Retention:
        """Return how long an owner's jobs are kept."""
        self._make_home()
        return retention(most_days(self._settings), self._store.kept_days(owner))

    def keep_for(self, days: float | None, *, owner: str) -> Retention:
        """Choose for how many days after their last use an owner's jobs are kept; the clock deletes older ones.

        Args:
            days: more than 0, and no more than the operator allows; None takes what the operator allows.
            owner: whose jobs.

        Raises:
            InputError: the days are too many, or none.
        """
        chosen = _Keeping.parse({"days": days}).days
        require_within(most_days(self._settings), chosen)
        self._make_home()
        self._store.keep_for(owner, chosen)
        return self.retention(owner=owner)

    def receipts(self, *, owner: str) -> tuple[Receipt, ...]:
        """Return what was deleted for an owner and when, the newest first; it names no subject and no repository.

        Raises:
            ResourceError: they cannot be read.
        """
        self._make_home()
        with disk_errors():
            return tuple(forgotten.read_by(self._home, owner))

    def knows(self, key: str, *, owner: str) -> bool:
        """Tell whether the owner has used an idempotency key, so that a request with it starts nothing new."""
        self._make_home()
        return self._store.knows_key(owner, key)

    def replay_of(self, key: str, told: Sequence[str], *, owner: str) -> JobView | None:
        """Return the job that a request has started already whose photos came by a link, so that none is fetched again.

        Args:
            key: its idempotency key.
            told: digests of the link and of all else that the request says.
            owner: whose it is.

        Returns:
            None also where only the link is another one, such as a renewed one: what lies behind it tells.

        Raises:
            ConflictError: the key was used for another request.
        """
        self._make_home()
        job_id = self._store.id_of_key(owner, key)
        record = None if job_id is None else read_json(self._jobs_dir / job_id / LINK_FILE)
        if job_id is None or not isinstance(record, dict):
            return None
        link, rest = told
        if record.get("rest") != rest:
            raise ConflictError(f"key {key!r} was used for another request (job {job_id}); use a new key.")
        return self._store.get(job_id, owner) if record.get("link") == link else None

    def note_link(self, job_id: str, told: Sequence[str], *, owner: str) -> None:
        """Remember for ``replay_of`` what a request said; in the job's own folder, gone with the job.

        Where that cannot be written, the photos of the same request are fetched again; its job runs in any case.
        """
        folder = self._jobs_dir / self._store.get(job_id, owner).id
        link, rest = told
        with contextlib.suppress(OSError):
            write_json(folder / LINK_FILE, {"link": link, "rest": rest})

    def bring_weights(self, job_id: str, file: str | None = None, *, owner: str) -> int:
        """Make sure that the weights of a job are on this disk, fetching those that lie in the backup alone.

        Args:
            job_id: the job.
            file: one of them, below the job's output folder; None means all.
            owner: whose job it is.

        Returns:
            How many files came back.

        Raises:
            NotFoundError: the owner has no such job. UnavailableError: the backup cannot be reached. ResourceError:
                what it holds is damaged, or the disk is full.
        """
        self._make_home()
        return self._weights.bring(self._store.get(job_id, owner).id, ALL if file is None else (file,))

    def _changed(self, jobs: Collection[str]) -> None:
        if self._backup:
            self._backup.renew(jobs)

    def _make_home(self) -> None:
        if not self._ready:
            with disk_errors():
                make_home(self._home)
                self._jobs_dir.mkdir(mode=0o700, exist_ok=True)
            self._ready = True


def _rename_in_files(job_dir: Path, kind: JobKind, subject: str, name: str) -> None:
    """Change the subject in what is read of a job later: its request, and the record of what it made."""

    def change(record: Any) -> bool:
        if not isinstance(record, dict) or record.get("subject") != subject:
            return False
        record["subject"] = name
        return True

    asked = read_json(job_dir / REQUEST_FILE)
    if isinstance(asked, dict) and change(asked.get("config")):
        write_json(job_dir / REQUEST_FILE, asked)
    if kind in _RECORDS:
        made = read_json(job_dir / _RECORDS[kind])
        if change(made):
            write_json(job_dir / _RECORDS[kind], made)
