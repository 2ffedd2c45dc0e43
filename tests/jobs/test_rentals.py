"""The books of rented machines, on both databases."""

import threading

import pytest
from sqlalchemy import select

from studio.core.errors import InputError
from studio.jobs.queue import NewJob
from studio.jobs.rentals import Rentals
from studio.jobs.schema import RENTALS


class Time:
    now_s = 1_790_000_000.0  # in September 2026

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def rentals(store, clock):
    return Rentals(store._database, clock)


def row(number=1, job="train-1", price=0.6, extra=0.1):
    return {
        "label": f"label-{job}-{number}", "service": "vast", "job": job, "attempt": number, "what": "a GPU",
        "price_per_hour": price, "extra": extra,
    }  # fmt: skip


def test_what_is_reserved_counts_until_what_it_has_cost_takes_its_place(store, rentals, clock):
    store.insert(NewJob("train-1", "train", "ada", "t", "fp"))
    assert rentals.reserve(row(), lambda money: 2.5) == 2.5
    (open_one,) = rentals.open_ones("vast", "train-1")
    assert (open_one.machine, open_one.reserved, rentals.age_s(open_one)) == (None, 2.5, 0.0)
    assert rentals.open_ones("hf_jobs") == rentals.open_ones("vast", "train-2") == []
    assert (rentals.money().spent, rentals.money().reserved) == (0.0, 2.5)
    rentals.rented("label-train-1-1", "77")
    rentals.rented("label-train-1-1", "78")  # once known, it stays
    clock.now_s += 1800
    assert rentals.gone("vast", "77") == pytest.approx(0.4)
    assert rentals.gone("vast", "77") is None and rentals.gone("vast", "78") is None
    money = rentals.money("train-1")
    assert (money.spent, money.reserved, money.spent_on_job) == (pytest.approx(0.4), 0.0, pytest.approx(0.4))
    assert store.get("train-1", "ada").cost_usd == pytest.approx(0.4)


def test_attempts_of_a_job_add_up_and_a_forgotten_job_stays_in_the_books(store, rentals, clock):
    store.insert(NewJob("train-1", "train", "ada", "t", "fp"))
    assert store.get("train-1", "ada").cost_usd is None
    for number in (1, 2):
        rentals.reserve(row(number, extra=0.0), lambda money: 1.0)
        rentals.rented(f"label-train-1-{number}", str(number))
        clock.now_s += 3600
        rentals.gone("vast", str(number))
    assert store.get("train-1", "ada").cost_usd == pytest.approx(1.2)
    store.erase(["train-1"])
    assert rentals.money().spent == pytest.approx(1.2)


def test_another_month_begins_at_nothing_but_what_runs_stays_reserved(rentals, clock):
    rentals.reserve(row(1), lambda money: 1.0)
    rentals.rented("label-train-1-1", "1")
    rentals.gone("vast", "1")
    rentals.reserve(row(2), lambda money: 3.0)
    clock.now_s += 31 * 24 * 3600
    money = rentals.money("train-1")
    assert (money.month, money.spent, money.reserved) == ("2026-10", 0.0, 3.0)
    assert money.spent_on_job > 0


def test_what_cannot_be_afforded_or_was_never_rented_leaves_nothing(store, rentals):
    def no(money):
        raise InputError("too dear")

    with pytest.raises(InputError):
        rentals.reserve(row(), no)
    rentals.reserve(row(), lambda money: 1.0)
    rentals.drop("label-train-1-1")
    with store._database.read() as db:
        assert db.execute(select(RENTALS)).all() == []
    rentals.reserve(row(), lambda money: 1.0)
    rentals.rented("label-train-1-1", "7")
    rentals.drop("label-train-1-1")  # it was rented: it stays
    assert len(rentals.open_ones("vast")) == 1


def test_of_many_that_reserve_at_once_each_sees_what_the_others_have(store, new_store):
    """Two servers and a budget for three."""

    def afford(money):
        if money.spent + money.reserved + 1.0 > 3.0:
            raise InputError("over budget")
        return 1.0

    failed = []

    def reserve(books, number):
        try:
            books.reserve(row(number), afford)
        except InputError:
            failed.append(number)

    servers = [store.rentals, new_store().rentals]
    threads = [threading.Thread(target=reserve, args=(servers[number % 2], number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 5
    assert store.rentals.money().reserved == 3.0


def test_a_backup_keeps_what_a_job_has_cost(store, new_place, rentals):
    from studio.jobs.events import Outcome
    from studio.jobs.store import Store

    store.insert(NewJob("train-1", "train", "ada", "t", "fp"))
    rentals.reserve(row(), lambda money: 1.0)
    rentals.rented("label-train-1-1", "1")
    rentals.gone("vast", "1")
    store.finish(store.claim(), Outcome("completed", result={}))
    dump = store.dump("train-1")
    other = Store(new_place()())
    assert other.restore("train-1", dump)
    assert other.get("train-1", "ada").cost_usd == store.get("train-1", "ada").cost_usd > 0
    old = {"job": {name: value for name, value in dump["job"].items() if name != "cost_usd"}, "events": []}
    third = Store(new_place()())
    assert third.restore("train-1", old) and third.get("train-1", "ada").cost_usd is None
