"""The folder that is pushed: exports, gallery, card and public settings, looked over before anything leaves."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from studio.bases.tensorfile import read_header
from studio.core import folder as output
from studio.core.adapters import WEIGHTS_NAME, AdapterInfo, read_info, write_info
from studio.core.config import PublishConfig
from studio.core.errors import InputError, Problem, StudioError
from studio.core.files import sha256_of, write_json, write_text
from studio.core.progress import ProgressReporter
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig, mark_of
from studio.export import export
from studio.imaging.apart import decode_bytes, made_record
from studio.imaging.provenance import save_picture
from studio.publishing.card import CardFacts, GalleryPicture, check_card, model_card
from studio.publishing.source import CONFIG_NAME, PublishSource, base_on_hub
from studio.training.checkpoints import read_scores

REPO_FOLDER = "repo"


CARD_NAME = "README.md"


MANIFEST_NAME = "files.json"


GALLERY_FOLDER = "gallery"


KOHYA_FOLDER = "kohya"


RESULT_NAME = "publish.json"


_GALLERY_PX = 1024


def assemble(
    source: PublishSource,
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
    facts = _card_facts(source, pictures, tuple(files_below(repo_dir)))
    card = model_card(replace(facts, is_dora=_is_dora(repo_dir)))
    write_text(repo_dir / CARD_NAME, card)
    digests = {name: sha256(path) for name, path in files_below(repo_dir).items()}
    write_json(repo_dir / MANIFEST_NAME, digests)


def _is_dora(repo_dir: Path) -> bool:
    path = repo_dir / WEIGHTS_NAME
    return path.is_file() and any("lora_magnitude_vector" in name for name in read_header(path, "run").shapes)


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


def _write_gallery(source: PublishSource, repo_dir: Path) -> tuple[GalleryPicture, ...]:
    """Write the gallery: pixels and the mark of generated pictures, under names that say nothing.

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
            message = "has no mark that the studio generated it, and photos are never published"
            problems.append(Problem(one.name, message, "choose pictures made by generate or finish", "not_generated"))
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
        save_picture(picture, repo_dir / file, "PNG", parent=data)
        shown.append(GalleryPicture(file, " ".join(str(prompt).split())))
    if problems:
        raise InputError.of(problems)
    return tuple(shown)


def _public_settings(source: PublishSource) -> dict[str, Any]:
    """Return the run's settings without the subject's name and without anything that names a folder."""
    published = {name for name in TrainConfig.model_fields if mark_of(name).published}
    settings = {name: value for name, value in source.settings.items() if name in published}
    if not settings:
        return {}
    settings["base"] = source.info.base
    method = dict(settings.get("method") or {})
    if method.get("start_from"):
        method["start_from"] = Path(str(method["start_from"])).name
    settings["method"] = method
    return settings


def _card_facts(source: PublishSource, pictures: Sequence[GalleryPicture], files: Sequence[str]) -> CardFacts:
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
        "summary": row.get("likeness_summary"),
        "summary_before": first.get("likeness_summary"),
    }
    titles = {"pocket": "pocket, the small model for drawn portraits that comes with Likeness Studio"}
    return CardFacts(
        repo=config.repo,
        title=config.title or info.subject,
        about=config.about,
        form=config.form,
        info=info,
        base_title=base.spec.title,
        base_on_hub=base_on_hub(base, info),
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
    for name in (name for name in TrainConfig.model_fields if mark_of(name).card):
        value = settings.get(name)
        if name == "method" and isinstance(value, dict):
            rank = f", rank {value['rank']}" if value.get("name") != "full" else ""
            value = f"{value.get('name')}{rank}, {value.get('target')}"
        facts[name.removesuffix("_px").replace("_", " ")] = info.resolution_px if name == "resolution_px" else value
    return {name: value for name, value in facts.items() if value is not None}


def check_repo(source: PublishSource, repo_dir: Path, token: str | None, settings: Settings) -> None:
    """Refuse to go on with a folder that says too much, or whose card the Hub would not show.

    Raises:
        StudioError: a bug of ours, in words; nothing was sent.
    """
    files = files_below(repo_dir)
    wrong = check_card((repo_dir / CARD_NAME).read_text(encoding="utf-8"), list(files))
    planted = [(name.encode(), "a path on this machine") for name in source.private_names]
    planted += [(secret.encode(), "one of your keys") for secret in _secrets(token, settings)]
    for name, path in files.items():
        data = _readable(path)
        if path.suffix == ".md":
            data += data.replace(b"\\", b"")  # what was escaped is read without
        wrong += [f"{name} holds {what}" for text, what in planted if text in data]
    if wrong:
        raise StudioError(f"Nothing was published because of a bug; please report it: {'; '.join(wrong)}.")


def _secrets(token: str | None, settings: Settings) -> list[str]:
    key = settings.civitai_key.get_secret_value() if settings.civitai_key else None
    return [secret for secret in (token, key) if secret]


def require_no_secrets(config: PublishConfig, token: str | None, settings: Settings) -> None:
    """Refuse words of the user's that hold a key."""
    given = {"about": config.about, "title": config.title or ""}
    names = [name for name, text in given.items() if any(secret in text for secret in _secrets(token, settings))]
    if names:
        raise InputError.of([Problem(name, "contains one of your keys", "remove it", "secret") for name in names])


def _readable(path: Path) -> bytes:
    """Return the part of a file that may hold words: of a safetensors file the header, of others all."""
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            return file.read(int.from_bytes(file.read(8), "little"))
        return file.read()


def files_below(folder: Path) -> dict[str, Path]:
    """Return every file below ``folder`` by its POSIX path within it."""
    return {path.relative_to(folder).as_posix(): path for path in output.files_below(folder)}


def sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file in hex; None if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return None  # named later, with all the others
