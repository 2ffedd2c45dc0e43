"""Studio: the interface that the page, the API and the command line use.

Submit, look up, cancel and retry jobs; every call checks the owner. A job may be queued behind one that has not ended,
so that everything from photos to finished pictures can be ordered in one go. Accepted means durable: when
``submit_...`` returns, the request and the uploads are on disk, and the job will end in exactly one of completed,
stalled (with a cause in words) and cancelled. Importing this module imports neither torch nor gradio.

    studio = Studio(Settings())
    studio.start()
    job = studio.submit_check(CheckConfig(subject="Ada", class_noun="woman"), photos, owner="local")
    job = studio.wait(job.id, owner="local")
"""

import dataclasses
import functools
import secrets
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import TERMINAL_STATES, Event, JobKind, JobView
from studio.core.errors import ConflictError, InputError, Problem, StudioError
from studio.core.finish_config import FinishConfig
from studio.core.job_words import title_of
from studio.core.path_rules import paths_in_finishing, paths_in_publishing, paths_in_training
from studio.core.publish_rules import publishing_problems
from studio.core.receipts import Receipt
from studio.core.retention import longest_wait_days, most_days
from studio.core.server_token import lends_logins
from studio.core.settings import Settings
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.jobs import edited, intake, request
from studio.jobs.backup import Backup
from studio.jobs.child import OUT_FOLDER, TOKEN_VARIABLE, resolve
from studio.jobs.environment import NOT_FOR_OTHERS, rules_of
from studio.jobs.forget import SLOW_PLACES, Forgetter
from studio.jobs.inherited import machines_login
from studio.jobs.marks import Marks
from studio.jobs.observed import observed
from studio.jobs.operation import Operation
from studio.jobs.queue import NewJob
from studio.jobs.runners.chosen import runners_of
from studio.jobs.sealed import Tokens
from studio.jobs.server import Server
from studio.jobs.slots import Sharing, kinds_beside, slots_of
from studio.jobs.states import SOURCE_KIND, VERBS, VerbSpec
from studio.jobs.sweep import Clock
from studio.jobs.webhooks.sender import Sender, reach_of
from studio.jobs.worker import Worker

if TYPE_CHECKING:
    from studio.jobs.keys import Keys

_Jobs = list[JobView]  # Studio.list hides the builtin inside the class
_NumberedEvents = list[tuple[int, Event]]


def open_keys(settings: Settings) -> "Keys":
    """Return the API keys of an installation; raises as ``studio.jobs.keys.open_keys``."""
    keys: Keys = resolve("studio.jobs.keys:open_keys")(settings)
    return keys


