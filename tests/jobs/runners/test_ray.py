"""On a local cluster of fake GPUs; what needs none of it is asked of the launcher and the guard alone."""

import contextlib
import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from studio.core.adapters import WEIGHTS_NAME
from studio.core.errors import InputError, MissingExtraError, ResourceError
from studio.core.settings import PROJECT_ROOT
from studio.core.train_config import TrainConfig
from studio.jobs.queue import Claim
from studio.jobs.runners.base import Attempt
from studio.jobs.runners.local import LocalRunner
from studio.jobs.runners.ray import RayLauncher, environment_of

OTHER_JOB = "check-fedcba9876543210"


def steps(events):
    return [event.data["step"] for event in events if event.kind == "metrics"]


def actor_of(pid):
    """Return the process of the actor on whose node a process runs, by the node's GPU and what Ray calls it."""
    gpu = psutil.Process(pid).environ()["CUDA_VISIBLE_DEVICES"]
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if " ".join(process.info["cmdline"] or ()).startswith("ray::AgentActor")
    ]
    return next(process for process in found if process.environ().get("CUDA_VISIBLE_DEVICES", gpu) == gpu)


def worker_pid(events_file: Path) -> int:
    return int(events_file.read_text().splitlines()[-1].split()[1])


def no_photo_stays(home):
    """Tell whether nothing is left of the photos on the nodes, after a moment."""
    give_up_s = time.monotonic() + 10
    while (found := list(home.rglob("a.png"))) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return not found


def until_snapshot(on_ray, job_id, follow, handle, step):
    """Follow an attempt until what it did up to a step would be gone on from."""
    name = f"jobs/{job_id}/snapshot.json"

    def is_kept(events):
        if max(steps(events), default=0) < step or on_ray.storage.size(name) is None:
            return False
        listed = json.loads(on_ray.storage.read(name))["files"]
        rows = [row for row in listed if row["path"] == "steps.txt"]
        return bool(rows) and rows[0]["bytes"] >= 8 * step

    return follow(on_ray.runner, handle, until=is_kept)


def it_goes_on(on_ray, attempt, new_attempt, follow):
    """Let the next attempt go on from what this one has brought, to five steps further."""
    brought = len((attempt.job_dir / "out" / "steps.txt").read_text().splitlines())
    assert 5 <= brought < 2000
    handle = on_ray.runner.start(new_attempt(f"count {brought + 5} 1", number=2))
    report, events = follow(on_ray.runner, handle)
    assert report.outcome.state == "completed"
    assert 6 <= steps(events)[0] <= brought + 1
    done = [line.split() for line in (attempt.job_dir / "out" / "steps.txt").read_text().splitlines()]
    assert [int(step) for step, _ in done] == list(range(1, brought + 6))
    on_ray.runner.leave(handle)


@pytest.mark.slow
def test_the_worker_is_killed_and_the_job_goes_on_from_what_it_had_brought(
    on_ray, new_attempt, follow, gone, verbs_on_path
):
    attempt = new_attempt("count 2000 100")
    handle = on_ray.runner.start(attempt)
    until_snapshot(on_ray, attempt.claim.id, follow, handle, 5)
    child = worker_pid(next(on_ray.cluster.home.rglob("out/steps.txt")))
    actor_of(child).kill()
    report, _ = follow(on_ray.runner, handle)
    assert (report.state, report.reason) == ("lost", "The job's actor in the cluster is gone.")
    on_ray.runner.leave(handle)
    assert gone(child)
    assert no_photo_stays(on_ray.cluster.home)
    it_goes_on(on_ray, attempt, new_attempt, follow)


