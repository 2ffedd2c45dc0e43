"""Where bases come from: the Hugging Face Hub, Civitai, single-file checkpoints. Each ends as a local diffusers folder.

Nothing is downloaded twice: a base that the Hub's own cache holds is used where it lies, everything else goes into the
studio's cache (``studio.cache``). Only safetensors, JSON and text are read. Keys and addresses never reach an error.
Called by ``studio.weights``.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import httpx2
import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError, infer_diffusers_model_type
from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from studio.adapters import EMBEDS_NAME, INFO_NAME, WEIGHTS_NAME
from studio.cache import Cache, disk_full
from studio.catalog import BASES
from studio.core.files import read_json, write_json
from studio.errors import InputError, MissingExtraError, NotFoundError, Problem, ResourceError
from studio.settings import Settings
from studio.tensorfile import Header, read_header

# Only what lies in a component's folder: the single-file checkpoints at the top of many repositories are never read.
WANTED = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja", "*/*.safetensors"]
UNWANTED = ["safety_checker/*", "feature_extractor/*", "image_encoder/*", "*.fp16.*", "*.bf16.*", "*.non_ema.*"]
_WITHOUT_WEIGHTS = [*UNWANTED, "*.safetensors"]

CIVITAI_ID = re.compile(r"civitai:(\d+)?(?:@(\d+))?")
_SHA = re.compile(r"[0-9a-f]{40}")
_CHUNK_BYTES = 2**20
_TIMEOUT_S = 60.0
_MAX_REDIRECTS = 5
_SINGLE_FILE_BASES = {"v1": "sd15", "v2": "sd21", "xl_base": "sdxl"}
"""What diffusers calls a checkpoint's architecture -> the base of the catalog whose configuration describes it."""
_UNET_MARK = "model.diffusion_model.input_blocks.0.0.weight"


@dataclass(frozen=True, slots=True)
class Found:
    """A base that lies on this machine."""

    folder: Path
    revision: str | None
    """What ``find`` takes to get exactly this one again; None where the file itself is the answer."""
    pin: object | None
    """Keeps the folder from eviction while it lives; None where it is not ours to delete."""


def open_cache(settings: Settings) -> Cache:
    """Return the cache of bases of this installation."""
    folder = settings.bases_dir or settings.home / "bases"
    return Cache(folder.expanduser(), settings.bases_max_bytes)


# ------------------------------------------------------------------------------------------------------ the Hub


def from_hub(hub_id: str, revision: str | None, settings: Settings) -> Found:
    """Find a base on the Hub or in a cache.

    Args:
        hub_id: owner/name.
        revision: a commit, branch or tag; None takes the newest. A commit that is here needs no network.
        settings: where the cache is.

    Raises:
        NotFoundError: no such model or revision. InputError: its licence was not accepted.
        MissingExtraError: it is not here and the Hub cannot be reached. ResourceError: no room, or it broke off.
    """
    cache = open_cache(settings)
    commit = revision if revision and _SHA.fullmatch(revision) else None
    if commit and not settings.guest and (found := _at_hand(hub_id, commit, cache)):
        return found
    try:
        info = _shown(hub_id, revision, settings)
    except MissingExtraError:
        if settings.guest:
            raise
        commit = commit or _last_commit(hub_id, revision, settings)
        found = _at_hand(hub_id, commit, cache) if commit else None
        if found is None:
            raise
        return found
    commit = str(info.sha)
    _note_commit(hub_id, revision, commit, settings)
    if found := _at_hand(hub_id, commit, cache):
        return found
    sizes = {row.rfilename: row.size or 0 for row in info.siblings or []}
    wanted = filter_repo_objects(sizes, allow_patterns=WANTED, ignore_patterns=UNWANTED)

    def fill(folder: Path) -> None:
        with _hub_errors(hub_id, commit):
            snapshot_download(
                hub_id,
                revision=commit,
                local_dir=folder,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                endpoint=constants.ENDPOINT,
                etag_timeout=_TIMEOUT_S,
                token=_token(settings),
            )
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # what a broken download goes on from

    entry = cache.put(_hub_key(hub_id, commit), sum(sizes[name] for name in wanted), fill)
    return Found(entry.folder, commit, entry.pin)


