"""A studio on another machine: photos are prepared here, trained there, and the finished run comes back.

The photo check runs here first, so that only the crops that training will see travel: at the size that its resolution
can use, without metadata, under neutral names. Everything that is sent may be sent again: uploads are known by their
SHA-256 and jobs by a key, so a broken connection or a killed server costs what was under way and nothing else. Used by
``python -m studio remote`` and from Python::

    server = Server("http://192.168.1.20:7860")
    request = TrainRequest(subject="Ada", class_noun="woman")
    train(run_verb, server, request, Path("photos"), Path("run"))
"""

import hashlib
import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from studio.core.catalog import BASES, FAMILIES
from studio.core.config import CheckConfig, ExportConfig
from studio.core.domain import Event, OnEvent, ShouldStop, TrainResult, ignore_event, never_stop, plain
from studio.core.errors import (
    ConflictError,
    InputError,
    JobCancelled,
    NotFoundError,
    Problem,
    ResourceError,
    StudioError,
)
from studio.core.files import sha256_of, write_json
from studio.core.names import choice_cure
from studio.core.presets import override
from studio.core.progress import ProgressReporter, stopped
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.core.units import bytes_text, duration_text
from studio.remote.client import Server, ServerGoneError
from studio.remote.shrink import PHOTOS_AT_ONCE, PreparedUpload, pack

Runner = Callable[[str, StrictModel, Path, Path], Any]
"""``(verb, config, source, out) -> result``: runs one verb here, to its end."""


RECORD_NAME = "remote.json"
"""What a run folder remembers of its server, so that the same command goes on."""


EXPORTS_FOLDER = "exports"
"""Of a run folder: ``exports/<format>`` holds what was exported there."""


CHECK_THERE: Mapping[str, Any] = {"crop": "none", "crop_px": 4096, "keep_rejected": True}
"""Settings of the check there. Crops and verdicts were made here: it must neither cut, shrink nor think otherwise."""


UNKNOWN_BASE_PX = 1024
"""Resolution that a base outside the catalog is taken to have."""


