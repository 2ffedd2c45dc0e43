"""Studio: the one door that the browser, the API and the command line go through.

Submit, look, cancel, retry; every call checks the owner. Accepted means durable: when ``submit_...`` returns, the
request and the uploads are on the disk and the job ends, sooner or later, in exactly one of completed, stalled
(with a cause in words) and cancelled. Importing this brings in neither torch nor gradio.

    studio = Studio(Settings())
    studio.start()
    job = studio.submit_check(CheckConfig(subject="Ada", class_noun="woman"), photos, owner="local")
    job = studio.wait(job.id, owner="local")
"""

import dataclasses
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.core import fit, machine
from studio.core.catalog import BASES, published_licence
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import TERMINAL_STATES, Event, JobKind, JobView, OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.errors import ConflictError, InputError, NotFoundError, Problem, StudioError
from studio.core.files import sync_folder, write_json
from studio.core.finish_config import HUB_FILE, BackgroundStep, FaceStep, FinishConfig, UpscaleStep
from studio.core.fit import FitPlan
from studio.core.presets import list_chains, list_packs, list_presets
from studio.core.private import TABLE_NAME, make_home
from studio.core.settings import Settings, openmp_defaults
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.jobs import intake
from studio.jobs.backup import Backup
from studio.jobs.child import OUT_FOLDER, PHOTOS_FOLDER, REQUEST_FILE, TOKEN_VARIABLE, resolve
from studio.jobs.inherited import machines_login
from studio.jobs.slots import slots_of
from studio.jobs.states import SOURCE_KIND, VERBS, VerbSpec
from studio.jobs.store import NewJob, Store
from studio.jobs.worker import Worker

_Jobs = list[JobView]  # Studio.list hides the builtin inside the class
_Rows = list[dict[str, Any]]
_Photos = list[list[str]]
_NumberedEvents = list[tuple[int, Event]]

