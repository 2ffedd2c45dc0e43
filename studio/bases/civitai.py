"""Checkpoints from Civitai: the API, the download and its limits."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from studio.bases.hub import CONVERSION
from studio.bases.local import TIMEOUT_S, LocalBase, base_problem, fault_of, open_cache
from studio.bases.single_file import convert_single_file
from studio.core.errors import InputError, MissingExtraError, NotFoundError, ResourceError
from studio.core.settings import Settings

CIVITAI_ID = re.compile(r"civitai:(\d+)?(?:@(\d+))?")


_CHUNK_BYTES = 2**20


_MAX_REDIRECTS = 5


def from_civitai(name: str, revision: str | None, settings: Settings) -> LocalBase:
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
    if version and (entry := cache.get(f"civitai-{CONVERSION}--{version}")):
        return LocalBase(entry.folder, version, entry.pin)
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
            cure = "use the id of a checkpoint; to continue a LoRA, set method.start_from to its file"
            raise base_problem(f"{name} is a {kind or 'model of an unknown kind'}", cure, "no_checkpoint")
        file = _safetensors_file(data, name)
        wanted_bytes = int(float(file.get("sizeKB") or 0) * 1024)

        def fill(folder: Path) -> None:
            download = folder / "download.safetensors"
            client.download(str(file["downloadUrl"]), str((file.get("hashes") or {}).get("SHA256", "")), download)
            convert_single_file(download, folder, settings)
            download.unlink()

        # While it is converted both forms are there.
        entry = cache.put(f"civitai-{CONVERSION}--{version}", 2 * wanted_bytes, fill)
    return LocalBase(entry.folder, version, entry.pin)


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
            f"{name} is only a pickle, which can run malicious code" if files else f"{name} contains no model file"
        )
        raise base_problem(message, "choose a version in safetensors", "pickle" if files else "no_checkpoint")
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
        raise ResourceError(f"the download of {self._name} redirects to another site; try again later.")

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
            message = f"Civitai refuses {self._name} to the key in STUDIO_CIVITAI_KEY"
            return base_problem(message, "check the key and whether the model is in early access", "refused")
        cure = "create a key in your Civitai account and set STUDIO_CIVITAI_KEY to it"
        return base_problem(f"Civitai requires a key to download {self._name}", cure, "gated")


@contextmanager
def _civitai(settings: Settings, name: str) -> Iterator[_Civitai]:
    try:
        with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
            yield _Civitai(client, settings, name)
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        raise MissingExtraError(
            f"{name} is not on this machine and Civitai cannot be reached; connect once, or choose base 'pocket'."
        ) from None
    except httpx2.HTTPError as error:
        raise ResourceError(f"the download of {name} broke off ({fault_of(error)}); try again.") from None
    except (httpx2.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        raise ResourceError(f"Civitai's answer about {name} cannot be read; try again later.") from None
