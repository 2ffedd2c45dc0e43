"""What is published: the run, its certificates and the pictures that were chosen for the gallery."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from studio.bases.resolve import Base, resolve_base
from studio.core.adapters import AdapterInfo, adapter_folder, adapter_sha256, read_info
from studio.core.catalog import BASES, LicenceSpec, licence_spec, published_licence
from studio.core.config import ExportConfig, PublishConfig
from studio.core.errors import InputError, Problem
from studio.core.settings import load_settings
from studio.export import problems as export_problems
from studio.export import public_name
from studio.imaging.decode import list_photos
from studio.training.checkpoints import read_scores

CONFIG_NAME = "config.yaml"


_MOST_IN_FOLDER = 5000


_LOCAL_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, slots=True)
class GalleryCandidate:
    """A picture for the gallery, not yet read."""

    path: Path
    name: str
    prompt: str | None
    """None where it is read from the file itself."""


@dataclass(frozen=True, slots=True)
class PublishSource:
    """What is published."""

    config: PublishConfig
    run_dir: Path
    info: AdapterInfo
    """The adapter's facts as published: without the photos' embedding or any path."""
    base: Base
    exports: tuple[ExportConfig, ...]
    licence_id: str
    licence: LicenceSpec
    pictures: tuple[GalleryCandidate, ...]
    adapter_sha256: str
    settings: Mapping[str, Any]
    """The run's own config; empty where there is none."""
    private_names: tuple[str, ...]
    """Folders of this machine, which must not appear in any published file."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the publisher should know."""
        found = []
        if not self.licence.commercial:
            found.append(f"{self.licence.title}: models trained on {self.base.spec.title} are not for commercial use.")
        if self.config.form == "adapter" and base_on_hub(self.base, self.info) is None and self.info.base != "pocket":
            found.append(f"The base {self.info.base} is not on the Hub: others need a copy of it to use the adapter.")
        return tuple(found)


def read_source(config: PublishConfig, run_dir: Path) -> PublishSource:
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
    pictures, picture_problems = gallery_candidates(config, run_dir, step)
    problems += picture_problems
    if problems:
        raise InputError.of(problems)
    config_file = run_dir / CONFIG_NAME
    return PublishSource(
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


def base_on_hub(base: Base, info: AdapterInfo) -> str | None:
    """Return the base's id on the Hub; None for folders, files, Civitai's, and the embedded one."""
    source = BASES[info.base].source if info.base in BASES else base.spec.source
    is_id = source.count("/") == 1 and not Path(source).exists() and not source.endswith(_LOCAL_ENDINGS)
    return source if is_id and ":" not in source else None


def gallery_candidates(config: PublishConfig, run_dir: Path, step: int) -> tuple[list[GalleryCandidate], list[Problem]]:
    """Return the pictures for the gallery, none of them opened yet."""
    if config.gallery == 0:
        return [], []
    if config.pictures is None:
        if config.choose:
            cure = "give the folder as well"
            return [], [Problem("choose", "names pictures, but no folder of pictures is given", cure, "no_pictures")]
        rows = read_scores(run_dir, step).get(step, {}).get("samples", ())
        return [
            GalleryCandidate(run_dir / row["path"], row["path"], row["prompt"]) for row in rows[: config.gallery]
        ], []
    folder = Path(config.pictures).expanduser()
    if not folder.is_dir():
        cure = "give the folder that generate or finish wrote"
        return [], [Problem("pictures", f"{folder.name} is not a folder", cure, "no_pictures")]
    if config.choose:
        missing = [name for name in config.choose if not (folder / name).is_file()]
        cure = f"choose pictures that are in {folder.name}"
        found = [Problem("choose", f"{name} does not exist", cure, "no_picture") for name in missing]
        if len(config.choose) > config.gallery:
            found.append(_too_many(len(config.choose), config.gallery))
        return [GalleryCandidate(folder / name, name, None) for name in config.choose], found
    ranked, names = _listed(folder)
    if not names:
        cure = "give the folder that generate or finish wrote, or leave it out for the run's samples"
        return [], [Problem("pictures", f"{folder.name} contains no pictures", cure, "no_pictures")]
    if len(names) > config.gallery and not ranked:
        return [], [_too_many(len(names), config.gallery)]
    return [GalleryCandidate(folder / name, name, None) for name in names[: config.gallery]], []


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
