"""Weights by name: a base as a verified local folder, and tensor files whose bytes depend on nothing but their content.

A base is a name from the catalog, a local diffusers folder, a Hub id, a single-file checkpoint or an id of Civitai.
Only safetensors, JSON and text are ever read or downloaded; pickle is refused. Where it comes from is in
``studio.bases.hub``. Called by the verbs before anything heavy is loaded.
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from studio.bases.civitai import CIVITAI_ID, from_civitai
from studio.bases.hub import adapter_from_hub, from_hub
from studio.bases.local import LocalBase
from studio.bases.single_file import from_file
from studio.bases.tensorfile import read_header
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME, AdapterInfo, read_info
from studio.core.catalog import BASES, FAMILIES, BaseSpec
from studio.core.errors import InputError, MissingExtraError, Problem
from studio.core.names import CIVITAI, HUB_NAME, WEIGHT_FILES, no_such_base
from studio.core.settings import Settings, load_settings

_WORD = re.compile(r"\w[\w \-]{0,39}")
_REVISION = re.compile(r"[\w][\w./-]{0,99}", re.ASCII)
_OPTIONAL_PARTS = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
_WITHOUT_WEIGHTS = re.compile(r".*(Tokenizer|TokenizerFast|Scheduler|Processor|FeatureExtractor)$")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model that lies on this machine, complete."""

    spec: BaseSpec
    """Its catalog entry; for other bases, one built from the folder's configuration."""
    folder: Path
    """A diffusers folder in safetensors."""
    revision: str | None
    """The exact revision of a base from the Hub, the version's id of one from Civitai; None for local ones."""
    pin: object | None = field(default=None, compare=False, repr=False)
    """Keeps the folder in the cache while this object exists."""

    @property
    def family(self) -> str:
        """Name of its family."""
        return self.spec.family


def resolve_base(base: str, revision: str | None = None) -> Base:
    """Find a base, downloading or converting it if need be.

    Args:
        base: a name from the catalog, a local diffusers folder, a Hub id, a .safetensors checkpoint, or
            ``civitai:MODEL@VERSION``.
        revision: of a base from the Hub or Civitai; None takes the newest.

    Raises:
        NotFoundError: nothing has that name.
        InputError: not a base of a known family, not complete, or in pickle; or its licence was not accepted.
        MissingExtraError: it is not on this machine and its source cannot be reached.
        ResourceError: the download broke off, or there is no room for it.
    """
    row = BASES.get(base)
    source = row.source if row else base
    folder = Path(source).expanduser()
    settings = load_settings()
    name = base
    if folder.is_dir():
        found = LocalBase(folder, None, None)
        name = str(folder.resolve())  # so that an adapter finds its base from anywhere
    elif row and folder.is_absolute():
        raise MissingExtraError(f"the weights of base {base!r} are missing from this installation; install it again.")
    elif source.startswith(CIVITAI):
        found = from_civitai(source, revision, settings)
    elif folder.is_file() or folder.suffix.lower() in WEIGHT_FILES:
        found = from_file(folder, settings)
        name = str(folder.resolve())
    elif HUB_NAME.fullmatch(source):
        found = from_hub(source, revision, settings)
    else:
        raise no_such_base(base)
    family = _checked_family(found.folder, base)
    spec = row or _described(name, found.folder, family)
    return Base(spec, found.folder, found.revision, found.pin)


def resolve_adapter(name: str, settings: Settings | None = None) -> LocalBase:
    """Find a published adapter, downloading it if need be; what strangers wrote into it is looked over.

    Args:
        name: owner/name or owner/name@revision of the Hub.
        settings: where the cache is, and a token for private ones; None reads the environment.

    Returns:
        A folder laid out like a run; kept in the cache for as long as the object lives.

    Raises:
        NotFoundError: no such repository or revision. InputError: it holds no adapter, or a damaged one.
        MissingExtraError: it is not here and the Hub cannot be reached. ResourceError: no room, or it broke off.
    """
    hub_id, _, revision = name.partition("@")
    found = adapter_from_hub(hub_id, revision or None, settings or load_settings())
    info = read_info(found.folder / "adapter")
    wrong = _strange(info)
    if wrong:
        cure = "use another one, or ask its owner to publish it again"
        raise InputError.of([Problem("adapter", f"{hub_id} {words}", cure, "bad_adapter") for words in wrong])
    read_header(found.folder / "adapter" / WEIGHTS_NAME, "adapter")
    embeds = found.folder / "adapter" / EMBEDS_NAME
    if embeds.is_file():
        words = {name.rpartition(".")[2] for name in read_header(embeds, "adapter").shapes}
        if words != {info.instance_token}:
            message = f"{hub_id} trained a word other than its instance token, {info.instance_token}"
            raise InputError.of([Problem("adapter", message, "use another one", "bad_adapter")])
    return found