_SENT_STAYS = "what was sent waits there for a day, and the same command goes on from there"


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train; what is left out is the server's choice."""

    subject: str | None = None
    """Name of the subject; None takes the dataset's, for photos that are checked here the default of the check."""
    class_noun: str | None = None
    """What the subject is; None as for ``subject``."""
    base: str | None = None
    preset: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Dotted settings of TrainConfig."""
    consent: bool = False
    """The person on the photos agreed; for photos that are checked here."""


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
    spent = _RunCost(exports=tuple(f"{EXPORTS_FOLDER}/{config.format}" for config in wanted))
    dataset_dir: Path | None = None
    is_trained = False
    try:
        config = _server_config(server, request)  # wrong settings are refused before any work
        started_s = time.monotonic()
        dataset_dir = _checked(run, request, photos_dir, out)
        config = _for_dataset(config, dataset_dir)
        prepared = pack(dataset_dir, photos_dir, *_training_size(config))
        spent.prepare_s = round(time.monotonic() - started_s, 2)
        spent.photos, spent.original_bytes = len(prepared.photos), prepared.original_bytes
        spent.sent_bytes = prepared.sent_bytes
        spent.photos_exact, spent.difference = prepared.exact, prepared.difference
        record = _RunRecord.of(out, server, request, prepared)
        if record.train_job is None:
            agreed = replace(request, consent=request.consent or _consent_of(dataset_dir))
            _submit(server, record, agreed, config, prepared, spent, on_event, should_stop)
        view = watch(server, str(record.train_job), on_event=on_event, should_stop=should_stop)
        if view["state"] != "completed":
            record.path.unlink()  # so that the same command begins anew
        result = result_of(view)
        is_trained = True
        download(server, view["id"], out, on_event=on_event)
        for export in wanted:
            asked = {"run": view["id"], "format": export.format}
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
    about = {**_subject_of(request), "consent": request.consent}
    run("check", CheckConfig.parse(about), photos_dir, dataset_dir)
    return dataset_dir


def _subject_of(request: TrainRequest) -> dict[str, str]:
    """Return what a request says of its subject."""
    given = {"subject": request.subject, "class_noun": request.class_noun}
    return {name: value for name, value in given.items() if value is not None}


def _consent_of(dataset_dir: Path) -> bool:
    """Tell whether the person on checked photos agreed, as it was said to the check here."""
    dataset = json.loads((dataset_dir / "dataset.json").read_text(encoding="utf-8"))  # read before: it is whole
    return bool(dataset.get("consent"))


def _for_dataset(config: TrainConfig, dataset_dir: Path) -> TrainConfig:
    """Fill in the subject and the class noun of the checked photos.

    Raises:
        InputError: the settings contradict the dataset, or it cannot be read.
    """
    try:
        dataset = json.loads((dataset_dir / "dataset.json").read_text(encoding="utf-8"))
        subject, class_noun = str(dataset["subject"]), str(dataset["class_noun"])
        is_guessed = bool(dataset.get("class_noun_guessed"))
    except (OSError, ValueError, KeyError, TypeError):
        cure = "check the photos again"
        raise InputError.of([Problem("dataset.json", "is damaged", cure, "bad_dataset")]) from None
    return config.for_subject(subject, class_noun, is_guessed=is_guessed)


@dataclass(slots=True)
class _RunCost:
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
class _RunRecord:
    """remote.json: which jobs a run folder stands for."""

    path: Path
    server: str
    request: str
    """Digest of what was asked for; another request needs another folder."""
    key: str
    check_job: str | None = None
    train_job: str | None = None

    @classmethod
    def of(cls, out: Path, server: Server, request: TrainRequest, prepared: PreparedUpload) -> "_RunRecord":
        """Read the record of a run folder, or begin one.

        Raises:
            ConflictError: the folder belongs to another request or server.
        """
        # Whether the person agreed changes nothing that is trained.
        said = {name: value for name, value in plain(request).items() if name != "consent"}
        asked = json.dumps([said, [sha256 for _, sha256, _ in prepared.files]], sort_keys=True)
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


def _server_config(server: Server, request: TrainRequest) -> TrainConfig:
    """Return the settings that the server will use, refused here if they are wrong.

    Raises:
        InputError: unknown settings or values out of range. NotFoundError: no such preset there.
    """
    bases = {row["name"]: row for row in server.choices("bases")}
    presets = {row["name"]: row for row in server.choices("presets")}
    default = next((name for name, row in bases.items() if row.get("default")), "pocket")
    preset = presets.get(request.preset) if request.preset else None
    if request.preset and preset is None:
        raise NotFoundError(f"the server has no preset {request.preset!r}; {choice_cure(request.preset, presets)}.")
    base = request.base or (preset["base"] if preset else default)
    if preset is None:
        row = bases.get(base)
        if row is None or row["default_preset"] is None:
            problem = Problem("--preset", f"base {base!r} has no preset of its own", "name one", "no_preset")
            raise InputError.of([problem])
        preset = presets[row["default_preset"]]
    changes = {**_subject_of(request), "base": base, **request.changes}
    return override(TrainConfig.parse(preset["config"]), changes)


def _training_size(config: TrainConfig) -> tuple[int, int]:
    """Return the resolution of a run and what sizes are rounded to there, pixels."""
    row = BASES.get(config.base)
    own_px = row.resolution_px if row else UNKNOWN_BASE_PX
    return config.resolution_px or own_px, FAMILIES[row.family].bucket_multiple_px if row else 8


def _submit(
    server: Server,
    record: _RunRecord,
    request: TrainRequest,
    config: TrainConfig,
    prepared: PreparedUpload,
    spent: _RunCost,
    on_event: OnEvent,
    should_stop: ShouldStop,
) -> None:
    """Send the photos and start check and training; every step may be repeated."""
    if record.check_job is None:
        started_s = time.monotonic()
        order = {
            "photos": [{"sha256": sha256, "name": name} for name, sha256, _ in prepared.files],
            "subject": config.subject,
            "class_noun": config.class_noun,
            **CHECK_THERE,
            **({"consent": True} if request.consent else {}),
        }
        for last in (False, True):
            upload(server, prepared, on_event=on_event, should_stop=should_stop)
            try:
                record.check_job = server.begin("check", order, key=f"{record.key}-check")["id"]
                break
            except ConflictError as error:
                if last or not any(problem.code == "not_uploaded" for problem in error.problems):
                    raise
        record.write()
        spent.upload_s = round(time.monotonic() - started_s, 2)
        on_event(Event("message", {"level": "info", "text": _saved(prepared, spent)}))
    checked = watch(server, str(record.check_job), on_event=on_event, should_stop=should_stop)
    if checked["state"] != "completed":
        record.path.unlink()
    result_of(checked)
    asked = {**plain(request.changes), "base": config.base, "preset": request.preset or "", "check": record.check_job}
    record.train_job = server.begin("train", asked, key=f"{record.key}-train")["id"]
    record.write()


def _saved(prepared: PreparedUpload, spent: _RunCost) -> str:
    sent, whole, count = prepared.sent_bytes, max(1, prepared.original_bytes), len(prepared.photos)
    off = f"within {prepared.difference:.3g} of 255 levels on average at the training size"
    some = f"{prepared.exact} without any loss at the training size, the others {off}"
    loss = "without any loss at the training size" if prepared.exact == count else some if prepared.exact else off
    return (
        f"Sent {bytes_text(sent)} for {count} photos of {bytes_text(whole)} "
        f"({sent / whole:.1%}, {bytes_text(max(0, whole - sent))} saved), {loss}: "
        f"{duration_text(spent.prepare_s)} to prepare, {duration_text(spent.upload_s)} to send"
    )


def upload(
    server: Server, prepared: PreparedUpload, *, on_event: OnEvent = ignore_event, should_stop: ShouldStop = never_stop
) -> int:
    """Send what the server does not have yet, several files at once; returns how many were sent.

    Raises:
        ServerGoneError: nobody answers any more. InputError: the server refuses a file. JobCancelled: asked to stop.
    """
    held = server.held()
    contents = {sha256: data for _, sha256, data in prepared.files}
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
    with ThreadPoolExecutor(PHOTOS_AT_ONCE) as pool:
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
    for told in server.told(job, should_end=should_stop):
        if told.kind == "end":
            return told.data
        if told.kind == "forgotten":
            raise NotFoundError(f"job {job} was deleted there.")
        if told.number:
            on_event(Event(told.kind, told.data))  # type: ignore[arg-type]
    goes_on = f"job {job} goes on there, the same command watches it again, and `remote cancel {job}` ends it"
    raise stopped(goes_on, "watching")


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
    message = f"Downloading {len(missing)} files, {bytes_text(sum(row['bytes'] for row, _ in missing))}"
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
        parameters: the body of ``POST /v1/generate`` but for the run.
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
    made = _begun(server, "generate", f"remote-{key}", {"run": job, **parameters})
    result = result_of(watch(server, made, on_event=on_event, should_stop=should_stop))
    download(server, made, out, on_event=on_event)
    return result


def _begun(server: Server, verb: str, key: str, parameters: Mapping[str, Any]) -> str:
    """Start a job, or find the one that an earlier call with this key started, and return its id."""
    for attempt in itertools.count():  # one that stalled or was cancelled is not gone on with
        view = server.begin(verb, parameters, key=f"{key}-{attempt}")
        if view["state"] not in ("stalled", "cancelled"):
            return str(view["id"])
    raise AssertionError  # there is always a next key
