"""The verb ``forget``: everything of a job, a subject or an owner goes, wherever the studio keeps it.

What is made from a job goes with it: photos, the runs on them, their pictures, what was finished, exported or laid out
for publishing. Before anything is deleted an intent is on the disk (``forgotten``); a kill at any moment leaves one
that the next start finishes. ``BELONGINGS`` is the one list of places where something of a job may be: a new place is
a row there. Called by ``studio.service``.
"""

import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from studio.core.adapters import FULL_NAME, WEIGHTS_NAME, adapter_sha256
from studio.core.domain import TERMINAL_STATES, JobView
from studio.core.errors import InputError, NotFoundError, Problem, ResourceError
from studio.core.evicted import evicted_below
from studio.core.files import read_json, sha256_of
from studio.core.private import COMMAND_LOG, LAST_ERROR, SERVED_NAME, UPLOADS_NAME, name_digest, owner_digest
from studio.core.receipts import Receipt, Share
from studio.core.settings import Settings
from studio.jobs import forgotten
from studio.jobs.backup import BackupFolder, DamagedError
from studio.jobs.child import OUT_FOLDER, REQUEST_FILE, resolve
from studio.jobs.forgotten import Forgetting
from studio.jobs.intake import disk_errors
from studio.jobs.queue import JobQueue
from studio.jobs.runners.local import end_leftovers

logger = logging.getLogger(__name__)

_JOB_ID = re.compile(r"\b(?:check|train|generate|export|finish|publish)-[0-9a-f]{16}\b")
_LOOK_S = 0.05
_ASIDE = ".forget-"


@dataclass(frozen=True, slots=True)
class _Job:
    """What has to be known of a job to find what was made from it."""

    id: str
    subject: str | None
    source: str | None
    made_from: frozenset[str]
    """Its source and other jobs that its request names."""
    published: str | None = None
    """The repository that it has pushed to."""
    adapter: str | None = None
    """The repository that it draws with."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a place needs to know to find and to delete its share."""

    home: Path
    jobs_dir: Path
    store: JobQueue
    backup: Callable[[], BackupFolder] | None
    settings: Settings


@dataclass(frozen=True, slots=True)
class Belonging:
    """One place where something of a job may be."""

    count: Callable[[Desk, Forgetting], tuple[int, int]]
    """Files and bytes that lie there."""
    drop: Callable[[Desk, Forgetting], None]
    """Deletes them; may be called again after a kill, and finds the rest."""


