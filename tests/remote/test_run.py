"""A studio on another machine: what is sent, what may break on the way, what comes home."""

import hashlib
import importlib.util
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from studio import check, infer
from studio import train as training
from studio.cli import main
from studio.core import folder as output
from studio.core import progress, records
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import Dataset, Event, TrainResult
from studio.core.errors import ConflictError, InputError, JobCancelled, NotFoundError, ResourceError, StudioError
from studio.core.presets import override
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.pocket.samples import sample_photos
from studio.remote import client
from studio.remote import run as remote
from studio.remote.client import Server
from studio.remote.run import TrainRequest
from studio.remote.shrink import PreparedUpload, ShrunkPhoto

SECRET_PLACE = "Whistler's Lane 7"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, PROJECT_ROOT / "tests" / name)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -------------------------------------------------------------------------------------------------- what is sent


def test_photos_larger_than_a_check_would_keep_them_arrive_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    Image.radial_gradient("L").resize((896, 1152)).convert("RGB").save(folder / "001.webp", lossless=True)
    config = CheckConfig.parse({"class_noun": "thing", "likeness": "none", **remote.CHECK_THERE})
    assert check.check(config, folder, tmp_path / "there").photos[0].size_hw == (1152, 896)
    with Image.open(folder / "001.webp") as sent, Image.open(tmp_path / "there" / "photos" / "001.png") as arrived:
        assert np.array_equal(np.asarray(sent.convert("RGB")), np.asarray(arrived))


# ------------------------------------------------------------------------------------------- what breaks on the way


def prepared_upload(count: int) -> PreparedUpload:
    files = []
    for number in range(count):
        data = b"RIFF" + bytes([number]) * 50_000
        files.append((f"{number:03}.webp", hashlib.sha256(data).hexdigest(), data))
    return PreparedUpload(tuple(files), (), 0)


@contextmanager
def routes_alone(home: Path, port: int = 0) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    script = PROJECT_ROOT / "tests" / "remote_server.py"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, str(script), str(home), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        try:
            address = child.stdout.readline().strip()
            assert address
            yield address, child
        finally:
            child.kill()


