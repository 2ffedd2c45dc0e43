import dataclasses
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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
    run_state_machine_as_test,
)
from sqlalchemy import event, select, update

from studio.core.domain import TERMINAL_STATES, Event, JobFacts, SourceJob
from studio.core.errors import ConflictError, NotFoundError
from studio.jobs.events import Outcome
from studio.jobs.queue import Claim, NewJob
from studio.jobs.schema import EVENTS, JOBS
from studio.jobs.states import RUNNING, TRANSITIONS
from studio.jobs.store import Store

OWNER = "ada"
DONE = Outcome("completed", result={"steps": 1})


def add(store, job_id, kind="check", source=None, key=None):
    job = NewJob(job_id, kind, OWNER, f"Title of {job_id}", "fp", source, key, JobFacts(subject="Ada"))
    view, _ = store.insert(job)
    return view


def state(store, job_id):
    return store.get(job_id, OWNER).state


def test_a_cause_keeps_its_status_until_the_job_is_tried_again(store):
    add(store, "a")
    store.finish(store.claim(), Outcome("stalled", cause="No face.", status=422))
    assert store.get("a", OWNER).cause_status == 422
    assert store.retry("a", OWNER).cause_status is None


def test_oldest_job_is_claimed_first_and_once(store):
    add(store, "a")
    add(store, "b")
    assert store.claim() == Claim("a", "check", 1)
    assert store.claim() == Claim("b", "check", 1)
    assert store.claim() is None


def test_a_job_that_waits_for_a_device_may_share_one_if_it_suits(store):
    add(store, "c")
    store.finish(store.claim(), DONE)
    for job_id in ("t", "u", "v"):
        add(store, job_id, "train", "c")
    assert store.claim({"train"}) is None  # beside: the devices are taken
    asked = []

    def suits(job_id, facts):
        asked.append(job_id)
        return job_id == "u"

    assert store.claim({"train"}, suits) == Claim("u", "train", 1)
    assert asked == ["t", "u"] and state(store, "t") == "pendingGpu"
    assert store.claim({"generate"}, lambda job_id, facts: True) is None


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


def test_only_the_newest_progress_and_all_metrics_are_kept(store):
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
        "recovered": lambda claim: store.recover("x", alone=True),
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


def test_an_end_in_whatever_characters_is_stored(store):
    add(store, "a")
    claim = store.claim()
    odd = "na\0me \ud800 \U0001f600"
    store.append(claim, [Event("stage", {"name": odd}), Event("message", {"level": "info", "text": odd})])
    assert store.finish(claim, Outcome("stalled", cause=odd, problems=({"where": odd},)))
    view = store.get("a", OWNER)
    assert view.cause == "name ? \U0001f600" and view.problems[0]["where"] == odd
    assert store.events("a", OWNER, 0)[-1][1].data["text"] == odd


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
        assert store.recover("The server stopped.", alone=True) == ["a"]
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


def test_hearts_come_and_go_one_by_one(store):
    add(store, "a")
    assert store.get("a", OWNER).hearts == ()
    assert store.heart("a", OWNER, ["1.png", "2.png"], on=True).hearts == ("1.png", "2.png")
    assert store.heart("a", OWNER, ["1.png"], on=True).hearts == ("2.png", "1.png")
    assert store.heart("a", OWNER, ["2.png", "3.png"], on=False).hearts == ("1.png",)
    with pytest.raises(NotFoundError):
        store.heart("a", "bob", ["1.png"], on=False)
    assert store.get("a", OWNER).hearts == ("1.png",)
    old = store.dump("a")
    old["job"] |= {"id": "old", "state": "completed", "key": None}
    assert store.restore("old", old) and store.get("old", OWNER).hearts == ("1.png",)
    del old["job"]["hearts"]
    assert store.restore("older", old | {"job": old["job"] | {"id": "older"}}) and not store.get("older", OWNER).hearts


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


def test_turns_outlive_the_server(store, new_store):
    add(store, "ada-0")
    store.finish(store.claim(), DONE)
    add(store, "ada-1")
    store.insert(NewJob("ben-0", "check", "ben", "t", "fp"))
    assert new_store().claim().id == "ben-0"


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


def test_recover_puts_running_jobs_back(store, new_store):
    for name in "abc":
        add(store, name)
    store.claim()
    store.finish(store.claim(), DONE)
    again = new_store()
    assert again.recover("The server stopped.", alone=True) == ["a"]
    assert [state(again, name) for name in "abc"] == ["pending", "completed", "pending"]


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


def least_s(call, times=5):
    """Return the least CPU time that a call takes here: what other programs take is no fault of the table."""
    found = []
    for _ in range(times):
        begin_s = time.process_time()
        call()
        found.append(time.process_time() - begin_s)
    return min(found)