class Forgetter:
    """Forgets on behalf of one installation.

    Args:
        settings: of the installation.
        home: its folder.
        store: the table of jobs.
        wake: tells the worker that jobs were cancelled.
        patience_s: how long a running job may take to stop.
    """

    def __init__(
        self,
        settings: Settings,
        home: Path,
        store: JobQueue,
        *,
        wake: Callable[[], None] = lambda: None,
        patience_s: float = 60.0,
    ) -> None:
        backup = (lambda: BackupFolder(settings)) if settings.backup_url else None
        self._desk = Desk(home, home / "jobs", store, backup, settings)
        self._machines_owner = settings.owner
        self._wake = wake
        self._patience_s = patience_s
        self._one_at_a_time = threading.Lock()

    def forget(
        self,
        owner: str,
        *,
        job: str | None = None,
        subject: str | None = None,
        everything: bool = False,
        dry_run: bool = False,
    ) -> Receipt:
        """Forget a job or all jobs of a subject with everything made from them, or everything of an owner.

        Raises:
            NotFoundError: the owner has no such job or subject. InputError: not exactly one of the three is given.
            ResourceError: the intent cannot be written, or a job does not stop; the clock goes on with it then.
        """
        if sum((job is not None, subject is not None, everything)) != 1:
            cure = "give exactly one of a job, a subject and everything"
            raise InputError.of([Problem("forget", "is not told what, or told it twice", cure, "what")])
        waits_for: set[str] = set()
        known = {row.id: row for row in self._known(owner, waits_for)}
        if job is not None:
            chosen = {job if job in known else self._desk.store.get(job, owner).id}
        else:
            chosen = {row.id for row in known.values() if everything or row.subject == subject}
            if subject is not None and not chosen:
                names = ", ".join(sorted({row.subject for row in known.values() if row.subject})) or "none"
                raise NotFoundError(f"there is nothing of {subject!r}; there are jobs of: {names}.")
        jobs = _with_derived(chosen, known.values())
        rows = [known[one] for one in sorted(jobs & known.keys())]
        return self._forget(owner, rows, whole=everything, dry_run=dry_run, waits_for=waits_for)

    def forget_jobs(self, owner: str, jobs: Collection[str], *, kept_days: float | None = None) -> None:
        """Forget jobs of an owner that nothing else was made from; ``kept_days`` says after how many days."""
        waits_for: set[str] = set()
        rows = [row for row in self._known(owner, waits_for) if row.id in jobs]
        self._forget(owner, rows, whole=False, dry_run=False, waits_for=waits_for, kept_days=kept_days)

    def finish_open(self, *, without: Collection[str] = ()) -> None:
        """Finish what a kill has interrupted or what could not be reached.

        Args:
            without: places to leave for later, because they may take long to answer.
        """
        for forgetting in forgotten.open_ones(self._desk.home):
            try:
                self._carry_out(forgetting, without=without)
            except ResourceError as error:
                logger.warning("forgetting is not finished yet: %s", error)

    def _known(self, owner: str, waits_for: set[str]) -> Iterator[_Job]:
        """Yield the owner's jobs, also those that are on their way back from the backup."""
        for view in self._desk.store.newest(owner, -1):
            adapter = (view.facts.adapter or "").partition("@")[0] or None
            read = made_from(self._desk.jobs_dir, view)
            yield _Job(view.id, view.facts.subject, view.source, read, _published(view), adapter)
        if self._desk.backup is None:
            return
        try:
            remote = self._desk.backup()
            for job_id in remote.held() - self._desk.store.ids() - forgotten.ids(self._desk.home):
                with suppress(DamagedError):
                    row = remote.record(job_id)["job"]
                    if row["owner"] == owner:
                        read = frozenset({row["source"]} if row["source"] else ())
                        facts = json.loads(row.get("facts") or "{}")
                        yield _Job(job_id, facts.get("subject"), row["source"], read)
        except Exception as error:  # each kind of store raises what it likes
            logger.warning("the backup cannot be looked at (%s)", type(error).__name__)
            waits_for.add("backup")

    def _forget(
        self,
        owner: str,
        rows: Collection[_Job],
        *,
        whole: bool,
        dry_run: bool,
        waits_for: set[str],
        kept_days: float | None = None,
    ) -> Receipt:
        jobs = tuple(row.id for row in rows)
        published = {row.published for row in rows if row.published}
        with disk_errors():
            reader = "" if dry_run else forgotten.reader_of(self._desk.home, owner)
        forgetting = Forgetting(
            forgotten.new_id(),
            jobs,
            (),
            time.time(),
            adapters=tuple(sorted(_adapters(self._desk, jobs))),
            repos=tuple(sorted(map(name_digest, published | {row.adapter for row in rows if row.adapter}))),
            owner=owner_digest(owner),
            whole=whole,
            is_machines=owner == self._machines_owner,
            reader=reader,
            kept_days=kept_days,
        )
        shares = []
        for place, belonging in BELONGINGS.items():
            try:
                files, size_bytes = belonging.count(self._desk, forgetting)
            except Exception as error:  # each kind of store raises what it likes
                logger.warning("%s cannot be looked at (%s)", place, type(error).__name__)
                waits_for.add(place)
            else:
                shares += [Share(place, files, size_bytes)] if files else []
        name, forgotten_s = "", None
        if not dry_run:
            forgetting = replace(forgetting, shares=tuple(shares))
            with disk_errors():
                forgotten.write(self._desk.home, forgetting)
            waits_for, forgotten_s = self._carry_out(forgetting)
            name = forgetting.id
        return Receipt(
            name,
            jobs,
            tuple(shares),
            sum(share.files for share in shares),
            sum(share.bytes for share in shares),
            forgetting.asked_s,
            forgotten_s,
            dry_run,
            tuple(sorted(waits_for)),
            tuple(sorted(published)),
            kept_days,
        )

    def _carry_out(self, forgetting: Forgetting, *, without: Collection[str] = ()) -> tuple[set[str], float | None]:
        """Delete what an intent lists and close it; return the places that could not be reached, or else when."""
        with self._one_at_a_time:
            self._stop(forgetting.jobs)
            _set_aside(self._desk, forgetting.jobs)
            waits_for = set(without)
            for place, belonging in BELONGINGS.items():
                if place in without:
                    continue
                try:
                    belonging.drop(self._desk, forgetting)
                except Exception as error:  # each kind of store raises what it likes
                    logger.warning("%s cannot be emptied yet (%s)", place, type(error).__name__)
                    waits_for.add(place)
            if waits_for:
                return waits_for, None
            now_s = time.time()
            forgotten.close(self._desk.home, forgetting, now_s)
            return waits_for, now_s

    def _stop(self, jobs: Collection[str]) -> None:
        """Cancel jobs and wait until no process works on them any more.

        Raises:
            ResourceError: one does not stop.
        """
        store = self._desk.store
        waiting = {job_id: store.owner_of(job_id) for job_id in set(jobs) & store.ids()}
        for job_id, owner in waiting.items():
            with suppress(NotFoundError):
                store.cancel(job_id, owner)
        self._wake()
        lead = store.lead(self._desk.home)
        give_up_s = time.monotonic() + self._patience_s
        while waiting := {job_id: owner for job_id, owner in waiting.items() if _runs(store, job_id, owner)}:
            if not lead.is_taken():  # nobody follows them; what a dead server left is ended below
                break
            if time.monotonic() > give_up_s:
                raise ResourceError("a job that is to be deleted does not stop; it is deleted as soon as it has.")
            time.sleep(_LOOK_S)
        for job_id in jobs:
            end_leftovers(self._desk.jobs_dir / job_id)