@pytest.mark.slow
def test_one_that_finds_no_free_gpu_waits_in_the_cluster_and_can_be_cancelled_there(
    on_ray, new_attempt, follow, verbs_on_path
):
    first = on_ray.runner.start(new_attempt("count 500 50"))
    follow(on_ray.runner, first, until=steps)
    second = on_ray.runner.start(new_attempt("quick", job_id=OTHER_JOB))
    give_up_s = time.monotonic() + 3
    while time.monotonic() < give_up_s:
        assert on_ray.runner.poll(second, 0.1).state == "queued"
    on_ray.runner.cancel(second, 0.5)
    report, _ = follow(on_ray.runner, second)
    assert report.told_to_stop
    on_ray.runner.leave(second)
    second = on_ray.runner.start(new_attempt("quick", number=2, job_id=OTHER_JOB))
    on_ray.runner.cancel(first, 0.0)
    on_ray.runner.leave(first)
    report, _ = follow(on_ray.runner, second)
    assert report.outcome.state == "completed"
    on_ray.runner.leave(second)


@pytest.mark.slow
def test_another_server_finds_the_actor_by_its_name(on_ray, new_attempt, follow, gone, verbs_on_path):
    handle = on_ray.runner.start(new_attempt("count 500 50"))
    follow(on_ray.runner, handle, until=steps)
    child = worker_pid(next(on_ray.cluster.home.rglob("out/steps.txt")))
    place = on_ray.cluster.launcher.places[-1]
    on_ray.cluster.launcher.hang_up()  # with the server, what speaks with the cluster is gone
    other = RayLauncher("", environment=on_ray.cluster.launcher._environment)
    assert other.is_alive(place)
    assert not other.waits(place)
    other.kill(place)
    assert gone(child)
    assert not other.is_alive(place)
    assert no_photo_stays(on_ray.cluster.home)
    other.hang_up()
    on_ray.runner.leave(handle)


@pytest.mark.slow
def test_a_node_is_removed_and_the_job_goes_on_on_another_one(on_ray, new_attempt, follow, gone, verbs_on_path):
    attempt = new_attempt("count 2000 100")
    handle = on_ray.runner.start(attempt)
    until_snapshot(on_ray, attempt.claim.id, follow, handle, 5)
    child = worker_pid(next(on_ray.cluster.home.rglob("out/steps.txt")))
    on_ray.cluster.add_node()
    on_ray.cluster.kill_node()
    report, _ = follow(on_ray.runner, handle)
    assert report.state == "lost"
    assert report.reason in (
        "The node of the cluster on which the job ran is gone.",
        "The job's actor in the cluster is gone.",  # the actor sees that its node is gone before the head does
    )
    on_ray.runner.leave(handle)
    assert gone(child)
    it_goes_on(on_ray, attempt, new_attempt, follow)


TRAINING = {
    "subject": "Ada", "class_noun": "woman", "base": "pocket", "steps": 20, "checkpoint_every_steps": 4,
    "samples_per_checkpoint": 1, "sample_steps": 1, "likeness": "none", "certify": False, "prior": {"mode": "none"},
}  # fmt: skip


@pytest.fixture
def new_training(tmp_path, make_dataset):
    """Return a function that makes an attempt of a training on the pocket base."""
    jobs = tmp_path / "home" / "jobs"
    shutil.copytree(make_dataset(), jobs / OTHER_JOB / "out")
    config = TrainConfig.parse(TRAINING).model_dump(mode="json")

    def new(letter, number=1):
        job_dir = jobs / f"train-{letter * 16}"
        job_dir.mkdir(exist_ok=True)
        (job_dir / "request.json").write_text(json.dumps({"kind": "train", "config": config, "source": OTHER_JOB}))
        return Attempt(Claim(job_dir.name, "train", number), "studio.train:train", job_dir)

    return new


def adapters(attempt):
    out = attempt.job_dir / "out"
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob(WEIGHTS_NAME))}


