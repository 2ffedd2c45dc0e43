"""The studio as one visitor uses it: forms become configs, jobs become answers. Without Gradio."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from studio.core import machine, reach
from studio.core.adapters import EMBEDS_NAME, FULL_NAME, INFO_NAME, WEIGHTS_NAME
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import TERMINAL_STATES, JobKind, JobView
from studio.core.errors import InputError, LoginError, NotFoundError, Problem
from studio.core.evicted import WEIGHTS_SUFFIX, is_kept
from studio.core.finish_config import FinishConfig
from studio.core.fit import FitPlan
from studio.core.job_words import name_of
from studio.core.packs import Pack, require_kind, subject_kind
from studio.core.presets import (
    Chain,
    TrainPreset,
    finish_config,
    list_chains,
    list_packs,
    list_presets,
    load_chain,
    load_pack,
    override,
)
from studio.core.receipts import Receipt
from studio.core.server_token import is_off, uses_keys
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.core.units import mean_words
from studio.web import codes
from studio.web.login import Visitor
from studio.web.page import words, words_admin

if TYPE_CHECKING:
    from studio.jobs.operation import Operation
    from studio.service import Studio


MAX_LISTED = 1000
"""Maximum number of jobs of one kind in a list of the page."""
OPEN_STATES = frozenset(get_args(get_type_hints(JobView)["state"])) - TERMINAL_STATES
"""The states of jobs that have not ended."""
DONE = frozenset({"completed"})
USABLE_STATES = OPEN_STATES | DONE
"""The states of jobs that another job may be queued behind."""


@dataclass(frozen=True)
class StudioSession:
    """The studio as one owner sees it; every call carries the owner."""

    studio: "Studio"
    settings: Settings
    visitor: Callable[[], Visitor] | None = None
    """Returns who sends the request where people log in, and raises LoginError for nobody. None where nobody logs in:
    all jobs are then the machine's owner's."""

    @property
    def owner(self) -> str:
        """Whose jobs these are.

        Raises:
            LoginError: people log in here, and nobody is logged in.
        """
        return self.settings.owner if self.visitor is None else self.visitor().owner

    @property
    def token(self) -> str | None:
        """The visitor's own token for the Hub, for jobs that come without one; raises as ``owner``."""
        return None if self.visitor is None else self.visitor().token

    def hub_token(self, given: str | None) -> str | None:
        """Return the token for a step that writes to the Hub; None where the machine's own may be used.

        Raises:
            InputError: none was given, and nobody here has shown that they may use the machine's own.
            LoginError: people log in here, and nobody is logged in.
        """
        token = given or self.token
        if token is None and is_off(self.settings):
            message = "is missing, and a server without a token of its own lends this machine's to nobody"
            cure = "send one that may write, or start the server without STUDIO_TOKEN=off"
            raise InputError.of([Problem("token", message, cure, "no_token")])
        return token

    def _publish_token(self, config: PublishConfig, given: str | None) -> str | None:
        """Return the token for a publishing, which needs none as long as nothing is sent; raises as ``hub_token``."""
        return (given or self.token) if config.dry_run else self.hub_token(given)

    def unpublish(self, repo: str, *, token: str | None = None) -> None:
        """Delete a repository from the Hub; raises what ``hub_token`` and ``Studio.unpublish`` raise."""
        self.studio.unpublish(repo, owner=self.owner, token=self.hub_token(token))

    def forget(self, *, job: str = "", subject: str = "", everything: bool = False, dry_run: bool = False) -> Receipt:
        """Delete a job or a subject with everything made from it, or everything of the owner.

        Raises: what ``Studio.forget`` raises, empty text standing for what is not given.
        """
        return self.studio.forget(
            owner=self.owner, job=job or None, subject=subject or None, everything=everything, dry_run=dry_run
        )

    def heart(self, job_id: str, files: Collection[str], *, on: bool = True) -> JobView:
        """Give hearts to pictures of a job, or take them back; raises what ``Studio.heart`` raises."""
        return self.studio.heart(job_id, files, owner=self.owner, on=on)

    def rename(self, name: str, *, subject: str = "", check_job: str = "") -> tuple[str, ...]:
        """Give a subject another name, or a photo set one of its own; return the ids of the jobs that carry it.

        Raises:
            InputError: not exactly one of the two is given. Otherwise what ``Studio.rename`` and ``Studio.name_set``
                raise.
        """
        if bool(subject) == bool(check_job):
            raise InputError.of([Problem("rename", words.RENAME_WHAT_MISSING, words.RENAME_WHAT_CURE, "what")])
        if subject:
            return self.studio.rename(subject, name, owner=self.owner)
        return (self.studio.name_set(check_job, name, owner=self.owner).id,)

    @property
    def has_login(self) -> bool:
        """Whether people log in here with Hugging Face."""
        return self.visitor is not None and not uses_keys(self.settings)

    @property
    def has_keys(self) -> bool:
        """Whether people sign in here with an API key."""
        return self.visitor is not None and uses_keys(self.settings)

    @property
    def has_owner(self) -> bool:
        """Whether somebody is logged in, or nobody has to be."""
        try:
            return bool(self.owner)
        except LoginError:
            return False

    @property
    def is_operator(self) -> bool:
        """Whether the visitor runs this studio: whoever is let in where nobody logs in, else those that are named.

        Where API keys are used, it is those whose key has the scope admin.
        """
        if self.visitor is None:
            return True
        if self.has_owner and (key := self.visitor().key) is not None:
            return key.may("admin")
        named = {name.strip() for name in self.settings.admins.split(",")} | {self.settings.owner}
        return self.has_owner and self.owner in named

    @property
    def operation(self) -> "Operation":
        """What an operator sees and does.

        Raises:
            LoginError: people log in here, and nobody is logged in. NotFoundError: the visitor is no operator.
        """
        if self.owner and not self.is_operator:
            raise NotFoundError(words_admin.ADMIN_ONLY)
        return self.studio.operation

    def jobs(
        self, kind: JobKind, *, states: Collection[str] = (), source: str | None = None, limit: int | None = None
    ) -> list[JobView]:
        """Return the owner's jobs of one kind, newest first; none where nobody is logged in.

        Args:
            kind: kind of the jobs; jobs of other kinds do not count against the limit.
            states: only jobs in one of these states; empty means any.
            source: only jobs that read the output of this job.
            limit: maximum number of jobs; None takes as many as a list of the page holds.
        """
        if not self.has_owner:
            return []
        limit = MAX_LISTED if limit is None else limit
        return self.studio.list(owner=self.owner, limit=limit, kind=kind, states=states, source=source)

    def choices(
        self, kind: JobKind, *, states: Collection[str] = (), also: JobView | None = None
    ) -> list[tuple[str, str]]:
        """Return jobs as choices of a list, (label, job id), newest first.

        Args:
            kind: kind of the jobs.
            states: only jobs in one of these states; empty means any.
            also: a job that belongs in the list however old it is, because it is shown.
        """
        rows = self.jobs(kind, states=states)
        if also is not None and all(row.id != also.id for row in rows):
            rows.append(also)
        return [(label(row), row.id) for row in rows]

    def job(self, job_id: str | None, kind: JobKind) -> JobView:
        """Return one job of the given kind.

        Raises:
            NotFoundError: there is none with this id.
        """
        if not job_id:
            raise NotFoundError(words.NOTHING_CHOSEN[kind])
        if kind == "train" and codes.is_code(job_id):
            job_id = self.run_of(job_id)
        job = self.studio.get(job_id, owner=self.owner)
        if job.kind != kind:
            raise NotFoundError(words.WRONG_KIND.format(job=job_id, found=job.kind, wanted=kind))
        return job

    def run_of(self, code: str) -> str:
        """Return the id of the training run that goes by a code.

        Raises:
            NotFoundError: the owner has none. ConflictError: two of them go by it.
        """
        return codes.found(code, (job.id for job in self.every("train")))

    def every(self, kind: JobKind) -> Iterator[JobView]:
        """Yield all of the owner's jobs of one kind, newest first, however many there are."""
        owner, before = self.owner, None
        while rows := self.studio.list(owner=owner, limit=MAX_LISTED, kind=kind, before=before):
            yield from rows
            if len(rows) < MAX_LISTED:
                return
            before = rows[-1].id

    def current(self, kind: JobKind) -> JobView | None:
        """Return the job to show when the page opens: the newest open one, else the newest one."""
        at_work = self.jobs(kind, states=OPEN_STATES, limit=1)
        return next(iter(at_work or self.jobs(kind, limit=1)), None)

    def submit_check(
        self, photos: Sequence[Path], form: Mapping[str, Any], *, key: str | None = None, edits: str | None = None
    ) -> JobView:
        """Start a photo check; ``form`` holds settings of CheckConfig.

        With ``edits``, a check, its photos come first, and what the form leaves out stays as it was there.

        Raises:
            InputError: no photos, or wrong settings. NotFoundError, ConflictError: there is no such check, or it has
                kept no photos.
        """
        if edits:
            before = self.studio.check_settings(self.job(edits, "check").id, owner=self.owner)
            config = CheckConfig.parse({**before.model_dump(mode="json"), **form})
            return self.studio.submit_check(config, list(photos), owner=self.owner, key=key, edits=edits)
        if not photos:
            raise InputError.of([Problem("photos", words.NO_PHOTOS, words.NO_PHOTOS_CURE, "no_photos")])
        config = CheckConfig.parse({"max_photos": self.settings.max_photos, **form})
        return self.studio.submit_check(config, list(photos), owner=self.owner, key=key)

    def submit_train(
        self,
        check_job: str | None,
        *,
        base: str = "",
        preset: str = "",
        changes: Mapping[str, Any] | None = None,
        key: str | None = None,
        publish: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> JobView:
        """Queue a training run on the photos of a check; ``changes`` are dotted settings of TrainConfig.

        With ``publish``, settings of PublishConfig, the run is published when it is done; that ``token`` may write is
        checked before training starts.

        Raises:
            NotFoundError: no such check or preset. InputError: wrong settings, no preset for a base that has none of
                its own, another subject than the check's, or a token that cannot write. ConflictError: the check
                stopped early or was cancelled, or the name on the Hub is taken.
        """
        check = self.job(check_job, "check")
        self._require_photo_base(check, base, preset)
        config, chosen = self.train_config(base, preset, changes or {})
        then = PublishConfig.parse(publish) if publish else None
        return self.studio.submit_train(
            config,
            check.id,
            owner=self.owner,
            key=key,
            token=self.token,
            preset=chosen,
            publish=then,
            publish_token=self._publish_token(then, token) if then else None,
        )

    def submit_whole_way(self, check_job: str | None) -> tuple[JobView, JobView]:
        """Queue a run on the photos of a check as this machine does best, and pictures with it from the first pack.

        Raises: as ``submit_train`` and ``submit_generate``.
        """
        run = self.submit_train(check_job)
        pack = next(iter(self.packs(base=run.facts.base, class_noun=run.facts.class_noun)), None)
        return run, self.submit_generate(run.id, {"pack": pack.name if pack else ""})

    def publishing_of(self, run: JobView) -> JobView | None:
        """Return the newest job that publishes a run; None if there is none."""
        return self.studio.publishing_of(run.id, owner=self.owner) if run.kind == "train" else None

    def retry(self, job_id: str, *, token: str | None = None) -> JobView:
        """Continue a stalled or cancelled job of any kind; of a run also the publishing that waited for it.

        An open job stays as it is, so that a second call does no harm.

        Args:
            job_id: the job.
            token: token of the Hub, for a job that was submitted with one.

        Raises:
            NotFoundError: no such job. ConflictError: it is completed.
        """
        job = self.studio.get(job_id, owner=self.owner)
        if is_open(job):
            return job
        job = self.studio.retry(job_id, owner=self.owner, token=token or self.token)
        then = self.publishing_of(job)
        if then is not None and then.state == "stalled":
            self.studio.retry(then.id, owner=self.owner, token=token or self.token)
        return job

    def plan_train(
        self, check_job: str | None, *, base: str = "", preset: str = "", changes: Mapping[str, Any] | None = None
    ) -> FitPlan:
        """Return what that run would take, without starting it.

        Raises: as ``submit_train``, and InputError: the check has not completed, so that nobody knows how many photos
            there will be.
        """
        check = self.job(check_job, "check")
        self._require_photo_base(check, base, preset)
        config, _ = self.train_config(base, preset, changes or {})
        if check.result is None:
            raise InputError.of([Problem("photos", words.NOT_CHECKED, words.NOT_CHECKED_CURE, "not_checked")])
        return self.studio.plan(config, len(check.result["photos"]))

    def _require_photo_base(self, check: JobView, base: str, preset: str) -> None:
        drawn = (check.result or {}).get("drawn")
        here = machine.look(self.settings.device)
        reach.require_photo_base(is_named=bool(base or preset), drawn=drawn, here=here)

    def train_config(self, base: str, preset: str, changes: Mapping[str, Any]) -> tuple[TrainConfig, str]:
        """Return the settings of a run and the name of the preset that they come from.

        Raises:
            NotFoundError: no such preset or base. InputError: wrong settings, all at once, or no preset for the base.
        """
        base, chosen = machine.choose(base, preset, machine.look(self.settings.device), self.settings.presets_dir)
        return override(chosen.config, {"base": base, **changes}), chosen.name

    def submit_generate(
        self, train_job: str | None, form: Mapping[str, Any], *, key: str | None = None, token: str | None = None
    ) -> JobView:
        """Queue pictures with a run; ``form`` holds settings of GenerateConfig.

        With an ``adapter`` among them no run is needed; ``token`` is for a private one.

        Raises:
            NotFoundError: no such run or pack. InputError: wrong settings. ConflictError: the run stopped early or was
                cancelled.
        """
        config, run = self.generate_order(train_job, form)
        if run is None:
            return self.studio.submit_generate(config, owner=self.owner, key=key, token=token or self.token)
        return self.studio.submit_generate(config, run.id, owner=self.owner, key=key, token=self.token)

    def generate_order(self, train_job: str | None, form: Mapping[str, Any]) -> tuple[GenerateConfig, JobView | None]:
        """Return the settings of pictures and the run that they are made with, None with a published adapter.

        Raises:
            NotFoundError: no such run or pack. InputError: wrong settings, or a pack for other kinds of subject.
        """
        run = None if form.get("adapter") and not train_job else self.job(train_job, "train")
        config = GenerateConfig.parse(form)
        if config.pack is not None:
            pack = load_pack(config.pack, self.settings.presets_dir)
            noun = run and (self.adapter_facts(run.id).get("class_noun") or run.facts.class_noun)
            if noun:
                require_kind(pack, noun)
        return config, run

    def submit_export(self, train_job: str | None, form: Mapping[str, Any], *, key: str | None = None) -> JobView:
        """Queue an export of a run; ``form`` holds settings of ExportConfig.

        Raises:
            NotFoundError: no such run. InputError: wrong settings. ConflictError: the run stopped early or was
                cancelled.
        """
        run = self.job(train_job, "train")
        config = ExportConfig.parse(form)
        return self.studio.submit_export(config, run.id, owner=self.owner, key=key, token=self.token)

    def submit_publish(
        self,
        train_job: str | None,
        form: Mapping[str, Any],
        *,
        pictures_job: str | None = None,
        token: str | None = None,
        key: str | None = None,
    ) -> JobView:
        """Queue the publishing of a run; ``form`` holds settings of PublishConfig.

        Raises:
            NotFoundError: no such run. InputError: wrong settings, or a token that cannot write. ConflictError: the
                name is taken. ResourceError: the Hub cannot be reached.
        """
        run = self.job(train_job, "train")
        config = PublishConfig.parse(form)
        return self.studio.submit_publish(
            config,
            run.id,
            owner=self.owner,
            pictures=pictures_job or None,
            token=self._publish_token(config, token),
            key=key,
        )

    def submit_finish(
        self,
        chain: str | None,
        changes: Mapping[str, Any],
        *,
        pictures: Sequence[Path] = (),
        generate_job: str | None = None,
        key: str | None = None,
    ) -> JobView:
        """Start finishing pictures with a chain; ``changes`` are settings like ``fit.max_bytes``.

        Raises:
            NotFoundError: no such chain or job. InputError: no pictures, or wrong settings.
        """
        if not chain:
            raise NotFoundError(words.NO_CHAIN)
        config = finish_config(load_chain(chain, self.settings.presets_dir), changes)
        return self.finish(config, pictures=pictures, generate_job=generate_job, key=key)

    def finish(
        self,
        config: FinishConfig,
        *,
        pictures: Sequence[Path] = (),
        generate_job: str | None = None,
        key: str | None = None,
    ) -> JobView:
        """Start finishing pictures with steps; raises as ``submit_finish``."""
        source = self.job(generate_job, "generate").id if generate_job else None
        return self.studio.submit_finish(config, source, list(pictures), owner=self.owner, key=key)

    def chains(self) -> list[Chain]:
        """Return the finish chains."""
        return list_chains(self.settings.presets_dir)

    def out_file(self, job_id: str, relative: str) -> Path | None:
        """Return the absolute path of a file that a job wrote; None if it is not there or lies outside.

        Weights that lie in the backup alone are fetched; raises as ``Studio.bring_weights``.
        """
        path = self._place(job_id, relative)
        if path is not None and path.suffix == WEIGHTS_SUFFIX and is_kept(path):
            self.studio.bring_weights(job_id, relative, owner=self.owner)
        return path if path is not None and path.is_file() else None

    def has_file(self, job_id: str, relative: str) -> bool:
        """Tell whether ``out_file`` would find a file; fetches nothing."""
        path = self._place(job_id, relative)
        return path is not None and is_kept(path)

    def _place(self, job_id: str, relative: str) -> Path | None:
        folder = self.studio.out_dir(job_id, owner=self.owner).resolve()
        path = (folder / relative).resolve()
        return path if path.is_relative_to(folder) else None

    def presets(self, base: str | None = None) -> list[TrainPreset]:
        """Return the training presets, those of one base if it is named."""
        return [row for row in list_presets(self.settings.presets_dir) if base is None or row.base == base]

    def packs(self, *, base: str | None = None, class_noun: str | None = None) -> list[Pack]:
        """Return the packs, those that fit the base and the class noun if they are named; those made for it first."""
        found = list_packs(self.settings.presets_dir)
        if base is not None:
            found = [pack for pack in found if not pack.bases or base in pack.bases]
            found.sort(key=lambda pack: not pack.bases)
        if class_noun is not None:
            found = [pack for pack in found if subject_kind(class_noun) in pack.subjects]
        return found

    def pack_pictures(self, train_job: str) -> dict[str, dict[str, tuple[str, str]]]:
        """Return pack -> shot -> (job, file) of the best picture that was made of it with this run before.

        The newest one with a heart, else the most alike.
        """
        found: dict[str, dict[str, tuple[float, str, str]]] = {}
        rulers: dict[str, tuple[str | None, str | None]] = {}
        for job in self.jobs("generate", states=DONE, source=train_job):
            if job.facts.pack is None or not job.result:
                continue
            measured_by = (job.result.get("likeness_engine"), job.result.get("likeness_version"))
            ruler = rulers.setdefault(job.facts.pack, measured_by)
            of_pack = found.setdefault(job.facts.pack, {})
            # Scores of another engine or version say nothing beside those of the newest job: they count as none.
            for image in job.result["images"]:
                score = image.get("likeness") if measured_by == ruler else None
                likeness = float("-inf") if score is None else score
                likeness = float("inf") if image["file"] in job.hearts else likeness
                if image["shot"] not in of_pack or likeness > of_pack[image["shot"]][0]:
                    of_pack[image["shot"]] = (likeness, job.id, image["file"])
        return {
            pack: {shot: (job_id, file) for shot, (_, job_id, file) in shots.items()} for pack, shots in found.items()
        }

    def subject_of(self, run: JobView) -> dict[str, str]:
        """Return what is known of a run's subject: its name and its class noun."""
        known = {"subject": run.facts.subject, "class_noun": run.facts.class_noun}
        return {name: value for name, value in known.items() if value}

    def adapter_facts(self, train_job: str) -> dict[str, Any]:
        """Return what a run's adapter.json says of base and class noun; empty if the run has none yet."""
        path = self.out_file(train_job, "adapter/adapter.json")
        return json.loads(path.read_text(encoding="utf-8")) if path else {}


def is_open(job: JobView) -> bool:
    """Tell whether the job has not ended yet."""
    return job.state not in TERMINAL_STATES


def can_continue(job: JobView) -> bool:
    """Tell whether the job ended without being done, so that its owner may continue it."""
    return job.state in ("stalled", "cancelled")


def label(job: JobView) -> str:
    """Return one line that tells jobs of a kind apart: title, result or state, time of day."""
    return f"{name_of(job)} · {outcome_of(job)}"


def outcome_of(job: JobView) -> str:
    """Return what came of a job, or its state, and when it was submitted."""
    moment = datetime.fromtimestamp(job.created_s)
    month = words.MONTHS[moment.month - 1]
    when = words.MOMENT.format(day=moment.day, month=month, time=f"{moment:%H:%M}")
    result = job.result or {}
    made = result.get({"generate": "images", "finish": "pictures"}.get(job.kind, ""))
    if job.kind == "check" and result:
        usable = sum(verdict["status"] != "rejected" for verdict in result["verdicts"])
        detail = words.counted(words.JOB_PHOTOS, usable)
    elif job.kind == "train" and result.get("likeness_after") is not None:
        detail = mean_words(result.get("likeness_summary") or {"mean": result["likeness_after"]})
    elif made is not None:
        detail = words.counted(words.PICTURES, len(made))
    else:
        detail = words.JOB_STATES.get(job.state, words.JOB_OPEN)
    return f"{detail} · {when}"


def result_files(job: JobView) -> list[str]:
    """Return the paths of the files that a completed job may offer; those that are not there were not made."""
    result = job.result or {}
    if job.kind == "check":
        return ["dataset.json"]
    if job.kind == "train":
        folder = result.get("adapter", "adapter")
        names = (WEIGHTS_NAME, FULL_NAME, EMBEDS_NAME, INFO_NAME, "certificate.json")
        return [*(f"{folder}/{name}" for name in names), "report.json", "curve.png"]
    if job.kind == "export":
        return list(result["files"])
    if job.kind == "publish":
        return [f"repo/{name}" for name in result["files"]]
    if job.kind == "finish":
        packed = [name for name in (result["archive"], result["contact_sheet"]) if name]
        return [*packed, *(picture["file"] for picture in result["pictures"])]
    sheets = (result["contact_sheet"], *result.get("sheets", ()))
    return [result["archive"], *sheets, *(image["file"] for image in result["images"])]


_OF_A_RUN = ("config.yaml", "metrics.jsonl", "samples/*/scores.json", "samples/*/*.png")
"""What else of a run folder is of use on another machine. Checkpoints are not: they are large, and useless without the
optimizer's state."""


def home_files(job: JobView, out_dir: Path) -> list[str]:
    """Return the paths of the files that another machine needs to go on from a completed job.

    These are those of ``result_files`` and, of a training run, what generate, export and publish read or show.
    """
    files = result_files(job)
    if job.kind == "train":
        for pattern in _OF_A_RUN:
            files += sorted(path.relative_to(out_dir).as_posix() for path in out_dir.glob(pattern))
    return files