def made_from(jobs_dir: Path, job: JobView) -> frozenset[str]:
    """Return the ids of the jobs that a job reads: its source, and others that its request names."""
    found = {job.source} if job.source else set()
    with suppress(OSError):
        text = (jobs_dir / job.id / REQUEST_FILE).read_text(encoding="utf-8")
        found |= set(_JOB_ID.findall(text))
    return frozenset(found)


def _runs(store: JobQueue, job_id: str, owner: str) -> bool:
    try:
        return store.get(job_id, owner).state not in TERMINAL_STATES
    except NotFoundError:
        return False


def _with_derived(chosen: Collection[str], known: Iterable[_Job]) -> set[str]:
    found, known = set(chosen), list(known)
    while True:
        # Of a run that goes; a publishing that goes with the pictures in its gallery leaves what draws with it.
        repos = {row.published for row in known if row.id in found and row.source in found and row.published}
        more = {row.id for row in known if row.made_from & found or row.adapter in repos} - found
        if not more:
            return found
        found |= more


def _published(view: JobView) -> str | None:
    """Return the repository that a job has published in, or may have; None of others and of previews."""
    if view.kind != "publish" or not view.attempt:
        return None
    return view.facts.repo if view.result is None or view.result.get("commit") else None


def _adapters(desk: Desk, jobs: Collection[str]) -> set[str]:
    """Return the digests of the adapters that jobs have made or drawn with."""
    found = set()
    for folder in (folder for job_id in jobs for folder in _folders(desk, job_id)):
        out = folder / OUT_FOLDER
        weights = [path for name in (WEIGHTS_NAME, FULL_NAME) for path in out.rglob(name)]
        weights += [path for path, _ in evicted_below(out) if path.name in (WEIGHTS_NAME, FULL_NAME)]
        for path in weights:
            with suppress(OSError):
                found.add(adapter_sha256(path.parent))
        request = read_json(out / REQUEST_FILE)
        if isinstance(request, dict) and isinstance(request.get("adapter_sha256"), str):
            found.add(request["adapter_sha256"])
    return found


# ------------------------------------------------------------------------------------------------- where things are


def _set_aside(desk: Desk, jobs: Collection[str]) -> None:
    """Take the folders of jobs out of everybody's sight: from now on nothing new is made of what lies in them."""
    for job_id in jobs:
        with suppress(FileNotFoundError):
            os.replace(desk.jobs_dir / job_id, desk.jobs_dir / f"{_ASIDE}{job_id}-{secrets.token_hex(4)}")


