"""A studio on another machine: photos are prepared here, trained there, and the finished run comes back.

The photo check runs here first, so that only the crops that training will see travel: at the size that its resolution
can use, without metadata, under neutral names. Everything that is sent may be sent again: uploads are known by their
SHA-256 and jobs by a key, so a broken connection or a killed server costs what was under way and nothing else. Used by
``python -m studio remote`` and from Python::

    server = Server("http://192.168.1.20:7860")
    request = TrainRequest(subject="Ada", class_noun="woman")
    train(run_verb, server, request, Path("photos"), Path("run"))

Own code instead of gradio_client for the calls: it waits on one open stream, and here each call must be repeatable
after the server died.
"""

import hashlib
import io
import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import httpx2
import numpy as np
from PIL import Image, ImageOps

from studio.catalog import BASES, FAMILIES
from studio.config import CheckConfig, ExportConfig, StrictModel, TrainConfig
from studio.core.files import move_into_place, sha256_of, write_json
from studio.core.progress import ProgressReporter, stopped
from studio.domain import (
    TERMINAL_STATES,
    Dataset,
    Event,
    OnEvent,
    Photo,
    ShouldStop,
    TrainResult,
    ignore_event,
    never_stop,
    plain,
)
from studio.errors import ConflictError, InputError, JobCancelled, NotFoundError, Problem, ResourceError, StudioError
from studio.imaging.bucket import buckets, nearest_bucket
from studio.imaging.decode import display_name, list_photos
from studio.presets import override

Runner = Callable[[str, StrictModel, Path, Path], Any]
"""``(verb, config, source, out) -> result``: runs one verb here, to its end."""

RECORD_NAME = "remote.json"
"""What a run folder remembers of its server, so that the same command goes on."""
EXPORTS_FOLDER = "exports"
"""Of a run folder: ``exports/<format>`` holds what was exported there."""

SHARE = 0.15
"""A photo is sent without loss at the training size where that takes at most this share of the user's file."""
MEAN_LEVELS = 1.5
"""Otherwise it may differ there by so many of 255 levels on average, and takes more bytes rather than differ more."""
MOST_BYTES = 4 * 2**20
"""Largest upload that a server takes."""
LEAST_PX = 512
"""Longer side that is always sent where the photo has it: faces, sharpness and likeness are judged at this size."""
HEADROOM = 1.5
"""Photos that cannot be sent at the training size itself are so much longer; resizing twice then costs little."""
CHECK_THERE: Mapping[str, Any] = {"crop": "none", "crop_px": 4096, "keep_rejected": True}
"""Settings of the check there. Crops and verdicts were made here: it must neither cut, shrink nor think otherwise."""
UNKNOWN_BASE_PX = 1024
"""Resolution that a base outside the catalog is taken to have."""
_QUALITIES = (98, 97, 96, 95, 93, 90, 85, 80)

_AT_ONCE = 4
_POLL_S = 1.0
_SENT_STAYS = "what was sent waits there for a day, and the same command goes on from there"
_LONGEST_WAIT_S = 8.0
_TRIED_AGAIN = frozenset({408, 425, 429, 502, 503, 504})
_ANSWERED = "event: "


class ServerGoneError(ResourceError):
    """The other machine does not answer, or has not for longer than somebody was willing to wait."""

    status = 504


# ------------------------------------------------------------------------------------------------ preparing photos


@dataclass(frozen=True, slots=True)
class Packed:
    """One photo as it will be sent."""

    name: str
    """Neutral: 001.webp or 001.jpg; the user's file name stays here."""
    data: bytes
    sha256: str
    size_hw: tuple[int, int]
    quality: int | None
    """Of JPEG; None is lossless WebP."""
    difference: float
    """Mean difference from the original's crop at the training size, levels of 255; 0 means that no pixel differs."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """All that is sent of a set of photos."""

    files: tuple[tuple[str, str, bytes], ...]
    """(name, SHA-256, bytes) of photos and captions."""
    photos: tuple[Packed, ...]
    original_bytes: int
    """Of the user's own files that these were made from."""

    @property
    def sent_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(len(data) for _, _, data in self.files)

    @property
    def exact(self) -> int:
        """Return how many photos training sees exactly as it would have seen the originals."""
        return sum(photo.difference == 0 for photo in self.photos)

    @property
    def difference(self) -> float:
        """Return the mean difference of the worst photo at the training size, levels of 255."""
        return max((photo.difference for photo in self.photos), default=0.0)