def test_with_a_thousand_waiting_jobs_a_list_and_a_claim_are_quick(store):
    """Wide bounds, for a machine that does other things, too; `benchmarks/queue.py` measures."""
    add(store, "first")
    row = store.dump("first")["job"] | {"source": None}
    with store._database.write() as db:
        db.execute(JOBS.insert(), [row | {"id": f"j{number}"} for number in range(999)])
    assert len(store.newest(OWNER, 1000)) == 1000
    assert least_s(lambda: store.newest(OWNER, 1000)) < 1.0
    assert least_s(store.claim) < 0.3


# ------------------------------------------------------------------------------------------------- leases and fences


def end_lease(store, job_id):
    """Let the time of a lease pass at once."""
    with store._database.write() as db:
        db.execute(update(JOBS).where(JOBS.c.id == job_id).values(leased_until_s=store._now_s - 1.0))


def test_another_server_leaves_what_runs_elsewhere_alone_until_its_lease_has_ended(store, new_store):
    other = new_store()
    add(store, "a")
    claim = store.claim()
    assert other.recover("It is gone.") == [] and state(other, "a") == "checking"
    end_lease(store, "a")
    assert store.recover("It is gone.") == [], "its own job is looked after here"
    store.beat()
    assert other.recover("It is gone.") == [], "the heartbeat came first"
    end_lease(store, "a")
    assert other.recover("It is gone.") == ["a"]
    assert other.claim() == Claim("a", "check", 2)
    assert store.append(claim, []) is True, "it is told to stop"


def test_a_lease_ends_by_itself_when_no_heartbeat_comes(new_store):
    short, other = new_store(lease_s=0.5), new_store()
    add(short, "a")
    begin_s = time.monotonic()
    short.claim()
    while other.recover("It is gone.") != ["a"]:
        assert time.monotonic() - begin_s < 30
        time.sleep(0.02)
    assert time.monotonic() - begin_s > 0.45


def test_a_late_attempt_changes_no_state_no_event_and_no_result(store, new_store):
    other = new_store()
    add(store, "a")
    late = store.claim()
    store.append(late, [Event("metrics", {"step": 1})])
    end_lease(store, "a")
    other.recover("It is gone.")
    fresh = other.claim()
    before = other.get("a", OWNER), other.events("a", OWNER, 0)
    store.beat()
    assert store.append(late, [Event("metrics", {"step": 2}), Event("progress", {"step": 2})]) is True
    assert not store.finish(late, Outcome("completed", result={"late": True}))
    assert not store.lose(late, "It was killed.", max_losses=1)
    assert not store.release(late)
    assert (other.get("a", OWNER), other.events("a", OWNER, 0)) == before
    assert other.finish(fresh, DONE) and other.get("a", OWNER).result == {"steps": 1}
    assert not store.finish(late, Outcome("stalled", cause="late"))
    assert other.get("a", OWNER).result == {"steps": 1}


def test_a_heartbeat_does_not_take_back_what_another_server_runs_now(new_store):
    first, second = new_store(lease_s=0.2), new_store(lease_s=0.2)
    add(first, "a")
    first.claim()
    end_lease(first, "a")
    second.recover("It is gone.")
    second.claim()
    time.sleep(0.3)
    first.beat()
    assert new_store().recover("It is gone.") == ["a"], "only its own server's heartbeat counts"


@pytest.mark.parametrize("skew_s", [-86400.0, 86400.0])
def test_a_wrong_clock_of_a_server_changes_nothing(store, new_store, monkeypatch, skew_s):
    other = new_store()
    add(store, "a")
    store.claim()
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: right + skew_s)
    assert other.recover("It is gone.") == []
    other.beat()
    add(other, "b")
    assert abs(other.get("b", OWNER).created_s - right) < 60
    monkeypatch.undo()
    end_lease(store, "a")
    monkeypatch.setattr(time, "time", lambda: right + skew_s)
    assert other.recover("It is gone.") == ["a"]


def test_what_does_not_run_has_no_lease(store):
    ends = {
        "done": lambda claim: store.finish(claim, DONE),
        "lost": lambda claim: store.lose(claim, "x", 1),
        "released": lambda claim: store.release(claim),
        "recovered": lambda claim: store.recover("x", alone=True),
    }
    for name, end in ends.items():
        add(store, name)
        claim = store.claim()
        end(claim)
        with store._database.read() as db:
            row = db.execute(JOBS.select().where(JOBS.c.id == name)).mappings().one()
        assert (row["holder"], row["leased_until_s"]) == (None, None), name
        store.cancel(name, OWNER)


def at_once(calls):
    """Run calls in threads that begin together; return what they return."""
    barrier = threading.Barrier(len(calls))

    def begin(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(begin, call) for call in calls]]


def test_two_servers_with_many_threads_claim_each_job_once(new_store):
    stores = [new_store(), new_store()]
    for number in range(24):
        add(stores[0], f"j{number}")
    claims = at_once([stores[number % 2].claim for number in range(8)])
    while len(claims) < 24:
        claims += at_once([stores[number % 2].claim for number in range(8)])
    assert sorted(claim.id for claim in claims if claim) == sorted(f"j{number}" for number in range(24))


