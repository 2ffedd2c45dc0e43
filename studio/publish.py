"""The verb ``publish``: a run's adapter, or the whole model, as one commit to a repository on the Hugging Face Hub.

A straight road: refuse what cannot be, all reasons at once -> is the token good and the name free? -> write the
exports, each with its certificate -> assemble ``out_dir/repo``, exactly what is pushed -> look it over -> one commit
(``studio.hub``) -> DONE. Of the photos nothing is published: no picture that was not generated, no file name, no path,
no embedding.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from studio import __version__, hub
from studio.adapters import AdapterInfo, adapter_folder, adapter_sha256, read_info, write_info
from studio.card import CardFacts, GalleryPicture, check_card, model_card
from studio.catalog import BASES, LicenceSpec, licence_spec, published_licence
from studio.checkpoints import read_scores
from studio.config import ExportConfig, PublishConfig
from studio.core import folder as output
from studio.core.files import full_disk_in_words, sha256_of, write_json, write_text
from studio.core.progress import GO_ON, ProgressReporter
from studio.domain import OnEvent, PublishResult, ShouldStop, ignore_event, never_stop
from studio.errors import ConflictError, InputError, Problem, StudioError
from studio.exports import export, public_name
from studio.exports import problems as export_problems
from studio.imaging.decode import decode_bytes, list_photos
from studio.imaging.png import made_record
from studio.settings import Settings, load_settings
from studio.weights import Base, resolve_base

REPO_FOLDER = "repo"
CARD_NAME = "README.md"
CONFIG_NAME = "config.yaml"
MANIFEST_NAME = "files.json"
GALLERY_FOLDER = "gallery"
KOHYA_FOLDER = "kohya"
RESULT_NAME = "publish.json"

_PART = ".repo.part"
_WORK = ".exports"
_GALLERY_PX = 1024
_MOST_IN_FOLDER = 5000
_POLL_S = 0.2
_LOCAL_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_TRAINING_FACTS = ("method", "resolution_px", "batch_size", "optimizer", "learning_rate", "lr_scheduler", "seed")
_NOT_PUBLISHED = ("subject", "revision", "likeness", "dtype")
"""Settings of a run that say nothing of the model, or are said elsewhere."""


# ---------------------------------------------------------------------------------------------------------- the verb


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
        on_event: told of the stages.
        should_stop: asked between the stages, while waiting for the Hub, and right before the commit.

    Returns:
        The repository and the commit's id.

    Raises:
        NotFoundError: the run is not finished; no such checkpoint; no repository to update.
        InputError: the token, the licence, the form or the pictures, with all that is wrong at once.
        ConflictError: the name is taken, or public; or ``out_dir`` holds other things.
        ResourceError: the Hub cannot be reached or has no room, or the disk is full.
        TrainingError: read back, an export is not the trained model. JobCancelled: ``should_stop`` answered True.
    """
    started_s = time.monotonic()
    reporter = ProgressReporter(on_event, should_stop, kept=GO_ON)
    source = _read_source(config, run_dir)
    _claim(out_dir, source)
    before = _result_before(out_dir)
    if before is not None and (config.dry_run or (before.commit and not config.update)):
        return before
    settings = load_settings()
    token = None if config.dry_run else hub.token_of(settings)
    _require_no_secrets(config, token, settings)
    if not config.dry_run:
        reporter.stage("checking", f"Asking the Hub whether {config.repo} can be written to.")
        _may_write(config, token, has_begun=(out_dir / REPO_FOLDER).is_dir())
    for warning in source.warnings:
        reporter.warn(warning)
    with _without_work(out_dir):
        repo_dir = out_dir / REPO_FOLDER
        if not repo_dir.is_dir():
            part = out_dir / _PART
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            _assemble(source, part, out_dir / _WORK, reporter)
            reporter.stage("looking", "Looking over what will be published.")
            _look_over(source, part, token, settings)
            os.rename(part, repo_dir)
        else:
            _require_whole(repo_dir)
    commit, url = None, f"{hub.constants.ENDPOINT}/{config.repo}"
    if not config.dry_run:
        reporter.stage("publishing", f"Publishing {config.repo}.")
        pushed = _pushed(config, repo_dir, token, out_dir, reporter)
        commit, url = pushed.commit, pushed.url
    files = _files_below(repo_dir)
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
    write_json(out_dir / RESULT_NAME, asdict(result))
    output.finish(out_dir)
    return result


