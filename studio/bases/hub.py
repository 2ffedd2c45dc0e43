"""Where bases come from: the Hugging Face Hub, Civitai, single-file checkpoints. Each ends as a local diffusers folder.

Nothing is downloaded twice: a base that the Hub's own cache holds is used where it lies, everything else goes into the
studio's cache (``studio.bases.cache``). Only safetensors, JSON and text are read. Keys and addresses never reach an
error. Called by ``studio.bases.resolve``.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import httpx2
import torch
from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from studio.bases.cache import Cache, disk_full
from studio.bases.local import TIMEOUT_S, LocalBase, base_problem, commits_file, fault_of, open_cache
from studio.bases.tensorfile import Header
from studio.core.adapters import EMBEDS_NAME, INFO_NAME, WEIGHTS_NAME
from studio.core.errors import InputError, MissingExtraError, NotFoundError, Problem, ResourceError
from studio.core.files import read_json, write_json
from studio.core.private import make_folder
from studio.core.settings import Settings

# Only what lies in a component's folder: the single-file checkpoints at the top of many repositories are never read.
WANTED = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja", "*/*.safetensors"]


UNWANTED = ["safety_checker/*", "feature_extractor/*", "image_encoder/*", "*.fp16.*", "*.bf16.*", "*.non_ema.*"]


_SHA = re.compile(r"[0-9a-f]{40}")


CONVERSION = 2
"""Increased when a conversion reads more of a file, so that folders converted before are converted again."""


def from_hub(hub_id: str, revision: str | None, settings: Settings) -> LocalBase:
    """Find a base on the Hub or in a cache.

    Args:
        hub_id: owner/name.
        revision: a commit, branch or tag; None takes the newest. A commit that is here needs no network.
        settings: where the cache is.

    Raises:
        NotFoundError: no such model or revision. InputError: its licence was not accepted.
        MissingExtraError: not here, and no connection to the Hub. ResourceError: no room, or failed download.
    """
    cache = open_cache(settings)
    commit = revision if revision and _SHA.fullmatch(revision) else None
    if commit and not settings.guest and (found := cached_commit(hub_id, commit, cache)):
        return found
    try:
        info = _shown(hub_id, revision, settings)
    except MissingExtraError:
        if settings.guest:
            raise
        commit = commit or last_commit(hub_id, revision, settings)
        found = cached_commit(hub_id, commit, cache) if commit else None
        if found is None:
            raise
        return found
    commit = str(info.sha)
    _note_commit(hub_id, revision, commit, settings)
    if found := cached_commit(hub_id, commit, cache):
        return found
    sizes = {row.rfilename: row.size or 0 for row in info.siblings or []}
    wanted = filter_repo_objects(sizes, allow_patterns=WANTED, ignore_patterns=UNWANTED)

    def fill(folder: Path) -> None:
        with hub_errors(hub_id, commit):
            snapshot_download(
                hub_id,
                revision=commit,
                local_dir=folder,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                endpoint=constants.ENDPOINT,
                etag_timeout=TIMEOUT_S,
                token=_token(settings),
            )
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # what a broken download goes on from

    entry = cache.put(_hub_key(hub_id, commit), sum(sizes[name] for name in wanted), fill)
    return LocalBase(entry.folder, commit, entry.pin)


def adapter_from_hub(hub_id: str, revision: str | None, settings: Settings) -> LocalBase:
    """Find a published adapter on the Hub or in the cache, laid out like a run: its files are in ``adapter/``.

    Args:
        hub_id: owner/name.
        revision: a commit, branch or tag; None takes the newest. A commit that is here needs no network.
        settings: where the cache is, and a token for private ones.

    Raises:
        NotFoundError: no such repository or revision. InputError: it holds no adapter of the studio's.
        MissingExtraError: not here, and no connection to the Hub. ResourceError: no room, or failed download.
    """
    cache = open_cache(settings)

    def at_hand(commit: str | None) -> LocalBase | None:
        entry = cache.get(f"adapter--{hub_id.replace('/', '--')}--{commit}") if commit else None
        return LocalBase(entry.folder, commit, entry.pin) if entry else None

    if revision and _SHA.fullmatch(revision) and not settings.guest and (found := at_hand(revision)):
        return found
    try:
        info = _shown(hub_id, revision, settings)
    except MissingExtraError:
        if settings.guest:
            raise
        found = at_hand(last_commit(hub_id, revision, settings))
        if found is None:
            raise
        return found
    commit = str(info.sha)
    sizes = {row.rfilename: row.size or 0 for row in info.siblings or []}
    missing = [name for name in (INFO_NAME, WEIGHTS_NAME) if name not in sizes]
    if missing:
        message = f"{hub_id} contains no {' and no '.join(missing)}"
        cure = "give a repository that `publish` created; use a whole model as the base of a training"
        raise InputError.of([Problem("adapter", message, cure, "no_adapter")])
    _note_commit(hub_id, revision, commit, settings)
    wanted = [name for name in (INFO_NAME, WEIGHTS_NAME, EMBEDS_NAME) if name in sizes]

    def fill(folder: Path) -> None:
        with hub_errors(hub_id, commit):
            snapshot_download(
                hub_id,
                revision=commit,
                local_dir=folder / "adapter",
                allow_patterns=wanted,
                endpoint=constants.ENDPOINT,
                etag_timeout=TIMEOUT_S,
                token=_token(settings),
            )
        shutil.rmtree(folder / "adapter" / ".cache", ignore_errors=True)

    key = f"adapter--{hub_id.replace('/', '--')}--{commit}"
    entry = cache.put(key, sum(sizes[name] for name in wanted), fill)
    return LocalBase(entry.folder, commit, entry.pin)


def _shown(hub_id: str, revision: str | None, settings: Settings) -> ModelInfo:
    """Ask the Hub for a repository; of a guest also whether its files may be read: they may lie here already."""
    with hub_errors(hub_id, revision):
        if settings.guest:
            _api(settings).auth_check(hub_id)
        return _api(settings).model_info(hub_id, revision=revision, files_metadata=True, timeout=TIMEOUT_S)


def _token(settings: Settings) -> str | bool | None:
    """Return the token for the Hub: None lets the client take the machine's own, False sends none."""
    if settings.hub_token is None:
        return None
    return settings.hub_token.get_secret_value() or False