def test_a_server_killed_during_the_upload_and_started_again_gets_the_rest(
    tmp_path: Path, events: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    prepared = prepared_upload(12)
    again: list[Any] = []
    with routes_alone(tmp_path) as (address, child):

        def kill_and_start_again() -> None:
            child.send_signal(signal.SIGKILL)
            child.wait()
            again.append(routes_alone(tmp_path, int(address.rsplit(":", 1)[1])))
            again[0].__enter__()

        def on_event(event: Event) -> None:
            events.append(event)
            if event.kind == "progress" and event.data["step"] == 3:
                threading.Thread(target=kill_and_start_again).start()
                child.wait()

        try:
            with Server(address, patience_s=60, on_event=on_event) as server:
                assert remote.upload(server, prepared, on_event=on_event) == 12
                assert server.held() == {sha256 for _, sha256, _ in prepared.files}
                assert remote.upload(server, prepared) == 0, "nothing is sent twice"
                order = [{"sha256": sha256, "name": name} for name, sha256, _ in prepared.files]
                first = server.begin("check", {"photos": order, "subject": "Ada"}, key="k")
                remote.upload(server, prepared)
                assert server.begin("check", {"photos": order, "subject": "Ada"}, key="k")["id"] == first["id"]
        finally:
            for running in again:
                running.__exit__(None, None, None)
    said = [event.data["text"] for event in events if event.kind == "message"]
    assert said == [f"{address} does not answer; trying again.", f"{address} is back."]


def transport(answer: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> Server:
    """Return a server whose answers are made up."""
    made = Server("http://studio.example", patience_s=options.pop("patience_s", 30), **options)
    made._http = httpx2.Client(base_url=made.url, headers=made._http.headers, transport=httpx2.MockTransport(answer))
    return made


class FileServer:
    """Answers like ``/files``, cutting off the first download in the middle."""

    def __init__(self, files: dict[str, bytes], *, cut: bool = False, spoil: bool = False) -> None:
        self.files, self.cut, self.spoil = files, cut, spoil
        self.ranges: list[str | None] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        _, _, _, *rest = request.url.path.split("/")
        if not rest:
            rows = [
                {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in self.files.items()
            ]
            return httpx2.Response(200, json={"files": rows})
        data = self.files["/".join(rest)]
        self.ranges.append(request.headers.get("range"))
        if self.spoil:
            return httpx2.Response(200, content=data[::-1])
        if self.cut:
            self.cut = False
            return httpx2.Response(200, stream=Cut(data[: len(data) // 2]))
        start = int((self.ranges[-1] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        return httpx2.Response(206 if start else 200, content=data[start:])


class Cut(httpx2.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise httpx2.ReadError("connection reset")


def test_a_cut_download_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.remote.run.time.sleep", lambda seconds: None)
    there = FileServer({"adapter/weights.safetensors": bytes(range(256)) * 100}, cut=True)
    (path,) = remote.download(transport(there), "train-1", tmp_path)
    assert path.read_bytes() == there.files["adapter/weights.safetensors"]
    assert there.ranges == [None, "bytes=12800-"]
    remote.download(transport(there), "train-1", tmp_path)
    assert len(there.ranges) == 2, "what is here is not fetched again"


def test_a_damaged_download_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="not what the server has"):
        remote.download(transport(FileServer({"report.json": b"{ }!"}, spoil=True)), "train-1", tmp_path)
    assert list(tmp_path.rglob("*report*")) == []


def test_an_older_part_of_another_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / ".report.json.part").write_bytes(b"xx")
    (path,) = remote.download(transport(FileServer({"report.json": b"{ }!"})), "train-1", tmp_path)
    assert path.read_bytes() == b"{ }!"


@pytest.mark.parametrize("name", ["../outside.json", "a/../../outside.json", "/etc/outside.json"])
def test_a_server_cannot_write_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    rows = {"files": [{"path": name, "bytes": 1, "sha256": "0" * 64}]}
    with pytest.raises(ResourceError, match="outside"):
        remote.download(transport(lambda request: httpx2.Response(200, json=rows)), "train-1", tmp_path / "out")


@contextmanager
def whole_app(home: Path, log: Path, port: int = 0) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The app as its user starts it, with the worker and real verbs."""
    environment = {**os.environ, "STUDIO_HOME": str(home), "STUDIO_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROJECT_ROOT / "app.py")]
    with (
        log.open("a") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as child,
    ):
        assert child.stdout is not None
        try:
            address = child.stdout.readline().rsplit(" ", 1)[-1].strip()
            assert address, log.read_text()
            yield address, child
        finally:
            child.kill()


@pytest.mark.slow
def test_the_app_killed_during_the_upload_and_started_again_trains_and_the_run_comes_home(
    phone_photos: Path, tmp_path: Path, events: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    home, log, out = tmp_path / "far", tmp_path / "log.txt", tmp_path / "run"
    changes = {"steps": 4, "samples_per_checkpoint": 1, "sample_steps": 2, "prior.mode": "none", "likeness": "none"}
    again: list[Any] = []

    def run(verb: str, config: StrictModel, source: Path, target: Path) -> Any:
        assert verb == "check"
        return check.check(config.model_copy(update={"likeness": "none", "keep_rejected": True}), source, target)

    with whole_app(home, log) as (address, child):

        def on_event(event: Event) -> None:
            events.append(event)
            if event.kind == "progress" and event.data["message"] == "uploading" and event.data["step"] == 3:
                child.send_signal(signal.SIGKILL)
                child.wait()

                def start_again() -> None:
                    again.append(whole_app(home, log, int(address.rsplit(":", 1)[1])))
                    again[0].__enter__()

                threading.Thread(target=start_again).start()

        try:
            with Server(address, patience_s=120, on_event=on_event) as server:
                request = TrainRequest("Ada", "thing", "pocket", changes=changes)
                result = remote.train(run, server, request, phone_photos, out, exports=("kohya",), on_event=on_event)
                jobs = server.jobs(50)
        finally:
            for running in again:
                running.__exit__(None, None, None)
    assert again and [event.data["text"] for event in events if event.kind == "message"][:2] == [
        f"{address} does not answer; trying again.", f"{address} is back."
    ]  # fmt: skip
    assert result.photos == 12 and result.sent_bytes <= 0.15 * result.original_bytes
    assert sorted(job["kind"] for job in jobs) == ["check", "export", "train"], "nothing was started twice"
    assert {job["state"] for job in jobs} == {"completed"}
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"report.json", "curve.png", "config.yaml", "metrics.jsonl", "adapter/certificate.json"} <= there
    assert {"samples/4/00.png", "samples/4/scores.json", "exports/kohya/certificate.json"} <= there
    made = infer.generate(
        GenerateConfig.parse({"prompts": ["photo of {subject}"], "num_inference_steps": 2, "likeness": "none"}),
        out, tmp_path / "pictures",
    )  # fmt: skip
    assert (tmp_path / "pictures" / made.images[0].file).is_file()


# ------------------------------------------------------------------------------------------------------- the whole way

REQUEST = TrainRequest("Ada", "woman", changes={"steps": 60})


def run_here(verb: str, config: StrictModel, source: Path, out: Path) -> Any:
    """Check in earnest, but without a likeness engine; training is only said to have happened."""
    if verb == "check":
        return check.check(config.model_copy(update={"likeness": "none"}), source, out)
    if verb == "export":
        out.mkdir(parents=True)
        return None
    free = output.look(out, {"settings": ""}, what="a run", name=training.INPUTS_NAME, scratch={training.CONFIG_NAME})
    assert free is None, "training takes no folder that holds more"
    assert isinstance(config, TrainConfig) and records.read(Dataset, source / "dataset.json")
    return TrainResult("adapter", 1, "here", config.total_steps(3), 1.0, 0.0, 0.5, 0.0, None)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole app with a scripted studio behind it."""
    edge = load("web/conftest.py")
    folder = tmp_path_factory.mktemp("far")
    settings = Settings(home=folder / "home", port=0, presets_dir=edge.write_presets(folder / "presets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(settings.home / "web-cache"))
        with edge.serve(settings, folder / "log.txt") as found:
            yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sample_photos(tmp_path / "photos", count=3, size_px=256)
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LOOK_S", 0.01)


@pytest.mark.whole
def test_photos_are_trained_there_and_the_run_comes_home(
    address: str, folder: Path, tmp_path: Path, events: list, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    with Server(address) as server:
        result = remote.train(run_here, server, REQUEST, folder, out, on_event=events.append)
        assert (result.train["steps"], result.server, result.photos) == (60, address, 3)
        assert (out / "adapter" / "pytorch_lora_weights.safetensors").is_file()
        record = remote.read_record(out)
        kinds = [event.data.get("name") for event in events if event.kind == "stage"]
        assert kinds[0] == "uploading" and kinds[-1] == "downloading"
        assert any(event.data.get("text", "").startswith("Sent ") for event in events)
        assert any(event.data.get("path") == "samples/60/00.png" for event in events if event.kind == "sample")

        there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert {"report.json", "config.yaml", "metrics.jsonl", "adapter/certificate.json"} <= there
        assert {"samples/0/00.png", "samples/60/03.png", "samples/60/scores.json"} <= there
        assert not any(name.startswith(("checkpoints", "exports")) for name in there)

        again = remote.train(run_here, server, REQUEST, folder, out, exports=("kohya", "kohya"))
        assert (again.job, again.upload_s, again.exports) == (result.job, 0.0, ("exports/kohya",))
        assert (out / "exports/kohya/certificate.json").is_file()
        with pytest.raises(InputError, match="format"):
            remote.train(run_here, server, REQUEST, folder, out, exports=("pickle",))
        with pytest.raises(ConflictError, match="another --out"):
            remote.train(run_here, server, TrainRequest("Bob", "man"), folder, out)
        with pytest.raises(InputError, match=r"method\.rnak"):
            remote.train(run_here, server, TrainRequest("A", "b", changes={"method.rnak": 1}), folder, out)
        with pytest.raises(NotFoundError, match="pocket_lora_cpu"):
            remote.train(run_here, server, TrainRequest("A", "b", preset="none"), folder, out)

    monkeypatch.setenv("STUDIO_REMOTE_SERVER", address)
    monkeypatch.setenv("COLUMNS", "200")

    def said(*arguments: str) -> Any:
        assert main.run(["remote", *arguments, "--json"]) == 0, capsys.readouterr()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    dataset = json.loads(Path(f"{out}-dataset/dataset.json").read_text())
    assert dataset["consent"] is False
    Path(f"{out}-dataset/dataset.json").write_text(json.dumps(dataset | {"consent": True}))
    words = ("--set", "steps=60", "--export", "kohya")  # the dataset says whose photos these are, and that she agreed
    second = said("train", f"{out}-dataset", *words, "--out", str(tmp_path / "second"))
    assert second["exports"] == ["exports/kohya"] and second["job"] != result.job
    assert (tmp_path / "second" / "exports" / "kohya" / "certificate.json").is_file()
    assert 0 < second["sent_bytes"] < second["original_bytes"], "of a dataset the originals are its crops"

    agreed = remote.read_record(tmp_path / "second")["check_job"]
    assert said("status", agreed)["result"]["consent"] is True
    assert said("status", record["check_job"])["result"]["consent"] is False

    pictures = tmp_path / "pictures"
    made = said("generate", str(out), "--pack", "places", "--seed", "7", "--out", str(pictures))
    assert sorted(image["seed"] for image in made["images"]) == [7, 8]
    assert all((pictures / image["file"]).is_file() for image in made["images"])
    count = len(said("list")["jobs"])
    said("generate", str(record["train_job"]), "--pack", "places", "--seed", "7", "--out", str(pictures))
    assert len(said("list")["jobs"]) == count, "the same pictures are not made twice"
    assert said("list", "--limit", "1")["jobs"][0]["kind"] == "generate"
    assert said("status", record["train_job"])["state"] == "completed"
    assert said("status", record["train_job"], "--watch")["state"] == "completed"
    copied = said("download", record["train_job"], "--out", str(tmp_path / "copy"))["files"]
    assert len(copied) == len(there - {"remote.json"})
    assert said("cancel", record["check_job"])["state"] == "completed"
    assert main.run(["remote", "list"]) == 0 and record["train_job"] in capsys.readouterr().out
    assert main.run(["remote", "status", "train-0"]) == 2 and "train-0" in capsys.readouterr().err

    gone = said("forget", agreed)
    assert set(gone["jobs"]) == {agreed, second["job"], *(job for job in gone["jobs"] if job.startswith("export"))}
    assert said("status", agreed)["state"] == "completed", "without --yes nothing is deleted"
    assert said("forget", agreed, "--yes")["jobs"] == gone["jobs"]
    assert main.run(["remote", "status", agreed]) == 2
    assert main.run(["remote", "forget"]) == 2 and "--everything" in capsys.readouterr().err


def test_consent_given_here_is_kept_with_the_photos_there(address: str, folder: Path, tmp_path: Path) -> None:
    with Server(address) as server:
        agreed = replace(REQUEST, subject="Zoe", consent=True)
        remote.train(run_here, server, agreed, folder, tmp_path / "run")
        check = remote.read_record(tmp_path / "run")["check_job"]
        assert server.job(check)["result"]["consent"] is True


def test_consent_that_is_said_with_a_dataset_is_sent_though_its_check_was_not_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tmp_path / "dataset"
    run_here("check", CheckConfig(subject="Zoe", class_noun="woman"), folder, dataset)
    sent = []

    class StopError(Exception):
        pass

    def submit(_server: Any, _record: Any, request: TrainRequest, *_: Any) -> None:
        sent.append(request.consent)
        raise StopError

    monkeypatch.setattr(remote, "_submit", submit)
    monkeypatch.setattr(remote, "_server_config", lambda *_: TrainConfig(subject="Zoe", class_noun="woman"))
    for consent in (True, False):
        with pytest.raises(StopError):
            asked = TrainRequest("Zoe", "woman", consent=consent)
            remote.train(run_here, SimpleNamespace(url="http://x"), asked, dataset, tmp_path / f"run{consent}")
    assert sent == [True, False]


def test_with_nobody_there_the_run_is_trained_here_if_that_is_wanted(
    folder: Path, tmp_path: Path, events: list
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    config = override(TrainConfig(), {"steps": 7})
    with Server(address, patience_s=0) as server:
        with pytest.raises(client.ServerGoneError, match="--local-fallback"):
            remote.train(run_here, server, REQUEST, folder, tmp_path / "run")
        result = remote.train(
            run_here, server, REQUEST, folder, tmp_path / "run", fallback=lambda: config, on_event=events.append
        )
    assert (result.server, result.job, result.train["steps"]) == (None, None, 7)
    assert any("Training here instead" in event.data.get("text", "") for event in events)


def lost_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the server for good after so many requests."""
    send, asked = httpx2.Client.send, itertools.count(1)

    def limited(self: httpx2.Client, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if next(asked) > count:
            raise httpx2.ConnectError("nobody there", request=request)
        return send(self, request, **options)

    monkeypatch.setattr(httpx2.Client, "send", limited)


@pytest.mark.parametrize("requests", [3, 5, 8])
def test_a_server_that_goes_away_on_the_way_leaves_a_folder_that_training_here_takes(
    address: str, folder: Path, tmp_path: Path, events: list, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    lost_after(requests, monkeypatch)  # before the upload, during it, during the check
    config = override(TrainConfig(), {"steps": 7})
    with Server(address, patience_s=0) as server:
        result = remote.train(
            run_here, server, REQUEST, folder, tmp_path / "run", exports=("kohya",), fallback=lambda: config,
            on_event=events.append,
        )  # fmt: skip
    assert (result.server, result.train["steps"], result.exports) == (None, 7, ("exports/kohya",))
    assert (tmp_path / "run" / "exports" / "kohya").is_dir()
    assert any("Training here instead" in event.data.get("text", "") for event in events)


def test_a_run_that_is_trained_there_is_fetched_and_not_trained_again(
    address: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> Any:
        raise client.ServerGoneError("nobody there.")

    with Server(address) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Server, "fetch", gone)
            with pytest.raises(client.ServerGoneError, match="trained there; run the same command again"):
                remote.train(run_here, server, REQUEST, folder, tmp_path / "run", fallback=TrainConfig)
        again = remote.train(run_here, server, REQUEST, folder, tmp_path / "run", fallback=TrainConfig)
    assert again.server == address and (tmp_path / "run" / "adapter" / "adapter.json").is_file()


@pytest.mark.parametrize(
    ("view", "error"),
    [
        ({"state": "cancelled"}, JobCancelled),
        ({"state": "stalled", "cause": "the disk is full", "problems": []}, StudioError),
    ],
)
def test_a_job_that_did_not_complete_says_so(view: dict[str, Any], error: type[StudioError]) -> None:
    with pytest.raises(error, match=r"cancelled|the disk is full"):
        remote.result_of({"id": "train-1", **view})


def test_somebody_who_stops_watching_leaves_the_job_alone() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/jobs/train-1/events"
        return httpx2.Response(200, text='event: state\ndata: {"state": "training"}\n\n')

    with pytest.raises(JobCancelled, match="goes on there"):
        remote.watch(transport(answer), "train-1", should_stop=lambda: True)


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ((0.0, 0.0), "saved), without any loss at the training size: "),
        ((0.0, 0.7), "1 without any loss at the training size, the others within 0.7 of 255 levels on average"),
        ((0.4, 0.7), "saved), within 0.7 of 255 levels on average at the training size: "),
    ],
)
def test_what_was_sent_says_what_was_lost(differences: tuple[float, ...], words: str) -> None:
    check = tuple(ShrunkPhoto("001.jpg", b"", "", (64, 64), None, difference) for difference in differences)
    assert words in remote._saved(PreparedUpload((), check, 10**6), remote._RunCost())


@pytest.mark.parametrize("rows", [[], [{"name": "sd21", "default_preset": None}]])
def test_a_base_that_the_server_has_no_preset_for_is_refused_in_words(rows: list[dict[str, Any]]) -> None:
    class Told:
        def choices(self, name: str) -> list[dict[str, Any]]:
            return rows if name == "bases" else []

    with pytest.raises(InputError, match="--preset: base 'sd21' has no preset of its own"):
        remote._server_config(Told(), TrainRequest("Ada", "woman", base="sd21"))  # type: ignore[arg-type]