def ended(runner, *handles, patience_s=400.0):
    """Poll until one of these has ended; return it and its report."""
    give_up_s = time.monotonic() + patience_s
    while time.monotonic() < give_up_s:
        for handle in handles:
            report = runner.poll(handle, 0.1)
            if report.state in ("ended", "lost"):
                return handle, report
    raise AssertionError("no end")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_trainings_at_once_and_the_one_whose_node_goes_ends_with_the_same_bytes(on_ray, new_training, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone, here = new_training("c"), LocalRunner({"STUDIO_DEVICE": "cpu"})
    ended(here, here.start(alone))
    expected = adapters(alone)
    assert len(expected) >= 6

    on_ray.cluster.add_node()
    attempts = [new_training("a"), new_training("b")]
    handles = [on_ray.runner.start(attempt) for attempt in attempts]
    kept = [f"jobs/{attempt.claim.id}/snapshot.json" for attempt in attempts]

    def both_have_a_checkpoint():
        for handle in handles:
            assert on_ray.runner.poll(handle, 0.1).state in ("queued", "running")
        lists = [on_ray.storage.read(name) if on_ray.storage.size(name) else b"" for name in kept]
        return all(b"checkpoints/" in listed for listed in lists)

    give_up_s = time.monotonic() + 400
    while not both_have_a_checkpoint():
        assert time.monotonic() < give_up_s
    on_ray.cluster.kill_node()
    lost, report = ended(on_ray.runner, *handles)
    if report.state == "ended":  # the other one was faster than Ray, which first makes sure that the node is gone
        lost, report = ended(on_ray.runner, *(handle for handle in handles if handle != lost))
    assert report.state == "lost"
    on_ray.runner.leave(lost)
    index = handles.index(lost)
    attempts[index] = new_training("ab"[index], number=2)
    again = on_ray.runner.start(attempts[index])  # it waits for the node that is left
    for handle in (handles[1 - index], again):
        _, report = ended(on_ray.runner, handle)
        assert report.outcome is not None and report.outcome.state == "completed", (handle, again, report)
        on_ray.runner.leave(handle)
    assert adapters(attempts[0]) == adapters(attempts[1]) == expected


@pytest.mark.slow
def test_the_head_is_killed_and_the_job_goes_on_when_there_is_one_again(
    on_ray, new_attempt, follow, gone, monkeypatch, verbs_on_path
):
    monkeypatch.setattr(RayLauncher, "unknown_s", 15.0)
    attempt = new_attempt("count 2000 100")
    handle = on_ray.runner.start(attempt)
    until_snapshot(on_ray, attempt.claim.id, follow, handle, 5)
    child = worker_pid(next(on_ray.cluster.home.rglob("out/steps.txt")))
    on_ray.cluster.tell("head")
    with contextlib.suppress(StopIteration, psutil.Error):  # a node without its head ends what runs there, or does not
        actor_of(child).kill()
    report, _ = follow(on_ray.runner, handle)
    assert report.state == "lost"
    assert gone(child)
    on_ray.cluster.restart()
    on_ray.runner.leave(handle)
    it_goes_on(on_ray, attempt, new_attempt, follow)


# The cluster of deploy/ray-cluster.yaml

CLUSTER_FILE = PROJECT_ROOT / "deploy" / "ray-cluster.yaml"


def prepared(config):
    """Return a cluster file as Ray's launcher completes and checks it, or raise as it does."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    whole = prepare_config(copy.deepcopy(config))
    validate_config(whole)
    return whole


@pytest.mark.slow
def test_the_cluster_file_is_what_rays_launcher_takes(ray_package):
    config = yaml.safe_load(CLUSTER_FILE.read_text(encoding="utf-8"))
    whole = prepared(config)
    assert whole["max_workers"] == len(config["provider"]["worker_ips"]) == 2
    for place, source in config["file_mounts"].items():
        assert place.startswith("~/") and (source == "~/.ray/auth_token" or (PROJECT_ROOT / source).is_file())
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all(command.startswith("RAY_AUTH_MODE=token ~/likeness-studio/venv/bin/ray ") for command in starts)
    with pytest.raises(Exception, match="worker_start_command"):
        prepared({**config, "worker_start_commands": []})


@pytest.fixture
def by_the_file(ray_package, verbs_on_path):
    """A head and a node with one GPU, begun with the commands of the cluster file; their launcher."""
    config = yaml.safe_load(CLUSTER_FILE.read_text(encoding="utf-8"))
    with (
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as name,  # sockets' paths
        socket.socket() as free,
    ):
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        home = Path(name) / "h"
        (home / "likeness-studio").mkdir(parents=True)
        (home / "likeness-studio" / "venv").symlink_to(sys.prefix)
        (home / "ray_bootstrap_config.yaml").write_text(json.dumps(prepared(config)))
        given = {"PATH": os.environ["PATH"], "HOME": str(home), "RAY_TMPDIR": name, "RAY_HEAD_IP": "127.0.0.1"}
        given |= {"PYTHONPATH": os.environ["PYTHONPATH"], "STUDIO_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}

        def do(command, **more):
            command = command.replace("6379", port)
            subprocess.run(["bash", "-c", command], env={**given, **more}, check=True, capture_output=True, timeout=120)

        try:
            do("RAY_AUTH_MODE=token ~/likeness-studio/venv/bin/ray get-auth-token --generate")
            # Not `ray stop`: it would end every cluster of this machine.
            do(config["head_start_ray_commands"][-1], RAY_OVERRIDE_RESOURCES='{"GPU": 0}')
            do(config["worker_start_ray_commands"][-1], RAY_OVERRIDE_RESOURCES='{"GPU": 1}')
            asking = {"PATH": given["PATH"], "HOME": str(home), "RAY_ADDRESS": f"127.0.0.1:{port}"}
            yield lambda **more: RayLauncher("", environment={**asking, **more}, patience_s=30.0)
        finally:
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if process.environ().get("RAY_TMPDIR") == name:
                        process.kill()


@pytest.mark.slow
def test_a_cluster_begun_with_the_commands_of_the_file_carries_out_attempts_for_those_who_have_its_token(
    by_the_file, new_attempt, follow, tmp_path, runner_on
):
    launcher_of = by_the_file
    with runner_on(tmp_path, launcher_of(RAY_AUTH_MODE="token")) as on_ray:
        handle = on_ray.runner.start(new_attempt("count 5 1"))
        report, events = follow(on_ray.runner, handle)
        assert report.outcome is not None and report.outcome.state == "completed", report
        assert steps(events)[-1] == 5
        on_ray.runner.leave(handle)
        on_ray.launcher.hang_up()
    stranger = launcher_of(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 64)
    with pytest.raises(ResourceError):
        stranger.is_alive("somebody")
    stranger.hang_up()


# Without a cluster


def answering(monkeypatch, *answers):
    """Return a launcher whose cluster gives these answers."""
    launcher = RayLauncher("http://studio:7860", environment={}, patience_s=0.0)
    left = list(answers)
    monkeypatch.setattr(launcher, "_answer", lambda request, patience_s: left.pop(0))
    return launcher


def test_what_became_of_an_actor_is_told_truly(monkeypatch):
    gone = {"state": "gone", "why": "The actor died because its node has died. Node Id: 1"}
    launcher = answering(monkeypatch, {"state": "silent"}, {"state": "runs"}, gone, gone | {"why": "its worker died"})
    assert launcher.waits("a") and launcher.is_alive("a")
    assert not launcher.is_alive("a")
    assert launcher.words("a") == "The node of the cluster on which the job ran is gone."
    assert not launcher.is_alive("a")
    assert launcher.words("a") == "The job's actor in the cluster is gone."
    ended = {"state": "ended", "end": {"status": 1, "said": "no room"}}
    launcher = answering(monkeypatch, ended)
    assert not launcher.is_alive("a")
    assert launcher.words("a") == "The job's agent on the node ended without a word (status 1): no room."


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ({}, ResourceError, "does not answer"),
        ({"state": "unknown", "why": "RpcError"}, ResourceError, "cannot be reached"),
        ({"error": "Could not find any running Ray instance."}, ResourceError, "cannot be used .Could not find any"),
        ({"error": "is not installed", "kind": "missing"}, MissingExtraError, r"likeness-studio\[ray\]"),
        ({"state": "ended", "end": {"missing": ["torch"], "python": "py"}}, MissingExtraError, "py on the node lacks"),
        ({"state": "ended", "end": {"unreachable": "http://a:1"}}, InputError, "STUDIO_PUBLIC_URL.*every node"),
    ],
)
def test_what_cannot_work_has_its_cure(monkeypatch, answer, kind, words):
    with pytest.raises(kind, match=words):
        answering(monkeypatch, answer).is_alive("a")


READY = "import sys, time; print('{\"ready\": true}', flush=True)\n"
ANSWERS = 'for line in sys.stdin: print(\'{"state": "runs"}\', flush=True)'


def test_a_driver_that_dies_or_hangs_is_an_answer_too_and_the_next_question_gets_another_one(monkeypatch):
    module = "studio.jobs.runners.ray."
    launcher = RayLauncher("http://studio", environment={"PATH": os.environ["PATH"]})
    monkeypatch.setattr(module + "_DRIVER", ["-c", READY + "sys.stdin.readline()"])
    with pytest.raises(ResourceError, match="the connection broke"):
        launcher.is_alive("a")
    monkeypatch.setattr(module + "_LOOK_S", 0.5)
    monkeypatch.setattr(module + "_DRIVER", ["-c", READY + "time.sleep(60)"])
    with pytest.raises(ResourceError, match=r"in time|does not answer"):
        launcher.is_alive("a")
    launcher.hang_up()
    monkeypatch.setattr(module + "_LOOK_S", 20.0)
    monkeypatch.setattr(module + "_DRIVER", ["-c", READY + ANSWERS])
    assert launcher.is_alive("a") and launcher.is_alive("a")
    driver = launcher._driver
    launcher.hang_up()
    assert driver is not None and driver.poll() is not None


def test_a_driver_that_looks_for_its_cluster_is_given_time_and_nobody_waits_for_it(monkeypatch):
    module = "studio.jobs.runners.ray."
    launcher = RayLauncher("http://studio", environment={"PATH": os.environ["PATH"]})
    monkeypatch.setattr(module + "_DRIVER", ["-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(module + "_LOOK_S", 0.1)
    with pytest.raises(ResourceError, match="does not answer"):
        launcher.is_alive("a")
    driver = launcher._driver
    with pytest.raises(ResourceError, match="does not answer"):
        launcher.is_alive("a")
    assert launcher._driver is driver is not None and driver.poll() is None
    launcher._connect_until_s = 0.0
    with pytest.raises(ResourceError, match="cannot be found in time"):
        launcher.is_alive("a")
    assert launcher._driver is None and driver.poll() is not None


def test_ray_gets_its_own_variables_and_none_of_ours():
    given = {"PATH": "/bin", "RAY_ADDRESS": "a:1", "RAY_AUTH_TOKEN": "t", "STUDIO_TOKEN": "s", "HF_TOKEN": "h"}
    assert environment_of(given) == {"PATH": "/bin", "RAY_ADDRESS": "a:1", "RAY_AUTH_TOKEN": "t"}


def guard(folder: Path, python: list[str], address: str) -> "subprocess.Popen[bytes]":
    folder.mkdir()
    (folder / "ticket.json").write_text(json.dumps({"address": address}))
    command = [*python, "-P", "-m", "studio.jobs.runners.ray_guard", str(folder)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_python_without_packages_is_named_and_no_photo_stays(tmp_path):
    with guard(tmp_path / "a", [sys.executable, "-S"], "http://127.0.0.1:9") as process:
        said = json.loads(process.stdout.read())
    assert {"torch", "diffusers"} <= set(said["missing"])
    assert not (tmp_path / "a").exists()


def test_a_server_that_cannot_be_reached_is_tried_until_the_actor_goes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with guard(tmp_path / "a", [sys.executable], address) as process:
        time.sleep(1.0)
        assert (tmp_path / "a").exists()
        process.stdin.close()
        assert json.loads(process.stdout.read()) == {"status": None, "said": ""}
    assert not (tmp_path / "a").exists()


def test_the_guard_outlives_what_kills_its_parents_children(tmp_path):
    with guard(tmp_path / "a", [sys.executable], "http://127.0.0.1:9") as process:
        process.wait(30)  # it has left the family
        found = [
            one.pid for one in psutil.process_iter(["cmdline"]) if str(tmp_path / "a") in (one.info["cmdline"] or ())
        ]
        assert found
        os.kill(found[0], signal.SIGTERM)
        process.stdin.close()
        assert process.stdout.read()
    assert not (tmp_path / "a").exists()
