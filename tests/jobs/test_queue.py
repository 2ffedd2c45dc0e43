import inspect

import pytest

from studio.jobs.queue import JobQueue, late
from studio.jobs.store import Store


class Counted:
    """A queue that notes what is asked of it."""

    def __init__(self):
        self.asked = []

    def ids(self):
        self.asked.append("ids")
        return frozenset()

    def close(self):
        self.asked.append("close")


def test_a_late_queue_is_opened_when_it_is_first_asked_and_once():
    made = []

    def make():
        made.append(Counted())
        return made[-1]

    queue = late(make)
    queue.close()
    assert made == [], "to close it does not open it"
    assert queue.ids() == frozenset() and queue.ids() == frozenset()
    queue.close()
    assert [one.asked for one in made] == [["ids", "ids", "close"]]


def test_a_queue_that_cannot_be_opened_is_tried_again_at_the_next_call():
    answers = [RuntimeError("not now"), Counted()]

    def make():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    queue = late(make)
    with pytest.raises(RuntimeError):
        queue.ids()
    assert queue.ids() == frozenset()


def test_the_store_takes_every_call_as_the_contract_says():
    calls = {name for name, _ in inspect.getmembers(JobQueue, inspect.isfunction) if not name.startswith("_")}
    assert len(calls) > 20
    for name in calls:
        assert name in vars(Store), f"{name} is only in the contract"
        assert inspect.signature(getattr(Store, name)) == inspect.signature(getattr(JobQueue, name)), name
