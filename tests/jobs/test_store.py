import contextlib
import dataclasses
import itertools
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from studio.core.domain import TERMINAL_STATES, Event, JobFacts, SourceJob
from studio.core.errors import ConflictError, NotFoundError, ResourceError
from studio.jobs.events import Outcome
from studio.jobs.states import RUNNING, TRANSITIONS
from studio.jobs.store import Claim, NewJob, Store

OWNER = "ada"
DONE = Outcome("completed", result={"steps": 1})


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "jobs.sqlite3")
    yield store
    store.close()


def add(store, job_id, kind="check", source=None, key=None):
    job = NewJob(job_id, kind, OWNER, f"Title of {job_id}", "fp", source, key, JobFacts(subject="Ada"))
    view, _ = store.insert(job)
    return view


def state(store, job_id):
    return store.get(job_id, OWNER).state


def test_oldest_job_is_claimed_first_and_once(store):
    add(store, "a")
    add(store, "b")
    assert store.claim() == Claim("a", "check", 1)
    assert store.claim() == Claim("b", "check", 1)
    assert store.claim() is None


def test_job_waits_for_its_source(store):
    add(store, "c")
    waiting = add(store, "t", "train", "c")
    assert (waiting.state, waiting.waits_for) == ("pendingImages", SourceJob("c", "check", "Title of c"))
    claim = store.claim()
    assert store.claim() is None
    store.survey(device_busy=True)
    assert state(store, "t") == "pendingImages"
    store.finish(claim, DONE)
    store.survey(device_busy=True)
    assert state(store, "t") == "pendingGpu" and store.get("t", OWNER).waits_for is None
    assert store.claim() == Claim("t", "train", 1)
    assert state(store, "t") == "pendingModel"


def test_job_whose_source_stalls_is_stalled_with_both_causes(store):
    add(store, "c")
    add(store, "t", "train", "c")
    add(store, "g", "generate", "t")
    store.finish(store.claim(), Outcome("stalled", cause="No face."))
    assert store.claim() is None
    assert store.claim() is None
    view = store.get("g", OWNER)
    assert view.state == "stalled"
    assert view.cause == (
        "The training of Ada stopped early: The photo check of Ada stopped early: No face.\n"
        "Retry that job first, then this one."
    )

    store.retry("c", OWNER)
    store.retry("t", OWNER)
    store.finish(store.claim(), DONE)
    assert store.claim() == Claim("t", "train", 1)


def test_first_progress_ends_the_loading_of_the_model(store):
    add(store, "c")
    add(store, "t", "train", "c")
    store.finish(store.claim(), DONE)
    claim = store.claim()
    store.append(claim, [Event("stage", {"name": "loading"}), Event("message", {"level": "info", "text": "hm"})])
    assert state(store, "t") == "pendingModel"
    store.append(claim, [Event("progress", {"step": 1, "total": 9})])
    assert state(store, "t") == "training"
    assert store.get("t", OWNER).progress == {"step": 1, "total": 9}


def test_only_the_newest_progress_and_all_metrics_are_kept(store, tmp_path):
    add(store, "a")
    claim = store.claim()
    for step in range(200):
        store.append(claim, [Event("metrics", {"step": step}), Event("progress", {"step": step})])
    events = store.events("a", OWNER, 0)
    assert [event.data["step"] for _, event in events if event.kind == "metrics"] == list(range(200))
    assert [(number, event.data) for number, event in events if event.kind == "progress"] == [(400, {"step": 199})]
    assert [number for number, _ in store.events("a", OWNER, 398)] == [399, 400]


def test_zombie_attempt_changes_nothing(store):
    add(store, "a")
    zombie = store.claim()
    store.lose(zombie, "It was killed.", max_losses=3)
    fresh = store.claim()
    assert fresh.attempt == 2
    assert store.append(zombie, [Event("metrics", {"step": 1})]) is True, "it is told to stop"
    assert not store.finish(zombie, DONE)
    assert not store.lose(zombie, "Again.", max_losses=1)
    assert not store.release(zombie)
    assert state(store, "a") == "checking"
    assert store.finish(fresh, DONE)
    assert not store.finish(fresh, Outcome("stalled", cause="late"))
    assert [event.kind for _, event in store.events("a", OWNER, 0)] == ["message"]