def _folders(desk: Desk, job_id: str) -> list[Path]:
    """Return the folder of a job, set aside or not, and what is half-way back from the backup."""
    patterns = (job_id, f"{_ASIDE}{job_id}-*", f".restore-{job_id}-*")
    return [path for pattern in patterns for path in desk.jobs_dir.glob(pattern)]


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _sizes(paths: Iterable[Path]) -> tuple[int, int]:
    sizes = []
    for path in paths:
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def _remove(folders: Iterable[Path]) -> None:
    """Delete folders, raising OSError if one stays."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(folder)


def _all_folders(desk: Desk, forgetting: Forgetting) -> list[Path]:
    return [folder for job_id in forgetting.jobs for folder in _folders(desk, job_id)]


def _backup_sizes(desk: Desk, forgetting: Forgetting) -> tuple[int, int]:
    found = desk.backup().sizes() if desk.backup else {}
    held = [found[job_id] for job_id in forgetting.jobs if job_id in found]
    return sum(files for files, _ in held), sum(size for _, size in held)


def _drop_backup(desk: Desk, forgetting: Forgetting) -> None:
    if desk.backup:
        remote = desk.backup()
        for job_id in set(forgetting.jobs) & set(remote.sizes()):
            remote.delete(job_id)
        for job_id in remote.held() - desk.store.ids() if forgetting.whole else ():  # were not here to be listed
            with suppress(DamagedError):
                if owner_digest(remote.record(job_id)["job"]["owner"]) == forgetting.owner:
                    remote.delete(job_id)


def _copies(desk: Desk, forgetting: Forgetting) -> list[Path]:
    """Return uploads and files that the page shows which hold the same bytes as a file of these jobs.

    Of everything of an owner, return all of their uploads and files.
    """
    served = desk.home / SERVED_NAME
    own = [desk.home / UPLOADS_NAME / forgetting.owner, served / f"of-{forgetting.owner}"]
    shared = [path for path in _files([served]) if not path.relative_to(served).parts[0].startswith("of-")]
    found = list(_files(own))
    if forgetting.whole:
        return [*found, *(shared if forgetting.is_machines else ())]
    by_size: dict[int, list[Path]] = {}
    for path in (*found, *shared):
        with suppress(OSError):
            by_size.setdefault(path.stat().st_size, []).append(path)
    if not by_size:
        return []
    known = set()
    for folder in _all_folders(desk, forgetting):
        request = read_json(folder / REQUEST_FILE)
        known |= set(request.get("uploads", ())) if isinstance(request, Mapping) else set()
        known |= {sha256_of(path) for path in _files([folder]) if path.stat().st_size in by_size}
        known |= {facts.sha256 for _, facts in evicted_below(folder)}
    return [path for paths in by_size.values() for path in paths if sha256_of(path) in known]


def _drop_copies(desk: Desk, forgetting: Forgetting) -> None:
    for path in _copies(desk, forgetting):
        path.unlink(missing_ok=True)
        with suppress(OSError):  # others lie in it
            path.parent.rmdir()


def _logs(desk: Desk, forgetting: Forgetting) -> list[Path]:
    found = [desk.home / COMMAND_LOG, desk.home / LAST_ERROR] if forgetting.is_machines else []
    return [path for path in found if path.is_file()]


def _drop_logs(desk: Desk, forgetting: Forgetting) -> None:
    for path in _logs(desk, forgetting):
        path.unlink(missing_ok=True)


def _drop_rows(desk: Desk, forgetting: Forgetting) -> None:
    for job_id in desk.store.erase(forgetting.jobs) - set(forgetting.jobs):  # queued behind them since
        _remove(_folders(desk, job_id))
    if forgetting.whole:
        desk.store.webhooks.forget(forgetting.owner)
    desk.store.scrub()


def _elsewhere(eraser: str, wanted: Callable[[Forgetting], Collection[str]]) -> Belonging:
    """Return the place that another room looks after, by the name of its function."""

    def count(desk: Desk, forgetting: Forgetting) -> tuple[int, int]:
        found: tuple[int, int] = resolve(eraser)(desk.settings, wanted(forgetting), dry_run=True)
        return found

    return Belonging(count, lambda desk, forgetting: resolve(eraser)(desk.settings, wanted(forgetting)) and None)


BELONGINGS: Mapping[str, Belonging] = {
    "backup": Belonging(_backup_sizes, _drop_backup),
    "copies": Belonging(lambda desk, it: _sizes(_copies(desk, it)), _drop_copies),
    "cache": _elsewhere("studio.pictures.picture_cache:forget", lambda forgetting: forgetting.adapters),
    "adapters": _elsewhere("studio.bases.pulled:forget", lambda forgetting: forgetting.repos),
    "storage": _elsewhere("studio.jobs.storage.opened:forget", lambda forgetting: forgetting.jobs),
    "folders": Belonging(
        lambda desk, it: _sizes(_files(_all_folders(desk, it))), lambda desk, it: _remove(_all_folders(desk, it))
    ),
    "logs": Belonging(lambda desk, it: _sizes(_logs(desk, it)), _drop_logs),
    "rows": Belonging(lambda desk, it: (0, 0), _drop_rows),
}
"""Every place where something of a job may be, in the order in which they are emptied: first what is found by the
folders of the jobs, last the rows, by which a job is known."""

SLOW_PLACES = frozenset({"backup", "storage"})
"""Places far away: a start does not wait for them, the clock goes on with them."""