def pack(dataset_dir: Path, photos_dir: Path, resolution_px: int, multiple_px: int = 8) -> Parcel:
    """Make small what training at a resolution cannot use.

    Args:
        dataset_dir: what ``check`` made of the photos.
        photos_dir: the user's photos, of which only the sizes in bytes are looked at; or the dataset itself.
        resolution_px: side of the square that is trained on.
        multiple_px: what heights and widths are rounded to there.

    Raises:
        InputError: a prepared photo cannot be read.
    """
    dataset = Dataset.from_json(json.loads((dataset_dir / "dataset.json").read_text(encoding="utf-8")))
    sizes_hw = buckets(resolution_px, multiple_px)

    named = {display_name(path.name): path for path in list_photos(photos_dir)[0]}
    originals = [named.get(photo.name, dataset_dir / photo.file).stat().st_size for photo in dataset.photos]

    def one(number: int, photo: Photo, original_bytes: int) -> Packed:
        try:
            with Image.open(dataset_dir / photo.file) as opened:
                crop = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError):
            problem = Problem(photo.name, "its prepared picture cannot be read", "run the same command again")
            raise InputError.of([problem]) from None
        size_hw = sizes_hw[photo.bucket]
        is_kept = (
            sizes_hw[nearest_bucket(size_hw)] == size_hw
        )  # the check there sees the size only, and names the bucket
        return _packed(f"{number:03d}", crop, size_hw, original_bytes, at_size=is_kept)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        photos = tuple(pool.map(one, range(1, len(dataset.photos) + 1), dataset.photos, originals))
    files = []
    for photo, packed in zip(dataset.photos, photos, strict=True):
        caption = photo.caption.encode()
        files.append((packed.name, packed.sha256, packed.data))
        files.append((f"{Path(packed.name).stem}.txt", hashlib.sha256(caption).hexdigest(), caption))
    return Parcel(tuple(files), photos, sum(originals))


def _packed(
    stem: str, crop: Image.Image, training_hw: tuple[int, int], original_bytes: int, *, at_size: bool = True
) -> Packed:
    """Return the best form of a crop in ``SHARE`` of its original's bytes, seen by training at ``training_hw``.

    Args:
        stem: name without its ending.
        crop: RGB.
        training_hw: what training resizes it to.
        original_bytes: of the user's file.
        at_size: False where a picture of the very training size would be put into another bucket there.
    """
    seen = _at(crop, training_hw)
    small = _small(crop, training_hw, at_size)
    most_bytes = min(SHARE * original_bytes, MOST_BYTES)
    best: Packed | None = None
    for quality in (None, *_QUALITIES):
        data = _encoded(small, quality)
        with Image.open(io.BytesIO(data)) as read:
            difference = float(np.abs(_at(read.convert("RGB"), training_hw) - seen).mean())
        if best is not None and difference > MEAN_LEVELS and len(best.data) <= MOST_BYTES:
            break
        name = f"{stem}.{'webp' if quality is None else 'jpg'}"
        size_hw = (small.height, small.width)
        best = Packed(name, data, hashlib.sha256(data).hexdigest(), size_hw, quality, round(difference, 4))
        if len(data) <= most_bytes:
            break
    assert best is not None
    return best


def _small(crop: Image.Image, training_hw: tuple[int, int], at_size: bool) -> Image.Image:
    """Return a crop without the pixels that nobody there needs: of the training size, if that is not too small."""
    height, width = training_hw
    least_px = LEAST_PX
    if max(training_hw) >= LEAST_PX:
        if at_size and crop.width >= width and crop.height >= height:
            return ImageOps.fit(crop, (width, height), Image.Resampling.LANCZOS)
        least_px = round(HEADROOM * max(training_hw))
    return ImageOps.contain(crop, (least_px, least_px), Image.Resampling.LANCZOS) if max(crop.size) > least_px else crop


