"""Whether a server can take a job, and how it is brought to its end; with real children of fake verbs."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from studio.core.config import CheckConfig
from studio.core.errors import InputError, QueueFullError, UnavailableError
from studio.core.settings import Settings, load_settings
from studio.core.train_config import TrainConfig
from studio.core.webhooks import WebhookConfig
from studio.jobs import server
from studio.service import Studio

FAKES = Path(__file__).with_name("fake_verbs.py")
OWNER = "local"


@pytest.fixture
def new_studio(
    tmp_path: Path, fake_verbs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Studio]]:
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    made: list[Studio] = []

    def new(**settings: Any) -> Studio:
        settings = {"home": tmp_path / "home", "device": "cpu", **settings}
        made.append(Studio(Settings(**settings), verbs=fake_verbs.VERBS, grace_s=5.0))
        return made[-1]

    yield new
    for studio in made:
        studio.close()


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.02)


def submit(studio: Studio, folder: Path, words: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "one.jpg").write_bytes(b"photo")
    return studio.submit_check(CheckConfig(subject=words), [folder / "one.jpg"], owner=OWNER).id


def codes(studio: Studio) -> list[str]:
    return [problem.code for problem in studio.server.problems()]


def test_a_server_is_ready_once_somebody_leads_and_no_longer_when_it_has_gone(
    new_studio: Callable[..., Studio],
) -> None:
    studio = new_studio()
    studio.list(owner=OWNER)  # makes the home
    assert codes(studio) == ["no_lead"]
    studio.start()
    assert codes(studio) == []
    studio.close()
    assert codes(studio) == ["no_lead"]


def test_a_full_disk_a_lost_home_and_a_broken_table_are_each_named(
    new_studio: Callable[..., Studio], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = new_studio()
    studio.start()
    with monkeypatch.context() as patch:
        patch.setattr(server, "LEAST_FREE_BYTES", 10**18)
        assert codes(studio) == ["no_room"]
    studio.close()
    (tmp_path / "home" / "jobs.sqlite3").write_bytes(b"no database" * 1000)
    assert codes(studio) == ["no_table"]
    shutil.rmtree(tmp_path / "home")
    assert codes(studio)[-1] == "no_room"


def test_a_draining_server_refuses_new_jobs_and_lets_those_that_run_end(
    new_studio: Callable[..., Studio], tmp_path: Path
) -> None:
    studio = new_studio()
    studio.start()
    quick = submit(studio, tmp_path / "a", "quick")
    studio.wait(quick, owner=OWNER, timeout_s=60)
    runs = submit(studio, tmp_path / "b", "meet")  # until there is a second note
    until(lambda: studio.get(runs, owner=OWNER).state == "checking")
    waits = studio.submit_train(TrainConfig(instance_token="quick"), quick, owner=OWNER).id
    assert not studio.server.drain(0.2) and codes(studio) == ["draining"]
    with pytest.raises(UnavailableError, match="about to stop") as refused:
        submit(studio, tmp_path / "c", "quick")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 10)
    note = tmp_path / "home" / "jobs" / "another" / "out" / "gpu.txt"
    note.parent.mkdir(parents=True)
    note.touch()
    assert studio.server.drain(60)
    assert studio.get(runs, owner=OWNER).state == "completed"
    assert studio.get(waits, owner=OWNER).state in ("pending", "pendingGpu")


def test_what_does_not_end_in_time_goes_on_at_the_next_start(new_studio: Callable[..., Studio], tmp_path: Path) -> None:
    studio = new_studio()
    studio.start()
    job = submit(studio, tmp_path / "a", "count 30 100")
    steps = tmp_path / "home" / "jobs" / job / "out" / "steps.txt"
    until(steps.exists)
    assert not studio.server.drain(0.1)
    studio.close()
    view = studio.get(job, owner=OWNER)
    assert (view.state, view.attempt) == ("pending", 1)
    again = new_studio()
    again.start()
    assert again.wait(job, owner=OWNER, timeout_s=60).state == "completed"
    assert [line.split()[0] for line in steps.read_text().splitlines()] == [str(n) for n in range(1, 31)]


def test_two_servers_on_one_database_work_at_once_where_they_are_told_to_and_one_that_never_works_only_answers(
    new_studio: Callable[..., Studio], new_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    url = new_postgres_url()
    answers = new_studio(database_url=url, works="never")
    answers.start()
    assert codes(answers) == ["no_lead"]
    workers = [new_studio(database_url=url, works="always") for _ in range(2)]
    for worker in workers:
        worker.start()
    jobs = [submit(answers, tmp_path / str(number), "count 2000 50") for number in range(2)]
    until(lambda: [worker.server.running() for worker in workers] == [1, 1])
    assert answers.server.running() == 0 and codes(answers) == []
    assert sum(worker.server.leads() for worker in workers) == 1
    leader, other = sorted(workers, key=lambda worker: not worker.server.leads())
    leader.server.drain(0)
    until(other.server.leads)  # the lead is handed on while the job goes on here
    assert leader.server.running() == 1
    for job in jobs:
        answers.cancel(job, owner=OWNER)
    ends = [answers.wait(job, owner=OWNER, timeout_s=60) for job in jobs]
    assert [(end.state, end.attempt) for end in ends] == [("cancelled", 1)] * 2


def test_without_a_database_for_several_servers_only_the_leading_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_WORKS", "always")
    with pytest.raises(InputError, match=r"STUDIO_WORKS: .*STUDIO_DATABASE_URL"):
        load_settings()


def test_a_full_queue_takes_nobodys_job_until_one_has_left_it(
    new_studio: Callable[..., Studio], tmp_path: Path
) -> None:
    studio = new_studio(max_waiting=2)  # not started: what is submitted waits
    first = submit(studio, tmp_path / "a", "quick")
    submit(studio, tmp_path / "b", "quick")
    with pytest.raises(QueueFullError, match="2 jobs wait") as refused:
        submit(studio, tmp_path / "c", "quick")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 60)
    assert len(list((tmp_path / "home" / "jobs").iterdir())) == 2, "nothing was kept of it"
    studio.cancel(first, owner=OWNER)
    submit(studio, tmp_path / "c", "quick")


def test_deliveries_and_money_of_the_tables_are_figures(new_studio: Callable[..., Studio]) -> None:
    studio = new_studio(webhook_loopback=True)
    studio.start()
    hook, _ = studio.webhooks.create(WebhookConfig(url="http://127.0.0.1:9/x"), owner=OWNER)
    studio._sender.close()
    studio.webhooks.test(hook.id, owner=OWNER)
    assert studio.server.deliveries() == {"waiting": 1, "delivered": 0, "failed": 0}
    assert studio.server.rented() == (0, 0.0, 0.0)