def test_requested_cancel_wins_over_every_end(store):
    ends = {
        "done": lambda claim: store.finish(claim, DONE),
        "stalled": lambda claim: store.finish(claim, Outcome("stalled", cause="x")),
        "lost": lambda claim: store.lose(claim, "x", 3),
        "released": lambda claim: store.release(claim),
        "recovered": lambda claim: store.recover("x"),
    }
    for name, end in ends.items():
        add(store, name)
        claim = store.claim()
        assert store.cancel(name, OWNER).state == "checking"
        assert store.append(claim, []) is True
        end(claim)
        view = store.get(name, OWNER)
        assert (view.state, view.cause, view.result) == ("cancelled", None, None), name
        store.cancel(name, OWNER)
        assert len(store.events(name, OWNER, 0)) == 1


def test_lost_attempts_stall_the_job_with_a_cause_and_a_retry_counts_anew(store):
    add(store, "a")
    for _ in range(2):
        store.lose(store.claim(), "It was killed.", max_losses=3)
        assert state(store, "a") == "pending"
    store.lose(store.claim(), "It was killed.", max_losses=3)
    view = store.get("a", OWNER)
    assert (view.state, view.cause) == (
        "stalled",
        "It was killed. It was tried 3 times in a row without getting further.",
    )
    texts = [event.data["text"] for _, event in store.events("a", OWNER, 0)]
    assert texts == ["It was killed. It goes on from where it was."] * 2

    store.retry("a", OWNER)
    store.lose(store.claim(), "It was killed.", max_losses=3)
    assert state(store, "a") == "pending"


def test_closing_server_does_not_count_as_a_loss(store):
    add(store, "a")
    for _ in range(5):
        store.release(store.claim())
    store.lose(store.claim(), "x", max_losses=2)
    assert state(store, "a") == "pending"


def progress(step):
    return Event("progress", {"step": step, "total": 100})


def test_a_stop_of_the_server_counts_against_no_job(store):
    add(store, "a")
    for _ in range(10):
        store.claim()
        assert store.recover("The server stopped.") == ["a"]
    assert state(store, "a") == "pending"


def test_crashes_of_a_job_that_gets_further_each_time_do_not_add_up(store):
    add(store, "a")
    for step in range(1, 11):
        claim = store.claim()
        store.append(claim, [Event("stage", {"name": "checking"}), progress(step)])
        store.lose(claim, "It was killed.", max_losses=3)
        assert state(store, "a") == "pending", f"after {step} crashes"


def test_steps_that_a_resumed_attempt_does_again_are_no_progress(store):
    add(store, "a")
    for _ in range(3):
        claim = store.claim()
        for step in (1, 2, 3):
            store.append(claim, [Event("stage", {"name": "checking"}), progress(step)])
        store.lose(claim, "It was killed.", max_losses=3)
    assert state(store, "a") == "stalled"


def test_a_new_stage_is_progress_even_if_its_steps_begin_at_one(store):
    add(store, "a")
    for stage in ("loading", "training", "exporting", "packing"):
        claim = store.claim()
        store.append(claim, [Event("stage", {"name": stage})])
        store.append(claim, [progress(1)])
        store.lose(claim, "It was killed.", max_losses=2)
        assert state(store, "a") == "pending", stage
    store.lose(store.claim(), "It was killed.", max_losses=2)
    assert state(store, "a") == "stalled"


