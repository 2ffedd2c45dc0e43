"""The verb ``publish``: a run's adapter, or the whole model, as one commit to a repository on the Hugging Face Hub.

The steps: refuse what is impossible, all reasons at once -> check the token and the name -> write the
exports, each with its certificate -> assemble ``out_dir/repo``, exactly what is pushed -> look it over -> one commit
(``studio.publishing.hub``) -> DONE. Of the photos nothing is published: no picture that was not generated, no file
name, no path, no embedding.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio import __version__
from studio.core import folder as output
from studio.core import records
from studio.core.config import PublishConfig
from studio.core.domain import OnEvent, PublishResult, ShouldStop, ignore_event, never_stop
from studio.core.errors import ConflictError
from studio.core.files import full_disk_in_words
from studio.core.progress import GO_ON, ProgressReporter
from studio.core.settings import load_settings
from studio.publishing import hub
from studio.publishing.assemble import (
    GALLERY_FOLDER,
    MANIFEST_NAME,
    REPO_FOLDER,
    RESULT_NAME,
    assemble,
    check_repo,
    files_below,
    require_no_secrets,
    sha256,
)
from studio.publishing.source import PublishSource, read_source

_PART = ".repo.part"


_WORK = ".exports"


_POLL_S = 0.2


@full_disk_in_words()
def publish(
    config: PublishConfig,
    run_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> PublishResult:
    """Publish a run on the Hub.

    The token is that of the settings (``STUDIO_HUB_TOKEN``), or else the one that this machine is logged in with; it
    is written nowhere. ``out_dir/repo`` holds exactly what is pushed. Called again with the same config on the same
    folder, it goes on: what is assembled stays, and a commit that is there already is not made twice. After a dry run
    the same call without ``dry_run`` pushes what was looked at.

    Args:
        config: what is published, and where.
        run_dir: a folder that ``train`` wrote.
        out_dir: created if missing; empty, or left by a call with the same config.
        on_event: receives the stages.
        should_stop: polled between the stages, while waiting for the Hub, and right before the commit.

    Returns:
        The repository and the commit's id.

    Raises:
        NotFoundError: the run is not finished; no such checkpoint; no repository to update.
        InputError: the token, the licence, the form or the pictures, with all that is wrong at once.
        ConflictError: the name is taken, or public; or ``out_dir`` holds other things.
        ResourceError: the Hub cannot be reached or has no room, or the disk is full.
        TrainingError: read back, an export is not the trained model. JobCancelled: ``should_stop`` returned True.
    """
    started_s = time.monotonic()
    reporter = ProgressReporter(on_event, should_stop, kept=GO_ON)
    source = read_source(config, run_dir)
    _claim(out_dir, source)
    before = _result_before(out_dir)
    if before is not None and (config.dry_run or (before.commit and not config.update)):
        return before
    settings = load_settings()
    token = None if config.dry_run else hub.token_of(settings)
    require_no_secrets(config, token, settings)
    if not config.dry_run:
        reporter.stage("checking", f"Checking write access to {config.repo} on the Hub.")
        _may_write(config, token, has_begun=(out_dir / REPO_FOLDER).is_dir())
    for warning in source.warnings:
        reporter.warn(warning)
    with _without_work(out_dir):
        repo_dir = out_dir / REPO_FOLDER
        if not repo_dir.is_dir():
            part = out_dir / _PART
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            assemble(source, part, out_dir / _WORK, reporter)
            reporter.stage("looking", "Checking what will be published.")
            check_repo(source, part, token, settings)
            os.rename(part, repo_dir)
        else:
            _require_whole(repo_dir)
    commit, url = None, f"{hub.constants.ENDPOINT}/{config.repo}"
    if not config.dry_run:
        reporter.stage("publishing", f"Publishing {config.repo}.")
        pushed = _pushed(config, repo_dir, token, out_dir, reporter)
        commit, url = pushed.commit, pushed.url
    files = files_below(repo_dir)
    result = PublishResult(
        repo=config.repo,
        url=url,
        commit=commit,
        public=config.public,
        form=config.form,
        licence=source.licence_id,
        files=tuple(files),
        pictures=sum(name.startswith(f"{GALLERY_FOLDER}/") for name in files),
        bytes=sum(path.stat().st_size for path in files.values()),
        warnings=source.warnings,
        seconds=round(time.monotonic() - started_s, 3),
    )
    records.write(out_dir / RESULT_NAME, result)
    output.finish(out_dir)
    return result


def _claim(out_dir: Path, source: PublishSource) -> None:
    """Claim the folder for this request, or refuse it."""
    request = {
        "verb": "publish",
        "base": source.info.base,
        "revision": source.info.revision,
        "adapter_sha256": source.adapter_sha256,
        "pictures": [[shown.name, sha256(shown.path)] for shown in source.pictures],
    }
    # The exports of a call that was cut off are gone on with, whatever else is asked for.
    # Three settings decide what happens on the Hub, not what is assembled.
    online = {"dry_run", "public", "update"}
    output.claim(out_dir, request, what="a repository", config=source.config, without=online, scratch={_WORK})


def _result_before(out_dir: Path) -> PublishResult | None:
    """Return the result of an earlier call that finished in this folder."""
    if not (output.is_finished(out_dir) and (out_dir / REPO_FOLDER).is_dir()):
        return None
    return records.read(PublishResult, out_dir / RESULT_NAME)


def _require_whole(repo_dir: Path) -> None:
    """Refuse to push a folder that changed after it was checked."""
    manifest = json.loads((repo_dir / MANIFEST_NAME).read_text(encoding="utf-8"))
    there = {name: sha256(path) for name, path in files_below(repo_dir).items() if name != MANIFEST_NAME}
    if manifest != there:
        raise ConflictError(
            f"{repo_dir.name}: its files have changed since they were assembled; delete the folder and start again."
        )


@contextmanager
def _without_work(out_dir: Path) -> Iterator[None]:
    """Remove the exports once they are assembled; after a failure they stay, so that the next call goes on."""
    yield
    shutil.rmtree(out_dir / _WORK, ignore_errors=True)


def _may_write(config: PublishConfig, token: str | None, *, has_begun: bool) -> None:
    try:
        hub.check_access(config.repo, token, public=config.public, update=config.update)
    except ConflictError:
        if not has_begun:
            raise


def _pushed(
    config: PublishConfig,
    repo_dir: Path,
    token: str | None,
    out_dir: Path,
    reporter: ProgressReporter,
) -> hub.PushResult:
    """Push from a thread, so that a stop request is noticed and a long upload is not mistaken for a hung one."""
    ended: list[hub.PushResult | BaseException] = []
    stop = threading.Event()
    waits: list[str] = []

    def stale() -> list[str]:
        text = hub.fetch_text(config.repo, MANIFEST_NAME, token, out_dir / _WORK / "before")
        before = json.loads(text) if text else {}
        return [str(name) for name in before] if isinstance(before, dict) else []

    def work() -> None:
        try:
            ended.append(
                hub.push(
                    repo_dir,
                    config.repo,
                    token,
                    public=config.public,
                    update=config.update,
                    message=f"{'Update' if config.update else 'Publish'} with Likeness Studio {__version__}",
                    stale=stale,
                    should_stop=stop.is_set,
                    on_wait=waits.append,
                )
            )
        except BaseException as error:  # raised again in the verb's own thread
            ended.append(error)

    # A daemon: a stuck upload must not keep the process from ending; it cannot commit any more by then.
    thread = threading.Thread(target=work, name="studio-publish", daemon=True)
    thread.start()
    reporter.start(1)
    while not ended:
        thread.join(_POLL_S)
        while waits:
            reporter.warn(waits.pop(0))
        if reporter.should_stop():
            stop.set()
            thread.join(10 * _POLL_S)
            if not ended:
                reporter.check_stop()
        else:
            reporter.step(0, "Uploading")
    shutil.rmtree(out_dir / _WORK, ignore_errors=True)
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]
