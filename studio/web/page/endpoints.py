"""The named endpoints for ``gradio_client``: typed, stable, JSON in and out, every one bound to the owner.

Visibility is no access control in Gradio: each handler goes through the desk, which carries the owner.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from studio.core.domain import JobView
from studio.core.errors import InputError, LoginError, Problem, StudioError
from studio.core.finish_config import FinishConfig
from studio.web.login import FOR_PROGRAMS
from studio.web.page import files
from studio.web.session import StudioSession, is_open, result_files

_EVENTS = 100
"""Most events in one answer."""


def add_endpoints(session: StudioSession) -> None:
    """Add the endpoints to the current ``gr.Blocks``."""

    def check_photos(
        photos: list[gr.FileData],
        subject: str = "Subject",
        class_noun: str = "person",
        settings: dict | None = None,
        key: str | None = None,
    ) -> dict:
        """Check photos of one subject: a verdict with a cure for each, crops and captions for training.

        Args:
            photos: the photo files.
            subject: name of the subject, for titles.
            class_noun: what the subject is: woman, man, dog, teapot.
            settings: more settings of the check by name.
            key: the same key with the same request is the same job.

        Returns:
            The job; ask /job until its state is completed.
        """
        taken = files.uploads(_path(photo) for photo in photos)
        form = {**(settings or {}), "subject": subject, "class_noun": class_noun}
        job = session.submit_check(taken, form, key=key)
        files.sweep(taken)
        return asdict(job)

    def train(
        check_job: str,
        base: str = "",
        preset: str = "",
        settings: dict | None = None,
        instance_token: str = "",
        key: str | None = None,
        publish_to: str = "",
        public: bool = False,
        token: str = "",
        publish_settings: dict | None = None,
    ) -> dict:
        """Train an adapter on the photos of a finished check; if wanted, publish it then on the Hugging Face Hub.

        Args:
            check_job: id of the check.
            base: name of a base model; empty takes the preset's, or the default of /bases.
            preset: name of a preset; empty takes the one of /bases that fits base and GPU.
            settings: changes to the preset by dotted name, for example {"method.rank": 8, "steps": 200}.
            instance_token: the word that will mean the subject in prompts; empty keeps the preset's.
            key: the same key with the same request is the same job.
            publish_to: repository, as owner/name, to publish the run in when it is done; empty publishes nothing.
            public: let everybody see what is published.
            token: of the Hub, with write access, asked before the training whether it may; kept as by /publish.
            publish_settings: more settings of the publishing by name, for example {"title": "Ada", "gallery": 6}.

        Returns:
            The job; ask /job until its state is completed. "publish_job" is the job that publishes it, or null.
        """
        changes = dict(settings or {})
        if instance_token:
            changes["instance_token"] = instance_token
        then = {**(publish_settings or {}), "repo": publish_to, "public": public} if publish_to else None
        if then is None and (public or token or publish_settings):
            cure = "give it as owner/name, or leave the rest out"
            raise InputError.of([Problem("publish_to", "is empty, and settings of it are given", cure, "no_repo")])
        run = session.submit_train(
            check_job, base=base, preset=preset, changes=changes, key=key, publish=then, token=token
        )
        return {**asdict(run), "publish_job": _id(session.publishing_of(run))}

    def plan(check_job: str, base: str = "", preset: str = "", settings: dict | None = None) -> dict:
        """Tell what a training run would take: memory, time, disk; nothing is started.

        Args:
            check_job: id of the check.
            base: name of a base model; empty takes the preset's, or the default of /bases.
            preset: name of a preset; empty takes the one of /bases that fits base and GPU.
            settings: changes to the preset by dotted name.

        Returns:
            The figures, whether it fits, and all that in words.
        """
        found = session.plan_train(check_job, base=base, preset=preset, changes=settings)
        return {**asdict(found), "fits": found.fits, "words": found.words()}

    def generate(
        train_job: str,
        pack: str = "",
        prompts: list[str] | None = None,
        count: int = 1,
        keep: int = 0,
        seed: int = 0,
        settings: dict | None = None,
        key: str | None = None,
        adapter: str = "",
        token: str = "",
    ) -> dict:
        """Make pictures with a finished run, or with a published adapter, from a pack or from prompts.

        Args:
            train_job: id of the run; empty with adapter.
            pack: name of a pack; give either a pack or prompts.
            prompts: prompts in which {subject} stands for the subject.
            count: pictures per shot or prompt.
            keep: keep only so many of each, the most alike; 0 keeps all.
            seed: seed of the first picture.
            settings: more settings by name, for example {"guidance_scale": 5, "adapter_scale": 0.8}.
            key: the same key with the same request is the same job.
            adapter: a published adapter instead of a run, as owner/name or owner/name@revision.
            token: of the Hub, for a private adapter; used for this job only.

        Returns:
            The job; ask /job until its state is completed.
        """
        form = {**(settings or {}), "count": count, "seed": seed, "prompts": prompts or []}
        form |= {"pack": pack or None, "adapter": adapter or None}
        form |= {"keep": keep} if keep else {}
        return asdict(session.submit_generate(train_job, form, key=key, token=token or None))

    def export(train_job: str, format: str = "diffusers", settings: dict | None = None, key: str | None = None) -> dict:
        """Write a finished run's adapter in another program's format, and prove that it works there.

        Args:
            train_job: id of the run.
            format: diffusers, kohya (ComfyUI, A1111), merged (a diffusers folder) or single_file (one checkpoint).
            settings: more settings by name, for example {"dtype": "float16", "checkpoint": 400}.
            key: the same key with the same request is the same job.

        Returns:
            The job; ask /job until its state is completed. Its files hold certificate.json.
        """
        return asdict(session.submit_export(train_job, {**(settings or {}), "format": format}, key=key))

    def publish(
        train_job: str,
        repo: str,
        token: str = "",
        public: bool = False,
        pictures_job: str = "",
        choose: list[str] | None = None,
        update: bool = False,
        dry_run: bool = False,
        settings: dict | None = None,
        key: str | None = None,
    ) -> dict:
        """Publish a run on the Hugging Face Hub, in one commit, private unless asked.

        Args:
            train_job: id of the run; one that still trains is published when it is done.
            repo: repository, as owner/name.
            token: with write access, asked first whether it may, used for this job only, stored nowhere; empty takes
                the machine's for its owner.
            public: let everybody see it.
            pictures_job: id of a generate job, or a finish job of one, for the gallery; empty takes the run's samples.
            choose: pictures of that job by their files; empty takes the best ones.
            update: write into a repository that exists.
            dry_run: only assemble what would be published; no token is needed.
            settings: more settings by name, for example {"form": "merged", "title": "Ada", "gallery": 6}.
            key: the same key with the same request is the same job.

        Returns:
            The job; ask /job until its state is completed. Its result holds the commit.
        """
        form = {**(settings or {}), "repo": repo, "public": public, "update": update, "dry_run": dry_run}
        form["choose"] = choose or ()
        return asdict(session.submit_publish(train_job, form, pictures_job=pictures_job, token=token, key=key))

    def unpublish(repo: str, token: str) -> dict:
        """Delete a repository from the Hub, with all its history; this cannot be undone.

        Args:
            repo: repository, as owner/name.
            token: with write access, used once; empty takes the machine's for its owner.

        Returns:
            {"deleted": repo}
        """
        session.unpublish(repo, token=token)
        return {"deleted": repo}

    def finish(
        pictures: list[gr.FileData],
        chain: str = "headshot_white",
        generate_job: str = "",
        settings: dict | None = None,
        key: str | None = None,
    ) -> dict:
        """Put pictures through a chain: cut out, background, enlarge, faces, size and bytes.

        Args:
            pictures: picture files or zips of them; an empty list with generate_job.
            chain: name of a chain.
            generate_job: id of a generate job whose pictures are finished instead.
            settings: changes to the steps, for example {"fit.max_bytes": 5000000, "cutout.model": "u2net"}.
            key: the same key with the same request is the same job.

        Returns:
            The job; ask /job until its state is completed.
        """
        taken = files.uploads(_path(picture) for picture in pictures)
        job = session.submit_finish(chain, settings or {}, pictures=taken, generate_job=generate_job or None, key=key)
        files.sweep(taken)
        return asdict(job)

    def remove_background(
        pictures: list[gr.FileData],
        model: str = "u2netp",
        background: str = "transparent",
        colour: str = "#ffffff",
        key: str | None = None,
    ) -> dict:
        """Cut the subject out of pictures.

        Args:
            pictures: picture files or zips of them.
            model: u2netp, u2net, u2net_human_seg, u2net_cloth_seg, silueta, isnet-general-use or birefnet-portrait.
            background: transparent, white, colour, gradient or blur.
            colour: of background colour and the upper end of gradient, as #rrggbb.
            key: the same key with the same request is the same job.

        Returns:
            The job; ask /job until its state is completed.
        """
        steps = [{"do": "cutout", "model": model}, {"do": "background", "fill": background, "colour": colour}]
        return _steps(steps, pictures, key)

    def upscale(
        pictures: list[gr.FileData],
        model: str = "x4plus",
        factor: float = 0,
        long_side_px: int = 0,
        prompt: str = "",
        key: str | None = None,
    ) -> dict:
        """Enlarge pictures with a network that adds detail.

        Args:
            pictures: picture files or zips of them.
            model: x4plus, x4plus-anime, animevideov3, general-x4v3, sd-x4, or a file of the weights folder.
            factor: enlarge by this; 0 takes long_side_px or the network's own factor.
            long_side_px: longer side of the result, 1024 to 8192; 0 takes factor.
            prompt: what the pictures show, for sd-x4.
            key: the same key with the same request is the same job.

        Returns:
            The job; ask /job until its state is completed.
        """
        target = {"factor": factor or None, "long_side_px": long_side_px or None}
        return _steps([{"do": "upscale", "model": model, "prompt": prompt, **target}], pictures, key)

    def contact_sheet(
        pictures: list[gr.FileData],
        title: str = "",
        columns: int = 4,
        generate_job: str = "",
        key: str | None = None,
    ) -> dict:
        """Lay pictures out on one page with their names.

        Args:
            pictures: picture files or zips of them; an empty list with generate_job.
            title: one line above all.
            columns: pictures per row.
            generate_job: id of a generate job whose pictures are laid out instead.
            key: the same key with the same request is the same job.

        Returns:
            The job; ask /job until its state is completed.
        """
        sheet = {"sheet_title": title, "sheet_columns": columns}
        return _steps([], pictures, key, generate_job=generate_job, **sheet)

    def _steps(
        steps: list[dict[str, Any]], pictures: list[Any], key: str | None, *, generate_job: str = "", **more: Any
    ) -> dict:
        config = FinishConfig.parse({"steps": steps, **more})
        taken = files.uploads(_path(picture) for picture in pictures)
        job = session.finish(config, pictures=taken, generate_job=generate_job or None, key=key)
        files.sweep(taken)
        return asdict(job)

    def job(job_id: str, after: int = 0, files: bool = True) -> dict:
        """Look at a job: state, progress, result, newest events, and its files once it is completed.

        Args:
            job_id: id of the job.
            after: only events with a higher number.
            files: False leaves the files out, so that a client that downloads by itself does not.

        Returns:
            The job with "events" (each with seq, kind, data) and "files" (by path: pictures, zip, adapter).
        """
        return _answer(session, session.studio.get(job_id, owner=session.owner), after, files)

    def jobs(limit: int = 50) -> list[dict]:
        """List the jobs, newest first."""
        return [asdict(row) for row in session.studio.list(owner=session.owner, limit=limit)]

    def cancel(job_id: str) -> dict:
        """Cancel a job; what was done so far is kept."""
        return asdict(session.studio.cancel(job_id, owner=session.owner))

    def presets() -> list[dict]:
        """List the training presets."""
        return [preset.model_dump(mode="json") for preset in session.presets()]

    def packs() -> list[dict]:
        """List the prompt packs with their shots."""
        return [pack.model_dump(mode="json") for pack in session.packs()]

    def chains() -> list[dict]:
        """List the finish chains with their steps."""
        return [chain.model_dump(mode="json") for chain in session.chains()]

    def bases() -> list[dict]:
        """List the base models."""
        return session.studio.bases()

    for endpoint in (
        check_photos, train, plan, generate, export, publish, unpublish, finish, remove_background, upscale,
        contact_sheet, job, jobs, cancel, presets, packs, chains, bases,
    ):  # fmt: skip
        gr.api(_spoken(endpoint), api_name=endpoint.__name__, concurrency_limit=None)


def _spoken(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Let a StudioError reach the client as its own words, without a trace in the log."""

    @wraps(endpoint)
    def spoken(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except StudioError as caught:
            words = f"{caught} {FOR_PROGRAMS}" if isinstance(caught, LoginError) else str(caught)
            raise gr.Error(words, print_exception=False) from None

    return spoken


def _path(photo: Any) -> str:
    path = photo.get("path") if isinstance(photo, Mapping) else getattr(photo, "path", None)
    if not path:
        raise InputError.of([Problem("photos", "one is not an uploaded file", "send files", "not_a_file")])
    return path


def _file(path: Path, name: str) -> dict[str, Any]:
    return {"path": files.lent(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def _answer(session: StudioSession, job: JobView, after: int, with_files: bool) -> dict[str, Any]:
    events = session.studio.events(job.id, owner=session.owner, after=after)[-_EVENTS:]
    answer = asdict(job)
    answer["events"] = [{"seq": seq, "kind": event.kind, "data": _named_as_file(event.data)} for seq, event in events]
    if job.kind == "train":
        answer["publish_job"] = _id(session.publishing_of(job))
    answer["files"] = {}
    if with_files and not is_open(job) and job.result:
        for relative in result_files(job):
            if (path := session.out_file(job.id, relative)) is not None:
                answer["files"][relative] = _file(path, path.name)
    return answer


def _id(job: JobView | None) -> str | None:
    return None if job is None else job.id


def _named_as_file(data: Mapping[str, Any]) -> dict[str, Any]:
    """Call a picture's path ``file``: gradio_client takes any dict with a ``path`` for a download."""
    return {"file" if name == "path" else name: value for name, value in data.items()}