def _strange(info: AdapterInfo) -> list[str]:
    """Return the values that no run of the studio writes; the files are untrusted."""
    wrong = []
    # Never a path: it would be one of this machine.
    known = info.base in BASES or HUB_NAME.fullmatch(str(info.base)) or CIVITAI_ID.fullmatch(str(info.base))
    if not known or Path(str(info.base)).suffix.lower() in WEIGHT_FILES:
        wrong.append(f"was trained on {str(info.base)[:80]!r}, a local base that only its author has")
    if info.family not in FAMILIES:
        wrong.append("belongs to an unknown family")
    words = (info.class_noun, info.instance_token, info.subject)
    if not all(isinstance(word, str) and _WORD.fullmatch(word) for word in words):
        wrong.append("has an invalid subject, class noun or instance token")
    numbers = (
        (info.resolution_px, int, 32, 4096),
        (info.num_inference_steps, int, 1, 200),
        (info.guidance_scale, int | float, 0, 30),
        (info.step, int, 0, 10**7),
    )
    if not all(isinstance(value, kind) and low <= value <= high for value, kind, low, high in numbers):
        wrong.append("has settings out of range")
    if not (info.revision is None or (isinstance(info.revision, str) and _REVISION.fullmatch(info.revision))):
        wrong.append("has an invalid revision of its base")
    return wrong


def _checked_family(folder: Path, base: str) -> str:
    """Return the family of a diffusers folder after looking at every part that it names."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        pipeline = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _problem(
            f"{base} is not a diffusers folder (it has no readable model_index.json)",
            "choose a folder written by diffusers' save_pretrained",
            "bad_base",
        ) from None
    family = next((row.name for row in FAMILIES.values() if row.pipeline == pipeline), None)
    if family is None:
        known = ", ".join(row.pipeline for row in FAMILIES.values())
        raise _problem(f"{base} contains a {pipeline}", f"choose a base with one of: {known}", "unknown_family")
    problems = []
    for part, kind in index.items():
        if not isinstance(kind, list) or kind[1] is None or part in _OPTIONAL_PARTS:
            continue
        if not (folder / part).is_dir():
            problems.append(Problem(part, f"is missing from {base}", "download the base again", "bad_base"))
        elif not _WITHOUT_WEIGHTS.match(kind[1]) and not any((folder / part).glob("*.safetensors")):
            pickled = any((folder / part).glob("*.bin")) or any((folder / part).glob("*.ckpt"))
            what = "contains only pickle files, which can run malicious code" if pickled else "contains no weights"
            cure = "choose a base in safetensors" if pickled else "download the base again"
            problems.append(Problem(f"{base}/{part}", what, cure, "pickle" if pickled else "bad_base"))
        else:
            problems += _damaged(folder / part, f"{base}/{part}")
    if problems:
        raise InputError.of(problems)
    return family


def _damaged(folder: Path, where: str) -> list[Problem]:
    """Return the damage found in the headers of a part's files; the tensors themselves are not read."""
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            read_header(path, f"{where}/{path.name}")
        except InputError as error:
            problems += error.problems
    return problems


def _described(base: str, folder: Path, family: str) -> BaseSpec:
    """Make a catalog row for a base outside the catalog, from its configuration and a known base of its family."""
    part = FAMILIES[family].denoiser
    try:
        denoiser, vae = (json.loads((folder / name / "config.json").read_text("utf-8")) for name in (part, "vae"))
    except (OSError, ValueError):
        raise _problem(
            f"{base} has no readable config.json in {part} or vae", "download the base again", "bad_base"
        ) from None
    alike = next(row for row in BASES.values() if row.family == family and row.vram_gb)
    resolution_px = alike.resolution_px
    side = denoiser.get("sample_size")  # in latents; not every family says it
    widths = vae.get("block_out_channels") or vae.get("encoder_block_out_channels")
    if side and widths:
        resolution_px = (side if isinstance(side, int) else max(side)) * 2 ** (len(widths) - 1)
    return replace(
        alike,
        name=base,
        title=folder.name,
        source=base,
        resolution_px=resolution_px,
        licence="unknown",
        gated=False,
        description="A base outside the catalog.",
    )


def _problem(message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem("base", message, cure, code)])