def _at(picture: Image.Image, size_hw: tuple[int, int]) -> np.ndarray:
    """Return a picture as training sees it: ``(H, W, 3)`` levels, float32."""
    resized = ImageOps.fit(picture, (size_hw[1], size_hw[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized).astype(np.float32)


def _encoded(picture: Image.Image, quality: int | None) -> bytes:
    file = io.BytesIO()
    if quality is None:
        picture.save(file, "WEBP", lossless=True, quality=60)
    else:  # not WebP, which halves the colours' resolution at every quality
        picture.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------ the server


class Server:
    """A running studio on another machine.

    Args:
        url: its address, for example http://192.168.1.20:7860.
        token: sent as a bearer token, for servers behind a login such as a private Space; never shown.
        patience_s: a call that finds nobody is tried again for so long.
        on_event: told when the server does not answer and when it is back.

    Raises:
        InputError: the address is none.
    """

    def __init__(
        self, url: str, *, token: str | None = None, patience_s: float = 120.0, on_event: OnEvent = ignore_event
    ) -> None:
        if not url.startswith(("http://", "https://")):
            cure = "write it like http://192.168.1.20:7860, or set STUDIO_REMOTE_SERVER"
            raise InputError.of([Problem("--server", "is not the address of a studio", cure, "no_server")])
        self.url = url.rstrip("/")
        self.on_event = on_event
        self._patience_s = patience_s
        headers = {"authorization": f"Bearer {token}"} if token else {}
        timeout = httpx2.Timeout(60.0, connect=10.0)
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout, follow_redirects=False)
        self._lock = threading.Lock()
        self._silent = False
        self._failed_s = 0.0

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, endpoint: str, **parameters: Any) -> Any:
        """Call a named endpoint (docs/API.md) and return its answer; only what may be repeated is called like this.

        Raises:
            InputError: the studio refuses, in its own words. ServerGoneError: nobody answers.
        """

        def once() -> Any:
            started = self._http.post(f"/gradio_api/call/v2/{endpoint}", json=parameters)
            _require(started)
            answer = self._http.get(f"/gradio_api/call/{endpoint}/{started.json()['event_id']}")
            _require(answer)
            return _answer(answer.text)

        return self._patiently(once)

    def held(self) -> frozenset[str]:
        """Return the digests of the uploads that wait there."""
        return frozenset(self._patiently(lambda: _require(self._http.get("/uploads")).json()["held"]))

    def upload(self, sha256: str, data: bytes) -> None:
        """Send one file; raises as ``call``."""
        self._patiently(lambda: _require(self._http.put(f"/uploads/{sha256}", content=data)))

    def check(self, **request: Any) -> dict[str, Any]:
        """Start the check of uploaded photos; raises as ``call``, and ConflictError where uploads are missing."""
        return self._patiently(lambda: _require(self._http.post("/checks", json=request)).json())

    def files(self, job: str) -> list[dict[str, Any]]:
        """Return path, bytes and sha256 of every file that a completed job offers."""
        rows: list[dict[str, Any]] = self._patiently(
            lambda: _require(self._http.get(f"/files/{quote(job, safe='')}")).json()["files"]
        )
        return rows

    def fetch(self, job: str, row: Mapping[str, Any], target: Path) -> None:
        """Download one file, going on where an earlier try was cut, and put it in place once its digest is right.

        Raises:
            ServerGoneError: nobody answers. ResourceError: what arrived is something else.
        """
        part = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)

        def once() -> None:
            here = part.stat().st_size if part.is_file() else 0
            headers = {"range": f"bytes={here}-"} if here else {}
            address = f"/files/{quote(job, safe='')}/{quote(row['path'])}"
            with self._http.stream("GET", address, headers={**headers, "accept-encoding": "identity"}) as answer:
                if answer.status_code == 416:  # the part is as long as the file, or longer
                    return
                if answer.status_code not in (200, 206):
                    answer.read()
                    _require(answer)
                with part.open("ab" if answer.status_code == 206 else "wb") as file:
                    for chunk in answer.iter_bytes():  # as it comes, so that a cut loses nothing
                        file.write(chunk)

        for _ in range(2):  # a part left by an older file of this name spoils the first try only
            self._patiently(once)
            if sha256_of(part) == row["sha256"]:
                move_into_place(part, target)
                return
            part.unlink(missing_ok=True)
        raise ResourceError(f"{row['path']}: what arrived is not what the server has; try again.")

    def _patiently(self, once: Callable[[], Any]) -> Any:
        """Call ``once`` until it answers; between tries waits grow from half a second to eight."""
        end_s = time.monotonic() + self._patience_s
        wait_s = 0.5
        while True:
            began_s = time.monotonic()
            try:
                answer = once()
            except (httpx2.TransportError, _TryAgainError) as error:
                if time.monotonic() + wait_s > end_s:
                    raise ServerGoneError(f"{self.url} does not answer ({_reason(error)}).") from None
                self._failed()
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                self._worked(began_s)
                return answer

    def _failed(self) -> None:
        with self._lock:
            self._failed_s, before, self._silent = time.monotonic(), self._silent, True
        if not before:
            text = f"{self.url} does not answer; trying again."
            self.on_event(Event("message", {"level": "warning", "text": text}))

    def _worked(self, began_s: float) -> None:
        with self._lock:  # an answer to a call from before the last failure does not mean that it is back
            back = self._silent and began_s > self._failed_s
            self._silent = self._silent and not back
        if back:
            self.on_event(Event("message", {"level": "info", "text": f"{self.url} is back."}))