def _api(settings: Settings) -> HfApi:
    return HfApi(endpoint=constants.ENDPOINT, token=_token(settings))


def _hub_key(hub_id: str, commit: str) -> str:
    return f"hub--{hub_id.replace('/', '--')}--{commit}"


def cached_commit(hub_id: str, commit: str, cache: Cache) -> LocalBase | None:
    """Return a commit that is here, whole: in our cache, or in the one that all programs share."""
    if entry := cache.get(_hub_key(hub_id, commit)):
        return LocalBase(entry.folder, commit, entry.pin)
    try:
        folder = Path(
            snapshot_download(
                hub_id, revision=commit, allow_patterns=WANTED, ignore_patterns=UNWANTED, local_files_only=True
            )
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
    return LocalBase(folder, commit, None) if _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    """Return True if every component that the index names has its files: a shared cache may hold some only."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    parts = [name for name, kind in index.items() if isinstance(kind, list) and kind[1] is not None]
    unwanted = {pattern.partition("/")[0] for pattern in UNWANTED if "/" in pattern}
    for part in sorted(set(parts) - unwanted):
        files = list((folder / part).glob("*"))
        if not files or not all(path.is_file() for path in files):
            return False
        has_model = any(path.name == "config.json" for path in files)
        if has_model and not any(path.suffix == ".safetensors" for path in files):
            return False
        for table in (folder / part).glob("*.safetensors.index.json"):
            shards = set(json.loads(table.read_text(encoding="utf-8"))["weight_map"].values())
            if not all((folder / part / shard).is_file() for shard in shards):
                return False
    return True


def last_commit(hub_id: str, revision: str | None, settings: Settings) -> str | None:
    """Return the commit that a branch meant when the Hub was last asked; for machines that are offline."""
    try:
        noted = json.loads(commits_file(settings).read_text(encoding="utf-8")).get(f"{hub_id}@{revision or 'main'}")
    except (OSError, ValueError, AttributeError):
        noted = None
    if noted:
        return str(noted)
    shared = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}" / "refs" / (revision or "main")
    return shared.read_text(encoding="utf-8").strip() if shared.is_file() else None


def _note_commit(hub_id: str, revision: str | None, commit: str, settings: Settings) -> None:
    path = commits_file(settings)
    with disk_full(path.parent):
        make_folder(path.parent)
        known = read_json(path) or {}
        write_json(path, {**known, f"{hub_id}@{revision or 'main'}": commit}, shared=True)


@contextmanager
def hub_errors(hub_id: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub's client raises into words without addresses."""
    try:
        yield
    except GatedRepoError:
        raise base_problem(
            f"{hub_id} is gated",
            f"accept its licence at {constants.ENDPOINT}/{hub_id} and log in with `hf auth login`",
            "gated",
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        at = f" at revision {revision}" if revision else ""
        raise NotFoundError(f"the Hub has no model {hub_id}{at}, or it is private; check its name.") from None
    except (LocalEntryNotFoundError, ConnectionError, httpx2.ConnectError, httpx2.ConnectTimeout):
        raise MissingExtraError(
            f"{hub_id} is not on this machine and the Hub cannot be reached; connect once, or choose base 'pocket'."
        ) from None
    # The last two: when a connection is lost, one of the client's threads closes the session that another is using.
    except (httpx2.HTTPError, AttributeError, RuntimeError) as error:
        raise ResourceError(f"the download of {hub_id} broke off ({fault_of(error)}); try again.") from None


def prediction(header: Header) -> str | None:
    """Return what a checkpoint says that it predicts: epsilon or v_prediction; None where it says nothing.

    Source: the tensors ``v_pred`` and ``ztsnr``, as NoobAI-XL and ComfyUI write them; Stability-AI/ModelSpec 1.0.1.
    """
    words = header.metadata.get("modelspec.prediction_type", "").lower()
    architecture = header.metadata.get("modelspec.architecture", "")
    if "v_pred" in header.shapes or words in ("v", "v_prediction") or architecture.endswith("-768-v"):
        return "v_prediction"
    if words == "epsilon" or architecture == "stable-diffusion-v2-512":
        return "epsilon"
    return None


@torch.no_grad()
def probed(unet: Any) -> str:
    """Return what a net of Stable Diffusion 2 predicts, asked where there is nothing but noise.

    There epsilon is the input itself, and v is nearly the negative picture: far below the input. The files of its two
    kinds are alike, and few of them say which one they are.
    """
    kept = unet.dtype
    net = unet.float()
    flat = torch.full((1, net.config.in_channels, 8, 8), 0.5)
    text = torch.full((1, 2, net.config.cross_attention_dim), 0.5)
    output = net(flat, torch.tensor([999]), text).sample
    unet.to(kept)
    return "v_prediction" if float((output - flat).mean()) < -1 else "epsilon"


def scheduler(scheduler: Any, prediction: str | None, zero_terminal_snr: bool) -> Any:
    """Return a scheduler that draws what the checkpoint predicts."""
    changes: dict[str, Any] = {} if prediction is None else {"prediction_type": prediction}
    kind = type(scheduler)
    if zero_terminal_snr:
        # The last timestep has to be drawn, or the schedule's end is never used.
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        kind = kind if "rescale_betas_zero_snr" in scheduler.config else diffusers.DDIMScheduler
    return kind.from_config(scheduler.config, **changes)
