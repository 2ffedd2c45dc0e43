"""What a tab or an endpoint asks of the studio: forms become configs, jobs become answers. No Gradio in here."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.core import machine
from studio.core.adapters import EMBEDS_NAME, FULL_NAME, INFO_NAME, WEIGHTS_NAME
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import TERMINAL_STATES, JobKind, JobView
from studio.core.errors import InputError, LoginError, NotFoundError, Problem
from studio.core.finish_config import FinishConfig
from studio.core.fit import FitPlan
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
from studio.core.server_token import is_off
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.web.login import Visitor

if TYPE_CHECKING:
    from studio.service import Studio


@dataclass(frozen=True)
class StudioSession:
    """The studio as one owner sees it; every call carries the owner."""

    studio: "Studio"
    settings: Settings
    visitor: Callable[[], Visitor] | None = None
    """Tells who asks where people log in, and raises LoginError for nobody; None where all is the machine's owner's."""

    @property
    def owner(self) -> str:
        """Whose jobs these are.

        Raises:
            LoginError: people log in here, and nobody is logged in.
        """
        return self.settings.owner if self.visitor is None else self.visitor().owner

    @property
    def token(self) -> str | None:
        """The login's own token for the Hub, for jobs that come without one; raises as ``owner``."""
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

    def unpublish(self, repo: str, *, token: str | None = None) -> None:
        """Delete a repository from the Hub; raises what ``hub_token`` and ``Studio.unpublish`` raise."""
        self.studio.unpublish(repo, owner=self.owner, token=self.hub_token(token))

    @property
    def has_owner(self) -> bool:
        """Whether there is anybody whose jobs these could be."""
        try:
            return bool(self.owner)
        except LoginError:
            return False

    def jobs(self, kind: JobKind) -> list[JobView]:
        """Return the owner's jobs of one kind, newest first; nobody has none."""
        if not self.has_owner:
            return []
        return [job for job in self.studio.list(owner=self.owner, limit=200) if job.kind == kind]

    def job(self, job_id: str | None, kind: JobKind) -> JobView:
        """Return one job of the given kind.

        Raises:
            NotFoundError: there is none with this id.
        """
        if not job_id:
            raise NotFoundError(_NOTHING_CHOSEN[kind])
        job = self.studio.get(job_id, owner=self.owner)
        if job.kind != kind:
            raise NotFoundError(f"job {job_id!r} is a {job.kind} job, not a {kind} job.")
        return job

    def current(self, kind: JobKind) -> JobView | None:
        """Return the job to show when the page opens: the newest one still at work, else the newest one."""
        jobs = self.jobs(kind)
        return next((job for job in jobs if is_open(job)), jobs[0] if jobs else None)

    def submit_check(self, photos: Sequence[Path], form: Mapping[str, Any], *, key: str | None = None) -> JobView:
        """Start a photo check; ``form`` holds settings of CheckConfig.

        Raises:
            InputError: no photos, or wrong settings.
        """
        if not photos:
            raise InputError.of(
                [Problem("photos", "none were given", "add 5 to 20 photos of one subject", "no_photos")]
            )
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
        """Start a training run on the photos of a finished check; ``changes`` are dotted settings of TrainConfig.

        With ``publish``, settings of PublishConfig, the run is published when it is done; ``token`` is asked first.

        Raises:
            NotFoundError: no such check or preset. InputError: wrong settings, no preset for a base that has none of
                its own, the check is not finished, or a token that cannot write. ConflictError: the name on the Hub is
                taken.
        """
        check, config = self._train_config(check_job, base, preset, changes or {})
        then = PublishConfig.parse(publish) if publish else None
        return self.studio.submit_train(
            config,
            check.id,
            owner=self.owner,
            key=key,
            token=self.token,
            publish=then,
            publish_token=self.hub_token(token) if then else None,
        )

    def publishing_of(self, run: JobView) -> JobView | None:
        """Return the newest job that publishes a run; None if there is none."""
        return self.studio.publishing_of(run.id, owner=self.owner) if run.kind == "train" else None

    def retry_train(self, train_job: str | None) -> JobView:
        """Go on with a stalled or cancelled run, and with the publishing that waited for it.

        Raises:
            NotFoundError: no such run. ConflictError: it is neither stalled nor cancelled.
        """
        run = self.studio.retry(self.job(train_job, "train").id, owner=self.owner, token=self.token)
        then = self.publishing_of(run)
        if then is not None and then.state == "stalled":
            self.studio.retry(then.id, owner=self.owner, token=self.token)
        return run

    def plan_train(
        self, check_job: str | None, *, base: str = "", preset: str = "", changes: Mapping[str, Any] | None = None
    ) -> FitPlan:
        """Tell at once what that run would take.

        Raises: as ``submit_train``.
        """
        check, config = self._train_config(check_job, base, preset, changes or {})
        return self.studio.plan(config, len((check.result or {})["photos"]))

    def _train_config(
        self, check_job: str | None, base: str, preset: str, changes: Mapping[str, Any]
    ) -> tuple[JobView, TrainConfig]:
        check = self.job(check_job, "check")
        if check.state != "completed" or check.result is None:
            raise InputError.of([Problem("photos", "their check is not finished", "wait for it", "not_checked")])
        base, chosen = machine.choose(base, preset, machine.look(self.settings.device), self.settings.presets_dir)
        subject = {"subject": check.result["subject"], "class_noun": check.result["class_noun"]}
        return check, override(chosen.config, {**subject, "base": base, **changes})

    def submit_generate(
        self, train_job: str | None, form: Mapping[str, Any], *, key: str | None = None, token: str | None = None
    ) -> JobView:
        """Start making pictures with a finished run; ``form`` holds settings of GenerateConfig.

        With an ``adapter`` among them no run is wanted, and ``token`` is for a private one.

        Raises:
            NotFoundError: no such run or pack. InputError: wrong settings, or the run is not finished.
        """
        if form.get("adapter") and not train_job:
            config = GenerateConfig.parse(form)
            if config.pack is not None:
                load_pack(config.pack, self.settings.presets_dir)
            return self.studio.submit_generate(config, owner=self.owner, key=key, token=token or self.token)
        run = self.job(train_job, "train")
        if run.state != "completed":
            raise InputError.of([Problem("run", "it is not finished", "wait for it or choose another", "not_trained")])
        config = GenerateConfig.parse(form)
        if config.pack is not None:
            noun = self.adapter_facts(run.id).get("class_noun")
            pack = load_pack(config.pack, self.settings.presets_dir)
            if noun:
                require_kind(pack, noun)
        return self.studio.submit_generate(config, run.id, owner=self.owner, key=key, token=self.token)

    def submit_export(self, train_job: str | None, form: Mapping[str, Any], *, key: str | None = None) -> JobView:
        """Start exporting a finished run; ``form`` holds settings of ExportConfig.

        Raises:
            NotFoundError: no such run. InputError: wrong settings, or the run is not finished.
        """
        run = self.job(train_job, "train")
        if run.state != "completed":
            raise InputError.of([Problem("run", "it is not finished", "wait for it or choose another", "not_trained")])
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
        """Start publishing a run, finished or not; ``form`` holds settings of PublishConfig.

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
            token=(token or self.token) if config.dry_run else self.hub_token(token),
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
            raise NotFoundError("no chain is chosen; choose one first.")
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
        """Return the absolute path of a file that a job wrote; None if it is not there or lies outside."""
        folder = self.studio.out_dir(job_id, owner=self.owner).resolve()
        path = (folder / relative).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None

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

    def pack_pictures(self, pack: str, train_job: str) -> dict[str, tuple[str, str]]:
        """Return shot -> (job, file) of the most alike picture that was made of it with this run and pack before."""
        found: dict[str, tuple[float, str, str]] = {}
        for job in self.jobs("generate"):
            if job.source != train_job or job.title != f"{_TITLES['generate']}{pack}" or not job.result:
                continue
            for image in job.result["images"]:
                likeness = image.get("likeness") or 0.0
                if image["shot"] not in found or likeness > found[image["shot"]][0]:
                    found[image["shot"]] = (likeness, job.id, image["file"])
        return {shot: (job_id, file) for shot, (_, job_id, file) in found.items()}

    def adapter_facts(self, train_job: str) -> dict[str, Any]:
        """Return what a run's adapter.json says of base and class noun; empty if the run has none yet."""
        path = self.out_file(train_job, "adapter/adapter.json")
        return json.loads(path.read_text(encoding="utf-8")) if path else {}