class Studio(Marks):
    """The studio of one installation.

    Args:
        settings: folders and limits.
        verbs: how each kind of job is run.
        grace_s: how long a running job may take to stop by itself before it is killed.
        max_losses: number of attempts in a row that are killed or crash before the job is stalled.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        verbs: Mapping[JobKind, VerbSpec] = VERBS,
        grace_s: float = 20.0,
        max_losses: int = 3,
    ) -> None:
        super().__init__(settings, verbs)
        self._tokens = Tokens(self._store, settings)
        queue, watched = observed(self._store)
        self.desk, runner_of = runners_of(settings, self._home, self._store, grace_s=grace_s)
        self._worker = Worker(
            queue,
            self._home,
            self._jobs_dir,
            verbs=verbs,
            runner_of=runner_of,
            grace_s=grace_s,
            max_losses=max_losses,
            silence_s=settings.job_silence_s,
            secrets=self._secrets_of,
            slots=slots_of(settings),
            beside=kinds_beside(settings),
            sharing=Sharing(settings, slots_of(settings), self._jobs_dir),
            prepare=self._weights.bring_for,
            works=settings.works,
        )
        self.server = Server(self._home, self._store, self._worker, watched, max_waiting=settings.max_waiting)
        if settings.backup_url:
            self._backup = Backup(settings, self._store, self._jobs_dir, leads=self._worker.leads)
        patience_s = 3 * grace_s + 10.0
        self._forgetter = Forgetter(settings, self._home, self._store, wake=self._worker.wake, patience_s=patience_s)
        leads, reach = self._worker.leads, functools.partial(reach_of, settings.webhook_loopback)
        self._clock = Clock(self._home, self._store, self._forgetter, keep_days=most_days(settings), leads=leads)
        self._clock.wait_days = longest_wait_days(settings)
        self._clock.chores = (self._weights.evict, *(self.desk.chores if self.desk else ()))
        self._sender = Sender(self._store, reach, leads=leads, jobs_dir=self._jobs_dir, prepare=self._weights.bring)
        self.operation = Operation(settings, self._home, self._store, self._worker, self, self._weights.sizes)
        """What the operator may see and do; whoever calls it must know that they are one."""

    def start(self) -> None:
        """Start the local worker. Jobs whose server died go back to pending and continue from their folders.

        With a backup, completed jobs that are in it and not here are restored in the background.

        Raises:
            ResourceError: the home folder cannot be used.
            InputError, MissingExtraError: the backup's address cannot be used.
        """
        self._make_home()
        self._forgetter.finish_open(without=SLOW_PLACES)
        if self._backup:
            self._backup.start()
        self._worker.start()
        self._clock.start()
        self._sender.start()

    def close(self) -> None:
        """Stop the worker and its children; a job that was running is pending again and continues at the next start."""
        self._clock.close()
        self._sender.close()
        self._worker.close()
        if self._backup:
            self._backup.close()
        self._store.close()

    # Submitting

    def submit_check(
        self,
        config: CheckConfig,
        photos: Sequence[Path],
        *,
        owner: str,
        key: str | None = None,
        edits: str | None = None,
    ) -> JobView:
        """Copy photos in and queue their check.

        Args:
            config: settings of the check.
            photos: files on this machine; verdicts name photos by their file names.
            owner: whose job it is.
            key: idempotency key; the same key with the same request returns the same job.
            edits: a check job whose photos come first, as it has kept them; ``config`` says what changes.

        Raises:
            NotFoundError, ConflictError: no such job ``edits``, or it has kept no photos.
            InputError: no, too many or too large photos, or files that cannot be read; all problems at once.
            ConflictError: the key was used for another request.
            ResourceError: the disk is full; nothing was stored.
        """
        limit = min(self._settings.max_photos, config.max_photos)
        max_bytes = self._settings.max_upload_bytes
        kept = edited.originals_of(self._jobs_dir / self.get(edits, owner=owner).id) if edits else ()
        uploads = intake.inspect(photos, max_photos=limit, max_bytes=max_bytes, kept=kept)
        return self._submit("check", config, owner=owner, key=key, uploads=uploads)

    def check_settings(self, job_id: str, *, owner: str) -> CheckConfig:
        """Return the settings of a check job, to edit its set with; raises as ``submit_check`` with ``edits``."""
        return edited.settings_of(self._jobs_dir / self.get(job_id, owner=owner).id)

    def submit_train(
        self,
        config: TrainConfig,
        source: str,
        *,
        owner: str,
        key: str | None = None,
        token: str | None = None,
        preset: str | None = None,
        publish: PublishConfig | None = None,
        publish_token: str | None = None,
    ) -> JobView:
        """Queue a training run on the photos of the check job ``source``; it waits until that is completed.

        Args:
            config: settings of the run; paths of this machine are for its owner only.
            source: a check job.
            owner: whose job it is.
            key: idempotency key.
            token: of the Hub, for a gated base; None takes this machine's for the owner of the machine.
            preset: name of the preset that the settings come from, a fact of the job and no part of the request.
            publish: what to publish once the run is completed, and where; a job of its own does it
                (``publishing_of``). Whatever is known to be wrong is refused now, not after an hour of training.
            publish_token: of the Hub, as in ``submit_publish``; the training never gets it.

        Raises:
            NotFoundError: the owner has no job ``source``.
            InputError: ``source`` is another kind of job or checks photos of another subject, or somebody else names a
                path of this machine; ``publish`` cannot be done, or its token cannot write.
            ConflictError: ``source`` is stalled or cancelled, the key was used for another request, or the name on the
                Hub is taken. ResourceError: the disk is full, or the Hub cannot be reached.
        """
        if owner != self._settings.owner and (problems := paths_in_training(config)):
            raise InputError.of(problems)
        checked = self._source("train", source, owner)
        if checked.facts.subject and checked.facts.class_noun:
            config.for_subject(checked.facts.subject, checked.facts.class_noun)  # refused now, not in the child
        if publish is None:
            return self._submit("train", config, owner=owner, key=key, source=source, token=token, preset=preset)
        known = self._known("train", config, source, owner, key)
        if known is None or not self._store.knows_key(owner, request.then_key(known.id)):
            if known is None:
                request.require_may_complete(checked)
            self.check_publishing(config, publish, owner=owner, token=publish_token)
        run = self._submit("train", config, owner=owner, key=key, source=source, token=token, preset=preset)
        try:
            self._queue_publish(publish, run.id, owner=owner, token=publish_token, key=request.then_key(run.id))
        except StudioError:
            if known is None:  # both or none
                self.cancel(run.id, owner=owner)
            raise
        return run

    def publishing_of(self, run: str, *, owner: str) -> JobView | None:
        """Return the newest publish job of a train job; None if there is none."""
        self._make_home()
        return next(iter(self._store.newest(owner, 1, kind="publish", source=run)), None)

    def submit_generate(
        self,
        config: GenerateConfig,
        source: str | None = None,
        *,
        owner: str,
        key: str | None = None,
        token: str | None = None,
    ) -> JobView:
        """Queue pictures with the adapter of the train job ``source``, or with the published one that ``config`` names.

        Args:
            config: what to make.
            source: a train job; the pictures wait until it is completed.
            owner: whose job it is.
            key: idempotency key.
            token: of the Hub, for a private adapter; None takes this machine's for the owner of the machine.

        Raises: as ``submit_train``, and InputError: both or neither of the two are given.
        """
        if (source is None) == (config.adapter is None):
            cure = "give either a train job or an adapter"
            raise InputError.of([Problem("run", "was given twice or not at all", cure, "no_run")])
        return self._submit("generate", config, owner=owner, key=key, source=source, token=token)

    def submit_export(
        self, config: ExportConfig, source: str, *, owner: str, key: str | None = None, token: str | None = None
    ) -> JobView:
        """Queue an export of the train job ``source``; it waits until that is completed.

        Raises: as ``submit_train``.
        """
        return self._submit("export", config, owner=owner, key=key, source=source, token=token)

    def submit_publish(
        self,
        config: PublishConfig,
        source: str,
        *,
        owner: str,
        pictures: str | None = None,
        token: str | None = None,
        key: str | None = None,
    ) -> JobView:
        """Queue the publishing of the train job ``source`` on the Hub; it waits until that is completed.

        The token's right to write is checked first: a wrong token is refused now, not after an hour of training.

        Args:
            config: what is published, and where; paths on this machine are refused.
            source: a train job.
            owner: whose job it is.
            pictures: a completed generate job, or a finish job of one, whose pictures go into the gallery.
            token: of the Hub, kept in memory until the job has ended; None takes this machine's for the owner of the
                machine.
            key: idempotency key.

        Raises:
            NotFoundError: the owner has no such job. ConflictError: as ``submit_train``, or the name is taken.
            InputError: the token cannot write, a path in the settings, or other kinds of jobs.
            ResourceError: the Hub cannot be reached.
        """
        if problems := paths_in_publishing(config):
            raise InputError.of(problems)
        request.require_may_complete(self._source("publish", source, owner))
        if pictures is not None:
            config = config.model_copy(update={"pictures": str(self._pictures_of(pictures, owner))})
        if not config.dry_run and not (key is not None and self._store.knows_key(owner, key)):
            self.check_access(config, owner=owner, token=token)
        return self._queue_publish(config, source, owner=owner, token=token, key=key)

    def _queue_publish(
        self, config: PublishConfig, source: str, *, owner: str, token: str | None, key: str | None
    ) -> JobView:
        return self._submit("publish", config, owner=owner, key=key, source=source, token=token)

    def check_publishing(
        self, config: TrainConfig, publish: PublishConfig, *, owner: str, token: str | None = None
    ) -> None:
        """Check before a run whether it can be published as ``publish`` says; changes nothing.

        Raises:
            InputError: the run will have no such form, its licence forbids it or is unknown, or pictures are named that
                cannot exist yet; all problems at once. Otherwise what ``studio.publishing.hub:check_access`` raises.
        """
        if problems := publishing_problems(config, publish, token):
            raise InputError.of(problems)
        if not publish.dry_run:
            self.check_access(publish, owner=owner, token=token)

    def check_access(self, config: PublishConfig, *, owner: str, token: str | None = None) -> None:
        """Check with the Hub that the repository can be written to as ``config`` says; changes nothing.

        Raises: what ``studio.publishing.hub:check_access`` raises.
        """
        check = resolve("studio.publishing.hub:check_access")
        check(config.repo, self._token(owner, token), public=config.public, update=config.update)

    def unpublish(self, repo: str, *, owner: str | None = None, token: str | None = None) -> None:
        """Delete a repository from the Hub, with all its history.

        Args:
            repo: ``owner/name``.
            owner: who requests it; None is the owner of this machine.
            token: of the Hub; None takes this machine's for the owner of the machine.

        Raises: what ``studio.publishing.hub:delete`` raises.
        """
        resolve("studio.publishing.hub:delete")(repo, self._token(owner or self._settings.owner, token))

    def submit_finish(
        self,
        config: FinishConfig,
        source: str | None = None,
        pictures: Sequence[Path] = (),
        *,
        owner: str,
        key: str | None = None,
    ) -> JobView:
        """Queue the finishing of the pictures of the generate job ``source``, or of uploaded pictures or zips of them.

        Unlike the verb, a job takes no paths on this machine: a background picture must be among the uploads, a network
        in the studio's weights folder.

        Raises:
            NotFoundError: the owner has no job ``source``.
            InputError: ``source`` is another kind of job, both or neither of the two are given, uploads that cannot
                be taken, or a path in the settings; all problems at once.
            ConflictError: ``source`` is stalled or cancelled, or the key was used for another request.
            ResourceError: the disk is full; nothing was stored.
        """
        problems = paths_in_finishing(config)
        if (source is None) == (not pictures):
            cure = "give either pictures or a generate job"
            problems.append(Problem("pictures", "were given twice or not at all", cure, "no_photos"))
        if problems:
            raise InputError.of(problems)
        limit, max_bytes = self._settings.max_photos, self._settings.max_upload_bytes
        uploads = intake.inspect(pictures, max_photos=limit, max_bytes=max_bytes) if pictures else ()
        return self._submit("finish", config, owner=owner, key=key, source=source, uploads=uploads)

    # Looking and steering

    def get(self, job_id: str, *, owner: str) -> JobView:
        """Return one job; raises NotFoundError for other owners' jobs, too."""
        self._make_home()
        return self._with_trouble(self._store.get(job_id, owner))

    def list(
        self,
        *,
        owner: str,
        limit: int = 50,
        kind: JobKind | None = None,
        states: Collection[str] = (),
        source: str | None = None,
        before: str | None = None,
    ) -> _Jobs:
        """Return the owner's newest jobs that fit, newest first.

        Args:
            owner: whose jobs.
            limit: most jobs, at most 1000.
            kind: of this kind only.
            states: in one of these states only; none means any.
            source: only those that read the output of this job.
            before: only those that are older than this job: the last one of the page before.

        Raises:
            NotFoundError: the owner has no job ``before``.
        """
        self._make_home()
        limit = max(1, min(limit, 1000))
        found = self._store.newest(owner, limit, kind=kind, states=states, source=source, before=before)
        return [self._with_trouble(view) for view in found]

    def cancel(self, job_id: str, *, owner: str) -> JobView:
        """Cancel a job: at once while it waits, within the grace time while it runs; an ended job stays as it is.

        What a running job has done so far is kept, and ``retry`` continues from there.

        Raises:
            NotFoundError: the owner has no such job.
        """
        self._make_home()
        view = self._store.cancel(job_id, owner)
        if view.state in TERMINAL_STATES:
            self._tokens.drop(job_id)
        self._worker.wake()
        return view

    def retry(self, job_id: str, *, owner: str, token: str | None = None) -> JobView:
        """Put a stalled or cancelled job back into the queue.

        Args:
            job_id: the job.
            owner: whose it is.
            token: of the Hub, for a job that was submitted with one: that one was forgotten when the job ended. If the
                job never ran, the token that it was submitted with is kept instead.

        Raises:
            NotFoundError: the owner has no such job. ConflictError: it is neither stalled nor cancelled.
        """
        self.server.require_open()
        self._make_home()
        if token and self._store.get(job_id, owner).state in ("stalled", "cancelled"):
            self._tokens.give(job_id, token)
        view = self._store.retry(job_id, owner)
        self._worker.wake()
        return view

    def forget(
        self,
        *,
        owner: str,
        job: str | None = None,
        subject: str | None = None,
        everything: bool = False,
        dry_run: bool = False,
    ) -> Receipt:
        """Delete a job or all jobs of a subject, with everything made from them, or all that is here of an owner.

        It goes for good, wherever the studio keeps it, the backup included; jobs that run are stopped first. What was
        published on the Hub stays there (``unpublish``), and the receipt names it.

        Args:
            owner: whose it is.
            job: id of a job.
            subject: name of a subject.
            everything: all jobs, uploads and files of the owner.
            dry_run: only tell what would go.

        Raises:
            NotFoundError: the owner has no such job or subject. InputError: not exactly one of the three is given.
            ResourceError: the disk is full, or a job does not stop; the studio goes on with it by itself then.
        """
        self._make_home()
        receipt = self._forgetter.forget(owner, job=job, subject=subject, everything=everything, dry_run=dry_run)
        for job_id in () if dry_run else receipt.jobs:
            self._tokens.drop(job_id)
        return receipt

    def events(self, job_id: str, *, owner: str, after: int = 0) -> _NumberedEvents:
        """Return (sequence number, event) of all events after number ``after``, in order.

        Of ``progress`` events only the newest is kept. A job that continues after a crash reports some steps again:
        of two events for the same step, file or name the later one counts.

        Raises:
            NotFoundError: the owner has no such job.
        """
        self._make_home()
        return self._store.events(job_id, owner, after)

    def wait(self, job_id: str, *, owner: str, timeout_s: float | None = None) -> JobView:
        """Wait until the job has ended, or ``timeout_s`` have passed, and return it as it is then.

        Raises:
            NotFoundError: the owner has no such job.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            view = self.get(job_id, owner=owner)
            if view.state in TERMINAL_STATES or (end_s is not None and time.monotonic() >= end_s):
                return view
            time.sleep(0.05)

    def out_dir(self, job_id: str, *, owner: str) -> Path:
        """Return the folder that the job's verb writes; it may not exist yet. Raises NotFoundError."""
        return self._jobs_dir / self.get(job_id, owner=owner).id / OUT_FOLDER

    # Below: one submit

    def _submit(
        self,
        kind: JobKind,
        config: StrictModel,
        *,
        owner: str,
        key: str | None,
        source: str | None = None,
        uploads: Sequence[intake.Upload] = (),
        token: str | None = None,
        preset: str | None = None,
    ) -> JobView:
        request.require_names(owner=owner, key=key)
        self._make_home()
        if key is not None and self._store.knows_key(owner, key):
            known = self._store.find(owner, key, request.fingerprints(kind, config, source, intake.digest(uploads)))
            if known is not None:
                return known
        self.server.require_open()
        before = None if source is None else self._source(kind, source, owner)
        if before is not None:
            request.require_may_complete(before)
        facts = request.facts_of(config, request.known_facts(before) if before else None, preset=preset)

        job_id = f"{kind}-{secrets.token_hex(8)}"
        job_dir = self._jobs_dir / job_id
        accepted = False
        try:
            # A job of somebody else must never take the machine's token, not even when its own is lost.
            own_token = token is not None or not lends_logins(self._settings, owner)
            sealed = self._tokens.take(job_id, token or "") if own_token else None
            max_bytes = self._settings.max_upload_bytes
            digest = request.write_request(
                job_dir, kind, config, source, uploads, max_bytes=max_bytes, own_token=own_token
            )
            title = title_of(kind, facts)
            view, accepted = self._store.insert(NewJob(job_id, kind, owner, title, digest, source, key, facts, sealed))
        finally:
            if not accepted:  # an error, or another thread was faster with the same key
                self._tokens.drop(job_id)
                shutil.rmtree(job_dir, ignore_errors=True)
        self._worker.wake()
        return view

    def _known(self, kind: JobKind, config: StrictModel, source: str, owner: str, key: str | None) -> JobView | None:
        """Return the job that was submitted with this key; raises ConflictError if that was another request."""
        return None if key is None else self._store.find(owner, key, request.fingerprints(kind, config, source, ()))

    def _token(self, owner: str, token: str | None) -> str | None:
        """Return the token of a request; that of this machine only for the owner of the machine."""
        if token is not None or not lends_logins(self._settings, owner):
            return token
        found: str | None = resolve("studio.publishing.hub:token_of")(self._settings)
        return found

    def _secrets_of(self, job_id: str, ended: bool) -> Mapping[str, str | None]:
        """Return what one job's process alone must know, and what it must not; forget it when the job has ended."""
        if ended:
            self._tokens.drop(job_id)
            self._clock.has_ended(job_id)
            if self._backup:
                self._backup.wake()
            return {}
        token = self._tokens.of(job_id)
        lends = lends_logins(self._settings, self._store.owner_of(job_id))
        known: dict[str, str | None] = {**machines_login()} if lends else dict(NOT_FOR_OTHERS)
        return known | rules_of(self._settings) | ({} if token is None else {TOKEN_VARIABLE: token})

    def _pictures_of(self, job_id: str, owner: str) -> Path:
        """Return the folder of a job's generated pictures."""
        view = self.get(job_id, owner=owner)
        request.require_kind(view, "pictures", "generate", "finish")
        if view.state != "completed":
            raise ConflictError(f"job {job_id} is {view.state}; its pictures are not ready.")
        return self.out_dir(job_id, owner=owner)

    def _source(self, kind: JobKind, source: str, owner: str) -> JobView:
        """Return the job whose output a new job will read; it need not have begun.

        Raises:
            NotFoundError: the owner has no such job. InputError: it is of the wrong kind.
        """
        view = self.get(source, owner=owner)
        request.require_kind(view, "source", SOURCE_KIND[kind])
        return view

    def _with_trouble(self, view: JobView) -> JobView:
        trouble = None if view.state in TERMINAL_STATES else self._worker.trouble_of(view.id)
        return view if trouble is None else dataclasses.replace(view, cause=trouble)