def adapter_from_hub(hub_id: str, revision: str | None, settings: Settings) -> Found:
    """Find a published adapter on the Hub or in the cache, laid out like a run: its files are in ``adapter/``.

    Args:
        hub_id: owner/name.
        revision: a commit, branch or tag; None takes the newest. A commit that is here needs no network.
        settings: where the cache is, and a token for private ones.

    Raises:
        NotFoundError: no such repository or revision. InputError: it holds no adapter of the studio's.
        MissingExtraError: it is not here and the Hub cannot be reached. ResourceError: no room, or it broke off.
    """
    cache = open_cache(settings)

    def at_hand(commit: str | None) -> Found | None:
        entry = cache.get(f"adapter--{hub_id.replace('/', '--')}--{commit}") if commit else None
        return Found(entry.folder, commit, entry.pin) if entry else None

    if revision and _SHA.fullmatch(revision) and not settings.guest and (found := at_hand(revision)):
        return found
    try:
        info = _shown(hub_id, revision, settings)
    except MissingExtraError:
        if settings.guest:
            raise
        found = at_hand(_last_commit(hub_id, revision, settings))
        if found is None:
            raise
        return found
    commit = str(info.sha)
    sizes = {row.rfilename: row.size or 0 for row in info.siblings or []}
    missing = [name for name in (INFO_NAME, WEIGHTS_NAME) if name not in sizes]
    if missing:
        message = f"{hub_id} holds no {' and no '.join(missing)}"
        cure = "give a repository that `publish` made; a whole model is a base, for training"
        raise InputError.of([Problem("adapter", message, cure, "no_adapter")])
    _note_commit(hub_id, revision, commit, settings)
    wanted = [name for name in (INFO_NAME, WEIGHTS_NAME, EMBEDS_NAME) if name in sizes]

    def fill(folder: Path) -> None:
        with _hub_errors(hub_id, commit):
            snapshot_download(
                hub_id,
                revision=commit,
                local_dir=folder / "adapter",
                allow_patterns=wanted,
                endpoint=constants.ENDPOINT,
                etag_timeout=_TIMEOUT_S,
                token=_token(settings),
            )
        shutil.rmtree(folder / "adapter" / ".cache", ignore_errors=True)

    key = f"adapter--{hub_id.replace('/', '--')}--{commit}"
    entry = cache.put(key, sum(sizes[name] for name in wanted), fill)
    return Found(entry.folder, commit, entry.pin)


def _shown(hub_id: str, revision: str | None, settings: Settings) -> ModelInfo:
    """Ask the Hub for a repository; of a guest also whether its files may be read: they may lie here already."""
    with _hub_errors(hub_id, revision):
        if settings.guest:
            _api(settings).auth_check(hub_id)
        return _api(settings).model_info(hub_id, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)


def _token(settings: Settings) -> str | bool | None:
    """Return the token for the Hub: None lets the client take the machine's own, False sends none."""
    if settings.hub_token is None:
        return None
    return settings.hub_token.get_secret_value() or False


def _api(settings: Settings) -> HfApi:
    return HfApi(endpoint=constants.ENDPOINT, token=_token(settings))


def _hub_key(hub_id: str, commit: str) -> str:
    return f"hub--{hub_id.replace('/', '--')}--{commit}"