def test_one_key_from_many_threads_of_two_servers_is_one_job(new_store):
    stores = [new_store(), new_store()]
    stores[0].ids()
    jobs = [NewJob(f"j{number}", "check", OWNER, "t", "fp", None, "k") for number in range(12)]
    found = at_once([lambda job=job, n=n: stores[n % 2].insert(job) for n, job in enumerate(jobs)])
    assert len({view.id for view, _ in found}) == 1 and [new for _, new in found].count(True) == 1


def test_of_an_end_a_cancel_and_a_recovery_at_once_each_job_has_one_end(new_store):
    first, second = new_store(), new_store()
    for number in range(6):
        name = f"j{number}"
        add(first, name)
        claim = first.claim()
        at_once(
            [
                lambda claim=claim: first.finish(claim, DONE),
                lambda name=name: second.cancel(name, OWNER),
                lambda: second.recover("It is gone.", alone=True),
                lambda claim=claim: first.append(claim, [Event("metrics", {"step": 1})]),
            ]
        )
        view = first.get(name, OWNER)
        assert view.state in {"completed", "cancelled", "pending"}
        assert (view.result is not None) == (view.state == "completed")
        numbers = [number for number, _ in first.events(name, OWNER, 0)]
        assert numbers == list(range(1, len(numbers) + 1))
        second.cancel(name, OWNER)


def test_nothing_is_queued_behind_a_job_that_is_being_erased(new_store):
    first, second = new_store(), new_store()
    add(first, "c")
    eraser = threading.Thread(target=first.erase, args=(["c"],))

    def erase_in_between(connection, cursor, statement, *rest):
        if statement.startswith("INSERT INTO jobs"):
            eraser.start()
            eraser.join(0.5)

    event.listen(second._database._engine, "before_cursor_execute", erase_in_between)
    assert add(second, "t", "train", "c").id == "t"
    eraser.join()
    assert first.ids() == set(), "it waited for what was being queued, and took it along"
    with pytest.raises(NotFoundError):
        add(second, "u", "train", "c")


NOTES_MOVES = {
    "sqlite": [
        "CREATE TABLE moves (job, before, after)",
        "CREATE TRIGGER noted AFTER UPDATE OF state ON jobs BEGIN"
        " INSERT INTO moves VALUES (new.id, old.state, new.state); END",
    ],
    "postgresql": [
        "CREATE TABLE moves (job text, before text, after text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO moves VALUES (new.id, old.state, new.state); RETURN NULL; END $$",
        "CREATE TRIGGER noted AFTER UPDATE OF state ON jobs FOR EACH ROW EXECUTE FUNCTION note()",
    ],
}


class JobsMachine(RuleBasedStateMachine):
    """Owners, a worker, another server, crashes and zombies in any order; a trigger writes every single move down."""

    new_place = None

    jobs = Bundle("jobs")
    zombies = Bundle("zombies")

    def __init__(self):
        super().__init__()
        open_database = self.new_place()
        self.store, self.other = Store(open_database(), lease_s=3600.0), Store(open_database())
        self.numbers = itertools.count()
        self.claim_now = None
        self.retried = 0
        with self.store._database.write() as db:
            for statement in NOTES_MOVES[db.dialect.name]:
                db.exec_driver_sql(statement)

    def teardown(self):
        self.store.close()
        self.other.close()

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
        recovered = self.store.recover("The server stopped.", alone=True)
        assert recovered == ([self.claim_now.id] if self.claim_now else [])
        self.claim_now = None

    @rule()
    def another_server_looks(self):
        assert self.other.recover("It is gone.") == []
        self.store.beat()

    @precondition(lambda self: self.claim_now)
    @rule()
    def lease_ends_and_another_server_takes_the_job(self):
        end_lease(self.store, self.claim_now.id)
        assert self.other.recover("It is gone.") == [self.claim_now.id]
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
        with self.store._database.read() as db:
            moves = db.exec_driver_sql("SELECT before, after FROM moves").all()
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
            dataclasses.asdict(view)
        with self.store._database.read() as db:
            told = db.execute(select(EVENTS.c.job, EVENTS.c.seq)).all()
            counted = dict(db.execute(select(JOBS.c.id, JOBS.c.last_seq)).all())
        assert len(set(told)) == len(told) and all(1 <= seq <= counted[job] for job, seq in told)


def test_whatever_happens_in_whatever_order_every_job_keeps_to_the_table(new_place, request):
    machine = type("Machine", (JobsMachine,), {"new_place": staticmethod(new_place)})
    is_file = "sqlite" in request.node.name
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25 if is_file else 10,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),  # a busy machine is no fault of the table
        ),
    )
