"""How the runner looks after agents that are silent, wait, or were begun by another server."""

import time

import pytest

from studio.core.errors import InputError, MissingExtraError, ResourceError
from studio.jobs.runners.agents import AgentRunner
from studio.jobs.runners.ticket import Beat, Ending

JOB = "check-0123456789abcdef"


class ScriptedLauncher:
    """Puts no agent anywhere, and says of each what the test says."""

    name = "scripted"
    address = "http://127.0.0.1:1"
    unknown_s = 0.2

    def __init__(self):
        self.is_waiting = False
        self.alive = True
        self.killed = []

    def launch(self, ticket):
        return "place"

    def waits(self, place):
        return self._said(self.is_waiting)

    def is_alive(self, place):
        return self._said(self.alive)

    def words(self, place):
        return "It is gone, and here is why."

    def kill(self, place):
        self.killed.append(place)

    @staticmethod
    def _said(value):
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture
def scripted(away, new_attempt):
    """A runner with that launcher, and a started attempt of it."""
    launcher = ScriptedLauncher()
    runner = AgentRunner(away.desk, launcher, lost_s=0.05)
    away.queue.attempts[JOB] = 1
    return launcher, runner, new_attempt("quick")


def until(runner, handle, state):
    give_up_s = time.monotonic() + 20
    while (report := runner.poll(handle, 0.02)).state != state:
        assert time.monotonic() < give_up_s, report
    return report


def test_one_that_waits_where_it_was_sent_is_queued_until_its_turn_has_come(scripted):
    launcher, runner, attempt = scripted
    launcher.is_waiting = True
    handle = runner.start(attempt)
    until(runner, handle, "queued")
    time.sleep(0.3)
    launcher.alive = False  # nobody asks
    assert runner.poll(handle, 0.02).state == "queued"
    launcher.is_waiting = ResourceError("nobody knows")
    assert runner.poll(handle, 0.1).state == "queued"
    launcher.is_waiting, launcher.alive = False, True
    until(runner, handle, "running")
    launcher.alive = False
    assert until(runner, handle, "lost").reason == "It is gone, and here is why."
    runner.leave(handle)
    assert launcher.killed == ["place"]


def test_one_of_which_nobody_can_tell_anything_is_lost_after_a_while(scripted):
    launcher, runner, attempt = scripted
    handle = runner.start(attempt)
    until(runner, handle, "running")
    launcher.alive = ResourceError("nobody knows")
    assert "has not been heard of for too long" in until(runner, handle, "lost").reason


@pytest.mark.parametrize("error", [MissingExtraError("It lacks torch."), InputError("The server is not reached.")])
def test_what_can_never_work_there_is_told_and_not_tried_again(scripted, error):
    launcher, runner, attempt = scripted
    handle = runner.start(attempt)
    until(runner, handle, "running")
    launcher.alive = error
    outcome = until(runner, handle, "ended").outcome
    assert (outcome.state, outcome.cause) == ("stalled", str(error))


def test_what_an_adopted_agent_has_told_before_is_not_missed_and_not_told_twice(away, scripted):
    _, runner, attempt = scripted
    (attempt.job_dir / "log.txt").write_text("one\n")
    handle = runner.adopt(attempt, "place")
    assert runner.place(handle) == "place"
    told = Beat.parse({"after": 7, "events": [{"kind": "metrics", "data": {"step": 8}}], "log_after": 4, "log": "b\n"})
    assert away.desk.beat(JOB, 1, told) == {"stop": False, "seen": 8, "log_seen": 6}
    assert away.desk.beat(JOB, 1, told)["seen"] == 8
    events = []
    while not events:
        events = runner.poll(handle, 0.1).events
    assert [event.data["step"] for event in events] == [8]
    assert (attempt.job_dir / "log.txt").read_text() == "one\nb\n"


def test_the_last_word_that_an_earlier_server_took_counts(away, scripted):
    launcher, runner, attempt = scripted
    handle = runner.start(attempt)
    until(runner, handle, "running")
    away.desk.end(JOB, 1, Ending(state="stalled", cause="It is dark."))
    runner.part(handle)  # and nothing of it was stored
    launcher.alive = False
    handle = runner.adopt(attempt, "place")
    assert until(runner, handle, "ended").outcome.cause == "It is dark."


def test_an_agent_that_is_left_to_others_is_told_to_ask_again(away, scripted):
    launcher, runner, attempt = scripted
    handle = runner.start(attempt)
    until(runner, handle, "running")
    runner.part(handle)
    with pytest.raises(Exception, match="ask again in a moment"):
        away.desk.beat(JOB, 1, Beat())
    assert launcher.killed == []