def _at_hand(hub_id: str, commit: str, cache: Cache) -> Found | None:
    """Return a commit that is here, whole: in our cache, or in the one that all programs share."""
    if entry := cache.get(_hub_key(hub_id, commit)):
        return Found(entry.folder, commit, entry.pin)
    try:
        folder = Path(
            snapshot_download(
                hub_id, revision=commit, allow_patterns=WANTED, ignore_patterns=UNWANTED, local_files_only=True
            )
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
    return Found(folder, commit, None) if _is_whole(folder) else None


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


def _commits_file(settings: Settings) -> Path:
    return (settings.bases_dir or settings.home / "bases").expanduser() / "commits.json"


def _last_commit(hub_id: str, revision: str | None, settings: Settings) -> str | None:
    """Return the commit that a branch meant when the Hub was last asked; for machines that are offline."""
    try:
        noted = json.loads(_commits_file(settings).read_text(encoding="utf-8")).get(f"{hub_id}@{revision or 'main'}")
    except (OSError, ValueError, AttributeError):
        noted = None
    if noted:
        return str(noted)
    shared = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}" / "refs" / (revision or "main")
    return shared.read_text(encoding="utf-8").strip() if shared.is_file() else None


def _note_commit(hub_id: str, revision: str | None, commit: str, settings: Settings) -> None:
    path = _commits_file(settings)
    with disk_full(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        known = read_json(path) or {}
        write_json(path, {**known, f"{hub_id}@{revision or 'main'}": commit}, shared=True)


@contextmanager
def _hub_errors(hub_id: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub's client raises into words without addresses."""
    try:
        yield
    except GatedRepoError:
        raise _problem(
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
        raise ResourceError(f"the download of {hub_id} broke off ({_reason(error)}); try again.") from None


def _reason(error: Exception) -> str:
    """Return what went wrong without the address, which may hold a signature."""
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else type(error).__name__


# ------------------------------------------------------------------------------------------------------ Civitai


def from_civitai(name: str, revision: str | None, settings: Settings) -> Found:
    """Find a checkpoint on Civitai or in the cache, as a diffusers folder.

    Args:
        name: ``civitai:MODEL``, ``civitai:MODEL@VERSION`` or ``civitai:@VERSION``.
        revision: a version's id, which goes before the one in ``name``; None and no version take the newest.
        settings: where Civitai is, and the user's key for it.

    Raises:
        NotFoundError: no such model or version.
        InputError: it is no checkpoint in safetensors, or wants a key, or refuses the one that was given.
        MissingExtraError: it is not here and Civitai cannot be reached. ResourceError: no room, or it broke off.
    """
    match = CIVITAI_ID.fullmatch(name)
    if match is None or not any(match.groups()):
        raise NotFoundError(
            f"{name!r} is not the id of a model on Civitai; write civitai:MODEL or civitai:MODEL@VERSION."
        )
    version = revision if revision and revision.isdecimal() else match[2]
    cache = open_cache(settings)
    if version and (entry := cache.get(f"civitai--{version}")):
        return Found(entry.folder, version, entry.pin)
    with _civitai(settings, name) as client:
        data = client.json(f"/api/v1/model-versions/{version}" if version else f"/api/v1/models/{match[1]}")
        kind = str((data.get("model") or data).get("type", ""))
        if not version:
            versions = data.get("modelVersions") or []
            if not versions:
                raise NotFoundError(f"{name}: this model has no version that can be downloaded.")
            data = versions[0]  # Civitai lists the newest first
        version = str(data["id"])
        if kind != "Checkpoint":
            cure = "use the id of a checkpoint; a LoRA goes into method.start_from as a file"
            raise _problem(f"{name} is a {kind or 'model of an unknown kind'}", cure, "no_checkpoint")
        file = _safetensors_file(data, name)
        wanted_bytes = int(float(file.get("sizeKB") or 0) * 1024)

        def fill(folder: Path) -> None:
            download = folder / "download.safetensors"
            client.download(str(file["downloadUrl"]), str((file.get("hashes") or {}).get("SHA256", "")), download)
            _convert(download, folder, settings)
            download.unlink()

        # While it is converted both forms are there.
        entry = cache.put(f"civitai--{version}", 2 * wanted_bytes, fill)
    return Found(entry.folder, version, entry.pin)


def _safetensors_file(data: Any, name: str) -> dict[str, Any]:
    files = [file for file in data.get("files") or [] if file.get("type", "Model") == "Model"]
    safe = [
        file
        for file in files
        if str(file.get("name", "")).endswith(".safetensors")
        and (file.get("metadata") or {}).get("format", "SafeTensor") == "SafeTensor"
        and file.get("downloadUrl")
    ]
    if not safe:
        message = (
            f"{name} exists as a pickle only, which can run foreign code" if files else f"{name} holds no model file"
        )
        raise _problem(message, "choose a version in safetensors", "pickle" if files else "no_checkpoint")
    return next((file for file in safe if file.get("primary")), safe[0])


class _Civitai:
    """Civitai's API; the key goes to its own host only, in a header, and never into an address."""

    def __init__(self, client: httpx2.Client, settings: Settings, name: str) -> None:
        self._client = client
        self._origin = httpx2.URL(settings.civitai_url)
        self._key = settings.civitai_key.get_secret_value() if settings.civitai_key else ""
        self._name = name

    def json(self, path: str) -> Any:
        """Return the answer to ``GET path``."""
        response = self._client.get(self._origin.join(path), headers=self._headers(self._origin))
        self._require(response)
        data = response.json()
        if not isinstance(data, dict):
            raise ValueError
        return data

    def download(self, address: str, sha256: str, path: Path) -> None:
        """Download a file and compare its SHA-256 with what the API says."""
        url = httpx2.URL(address)
        for _ in range(_MAX_REDIRECTS):
            if url.scheme != self._origin.scheme:
                break
            with self._client.stream("GET", url, headers=self._headers(url)) as response:
                if response.has_redirect_location:
                    url = url.join(response.headers["location"])
                    continue
                self._require(response)
                if response.headers.get("content-type", "").startswith("text/html"):  # its log-in page
                    raise self._wants_key()
                digest = hashlib.sha256()
                with path.open("wb") as file:
                    for chunk in response.iter_bytes(_CHUNK_BYTES):
                        file.write(chunk)
                        digest.update(chunk)
            if sha256 and digest.hexdigest().lower() != sha256.lower():
                raise ResourceError(f"the download of {self._name} arrived damaged; try again.")
            return
        raise ResourceError(f"the download of {self._name} leads elsewhere; try again later.")

    def _headers(self, url: httpx2.URL) -> dict[str, str]:
        ours = (url.scheme, url.host, url.port) == (self._origin.scheme, self._origin.host, self._origin.port)
        return {"Authorization": f"Bearer {self._key}"} if ours and self._key else {}

    def _require(self, response: httpx2.Response) -> None:
        if response.status_code in (401, 403):
            raise self._wants_key()
        if response.status_code == 404:
            raise NotFoundError(f"Civitai has no {self._name}; check the id.")
        if not response.is_success:
            raise ResourceError(f"Civitai answered {self._name} with status {response.status_code}; try again later.")

    def _wants_key(self) -> InputError:
        if self._key:
            message = f"Civitai does not give {self._name} to the key in STUDIO_CIVITAI_KEY"
            return _problem(message, "check the key, or whether the model is in early access", "refused")
        cure = "make a key in your Civitai account and set STUDIO_CIVITAI_KEY to it"
        return _problem(f"Civitai gives {self._name} to people with a key only", cure, "gated")


@contextmanager
def _civitai(settings: Settings, name: str) -> Iterator[_Civitai]:
    try:
        with httpx2.Client(timeout=_TIMEOUT_S, follow_redirects=False) as client:
            yield _Civitai(client, settings, name)
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        raise MissingExtraError(
            f"{name} is not on this machine and Civitai cannot be reached; connect once, or choose base 'pocket'."
        ) from None
    except httpx2.HTTPError as error:
        raise ResourceError(f"the download of {name} broke off ({_reason(error)}); try again.") from None
    except (httpx2.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        raise ResourceError(f"Civitai's answer about {name} cannot be read; try again later.") from None


# ------------------------------------------------------------------------------------------- single-file checkpoints


def from_file(path: Path, settings: Settings) -> Found:
    """Return a single-file checkpoint as a diffusers folder in the cache; made once per state of the file.

    Raises:
        InputError: a pickle, damaged, or no checkpoint of a known kind.
        MissingExtraError: the kind's configuration is not here and the Hub cannot be reached. ResourceError: no room.
    """
    _kind(path)
    stat = path.stat()
    state = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    key = f"file--{hashlib.sha256(state.encode()).hexdigest()[:32]}"

    def fill(folder: Path) -> None:
        _convert(path, folder, settings)

    entry = open_cache(settings).put(key, stat.st_size, fill)
    return Found(entry.folder, None, entry.pin)


def _kind(path: Path) -> tuple[str, Header]:
    """Return the base of the catalog whose configuration describes a checkpoint, by the names in its header."""
    header = read_header(path, "base")
    known = " and ".join(BASES[name].title for name in _SINGLE_FILE_BASES.values() if name in BASES)
    if any("lora_" in name for name in header.shapes):
        cure = "choose the base that it was made for; the LoRA goes into method.start_from"
        raise _problem(f"{path.name} is a LoRA, not a base", cure, "no_checkpoint")
    kind = None
    if _UNET_MARK in header.shapes:
        shapes = {name: torch.empty(shape, device="meta") for name, shape in header.shapes.items()}
        kind = _SINGLE_FILE_BASES.get(infer_diffusers_model_type(shapes))
    if kind not in BASES:
        cure = f"use a checkpoint of {known}, or a diffusers folder"
        raise _problem(f"{path.name} is no checkpoint of a known kind", cure, "unknown_family")
    return str(kind), header


def _convert(path: Path, folder: Path, settings: Settings) -> None:
    """Write a checkpoint as a diffusers folder, in the precision of the file."""
    base, header = _kind(path)
    configuration = _configuration(BASES[base].source, settings)
    index = json.loads((configuration / "model_index.json").read_text(encoding="utf-8"))
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}.get(header.main_dtype, torch.float32)
    absent = {
        name: None for name, kind in index.items() if isinstance(kind, list) and not (configuration / name).is_dir()
    }
    try:
        pipeline: Any = getattr(diffusers, index["_class_name"]).from_single_file(
            str(path), config=str(configuration), local_files_only=True, dtype=dtype, **absent
        )
        broken = [name for name, component in pipeline.components.items() if not _is_finite(component)]
    except (ValueError, LookupError, TypeError, RuntimeError, AttributeError, SingleFileComponentError) as error:
        reason = " ".join(str(error).split())[:120]
        cure = "use another checkpoint, or a diffusers folder"
        raise _problem(f"{path.name} is not a whole {BASES[base].title} ({reason})", cure, "bad_base") from None
    if broken:
        raise _problem(f"{path.name} holds NaN or infinity in its {broken[0]}", "download it again", "not_finite")
    pipeline.save_pretrained(folder, safe_serialization=True)


def _is_finite(component: Any) -> bool:
    parameters = component.parameters() if isinstance(component, torch.nn.Module) else ()
    return all(bool(torch.isfinite(parameter).all()) for parameter in parameters)


def _configuration(hub_id: str, settings: Settings) -> Path:
    """Return a folder with a base's configuration and tokenizers, a few megabytes; its weights need not be here."""
    cache = open_cache(settings)
    commit = _last_commit(hub_id, None, settings)
    if commit and (found := _at_hand(hub_id, commit, cache)):
        return found.folder

    def fill(folder: Path) -> None:
        with _hub_errors(hub_id, None):
            snapshot_download(
                hub_id,
                local_dir=folder,
                allow_patterns=WANTED,
                ignore_patterns=_WITHOUT_WEIGHTS,
                endpoint=constants.ENDPOINT,
                etag_timeout=_TIMEOUT_S,
            )

    return cache.put(f"configuration--{hub_id.replace('/', '--')}", 0, fill).folder


def _problem(message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem("base", message, cure, code)])