# ------------------------------------------------------------------------------------------------- reading the input


@dataclass(frozen=True, slots=True)
class _Shown:
    """A picture for the gallery, not yet read."""

    path: Path
    name: str
    prompt: str | None
    """None where the file itself has to say it."""


@dataclass(frozen=True, slots=True)
class _Source:
    """What is published."""

    config: PublishConfig
    run_dir: Path
    info: AdapterInfo
    """As it is published: without the photos' embedding, without a path."""
    base: Base
    exports: tuple[ExportConfig, ...]
    licence_id: str
    licence: LicenceSpec
    pictures: tuple[_Shown, ...]
    adapter_sha256: str
    settings: Mapping[str, Any]
    """The run's own config; empty where there is none."""
    private_names: tuple[str, ...]
    """What must appear nowhere: folders of this machine."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the publisher should know."""
        found = []
        if not self.licence.commercial:
            found.append(f"{self.licence.title}: what is made of {self.base.spec.title} is not for commercial use.")
        if self.config.form == "adapter" and _base_on_hub(self.base, self.info) is None and self.info.base != "pocket":
            found.append(f"The base {self.info.base} is not on the Hub: others need a copy of it to use the adapter.")
        return tuple(found)


def _read_source(config: PublishConfig, run_dir: Path) -> _Source:
    """Read the run; raises with all that is wrong before anything is loaded."""
    weights_dir = adapter_folder(run_dir, config.checkpoint)
    info = read_info(run_dir / "adapter")
    base = resolve_base(info.base, info.revision)
    problems: list[Problem] = []
    exports = []
    form = "diffusers" if config.form == "adapter" else config.form
    for name in (form, "kohya") if config.form == "adapter" else (form,):
        wanted = ExportConfig(format=name, checkpoint=config.checkpoint, dtype=config.dtype)
        found = export_problems(wanted, run_dir)
        if not found:
            exports.append(wanted)
        elif name == form:
            problems += [Problem("form", row.message, row.cure.replace("format", "form"), row.code) for row in found]
    licence_id, licence_problems = published_licence(public_name(base.spec.name), base.spec.licence, config.licence)
    problems += licence_problems
    step = config.checkpoint or info.step
    pictures, picture_problems = _pictures(config, run_dir, step)
    problems += picture_problems
    if problems:
        raise InputError.of(problems)
    config_file = run_dir / CONFIG_NAME
    return _Source(
        config=config,
        run_dir=run_dir,
        info=replace(info, base=public_name(info.base), likeness_engine=None, centroid=None, step=step),
        base=base,
        exports=tuple(exports),
        licence_id=licence_id,
        licence=licence_spec(licence_id),
        pictures=tuple(pictures),
        adapter_sha256=adapter_sha256(weights_dir),
        settings=yaml.safe_load(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {},
        private_names=_private_names(run_dir, info),
    )


def _base_on_hub(base: Base, info: AdapterInfo) -> str | None:
    """Return the base's id on the Hub; None for folders, files, Civitai's, and the embedded one."""
    source = BASES[info.base].source if info.base in BASES else base.spec.source
    is_id = source.count("/") == 1 and not Path(source).exists() and not source.endswith(_LOCAL_ENDINGS)
    return source if is_id and ":" not in source else None


def _pictures(config: PublishConfig, run_dir: Path, step: int) -> tuple[list[_Shown], list[Problem]]:
    """Return the pictures for the gallery, none of them opened yet."""
    if config.gallery == 0:
        return [], []
    if config.pictures is None:
        if config.choose:
            cure = "give the folder, too"
            return [], [Problem("choose", "names pictures, and no folder of pictures is given", cure, "no_pictures")]
        rows = read_scores(run_dir, step).get(step, {}).get("samples", ())
        return [_Shown(run_dir / row["path"], row["path"], row["prompt"]) for row in rows[: config.gallery]], []
    folder = Path(config.pictures).expanduser()
    if not folder.is_dir():
        cure = "give the folder that generate or finish wrote"
        return [], [Problem("pictures", f"{folder.name} is no folder", cure, "no_pictures")]
    if config.choose:
        missing = [name for name in config.choose if not (folder / name).is_file()]
        cure = f"choose from what is in {folder.name}"
        found = [Problem("choose", f"there is no {name}", cure, "no_picture") for name in missing]
        if len(config.choose) > config.gallery:
            found.append(_too_many(len(config.choose), config.gallery))
        return [_Shown(folder / name, name, None) for name in config.choose], found
    ranked, names = _listed(folder)
    if not names:
        cure = "give the folder that generate or finish wrote, or leave it out for the run's samples"
        return [], [Problem("pictures", f"{folder.name} holds no pictures", cure, "no_pictures")]
    if len(names) > config.gallery and not ranked:
        return [], [_too_many(len(names), config.gallery)]
    return [_Shown(folder / name, name, None) for name in names[: config.gallery]], []


def _listed(folder: Path) -> tuple[bool, list[str]]:
    """Return whether a folder's pictures are ranked, and their names in it, the best first."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        rows = index["images"] if "images" in index else index["pictures"]
        return "images" in index, [str(row["file"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return False, [path.name for path in list_photos(folder)[0]]


def _too_many(count: int, most: int) -> Problem:
    message = f"{count} pictures are more than the gallery's {most}"
    return Problem("pictures", message, "choose some by name, or set gallery higher (at most 50)", "too_many_pictures")


def _private_names(run_dir: Path, info: AdapterInfo) -> tuple[str, ...]:
    """Return what of this machine a file might give away."""
    names = {str(run_dir.absolute()), str(run_dir.resolve()), str(load_settings().home.expanduser().absolute())}
    if Path(info.base).is_absolute():
        names.add(info.base)
    home = str(Path.home())
    if len(home) > len("/root"):  # too short to be told from words
        names.add(home)
    return tuple(sorted(name for name in names if len(name) > 3))


# -------------------------------------------------------------------------------------------------- folder and resume


def _claim(out_dir: Path, source: _Source) -> None:
    """Claim the folder for this request, or refuse it."""
    request = {
        "verb": "publish",
        # These three decide what happens on the Hub, not what is assembled.
        "config": source.config.model_dump(mode="json", exclude={"dry_run", "public", "update"}),
        "base": source.info.base,
        "revision": source.info.revision,
        "adapter_sha256": source.adapter_sha256,
        "pictures": [[shown.name, _sha256(shown.path)] for shown in source.pictures],
    }
    # The exports of a call that was cut off are gone on with, whatever else is asked for.
    output.claim(out_dir, request, what="a repository", scratch={_WORK})


def _result_before(out_dir: Path) -> PublishResult | None:
    """Return the result of a call that came to its end in this folder."""
    if not (output.is_finished(out_dir) and (out_dir / REPO_FOLDER).is_dir()):
        return None
    data = json.loads((out_dir / RESULT_NAME).read_text(encoding="utf-8"))
    return PublishResult(**{**data, "files": tuple(data["files"]), "warnings": tuple(data["warnings"])})


def _require_whole(repo_dir: Path) -> None:
    """Refuse to push a folder that somebody changed after it was looked over."""
    manifest = json.loads((repo_dir / MANIFEST_NAME).read_text(encoding="utf-8"))
    there = {name: _sha256(path) for name, path in _files_below(repo_dir).items() if name != MANIFEST_NAME}
    if manifest != there:
        raise ConflictError(f"{repo_dir.name}: its files are not those that were assembled; delete it and start again.")


@contextmanager
def _without_work(out_dir: Path) -> Iterator[None]:
    """Remove the exports once they are assembled; after a failure they stay, so that the next call goes on."""
    yield
    shutil.rmtree(out_dir / _WORK, ignore_errors=True)


# --------------------------------------------------------------------------------------------------------- assembling


def _assemble(
    source: _Source,
    repo_dir: Path,
    work: Path,
    reporter: ProgressReporter,
) -> None:
    """Write exactly what is pushed."""
    reporter.start(len(source.exports))
    for number, wanted in enumerate(source.exports):
        reporter.step(number, f"Writing {wanted.format}")
        folder = work / wanted.format
        result = export(wanted, source.run_dir, folder, on_event=reporter.on_event, should_stop=reporter.should_stop)
        for file in result.files:
            _lay(folder / file, repo_dir / _place_of(wanted.format, file))
    reporter.stage("assembling", "Writing the model card and its gallery.")
    pictures = _write_gallery(source, repo_dir)
    if source.config.form == "adapter":
        write_info(repo_dir, source.info)
    if settings := _public_settings(source):
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        write_text(repo_dir / CONFIG_NAME, text)
    card = model_card(_card_facts(source, pictures, tuple(_files_below(repo_dir))))
    write_text(repo_dir / CARD_NAME, card)
    digests = {name: _sha256(path) for name, path in _files_below(repo_dir).items()}
    write_json(repo_dir / MANIFEST_NAME, digests)


def _place_of(form: str, file: str) -> str:
    """Return where a file of an export lies in the repository."""
    if form == "kohya":
        return f"{KOHYA_FOLDER}/{file}"
    return file.removeprefix("pipeline/")  # a merged model lies at the top, where from_pretrained looks


def _lay(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)  # a merged model is gigabytes
    except OSError:
        shutil.copyfile(source, target)


def _write_gallery(source: _Source, repo_dir: Path) -> tuple[GalleryPicture, ...]:
    """Write the gallery: pixels only, under names that say nothing.

    Raises:
        InputError: names every picture that cannot be read or that the studio did not generate.
    """
    problems: list[Problem] = []
    shown: list[GalleryPicture] = []
    for number, one in enumerate(source.pictures, start=1):
        try:
            data = one.path.read_bytes()
        except OSError:
            problems.append(Problem(one.name, "cannot be read", "choose another picture", "unreadable"))
            continue
        prompt = one.prompt or (made_record(data) or {}).get("prompt")
        if prompt is None:
            message = "does not say that the studio generated it, and photos are not published"
            problems.append(Problem(one.name, message, "choose pictures of generate or finish", "not_generated"))
            continue
        try:
            picture = decode_bytes(data, one.name, keep_alpha=True).picture
        except InputError as error:
            problems += error.problems
            continue
        picture.thumbnail((_GALLERY_PX, _GALLERY_PX), Image.Resampling.LANCZOS)
        file = f"{GALLERY_FOLDER}/{number:02d}.png"
        (repo_dir / GALLERY_FOLDER).mkdir(exist_ok=True)
        picture.info.clear()
        picture.save(repo_dir / file, format="PNG")
        shown.append(GalleryPicture(file, " ".join(str(prompt).split())))
    if problems:
        raise InputError.of(problems)
    return tuple(shown)


def _public_settings(source: _Source) -> dict[str, Any]:
    """Return the run's settings without the subject's name and without anything that names a folder."""
    settings = {name: value for name, value in source.settings.items() if name not in _NOT_PUBLISHED}
    if not settings:
        return {}
    settings["base"] = source.info.base
    method = dict(settings.get("method") or {})
    if method.get("start_from"):
        method["start_from"] = Path(str(method["start_from"])).name
    settings["method"] = method
    return settings


def _card_facts(source: _Source, pictures: Sequence[GalleryPicture], files: Sequence[str]) -> CardFacts:
    config, info, base = source.config, source.info, source.base
    scores = read_scores(source.run_dir, info.step)
    row, first = scores.get(info.step, {}), scores.get(0, {})
    engine = read_info(source.run_dir / "adapter").likeness_engine
    measured = {
        "step": info.step,
        "likeness_before": first.get("likeness"),
        "likeness": row.get("likeness"),
        "bleed": row.get("bleed"),
        "engine": engine,
        "pictures": len(row.get("samples", ())),
    }
    titles = {"pocket": "pocket, the small model for drawn portraits that comes with Likeness Studio"}
    return CardFacts(
        repo=config.repo,
        title=config.title or info.subject,
        about=config.about,
        form=config.form,
        info=info,
        base_title=base.spec.title,
        base_on_hub=_base_on_hub(base, info),
        base_words=titles.get(info.base, info.base),
        licence_id=source.licence_id,
        licence=source.licence,
        pictures=tuple(pictures),
        files=tuple(files),
        measured=measured,
        training=_training_facts(source.settings, info),
    )


def _training_facts(settings: Mapping[str, Any], info: AdapterInfo) -> dict[str, Any]:
    if not settings:
        return {}
    facts: dict[str, Any] = {"step": info.step, "base revision": info.revision}
    for name in _TRAINING_FACTS:
        value = settings.get(name)
        if name == "method" and isinstance(value, dict):
            rank = f", rank {value['rank']}" if value.get("name") != "full" else ""
            value = f"{value.get('name')}{rank}, {value.get('target')}"
        facts[name.removesuffix("_px").replace("_", " ")] = info.resolution_px if name == "resolution_px" else value
    return {name: value for name, value in facts.items() if value is not None}


# ------------------------------------------------------------------------------------------------------- looking over


def _look_over(source: _Source, repo_dir: Path, token: str | None, settings: Settings) -> None:
    """Refuse to go on with a folder that says too much, or whose card the Hub would not show.

    Raises:
        StudioError: a bug of ours, in words; nothing was sent.
    """
    files = _files_below(repo_dir)
    wrong = check_card((repo_dir / CARD_NAME).read_text(encoding="utf-8"), list(files))
    planted = [(name.encode(), "a path of this machine") for name in source.private_names]
    planted += [(secret.encode(), "a key of yours") for secret in _secrets(token, settings)]
    for name, path in files.items():
        data = _readable(path)
        if path.suffix == ".md":
            data += data.replace(b"\\", b"")  # what was escaped is read without
        wrong += [f"{name} holds {what}" for text, what in planted if text in data]
    if wrong:
        raise StudioError(f"Nothing was published, because of a bug; please report it: {'; '.join(wrong)}.")


def _secrets(token: str | None, settings: Settings) -> list[str]:
    key = settings.civitai_key.get_secret_value() if settings.civitai_key else None
    return [secret for secret in (token, key) if secret]


def _require_no_secrets(config: PublishConfig, token: str | None, settings: Settings) -> None:
    """Refuse words of the user's that hold a key."""
    given = {"about": config.about, "title": config.title or ""}
    names = [name for name, text in given.items() if any(secret in text for secret in _secrets(token, settings))]
    if names:
        raise InputError.of([Problem(name, "holds a key of yours", "take it out", "secret") for name in names])


def _readable(path: Path) -> bytes:
    """Return the part of a file that may hold words: of a safetensors file the header, of others all."""
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            return file.read(int.from_bytes(file.read(8), "little"))
        return file.read()


# ----------------------------------------------------------------------------------------------------------- the Hub


def _may_write(config: PublishConfig, token: str | None, *, has_begun: bool) -> None:
    try:
        hub.check_access(config.repo, token, public=config.public, update=config.update)
    except ConflictError:
        if not has_begun:
            raise
        # Perhaps taken by an attempt of ours that was cut off after its commit: the push will tell.


def _pushed(
    config: PublishConfig,
    repo_dir: Path,
    token: str | None,
    out_dir: Path,
    reporter: ProgressReporter,
) -> hub.Pushed:
    """Push from a thread, so that a request to stop is heard and a long upload is not taken for a hung one."""
    ended: list[hub.Pushed | BaseException] = []
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


def _files_below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in output.files_below(folder)}


def _sha256(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None  # named later, with all the others
