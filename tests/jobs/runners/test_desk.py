"""The fence of attempts on other machines, from both of its sides."""

import hashlib
import json

import httpx2
import pytest

from studio.core.errors import ConflictError, InputError
from studio.jobs.runners.desk import GoneError, NotHereError
from studio.jobs.runners.ticket import Beat, Ending, FileRow, Files, object_name

JOB = "check-0123456789abcdef"


def row_of(path, data):
    return FileRow(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def stored(away, path, data):
    row = row_of(path, data)
    away.storage.put(object_name(JOB, row.sha256), data)
    return row


@pytest.fixture
def box(away, new_attempt):
    """The second attempt of a job, which counts; the first one is late."""
    away.queue.attempts[JOB] = 1
    away.desk.open(new_attempt("quick", 1))
    away.queue.attempts[JOB] = 2
    return away.desk.open(new_attempt("quick", 2))[0]


def test_a_late_attempt_changes_no_state_no_event_and_no_file(away, box):
    row = stored(away, "steps.txt", b"late")
    before = away.storage.names("jobs")
    for tell in (
        lambda: away.desk.beat(JOB, 1, Beat(events=({"kind": "metrics", "data": {}},), log="late\n")),
        lambda: away.desk.links(JOB, 1, Files(files=(row_of("new", b"new"),))),
        lambda: away.desk.inputs(JOB, 1, Files(files=(row,))),
        lambda: away.desk.snapshot(JOB, 1, Files(files=(row,))),
        lambda: away.desk.end(JOB, 1, Ending(state="completed", result={}, files=(row,))),
    ):
        with pytest.raises(GoneError):
            tell()
    late = away.desk.box(f"{JOB}.1")
    with pytest.raises(GoneError):
        away.desk.commit(late, Ending(state="completed", result={}))
    assert (late.events, late.ending) == ([], None)
    assert away.storage.names("jobs") == before
    assert not (box.attempt.job_dir / "out").exists()
    assert not (box.attempt.job_dir / "log.txt").exists()


def test_an_attempt_that_was_ended_here_brings_nothing_any_more(away, box):
    row = stored(away, "steps.txt", b"1")
    away.desk.close(box)
    away.desk.bring(box, [row])
    assert not (box.attempt.job_dir / "out" / "steps.txt").exists()


def test_of_two_results_the_first_is_the_jobs(away, box):
    first, second = Ending(state="completed", result={"n": 1}), Ending(state="completed", result={"n": 2})
    assert away.desk.commit(box, first) == first
    assert away.desk.commit(box, second) == first
    assert away.desk.result(JOB) == first


def test_events_that_are_told_twice_count_once(away, box):
    rows = [{"kind": "metrics", "data": {"step": step}} for step in range(4)]
    assert away.desk.beat(JOB, 2, Beat.parse({"events": rows[:2], "log": "one\n"}))["seen"] == 2
    told = Beat.parse({"events": rows[:3], "log": "one\ntwo\n"})  # the answer was lost
    assert away.desk.beat(JOB, 2, told) == {"stop": False, "seen": 3, "log_seen": 8}
    away.desk.beat(JOB, 2, Beat.parse({"after": 3, "events": rows[3:], "log_after": 8}))
    assert [event.data["step"] for event in box.events] == [0, 1, 2, 3]
    assert (box.attempt.job_dir / "log.txt").read_text() == "one\ntwo\n"


def test_files_that_arrived_damaged_are_named_and_asked_for_again(away, box):
    row = row_of("a.png", b"a picture")
    away.storage.put(object_name(JOB, row.sha256), b"a pictuRe")
    assert away.desk.links(JOB, 2, Files(files=(row,)))["links"] == {}  # of the right size
    with pytest.raises(ConflictError, match=r"a\.png: did not arrive whole"):
        away.desk.snapshot(JOB, 2, Files(files=(row,)))
    assert list(away.desk.links(JOB, 2, Files(files=(row,)))["links"]) == [row.sha256]


def test_fresh_links_lead_to_what_is_there_of_the_job_and_to_nothing_else(away, box):
    there, gone = stored(away, f"{JOB}/photos/a.png", b"a photo"), row_of(f"{JOB}/photos/b.png", b"b")
    of_another = row_of("x", b"another's")
    away.storage.put(object_name("check-ffffffffffffffff", of_another.sha256), b"another's")
    links = away.desk.inputs(JOB, 2, Files(files=(there, gone, of_another)))["links"]
    assert list(links) == [there.sha256]
    assert httpx2.get(links[there.sha256]["url"]).content == b"a photo"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", ".hidden", "a//b"])
def test_paths_that_lead_out_of_the_folder_are_refused(away, box, path):
    row = stored(away, path, b"1")
    with pytest.raises(InputError):
        away.desk.end(JOB, 2, Ending(state="completed", result={}, files=(row,)))


def test_an_attempt_of_another_server_is_told_to_come_again_and_an_unknown_one_to_stop(away):
    away.queue.attempts[JOB] = 3
    with pytest.raises(NotHereError):
        away.desk.beat(JOB, 3, Beat())
    with pytest.raises(GoneError):
        away.desk.beat(JOB, 2, Beat())
    with pytest.raises(GoneError):
        away.desk.beat("check-ffffffffffffffff", 1, Beat())


def test_a_ticket_holds_nothing_of_this_machine_and_what_the_owner_gave(away, new_attempt):
    away.queue.attempts[JOB] = 1
    secrets = {"HF_TOKEN": "machines-token", "STUDIO_JOB_HUB_TOKEN": "owners-token", "STUDIO_CIVITAI_KEY": None}
    box, _ = away.desk.open(new_attempt("quick", 1, secrets=secrets))
    ticket = away.desk.ticket(box, away.address, grace_s=5.0)
    text = json.dumps(ticket.model_dump(mode="json"))
    assert ticket.variables == {"STUDIO_JOB_HUB_TOKEN": "owners-token", "STUDIO_CIVITAI_KEY": None}
    for secret in ("machines-token", "k" * 16, str(box.attempt.job_dir), "sqlite"):
        assert secret not in text
    (given,) = ticket.inputs
    assert given.place.path == f"{JOB}/photos/a.png"


def test_routes_open_with_the_attempts_own_token_only(away, box):
    def tell(token, job_id=JOB, attempt=2, what="beat", body=b"{}"):
        url = f"{away.address}/attempts/{job_id}/{attempt}/{what}"
        return httpx2.post(url, content=body, headers={"Authorization": f"Bearer {token}"}).status_code

    own = away.signer.token(JOB, 2)
    assert tell(own) == 200
    assert tell(own, body=b"not json") == 422
    assert tell(own, body=b'{"unknown": 1}') == 422
    assert tell("x") == tell(away.signer.token(JOB, 1)) == tell(own, attempt=1) == 403
    assert tell(away.signer.token(JOB, 1), attempt=1) == 410
    assert tell(own, job_id="check-ffffffffffffffff") == 403