_NOT_YOURS: dict[str, str | None] = {
    "HF_TOKEN_PATH": os.devnull,
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "STUDIO_CIVITAI_KEY": None,
    "STUDIO_GUEST": "1",
}
"""Variables of the processes of jobs that are not of the machine's owner: without its keys and its login."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class Studio:
    """The studio of one installation.

    Args:
        settings: where things are kept, and limits.
        verbs: the table of verbs.
        grace_s: how long a running job may take to stop by itself before it is killed.
        max_losses: so many attempts in a row that were killed or crashed stall a job.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        verbs: Mapping[JobKind, VerbSpec] = VERBS,
        grace_s: float = 20.0,
        max_losses: int = 3,
    ) -> None:
        self._settings = settings
        self._verbs = verbs
        self._home = settings.home.expanduser().absolute()
        self._jobs_dir = self._home / "jobs"
        self._store = Store(self._home / TABLE_NAME, verbs=verbs)
        self._tokens: dict[str, str] = {}
        """Tokens of jobs that have not ended, by job id: in memory, and nowhere else."""
        self._worker = Worker(
            self._store,
            self._home,
            self._jobs_dir,
            verbs=verbs,
            environment=_environment(settings),
            more_variables=[name.strip() for name in settings.job_environment.split(",")],
            grace_s=grace_s,
            max_losses=max_losses,
            silence_s=settings.job_silence_s,
            secrets=self._secrets_of,
            slots=slots_of(settings),
        )
        self._backup = (
            Backup(settings, self._store, self._jobs_dir, leads=self._worker.leads) if settings.backup_url else None
        )
        self._ready = False

    def start(self) -> None:
        """Start the local worker; jobs whose server died go back to pending and go on from their folders.

        Where a backup is set, finished jobs that are there and not here come back in the course of time.

        Raises:
            ResourceError: the home folder cannot be used.
            InputError, MissingExtraError: the backup's address can never work.
        """
        self._make_home()
        if self._backup:
            self._backup.start()
        self._worker.start()

    def close(self) -> None:
        """Stop the worker and its child; the job that ran is pending again and goes on at the next start."""
        self._worker.close()
        if self._backup:
            self._backup.close()
        self._store.close()

    # Submitting

    def submit_check(
        self, config: CheckConfig, photos: Sequence[Path], *, owner: str, key: str | None = None
    ) -> JobView:
        """Copy photos in and queue their check.

        Args:
            config: settings of the check.
            photos: files of this machine; their names are what verdicts call them by.
            owner: whose job it is.
            key: idempotency key; the same key with the same request returns the same job.

        Raises:
            InputError: no, too many or too large photos, or files that cannot be read; all problems at once.
            ConflictError: the key was used for another request.
            ResourceError: the disk is full; nothing was stored.
        """
        limit = min(self._settings.max_photos, config.max_photos)
        max_bytes = self._settings.max_upload_bytes
        uploads = intake.inspect(photos, max_photos=limit, max_bytes=max_bytes)
        title = f"Photos of {config.subject}"
        return self._submit("check", config, title, owner=owner, key=key, uploads=uploads)

    def submit_train(
        self,
        config: TrainConfig,
        source: str,
        *,
        owner: str,
        key: str | None = None,
        token: str | None = None,
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
            publish: what is published once the run is completed, and where, by a job of its own (``publishing_of``).
                What can be told before is refused now, not after an hour of training.
            publish_token: of the Hub, as in ``submit_publish``; the training never knows it.

        Raises:
            NotFoundError: the owner has no job ``source``.
            InputError: ``source`` is another kind of job, or somebody else names a path of this machine; ``publish``
                cannot be done, or its token cannot write.
            ConflictError: ``source`` is stalled or cancelled, the key was used for another request, or the name on the
                Hub is taken. ResourceError: the disk is full, or the Hub cannot be reached.
        """
        if owner != self._settings.owner and (problems := _places_in(config)):
            raise InputError.of(problems)
        title = f"Training of {config.subject} on {config.base}"
        if publish is None:
            return self._submit("train", config, title, owner=owner, key=key, source=source, token=token)
        known = self._known("train", config, source, owner, key)
        if known is None or not self._knows_key(owner, _then_key(known.id)):
            if known is None:
                self._check_source("train", source, owner)
            self.check_publishing(config, publish, owner=owner, token=publish_token)
        run = self._submit("train", config, title, owner=owner, key=key, source=source, token=token)
        try:
            self._queue_publish(publish, run.id, owner=owner, token=publish_token, key=_then_key(run.id))
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
            raise InputError.of([Problem("run", "comes from two places or from none", cure, "no_run")])
        what = config.pack or config.prompts[0]
        title = f"Pictures: {what if len(what) <= 60 else what[:59] + '…'}"
        return self._submit("generate", config, title, owner=owner, key=key, source=source, token=token)

    def submit_export(
        self, config: ExportConfig, source: str, *, owner: str, key: str | None = None, token: str | None = None
    ) -> JobView:
        """Queue an export of the train job ``source``; it waits until that is completed.

        Raises: as ``submit_train``.
        """
        title = f"Export: {config.format}"
        return self._submit("export", config, title, owner=owner, key=key, source=source, token=token)

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

        The token is asked first whether it may write; so a run can be trained and published in one go, and nobody
        learns after an hour of training that the token was wrong.

        Args:
            config: what is published, and where; it takes no paths of this machine.
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
        _require_no_folder(config)
        self._check_source("publish", source, owner)
        if pictures is not None:
            config = config.model_copy(update={"pictures": str(self._pictures_of(pictures, owner))})
        if not config.dry_run and not (key is not None and self._knows_key(owner, key)):
            self.check_access(config, owner=owner, token=token)
        return self._queue_publish(config, source, owner=owner, token=token, key=key)

    def _queue_publish(
        self, config: PublishConfig, source: str, *, owner: str, token: str | None, key: str | None
    ) -> JobView:
        title = f"Publishing: {config.repo}"
        return self._submit("publish", config, title, owner=owner, key=key, source=source, token=token)

    def check_publishing(
        self, config: TrainConfig, publish: PublishConfig, *, owner: str, token: str | None = None
    ) -> None:
        """Find out before a run whether it can be published as ``publish`` says; changes nothing.

        Raises:
            InputError: the run will have no such form, its licence forbids it or is not known, the pictures are of
                another run; all problems at once. Otherwise what ``studio.publishing.hub:check_access`` raises.
        """
        _require_no_folder(publish)
        problems = []
        if publish.form == "adapter" and config.method.name != "lora":
            message = f"method {config.method.name} trains no LoRA, so there will be no adapter"
            problems.append(Problem("form", message, "publish with form merged", "no_format"))
        if publish.choose:
            cure = "leave it out, or publish when there are pictures"
            problems.append(Problem("choose", "names pictures, and there are none before the run", cure, "no_pictures"))
        for name, text in (("title", publish.title or ""), ("about", publish.about)):
            if token and token in text:
                problems.append(Problem(name, "holds a key of yours", "take it out", "secret"))
        row = BASES.get(config.base)
        problems += published_licence(config.base, row.licence if row else "unknown", publish.licence)[1]
        if problems:
            raise InputError.of(problems)
        if not publish.dry_run:
            self.check_access(publish, owner=owner, token=token)

    def check_access(self, config: PublishConfig, *, owner: str, token: str | None = None) -> None:
        """Ask the Hub whether the repository can be written to as ``config`` says; changes nothing.

        Raises: what ``studio.publishing.hub:check_access`` raises.
        """
        check = resolve("studio.publishing.hub:check_access")
        check(config.repo, self._token(owner, token), public=config.public, update=config.update)

    def unpublish(self, repo: str, *, owner: str | None = None, token: str | None = None) -> None:
        """Delete a repository from the Hub, with all its history.

        Args:
            repo: ``owner/name``.
            owner: who asks; None is the owner of this machine.
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

        Unlike the verb, it takes no paths of this machine: a background picture is one of the uploads, a network one
        that lies in the studio's weights folder.

        Raises:
            NotFoundError: the owner has no job ``source``.
            InputError: ``source`` is another kind of job, both or neither of the two are given, uploads that cannot
                be taken, or a path in the settings; all problems at once.
            ConflictError: ``source`` is stalled or cancelled, or the key was used for another request.
            ResourceError: the disk is full; nothing was stored.
        """
        problems = _paths_in(config)
        if (source is None) == (not pictures):
            cure = "give either pictures or a generate job"
            problems.append(Problem("pictures", "come from two places or from none", cure, "no_photos"))
        if problems:
            raise InputError.of(problems)
        limits = {"max_photos": self._settings.max_photos, "max_bytes": self._settings.max_upload_bytes}
        uploads = intake.inspect(pictures, **limits) if pictures else ()
        title = f"Finishing: {config.chain or ', '.join(step.do for step in config.steps) or 'contact sheet'}"
        return self._submit("finish", config, title, owner=owner, key=key, source=source, uploads=uploads)

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

        What a running job has done so far is kept, and ``retry`` goes on from there.

        Raises:
            NotFoundError: the owner has no such job.
        """
        self._make_home()
        view = self._store.cancel(job_id, owner)
        if view.state in TERMINAL_STATES:
            self._tokens.pop(job_id, None)
        self._worker.wake()
        return view

    def retry(self, job_id: str, *, owner: str, token: str | None = None) -> JobView:
        """Put a stalled or cancelled job back into the queue.

        Args:
            job_id: the job.
            owner: whose it is.
            token: of the Hub, for a job that was submitted with one: it was forgotten when the job ended. One that
                still waits for its job, because that never ran, stays.

        Raises:
            NotFoundError: the owner has no such job. ConflictError: it is neither stalled nor cancelled.
        """
        self._make_home()
        if token and self._store.get(job_id, owner).state in ("stalled", "cancelled"):
            self._tokens[job_id] = self._tokens.get(job_id) or token
        view = self._store.retry(job_id, owner)
        self._worker.wake()
        return view

    def events(self, job_id: str, *, owner: str, after: int = 0) -> _NumberedEvents:
        """Return (sequence number, event) of everything told after number ``after``, in order.

        Of ``progress`` events only the newest is kept. A job that goes on after a loss tells some steps again:
        the later word for the same step, file or name counts.

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

    def run(
        self,
        verb: str,
        config: StrictModel,
        source: Path,
        out: Path,
        *,
        on_event: OnEvent = ignore_event,
        should_stop: ShouldStop = never_stop,
    ) -> Any:
        """Run a verb (check, train, generate, export, finish) here and now, in this process; return its result.

        Raises:
            NotFoundError: there is no such verb. StudioError: whatever the verb raises.
        """
        spec = next((spec for kind, spec in self._verbs.items() if kind == verb), None)
        if spec is None:
            raise NotFoundError(f"there is no verb {verb!r}; use one of: {', '.join(self._verbs)}.")
        return resolve(spec.path)(config, source, out, on_event=on_event, should_stop=should_stop)

    def plan(self, config: TrainConfig, photos: int) -> FitPlan:
        """Return at once what a run will take, from what was measured here or else from the catalog's figures."""
        room_bytes = machine.look(self._settings.device).memory_bytes
        return fit.plan_of(config, photos, fit.recall(self._home, config), room_bytes=room_bytes)

    def measure_plan(
        self,
        config: TrainConfig,
        dataset_dir: Path,
        *,
        on_event: OnEvent = ignore_event,
        should_stop: ShouldStop = never_stop,
    ) -> FitPlan:
        """Measure what a run will take with a few real steps here and now, in this process.

        Raises:
            StudioError: whatever would keep the run from starting.
        """
        measured: FitPlan = resolve("studio.plan:plan")(config, dataset_dir, on_event=on_event, should_stop=should_stop)
        return measured

    # What there is to choose from, as plain JSON data

    def presets(self) -> _Rows:
        """Return all training presets by name."""
        return [preset.model_dump(mode="json") for preset in list_presets(self._settings.presets_dir)]

    def packs(self) -> _Rows:
        """Return all prompt packs by name."""
        return [pack.model_dump(mode="json") for pack in list_packs(self._settings.presets_dir)]

    def chains(self) -> _Rows:
        """Return all finish chains by name."""
        return [chain.model_dump(mode="json") for chain in list_chains(self._settings.presets_dir)]

    def bases(self) -> _Rows:
        """Return the catalog of base models, with what is the default on this machine.

        ``default`` is true for the base that is offered first; ``default_preset`` is None where no preset is made for
        a base.
        """
        here, presets = machine.look(self._settings.device), list_presets(self._settings.presets_dir)
        default = machine.default_base(here)
        rows = []
        for base in BASES.values():
            embedded = Path(base.source).is_absolute()
            source = "embedded" if embedded else base.source  # a path of the server is nobody's business
            preset = machine.default_preset(base.name, here, presets)
            chosen = {"default": base.name == default, "default_preset": preset.name if preset else None}
            rows.append({**dataclasses.asdict(base), "source": source, **chosen})
        return rows

    # Below: one submit

    def _submit(
        self,
        kind: JobKind,
        config: StrictModel,
        title: str,
        *,
        owner: str,
        key: str | None,
        source: str | None = None,
        uploads: Sequence[intake.Upload] = (),
        token: str | None = None,
    ) -> JobView:
        _check_words(owner=owner, key=key)
        self._make_home()
        if key is not None and self._store.knows_key(owner, key):
            known = self._store.find(owner, key, _fingerprint(kind, config, source, intake.digest(uploads)))
            if known is not None:
                return known
        if source is not None:
            self._check_source(kind, source, owner)

        job_id = f"{kind}-{secrets.token_hex(8)}"
        job_dir = self._jobs_dir / job_id
        accepted = False
        try:
            with intake.disk_errors():
                job_dir.mkdir(mode=0o700)
            photos: _Photos = []
            if uploads:
                max_bytes = self._settings.max_upload_bytes
                photos = intake.copy(uploads, job_dir / PHOTOS_FOLDER, max_bytes=max_bytes)
            request: dict[str, Any] = {"kind": kind, "config": config.model_dump(mode="json"), "source": source}
            # A job of somebody else must never take the machine's token, not even when its own is lost.
            if token is not None or owner != self._settings.owner:
                request["own_token"] = True
                self._tokens[job_id] = token or ""
            with intake.disk_errors():
                write_json(job_dir / REQUEST_FILE, request)
                sync_folder(self._jobs_dir)
            fingerprint = _fingerprint(kind, config, source, photos)
            view, accepted = self._store.insert(NewJob(job_id, kind, owner, title, fingerprint, source, key))
        finally:
            if not accepted:  # an error, or another thread was faster with the same key
                self._tokens.pop(job_id, None)
                shutil.rmtree(job_dir, ignore_errors=True)
        self._worker.wake()
        return view

    def _known(self, kind: JobKind, config: StrictModel, source: str, owner: str, key: str | None) -> JobView | None:
        """Return the job that came under this key before; raises ConflictError if that was another request."""
        if key is None:
            return None
        self._make_home()
        return self._store.find(owner, key, _fingerprint(kind, config, source, ()))

    def _knows_key(self, owner: str, key: str) -> bool:
        self._make_home()
        return self._store.knows_key(owner, key)

    def _token(self, owner: str, token: str | None) -> str | None:
        """Return the token of a request; that of this machine only for the owner of the machine."""
        if token is not None or owner != self._settings.owner:
            return token
        found: str | None = resolve("studio.publishing.hub:token_of")(self._settings)
        return found

    def _secrets_of(self, job_id: str, ended: bool) -> Mapping[str, str | None]:
        """Return what one job's process alone must know, and what it must not; forget it when the job has ended."""
        token = self._tokens.pop(job_id, None) if ended else self._tokens.get(job_id)
        if ended and self._backup:
            self._backup.wake()
        if ended:
            return {}
        is_owners = self._store.owner_of(job_id) == self._settings.owner
        known: dict[str, str | None] = {**machines_login()} if is_owners else dict(_NOT_YOURS)
        return known | ({} if token is None else {TOKEN_VARIABLE: token})

    def _pictures_of(self, job_id: str, owner: str) -> Path:
        """Return the folder of a job's generated pictures."""
        view = self.get(job_id, owner=owner)
        if view.kind not in ("generate", "finish"):
            problem = Problem("pictures", f"job {job_id} is a {view.kind} job", "give a generate job", "wrong_kind")
            raise InputError.of([problem])
        if view.state != "completed":
            raise ConflictError(f"job {job_id} is {view.state}; its pictures are not ready.")
        return self.out_dir(job_id, owner=owner)

    def _check_source(self, kind: JobKind, source: str, owner: str) -> None:
        wanted = SOURCE_KIND[kind]
        view = self._store.get(source, owner)
        if view.kind != wanted:
            problem = Problem("source", f"job {source} is a {view.kind} job", f"give a {wanted} job", "wrong_kind")
            raise InputError.of([problem])
        if view.state in ("stalled", "cancelled"):
            raise ConflictError(f"job {source} is {view.state}; retry it first, then submit this again.")

    def _with_trouble(self, view: JobView) -> JobView:
        trouble = None if view.state in TERMINAL_STATES else self._worker.trouble_of(view.id)
        return view if trouble is None else dataclasses.replace(view, cause=trouble)

    def _make_home(self) -> None:
        if not self._ready:
            with intake.disk_errors():
                make_home(self._home)
                self._jobs_dir.mkdir(mode=0o700, exist_ok=True)
            self._ready = True


def _places_in(config: TrainConfig) -> list[Problem]:
    """Return a problem for each setting that names a place of this machine: what lies there may be anybody's."""
    problems = []
    cure = "give a name of the catalog, a Hub id (owner/name) or civitai:MODEL"
    by_name = config.base in BASES or config.base.startswith("civitai:") or _HUB_NAME.fullmatch(config.base)
    if not by_name or (config.base not in BASES and Path(config.base).exists()):
        problems.append(Problem("base", "is a path of this machine", cure, "path"))
    if config.method.start_from is not None:
        problems.append(Problem("method.start_from", "is a path of this machine", "leave it out", "path"))
    return problems


def _then_key(run: str) -> str:
    """Return the key of the job that publishes a run once it is trained."""
    return f"publish-{run}"


def _require_no_folder(config: PublishConfig) -> None:
    if config.pictures is not None:
        cure = "give a generate or finish job"
        raise InputError.of([Problem("pictures", "is a path of this machine", cure, "path")])


def _paths_in(config: FinishConfig) -> list[Problem]:
    """Return a problem for each setting that names a file outside the job's own: a job comes from anywhere."""
    problems = []
    for step in config.steps:
        given = {}
        if isinstance(step, UpscaleStep | FaceStep):
            given[f"{step.do}.model"] = (step.model, "give a known name, a file of the weights folder, or hf:…")
        elif isinstance(step, BackgroundStep) and step.picture:
            given["background.picture"] = (step.picture, "upload it with the others and give its name")
        for where, (text, cure) in given.items():
            on_hub = where.endswith(".model") and HUB_FILE.fullmatch(text)
            if not on_hub and (re.search(r"[/\\]", text) or text.startswith((".", "~"))):
                problems.append(Problem(where, "is a path", cure, "path"))
    return problems


def _environment(settings: Settings) -> dict[str, str]:
    """Return the settings as the variables that a child's own ``Settings()`` reads."""
    # Not the token for the Hub: only a job of the machine's owner gets it, see ``_secrets_of``.
    private = {"hub_token", "remote_server", "remote_token", "backup_url"}
    values = settings.model_dump(mode="json", exclude_none=True, exclude=private)
    if settings.civitai_key:  # dumped as asterisks
        values["civitai_key"] = settings.civitai_key.get_secret_value()
    variables = {f"STUDIO_{name.upper()}": str(value) for name, value in values.items()}
    variables |= openmp_defaults()
    variables["STUDIO_LOGIN"] = "false"  # nobody logs in to a job, and it lacks what the platform gives for that
    if settings.threads is not None:  # read by torch's thread pool, before any of our code could say it
        variables["OMP_NUM_THREADS"] = str(settings.threads)
    return variables


def _check_words(*, owner: str, key: str | None) -> None:
    problems = []
    for where, text in (("owner", owner), ("key", key)):
        if text is not None and not (0 < len(text) <= 200 and text.isprintable()):
            problems.append(Problem(where, "is not 1 to 200 printable characters", "choose another", "invalid_text"))
    if problems:
        raise InputError.of(problems)


def _fingerprint(kind: str, config: StrictModel, source: str | None, photos: Sequence[Sequence[str]]) -> str:
    request = [kind, config.model_dump(mode="json"), source, [list(photo) for photo in photos]]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