_NOTHING_CHOSEN = {
    "check": "No photos are chosen; check some in the Photos tab first.",
    "train": "No run is chosen; train one in the Train tab first.",
    "generate": "No pictures are chosen.",
    "export": "No export is chosen.",
    "finish": "No finished pictures are chosen.",
    "publish": "Nothing that was published is chosen.",
}


_TITLES = {
    "check": "Photos of ",
    "train": "Training of ",
    "generate": "Pictures: ",
    "export": "Export: ",
    "finish": "Finishing: ",
    "publish": "Publishing: ",
}
"""How the service begins its titles; a list of one kind need not say it in each row."""


def is_open(job: JobView) -> bool:
    """Tell whether the job still waits or works."""
    return job.state not in TERMINAL_STATES


def label(job: JobView) -> str:
    """Return one line that tells jobs apart in a list."""
    moment = datetime.fromtimestamp(job.created_s)
    when = f"{moment.day} {moment:%b %H:%M}"
    result = job.result or {}
    if job.kind == "check" and result:
        ready = sum(verdict["status"] != "rejected" for verdict in result["verdicts"])
        detail = f"{ready} photos"
    elif job.kind == "train" and result.get("likeness_after") is not None:
        detail = f"{result['likeness_after']:.2f}"
    elif job.state == "completed":
        made = result.get({"generate": "images", "finish": "pictures"}.get(job.kind, ""))
        detail = "finished" if made is None else f"{len(made)} pictures"
    else:
        detail = {"stalled": "stopped early", "cancelled": "cancelled"}.get(job.state, "at work")
    return " · ".join((job.title.removeprefix(_TITLES[job.kind]), detail, when))


def result_files(job: JobView) -> list[str]:
    """Return the paths of the files that a completed job offers; one that is not there was not made."""
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
"""What a run folder holds beside its result; its checkpoints are large, and worth nothing without the optimizer."""


def home_files(job: JobView, out_dir: Path) -> list[str]:
    """Return the paths of the files that make a completed job whole on another machine.

    Those of ``result_files``, and of a training run what pictures, export and publishing there read or show.
    """
    files = result_files(job)
    if job.kind == "train":
        for pattern in _OF_A_RUN:
            files += sorted(path.relative_to(out_dir).as_posix() for path in out_dir.glob(pattern))
    return files