class _TryAgainError(Exception):
    """The server, or a proxy before it, could not answer just now."""


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _require(answer: httpx2.Response) -> httpx2.Response:
    """Return a good answer; raise the studio's own error for a refusal."""
    status = answer.status_code
    if status < 300:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    words = body.get("error") or body.get("detail")
    if status in _TRIED_AGAIN or (status == 507 and not words):
        raise _TryAgainError(f"status {status}")
    if status in (401, 403):
        cure = "Set STUDIO_REMOTE_TOKEN to a token that may use it."
        raise InputError(f"the server does not let you in (status {status}). {cure}")
    problems = [Problem(**row) for row in body.get("problems", ())]
    kinds: dict[int, type[StudioError]] = {404: NotFoundError, 409: ConflictError, 507: ResourceError}
    text = words if isinstance(words, str) else f"status {status}; is that a studio, and as new as this one?"
    raise kinds.get(status, InputError)(f"the server refused: {text}", problems)


def _answer(stream: str) -> Any:
    """Return the answer of a call out of Gradio's event stream; heartbeats may come before it."""
    for block in stream.split("\n\n"):
        lines = block.strip().splitlines()
        name = next((line.removeprefix(_ANSWERED) for line in lines if line.startswith(_ANSWERED)), None)
        text = "".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        if name == "complete":
            return json.loads(text)[0]
        if name == "error":
            said = json.loads(text) if text else None
            words = said.get("error") if isinstance(said, dict) else said
            if words is None:  # a restart forgot the call
                raise _TryAgainError("the call was lost")
            raise InputError(str(words))
    raise _TryAgainError("the answer was cut off")


# ------------------------------------------------------------------------------------------------------- the road


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train; what is left out is the server's choice."""

    subject: str
    class_noun: str
    base: str | None = None
    preset: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Dotted settings of TrainConfig."""


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """What came of ``train``."""

    train: Mapping[str, Any]
    """The TrainResult as JSON."""
    server: str | None
    """None: it was trained here, because the server was gone."""
    job: str | None
    """Id of the train job there."""
    photos: int
    original_bytes: int
    """Of the user's files."""
    sent_bytes: int
    """What the upload takes; nothing is sent twice."""
    photos_exact: int
    """Photos that training saw exactly as it would have seen the originals."""
    difference: float
    """Mean difference of the worst photo at the training size, levels of 255."""
    prepare_s: float
    """Check, crops and compression, here."""
    upload_s: float
    exports: tuple[str, ...] = ()
    """Folders of the exports, relative to the run's."""


