"""Weights by name: a base as a verified local folder, and tensor files whose bytes depend on nothing but their content.

A base is a name from the catalog, a local diffusers folder or a Hub id. Only safetensors, JSON and text are ever
read or downloaded; pickle is refused. Called by the verbs before anything heavy is loaded.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import save
from torch import Tensor

from studio.catalog import BASES, FAMILIES, BaseSpec
from studio.errors import InputError, MissingExtraError, NotFoundError, Problem, ResourceError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Only what lies in a component's folder: the single-file checkpoints at the top of many repositories are never read.
_WANTED = ["model_index.json", "*/*.json", "*/*.txt", "*/*.jinja", "*/*.safetensors"]
_UNWANTED = ["safety_checker/*", "feature_extractor/*", "image_encoder/*", "*.fp16.*", "*.bf16.*", "*.non_ema.*"]
_OPTIONAL_PARTS = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
_WITHOUT_WEIGHTS = re.compile(r".*(Tokenizer|TokenizerFast|Scheduler|Processor|FeatureExtractor)$")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model that lies on this machine, complete."""

    spec: BaseSpec
    """Its catalog row; for other bases one made from the folder's own configuration."""
    folder: Path
    """A diffusers folder in safetensors."""
    revision: str | None
    """The exact revision of a base from the Hub; None for local folders."""

    @property
    def family(self) -> str:
        """Name of the family that speaks for it."""
        return self.spec.family


def resolve_base(base: str, revision: str | None = None) -> Base:
    """Find a base, downloading it from the Hub if need be.

    Args:
        base: a name from the catalog, a local diffusers folder, or a Hub id.
        revision: of a base from the Hub; None takes the newest.

    Raises:
        NotFoundError: nothing has that name.
        InputError: not a base of a known family, not complete, or in pickle; or its licence was not accepted.
        MissingExtraError: it is not on this machine and the Hub cannot be reached.
        ResourceError: the download broke off.
    """
    row = BASES.get(base)
    source = row.source if row else base
    folder = Path(source).expanduser()
    if folder.is_dir():
        found_revision = None
    elif row and folder.is_absolute():
        raise MissingExtraError(f"the weights of base {base!r} are missing from this installation; install it again.")
    elif _HUB_ID.fullmatch(source):
        folder = _download(source, revision)
        found_revision = folder.name
    else:
        raise NotFoundError(
            f"base {base!r} is not in the catalog ({', '.join(BASES)}), no folder here and no Hub id (owner/name)."
        )
    family = _checked_family(folder, base)
    return Base(
        row or _described(base, folder, family, found_on_hub=found_revision is not None), folder, found_revision
    )


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors under a temporary name, flush them to the disk and rename.

    Equal tensors and metadata make equal bytes; safetensors alone writes the metadata in a random order.

    Args:
        path: the file; its folder must exist.
        tensors: on the CPU, contiguous.
        metadata: strings for the file's ``__metadata__``.
    """
    data = save(dict(tensors), metadata=dict(metadata))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(data)[8 + length :])
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _download(hub_id: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except GatedRepoError:
        raise _problem(
            f"{hub_id} is gated",
            f"accept its licence at {constants.ENDPOINT}/{hub_id} and log in with `hf auth login`",
            "gated",
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        at = f" at revision {revision}" if revision else ""
        raise NotFoundError(f"the Hub has no model {hub_id}{at}, or it is private; check its name.") from None
    except (LocalEntryNotFoundError, ConnectionError):
        raise MissingExtraError(
            f"{hub_id} is not on this machine and the Hub cannot be reached; connect once, or choose base 'pocket'."
        ) from None
    except (HTTPError, OSError) as error:
        raise ResourceError(f"the download of {hub_id} broke off ({error}); try again.") from error


def _checked_family(folder: Path, base: str) -> str:
    """Return the family of a diffusers folder after looking at every part that it names."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        pipeline = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _problem(
            f"{base} is not a diffusers folder (it has no readable model_index.json)",
            "choose a folder that diffusers' save_pretrained wrote",
            "bad_base",
        ) from None
    family = next((row.name for row in FAMILIES.values() if row.pipeline == pipeline), None)
    if family is None:
        known = ", ".join(row.pipeline for row in FAMILIES.values())
        raise _problem(f"{base} holds a {pipeline}", f"choose a base of one of: {known}", "unknown_family")
    problems = []
    for part, kind in index.items():
        if not isinstance(kind, list) or kind[1] is None or part in _OPTIONAL_PARTS:
            continue
        if not (folder / part).is_dir():
            problems.append(Problem(part, f"is missing from {base}", "download the base again", "bad_base"))
        elif not _WITHOUT_WEIGHTS.match(kind[1]) and not any((folder / part).glob("*.safetensors")):
            pickled = any((folder / part).glob("*.bin")) or any((folder / part).glob("*.ckpt"))
            what = "holds pickle files only, which can run foreign code" if pickled else "holds no weights"
            cure = "choose a base in safetensors" if pickled else "download the base again"
            problems.append(Problem(f"{base}/{part}", what, cure, "pickle" if pickled else "bad_base"))
    if problems:
        raise InputError.of(problems)
    return family


def _described(base: str, folder: Path, family: str, *, found_on_hub: bool) -> BaseSpec:
    """Make a catalog row for a base that is not in the catalog, from its configuration and a known base of its family.

    The name of a folder is its absolute path, so that an adapter finds its base from anywhere.
    """
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
        name=base if found_on_hub else str(folder.resolve()),
        title=folder.name,
        source=base,
        resolution_px=resolution_px,
        licence="unknown",
        gated=False,
        description="A base outside the catalog.",
    )


def _problem(message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem("base", message, cure, code)])