def make_version_1(path):
    """Turn a table into what version 1 had."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE turns")
        db.execute("DROP INDEX jobs_by_owner")
        for column in ("stage", "reached", "facts", "hearts"):
            db.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
        db.commit()


def test_a_table_of_an_earlier_version_is_brought_up_to_date_with_its_jobs(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    store = Store(path)
    add(store, "a")
    store.close()
    make_version_1(path)
    again = Store(path)
    assert again.claim() == Claim("a", "check", 1)
    again.close()


def test_a_table_of_version_2_gets_hearts(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    store = Store(path)
    add(store, "a")
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN hearts")
        db.execute("PRAGMA user_version = 2")
        db.commit()
    store = Store(path)
    assert store.get("a", OWNER).hearts == ()
    assert store.heart("a", OWNER, ["x.png"], on=True).hearts == ("x.png",)
    store.close()


def test_hearts_come_and_go_one_by_one_and_outlive_the_server(store, tmp_path):
    add(store, "a")
    assert store.heart("a", OWNER, ["1.png", "2.png"], on=True).hearts == ("1.png", "2.png")
    assert store.heart("a", OWNER, ["1.png"], on=True).hearts == ("2.png", "1.png")
    assert store.heart("a", OWNER, ["2.png", "3.png"], on=False).hearts == ("1.png",)
    with pytest.raises(NotFoundError):
        store.heart("a", "bob", ["1.png"], on=False)
    again = Store(tmp_path / "jobs.sqlite3")
    assert again.get("a", OWNER).hearts == ("1.png",)
    again.close()


def test_owners_take_turns_so_that_thirty_jobs_of_one_do_not_keep_anothers_waiting(store):
    for number in range(30):
        add(store, f"ada-{number}")
    first = store.claim()
    store.insert(NewJob("ben-0", "check", "ben", "t", "fp"))
    store.insert(NewJob("ben-1", "check", "ben", "t", "fp"))
    store.insert(NewJob("cy-0", "check", "cy", "t", "fp"))
    order = [first.id]
    while claim := store.claim():
        store.finish(claim, DONE)
        order.append(claim.id)
    assert order[:7] == ["ada-0", "ben-0", "cy-0", "ada-1", "ben-1", "ada-2", "ada-3"]
    assert len(order) == 33


def test_turns_outlive_the_server(store, tmp_path):
    add(store, "ada-0")
    store.finish(store.claim(), DONE)
    add(store, "ada-1")
    store.insert(NewJob("ben-0", "check", "ben", "t", "fp"))
    again = Store(tmp_path / "jobs.sqlite3")
    assert again.claim().id == "ben-0"
    again.close()


def test_a_list_is_filtered_before_it_is_cut_and_goes_on_where_it_was_cut(store):
    for number in range(3):
        add(store, f"check-{number}")
    for number in range(20):
        add(store, f"other-{number}", "finish")
    add(store, "train-0", "train", "check-0")
    assert [job.id for job in store.newest(OWNER, 2, kind="check")] == ["check-2", "check-1"]
    assert [job.id for job in store.newest(OWNER, 2, kind="check", before="check-1")] == ["check-0"]
    assert [job.id for job in store.newest(OWNER, 9, source="check-0")] == ["train-0"]
    assert [job.id for job in store.newest(OWNER, 9, states=["pendingImages", "stalled"])] == ["train-0"]
    assert len(store.newest(OWNER, 99, before="other-0")) == 3
    with pytest.raises(NotFoundError):
        store.newest("bob", 9, before="check-1")


def test_recover_puts_running_jobs_back(store, tmp_path):
    for name in "abc":
        add(store, name)
    store.claim()
    store.finish(store.claim(), DONE)
    again = Store(tmp_path / "jobs.sqlite3")
    assert again.recover("The server stopped.") == ["a"]
    assert [state(again, name) for name in "abc"] == ["pending", "completed", "pending"]
    again.close()


def test_key_is_one_job_per_owner(store):
    first = add(store, "a", key="k")
    assert store.insert(NewJob("b", "check", OWNER, "t", "fp", None, "k")) == (first, False)
    with pytest.raises(ConflictError):
        store.insert(NewJob("b", "check", OWNER, "t", "other", None, "k"))
    assert store.insert(NewJob("b", "check", "bob", "t", "other", None, "k"))[1]


def test_other_owner_finds_nothing(store):
    add(store, "a")
    for call in (store.get, store.cancel, store.retry):
        with pytest.raises(NotFoundError):
            call("a", "bob")
    with pytest.raises(NotFoundError):
        store.events("a", "bob", 0)
    assert store.newest("bob", 10) == []


def test_a_table_of_version_1_gets_the_facts_of_its_jobs_from_their_titles(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    titles = {
        "check": "Photos of Ada", "train": "Training of Ada on pocket", "generate": "Pictures: places",
        "export": "Export: kohya", "finish": "Finishing: avatar", "publish": "Publishing: ada/x",
    }  # fmt: skip
    store = Store(path)
    for kind, title in titles.items():
        store.insert(NewJob(kind, kind, OWNER, title, "fp"))
    store.close()
    make_version_1(path)
    store = Store(path)
    assert [store.get(kind, OWNER).facts for kind in titles] == [
        JobFacts(subject="Ada"),
        JobFacts(subject="Ada", base="pocket"),
        JobFacts(pack="places"),
        JobFacts(format="kohya"),
        JobFacts(chain="avatar"),
        JobFacts(repo="ada/x"),
    ]
    old = store.dump("check")
    old["job"] |= {"id": "old", "state": "completed", "key": None}
    del old["job"]["facts"], old["job"]["hearts"]
    assert store.restore("old", old) and store.get("old", OWNER).facts == JobFacts(subject="Ada")
    store.close()


def test_table_of_a_newer_version_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConflictError, match="newer version"):
        Store(tmp_path / "jobs.sqlite3").claim()


def test_a_damaged_table_is_called_damaged_and_the_files_are_said_to_be_safe(tmp_path):
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(ResourceError, match=r"jobs\.sqlite3\) is damaged .*move the file") as raised:
        Store(tmp_path / "jobs.sqlite3").claim()
    assert "disk space" not in str(raised.value)


def test_a_table_whose_pages_are_damaged_is_called_so_too(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    store = Store(path)
    add(store, "a")
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(ResourceError, match="is damaged"):
        Store(path).newest(OWNER, 10)


def test_a_table_that_another_program_holds_is_called_held(tmp_path):
    store = Store(tmp_path / "jobs.sqlite3", busy_timeout_s=0.05)
    add(store, "a")
    with sqlite3.connect(tmp_path / "jobs.sqlite3", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ResourceError, match=r"is held by another program .*try again in a moment") as raised:
            add(store, "b")
        assert "disk space" not in str(raised.value)
        other.execute("ROLLBACK")
    other.close()
    assert add(store, "b").id == "b"
    store.close()


def test_a_full_disk_is_still_called_full(tmp_path):
    store = Store(tmp_path / "jobs.sqlite3")
    add(store, "a")
    claim = store.claim()
    connection = store._connection()
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(ResourceError, match="the disk is full; free some disk space"):
        store.append(claim, [Event("message", {"text": "x" * 100_000})])
    store.close()


def test_a_place_that_may_not_be_written_is_named(tmp_path):
    with pytest.raises(ResourceError, match=r"may not be opened or written .*missing.* set STUDIO_HOME"):
        Store(tmp_path / "missing" / "jobs.sqlite3").claim()


def test_writes_reach_the_disk_before_a_call_returns(store):
    add(store, "a")
    connection = store._connection()
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


class JobsMachine(RuleBasedStateMachine):
    """Owners, one worker, crashes and zombies in any order; every single move is written down by a trigger."""

    jobs = Bundle("jobs")
    zombies = Bundle("zombies")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store(self.folder / "jobs.sqlite3")
        self.numbers = itertools.count()
        self.claim_now = None
        self.retried = 0
        self.store.ids()
        self.db = sqlite3.connect(self.folder / "jobs.sqlite3", isolation_level=None)
        self.db.executescript(
            "CREATE TABLE moves (job, before, after);"
            "CREATE TRIGGER noted AFTER UPDATE OF state ON jobs BEGIN"
            " INSERT INTO moves VALUES (new.id, old.state, new.state); END;"
        )

    def teardown(self):
        self.db.close()
        self.store.close()
        shutil.rmtree(self.folder)

    @initialize(target=jobs)
    def first_chain(self):
        """Begin with work to do, so that short examples reach the interesting states."""
        check = add(self.store, "check")
        train = add(self.store, "train", "train", "check")
        return multiple(check, train, add(self.store, "generate", "generate", "train"))

    @rule(target=jobs)
    def submit_check(self):
        return add(self.store, f"j{next(self.numbers)}")

    @rule(target=jobs, source=jobs.filter(lambda job: job.kind == "check"))
    def submit_train(self, source):
        return add(self.store, f"j{next(self.numbers)}", "train", source.id)

    @precondition(lambda self: self.claim_now is None)
    @rule(target=zombies)
    def claim(self):
        self.claim_now = self.store.claim()
        return multiple() if self.claim_now is None else self.claim_now

    @precondition(lambda self: self.claim_now)
    @rule(kind=st.sampled_from(["stage", "progress", "metrics"]))
    def tell(self, kind):
        cancelled = self.store.append(self.claim_now, [Event(kind, {"step": 1})])
        asked = any("Stopping" in str(event.data) for _, event in self.store.events(self.claim_now.id, OWNER, 0))
        assert asked or not cancelled

    @precondition(lambda self: self.claim_now)
    @rule(outcome=st.sampled_from([DONE, Outcome("stalled", cause="why")]))
    def finish(self, outcome):
        assert self.store.finish(self.claim_now, outcome)
        assert state(self.store, self.claim_now.id) in {outcome.state, "cancelled"}
        self.claim_now = None

    @precondition(lambda self: self.claim_now)
    @rule()
    def child_dies(self):
        assert self.store.lose(self.claim_now, "It was killed.", max_losses=2)
        self.claim_now = None

    @precondition(lambda self: self.claim_now)
    @rule()
    def server_closes(self):
        assert self.store.release(self.claim_now)
        self.claim_now = None

    @rule()
    def server_dies(self):
        self.store.close()
        recovered = self.store.recover("The server stopped.")
        assert recovered == ([self.claim_now.id] if self.claim_now else [])
        self.claim_now = None

    @rule(job=jobs)
    def cancel(self, job):
        before = state(self.store, job.id)
        after = self.store.cancel(job.id, OWNER).state
        assert after == (before if before in RUNNING | TERMINAL_STATES else "cancelled")

    @rule(job=jobs)
    def retry(self, job):
        if state(self.store, job.id) in {"stalled", "cancelled"}:
            self.store.retry(job.id, OWNER)
            self.retried += 1
        else:
            with pytest.raises(ConflictError):
                self.store.retry(job.id, OWNER)

    @rule(zombie=zombies, outcome=st.sampled_from([DONE, Outcome("stalled", cause="zombie")]))
    def zombie_comes_late(self, zombie, outcome):
        if zombie != self.claim_now:
            before = self.store.get(zombie.id, OWNER)
            assert not self.store.finish(zombie, outcome)
            assert self.store.append(zombie, [Event("metrics", {})])
            assert not self.store.lose(zombie, "late", max_losses=1)
            assert self.store.get(zombie.id, OWNER) == before

    @rule()
    def look(self):
        self.store.survey(device_busy=self.claim_now is not None)

    @invariant()
    def moves_keep_to_the_table(self):
        moves = self.db.execute("SELECT before, after FROM moves").fetchall()
        assert all(before == after or after in TRANSITIONS[before] for before, after in moves)
        assert sum(before in TERMINAL_STATES for before, _ in moves) == self.retried

    @invariant()
    def views_are_whole(self):
        views = self.store.newest(OWNER, 1000)
        running = [view.id for view in views if view.state in RUNNING]
        assert running == ([self.claim_now.id] if self.claim_now else [])
        for view in views:
            assert (view.cause is not None) == (view.state == "stalled")
            assert (view.finished_s is not None) == (view.state in TERMINAL_STATES)
            assert (view.result is not None) == (view.state == "completed")
            numbers = [number for number, _ in self.store.events(view.id, OWNER, 0)]
            assert numbers == sorted(set(numbers))
            dataclasses.asdict(view)


TestJobsMachine = JobsMachine.TestCase
TestJobsMachine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),  # a busy machine is no fault of the table
)