def train(
    run: Runner,
    server: Server,
    request: TrainRequest,
    photos_dir: Path,
    out: Path,
    *,
    exports: Sequence[str] = (),
    fallback: Callable[[], TrainConfig] | None = None,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> RemoteRun:
    """Check photos here, train on the server, and bring the run home: adapter, certificate, report, curve, samples.

    Called again on the same ``out`` it goes on: with the upload, with the same job, or with the download. What comes
    home is a run like any other, for pictures, exports and publishing; only its checkpoints stay there.

    Args:
        run: runs a verb here (the photo check, and the training of ``fallback``).
        server: where to train.
        request: what to train.
        photos_dir: the user's photos, or a dataset that ``check`` made of them.
        out: run folder; ``OUT-dataset`` beside it receives the checked photos.
        exports: formats in which the run is exported, too, into ``out/exports/<format>``, each with its certificate.
        fallback: gives the settings of a training run here for when the server is gone before it has trained; None
            gives up instead.
        on_event: told what happens here, and what the server's job tells.
        should_stop: asked while waiting; the job goes on without us.

    Returns:
        The result, and what was sent.

    Raises:
        InputError: no usable photos, or settings that the server does not take.
        ConflictError: ``out`` belongs to another request.
        ServerGoneError: the server is gone and there is no ``fallback``, or it is gone with the trained run.
        JobCancelled: ``should_stop`` said so, or somebody cancelled the job.
        StudioError: the job stalled, with its cause.
    """
    wanted = [ExportConfig.parse({"format": name}) for name in dict.fromkeys(exports)]
    spent = _Spent(exports=tuple(f"{EXPORTS_FOLDER}/{config.format}" for config in wanted))
    dataset_dir: Path | None = None
    is_trained = False
    try:
        base, config = _server_config(server, request)  # wrong settings are refused before any work
        started_s = time.monotonic()
        dataset_dir = _checked(run, request, photos_dir, out)
        parcel = pack(dataset_dir, photos_dir, *_training_size(config))
        spent.prepare_s = round(time.monotonic() - started_s, 2)
        spent.photos, spent.original_bytes = len(parcel.photos), parcel.original_bytes
        spent.sent_bytes = parcel.sent_bytes
        spent.photos_exact, spent.difference = parcel.exact, parcel.difference
        record = _Record.of(out, server, request, parcel)
        if record.train_job is None:
            _submit(server, record, request, base, parcel, spent, on_event, should_stop)
        view = watch(server, str(record.train_job), on_event=on_event, should_stop=should_stop)
        if view["state"] != "completed":
            record.path.unlink()  # so that the same command begins anew
        result = result_of(view)
        is_trained = True
        download(server, view["id"], out, on_event=on_event)
        for export in wanted:
            asked = {"train_job": view["id"], "format": export.format}
            job = _begun(server, "export", f"{record.key}-{export.format}", asked)
            result_of(watch(server, job, on_event=on_event, should_stop=should_stop))
            download(server, job, out / EXPORTS_FOLDER / export.format, on_event=on_event)
        return spent.run(result, server.url, view["id"])
    except ServerGoneError as gone:
        if is_trained:
            raise ServerGoneError(f"{gone} The run is trained there; run the same command again to fetch it.") from None
        if fallback is None:
            raise ServerGoneError(f"{gone} Run the same command again to go on, or add --local-fallback.") from None
        on_event(Event("message", {"level": "warning", "text": f"{gone} Training here instead."}))
    # From here on it is a run of this machine, whose training takes no folder that holds other files.
    (out / RECORD_NAME).unlink(missing_ok=True)
    if dataset_dir is None:
        dataset_dir = _checked(run, request, photos_dir, out)
    trained: TrainResult = run("train", fallback(), dataset_dir, out)
    for export in wanted:
        run("export", export, out, out / EXPORTS_FOLDER / export.format)
    return spent.run(plain(trained), None, None)


def _checked(run: Runner, request: TrainRequest, photos_dir: Path, out: Path) -> Path:
    """Check the photos here and return the dataset's folder; the same photos give the same dataset, byte for byte."""
    if (photos_dir / "dataset.json").is_file():
        return photos_dir
    dataset_dir = Path(f"{out.resolve()}-dataset")
    checking = CheckConfig.parse({"subject": request.subject, "class_noun": request.class_noun})
    run("check", checking, photos_dir, dataset_dir)
    return dataset_dir


@dataclass(slots=True)
class _Spent:
    """What a remote run took so far."""

    photos: int = 0
    original_bytes: int = 0
    sent_bytes: int = 0
    photos_exact: int = 0
    difference: float = 0.0
    prepare_s: float = 0.0
    upload_s: float = 0.0
    exports: tuple[str, ...] = ()

    def run(self, result: Mapping[str, Any], url: str | None, job: str | None) -> RemoteRun:
        return RemoteRun(train=result, server=url, job=job, **asdict(self))


@dataclass(slots=True)
class _Record:
    """remote.json: which jobs a run folder stands for."""

    path: Path
    server: str
    request: str
    """Digest of what was asked for; another request needs another folder."""
    key: str
    check_job: str | None = None
    train_job: str | None = None

    @classmethod
    def of(cls, out: Path, server: Server, request: TrainRequest, parcel: Parcel) -> "_Record":
        """Read the record of a run folder, or begin one.

        Raises:
            ConflictError: the folder belongs to another request or server.
        """
        asked = json.dumps([plain(request), [sha256 for _, sha256, _ in parcel.files]], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()
        path = out / RECORD_NAME
        new = cls(path, server.url, digest, f"remote-{secrets.token_hex(12)}")
        if not path.is_file():
            out.mkdir(parents=True, exist_ok=True)
            new.write()
            return new
        known = cls(path, **read_record(out))
        if (known.server, known.request) != (new.server, new.request):
            raise ConflictError(f"{out.name} holds another remote run; choose another --out.")
        return known

    def write(self) -> None:
        data = asdict(self)
        del data["path"]
        write_json(self.path, data)


def read_record(run_dir: Path) -> dict[str, Any]:
    """Return what a run folder remembers of its server: server, request, key, check_job, train_job.

    Raises:
        NotFoundError: the run was not made with ``train`` of this module.
    """
    try:
        data: dict[str, Any] = json.loads((run_dir / RECORD_NAME).read_text(encoding="utf-8"))
        return {name: data[name] for name in ("server", "request", "key", "check_job", "train_job")}
    except (OSError, ValueError, KeyError, TypeError):
        raise NotFoundError(f"{run_dir.name}: this is no run of a remote server; give the id of a job.") from None


def _server_config(server: Server, request: TrainRequest) -> tuple[str, TrainConfig]:
    """Return the base and the settings that the server will use, refused here if they are wrong.

    Raises:
        InputError: unknown settings or values out of range. NotFoundError: no such preset there.
    """
    bases = {row["name"]: row for row in server.call("bases")}
    presets = {row["name"]: row for row in server.call("presets")}
    default = next((name for name, row in bases.items() if row.get("default")), "pocket")
    preset = presets.get(request.preset) if request.preset else None
    if request.preset and preset is None:
        raise NotFoundError(f"the server has no preset {request.preset!r}; it has: {', '.join(presets)}.")
    base = request.base or (preset["base"] if preset else default)
    if preset is None:
        row = bases.get(base)
        if row is None or row["default_preset"] is None:
            problem = Problem("--preset", f"base {base!r} has no preset of its own", "name one", "no_preset")
            raise InputError.of([problem])
        preset = presets[row["default_preset"]]
    subject = {"subject": request.subject, "class_noun": request.class_noun}
    return base, override(TrainConfig.parse(preset["config"]), {**subject, "base": base, **request.changes})


def _training_size(config: TrainConfig) -> tuple[int, int]:
    """Return the resolution of a run and what sizes are rounded to there, pixels."""
    row = BASES.get(config.base)
    own_px = row.resolution_px if row else UNKNOWN_BASE_PX
    return config.resolution_px or own_px, FAMILIES[row.family].bucket_multiple_px if row else 8


def _submit(
    server: Server,
    record: _Record,
    request: TrainRequest,
    base: str,
    parcel: Parcel,
    spent: _Spent,
    on_event: OnEvent,
    should_stop: ShouldStop,
) -> None:
    """Send the photos and start check and training; every step may be repeated."""
    if record.check_job is None:
        started_s = time.monotonic()
        order = {
            "photos": [{"sha256": sha256, "name": name} for name, sha256, _ in parcel.files],
            "subject": request.subject,
            "class_noun": request.class_noun,
            "settings": dict(CHECK_THERE),
            "key": f"{record.key}-check",
        }
        for last in (False, True):
            upload(server, parcel, on_event=on_event, should_stop=should_stop)
            try:
                record.check_job = server.check(**order)["id"]
                break
            except ConflictError as error:
                if last or not any(problem.code == "not_uploaded" for problem in error.problems):
                    raise
        record.write()
        spent.upload_s = round(time.monotonic() - started_s, 2)
        on_event(Event("message", {"level": "info", "text": _saved(parcel, spent)}))
    checked = watch(server, str(record.check_job), on_event=on_event, should_stop=should_stop)
    if checked["state"] != "completed":
        record.path.unlink()
    result_of(checked)
    record.train_job = server.call(
        "train",
        check_job=record.check_job,
        base=base,
        preset=request.preset or "",
        settings=plain(request.changes),
        key=f"{record.key}-train",
    )["id"]
    record.write()


def _saved(parcel: Parcel, spent: _Spent) -> str:
    sent, whole, count = parcel.sent_bytes, max(1, parcel.original_bytes), len(parcel.photos)
    off = f"within {parcel.difference:.2f} of 255 levels on average at the training size"
    some = f"{parcel.exact} without any loss at the training size, the others {off}"
    loss = "without any loss at the training size" if parcel.exact == count else some if parcel.exact else off
    return (
        f"Sent {sent / 1e6:.2f} MB for {count} photos of {whole / 1e6:.2f} MB "
        f"({sent / whole:.1%}, {(whole - sent) / 1e6:.2f} MB saved), {loss}: "
        f"{spent.prepare_s:.1f} s to prepare, {spent.upload_s:.1f} s to send"
    )


def upload(
    server: Server, parcel: Parcel, *, on_event: OnEvent = ignore_event, should_stop: ShouldStop = never_stop
) -> int:
    """Send what the server does not have yet, several files at once; returns how many were sent.

    Raises:
        ServerGoneError: nobody answers any more. InputError: the server refuses a file. JobCancelled: asked to stop.
    """
    held = server.held()
    contents = {sha256: data for _, sha256, data in parcel.files}
    missing = [sha256 for sha256 in contents if sha256 not in held]
    reporter = ProgressReporter(on_event, should_stop, kept=_SENT_STAYS)
    reporter.stage("uploading", f"Sending {len(missing)} of {len(contents)} files")
    reporter.start(len(missing))
    with _together(lambda sha256: server.upload(sha256, contents[sha256]), missing) as sent:
        for _ in sent:
            reporter.advance("uploading")
            reporter.check_stop()
    return len(missing)


@contextmanager
def _together(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Iterator[Future]]:
    """Yield finished calls of ``work``, a few at a time; an error or a stop leaves the rest undone."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = [pool.submit(work, item) for item in items]

        def finished() -> Iterator[Future]:
            for future in as_completed(futures):
                future.result()
                yield future

        try:
            yield finished()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def watch(
    server: Server, job: str, *, on_event: OnEvent = ignore_event, should_stop: ShouldStop = never_stop
) -> dict[str, Any]:
    """Hand on what a job tells until it has ended, and return the job.

    Raises:
        NotFoundError: there is no such job. JobCancelled: ``should_stop`` said so; the job goes on.
        ServerGoneError: nobody answers any more.
    """
    seen = 0
    while True:
        view: dict[str, Any] = server.call("job", job_id=job, after=seen, files=False)
        for event in view["events"]:
            seen = event["seq"]
            data = dict(event["data"])
            if event["kind"] == "sample":
                data["path"] = data.pop("file", None)  # the endpoint's name for it
            on_event(Event(event["kind"], data))
        if view["state"] in TERMINAL_STATES:
            return view
        if should_stop():
            goes_on = f"job {job} goes on there, the same command watches it again, and `remote cancel {job}` ends it"
            raise stopped(goes_on, "watching")
        time.sleep(_POLL_S)


def result_of(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a job that has ended.

    Raises:
        StudioError: it stalled; the cause and its problems. JobCancelled: it was cancelled.
    """
    if view["state"] == "completed":
        return dict(view["result"])
    if view["state"] == "cancelled":
        raise JobCancelled(f"Job {view['id']} was cancelled there.")
    raise StudioError(str(view["cause"]), [Problem(**row) for row in view["problems"]])


def download(server: Server, job: str, out: Path, *, on_event: OnEvent = ignore_event) -> list[Path]:
    """Bring a completed job's files into a folder, several at once, each verified by its SHA-256.

    Files that are there already are kept; a download that was cut goes on.

    Raises:
        NotFoundError: no such job, or it is not completed. ServerGoneError: nobody answers.
        ResourceError: a file arrives damaged, twice, or names a place outside of ``out``.
    """
    rows = server.files(job)
    if not rows:
        raise NotFoundError(f"job {job} has no files (yet).")
    targets = [(row, _inside(out, row["path"])) for row in rows]
    missing = [(row, path) for row, path in targets if not path.is_file() or sha256_of(path) != row["sha256"]]
    total_mb = sum(row["bytes"] for row, _ in missing) / 1e6
    message = f"Downloading {len(missing)} files, {total_mb:.1f} MB"
    reporter = ProgressReporter(on_event)
    reporter.stage("downloading", message)
    reporter.start(len(missing))
    with _together(lambda item: server.fetch(job, *item), missing) as fetched:
        for _ in fetched:
            reporter.advance("downloading")
    return [path for _, path in targets]


def _inside(out: Path, relative: str) -> Path:
    parts = PurePosixPath(relative).parts
    path = out.resolve().joinpath(*parts)
    if ".." in parts or not parts or not path.resolve().is_relative_to(out.resolve()):
        raise ResourceError("the server names a file outside of the folder; it is not fetched.")
    return path


def generate(
    server: Server,
    run_or_job: str,
    parameters: Mapping[str, Any],
    out: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> dict[str, Any]:
    """Make pictures with a run on the server and bring them home; returns the result of the verb.

    The same request into the same folder goes on with the same job.

    Args:
        server: where the run is.
        run_or_job: a run folder that ``train`` made here, or the id of a train job.
        parameters: of the endpoint ``/generate``.
        out: folder for the pictures.
        on_event: told what the job tells.
        should_stop: asked while waiting.

    Raises: as ``train``.
    """
    job = run_or_job
    if Path(run_or_job).is_dir():
        job = read_record(Path(run_or_job))["train_job"] or ""
    asked = json.dumps([server.url, job, plain(parameters), str(out.resolve())], sort_keys=True)
    key = hashlib.sha256(asked.encode()).hexdigest()[:32]
    made = _begun(server, "generate", f"remote-{key}", {"train_job": job, **parameters})
    result = result_of(watch(server, made, on_event=on_event, should_stop=should_stop))
    download(server, made, out, on_event=on_event)
    return result


def _begun(server: Server, endpoint: str, key: str, parameters: Mapping[str, Any]) -> str:
    """Start a job, or find the one that an earlier call with this key started, and return its id."""
    for attempt in itertools.count():  # one that stalled or was cancelled is not gone on with
        view = server.call(endpoint, key=f"{key}-{attempt}", **parameters)
        if view["state"] not in ("stalled", "cancelled"):
            return str(view["id"])
    raise AssertionError  # there is always a next key
