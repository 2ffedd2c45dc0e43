"""Deliveries over real sockets: down, slow, redirecting, gone, untrusted, endless; and none of it delays another."""

import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from studio.core.config import CheckConfig
from studio.core.errors import ResourceError
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.core.webhooks import WebhookConfig, WebhookEvent
from studio.jobs.events import Outcome
from studio.jobs.sealed import Seal
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store
from studio.jobs.webhooks.addresses import Reach
from studio.jobs.webhooks.ledger import Ledger
from studio.service import Studio

OWNER = "ada"


def respond(handler: Any, status: int, headers: Any = (), body: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def listed(store: Store, webhook: Any) -> Any:
    (row,) = store.webhooks.deliveries(OWNER, webhook.id, 10)
    return row


@pytest.fixture
def place(tmp_path: Path) -> Any:
    opened = Store(SqliteDatabase(tmp_path / "jobs.sqlite3"))
    yield opened
    opened.close()


def test_an_event_arrives_once_and_its_signature_verifies(
    store: Store, hook: Any, put: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    """On SQLite and on Postgres."""
    receiver = new_receiver()
    webhook, secret = hook(store, receiver.url, events=("job.completed",))
    with sending(store):
        put(store, "c")
        store.finish(store.claim(), Outcome("completed"))
        until(lambda: listed(store, webhook).state == "delivered")
        time.sleep(0.1)
    ((headers, body),) = receiver.got
    event = Webhook(secret).verify(body, headers)
    assert event["type"] == "job.completed" and event["data"]["job"] == "c"
    row = listed(store, webhook)
    assert (row.id, row.attempts, row.status, row.error) == (headers["webhook-id"], 1, 204, None)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace("completed", "cancelled"), headers)


def test_after_a_rotation_both_secrets_verify_and_after_a_day_the_new_one_alone(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = new_receiver()
    webhook, old = hook(place, receiver.url)
    _, new = place.webhooks.rotate(OWNER, webhook.id)
    with sending(place):
        place.webhooks.test(OWNER, webhook.id)
        until(lambda: receiver.got)
        headers, body = receiver.got[0]
        assert old != new and Webhook(old).verify(body, headers) == Webhook(new).verify(body, headers)
        monkeypatch.setattr("studio.jobs.webhooks.ledger.OLD_SECRET_S", 0.0)
        _, newest = place.webhooks.rotate(OWNER, webhook.id)
        place.webhooks.test(OWNER, webhook.id)
        until(lambda: len(receiver.got) == 2)
    headers, body = receiver.got[1]
    Webhook(newest).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body, headers)


def test_what_no_key_opens_is_sent_unsigned_to_nobody_and_waits_for_the_key(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    receiver = new_receiver()
    place.webhooks = Ledger(place._database, Seal("k" * 40))
    webhook, secret = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    place.webhooks = Ledger(place._database, Seal("another" * 8))
    with sending(place):
        until(lambda: listed(place, webhook).attempts >= 2)
        assert listed(place, webhook).state == "waiting" and "STUDIO_SECRETS_KEY" in listed(place, webhook).error
        assert receiver.got == []
        place.webhooks = Ledger(place._database, Seal("k" * 40))
        until(lambda: receiver.got)
    headers, body = receiver.got[0]
    Webhook(secret).verify(body, headers)


def test_what_was_down_gets_it_under_the_same_id_when_it_is_back(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    receiver = new_receiver()
    port = receiver.port
    receiver.close()
    webhook, secret = hook(place, f"http://127.0.0.1:{port}/")
    place.webhooks.test(OWNER, webhook.id)
    with sending(place):
        until(lambda: listed(place, webhook).attempts >= 2)
        assert listed(place, webhook).state == "waiting" and "connection failed" in listed(place, webhook).error
        back = new_receiver()
        place.webhooks.change(OWNER, webhook.id, {"url": back.url})
        back.answer = lambda handler: respond(handler, 503 if len(back.got) < 2 else 200)
        until(lambda: listed(place, webhook).state == "delivered")
    assert len(back.got) == 2 and len({headers["webhook-id"] for headers, _ in back.got}) == 1
    assert len({headers["webhook-signature"] for headers, _ in back.got}) >= 1
    Webhook(secret).verify(back.got[-1][1], back.got[-1][0])


def test_a_delivery_is_given_up_in_the_end_and_can_be_sent_again(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = new_receiver()
    receiver.answer = lambda handler: respond(handler, 500)
    webhook, secret = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    with caplog.at_level(logging.WARNING), sending(place, waits_s=(0.01, 0.01)):
        until(lambda: listed(place, webhook).state == "failed")
        assert listed(place, webhook).attempts == 3 and listed(place, webhook).error == "The answer was 500."
        receiver.answer = lambda handler: respond(handler, 200)
        sent = place.webhooks.redeliver(OWNER, webhook.id, listed(place, webhook).id)
        assert (sent.state, sent.attempts) == ("waiting", 0)
        until(lambda: listed(place, webhook).state == "delivered")
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert "is given up" in caplog.text and secret not in caplog.text and "code=1" not in caplog.text


def test_gone_switches_the_webhook_off(
    place: Store, hook: Any, put: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    receiver = new_receiver()
    receiver.answer = lambda handler: respond(handler, 410)
    webhook, _ = hook(place, receiver.url)
    for _ in range(3):
        place.webhooks.test(OWNER, webhook.id)
    with sending(place):
        until(lambda: not place.webhooks.get(OWNER, webhook.id).active)
        put(place, "c")
        place.cancel("c", OWNER)
        time.sleep(0.2)
    rows = place.webhooks.deliveries(OWNER, webhook.id, 10)
    assert len(receiver.got) == 1 and [row.state for row in rows] == ["failed"] * 3
    assert "410" in (place.webhooks.get(OWNER, webhook.id).cause or "")
    assert place.webhooks.change(OWNER, webhook.id, {"active": True}).cause is None


def test_a_redirect_is_not_followed(place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any) -> None:
    target, receiver = new_receiver(), new_receiver()
    for status in (301, 302, 303, 307, 308):
        receiver.answer = lambda handler, status=status: respond(handler, status, [("location", target.url)])
        webhook, _ = hook(place, receiver.url)
        place.webhooks.test(OWNER, webhook.id)
        with sending(place, waits_s=()):
            until(lambda webhook=webhook: listed(place, webhook).state == "failed")
        assert "redirect" in listed(place, webhook).error and listed(place, webhook).status == status
    assert target.got == []


def endless(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 4096)


def dripping(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        handler.wfile.write(f"x-{number}: 1\r\n".encode())
        time.sleep(0.05)


def silent(handler: Any) -> None:
    time.sleep(30)


def test_a_body_that_never_ends_is_cut_and_counts_by_its_status(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    receiver = new_receiver()
    receiver.answer = endless
    webhook, _ = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place):
        began_s = time.monotonic()
        until(lambda: listed(place, webhook).state == "delivered")
        assert time.monotonic() - began_s < 10


def test_the_slow_and_the_broken_delay_nobody_else(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    """Neither those of another owner nor another webhook of the same one."""
    bad = []
    for answer in (silent, dripping, endless, lambda handler: handler.connection.close()):
        receiver = new_receiver()
        receiver.answer = answer
        webhook, _ = hook(place, receiver.url)
        bad.append(webhook)
        for _ in range(20):
            place.webhooks.test(OWNER, webhook.id)
    good = new_receiver()
    mine, _ = hook(place, good.url)
    theirs, _ = hook(place, new_receiver().url, owner="eve")
    with sending(place, waits_s=(5.0,) * 9):
        began_s = time.monotonic()
        for _ in range(3):
            place.webhooks.test(OWNER, mine.id)
            place.webhooks.test("eve", theirs.id)

        def arrived() -> bool:
            rows = place.webhooks.deliveries(OWNER, mine.id, 9) + place.webhooks.deliveries("eve", theirs.id, 9)
            return all(row.state == "delivered" for row in rows)

        until(arrived)
        assert time.monotonic() - began_s < 5.0, "twenty that time out one after the other take twenty seconds"
        until(lambda: any(row.error for row in place.webhooks.deliveries(OWNER, bad[0].id, 30)))
    errors = {row.error for row in place.webhooks.deliveries(OWNER, bad[0].id, 30)}
    assert "No answer came within 1 seconds." in errors


def test_what_asks_for_time_gets_it(place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any) -> None:
    receiver = new_receiver()
    receiver.answer = lambda handler: respond(handler, 429, [("retry-after", "90")])
    webhook, _ = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place):
        until(lambda: listed(place, webhook).status == 429)
    row = listed(place, webhook)
    assert row.state == "waiting" and 60 < row.next_attempt_s - time.time() < 100


def tls_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_that_nobody_trusts_is_refused(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any, certificate: Path
) -> None:
    receiver = new_receiver(tls=tls_server(certificate))
    webhook, _ = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place, waits_s=()):
        until(lambda: listed(place, webhook).state == "failed")
    assert "certificate is not trusted" in listed(place, webhook).error and receiver.got == []


def test_the_name_is_resolved_once_and_its_certificate_is_checked_by_name(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any, certificate: Path
) -> None:
    """The connection goes to the address that was checked; host and certificate are those of the name."""
    receiver = new_receiver(tls=tls_server(certificate))
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    trusted = ssl.create_default_context(cafile=str(certificate))
    for name, state in (("hooks.example", "delivered"), ("other.example", "failed")):
        webhook, _ = hook(place, f"https://{name}:{receiver.port}/x")
        place.webhooks.test(OWNER, webhook.id)
        with sending(place, waits_s=(), tls=trusted, reach=lambda: Reach(loopback=True, resolve=resolve)):
            until(lambda webhook=webhook: listed(place, webhook).state != "waiting")
        assert listed(place, webhook).state == state, listed(place, webhook)
    assert asked == ["hooks.example", "other.example"], "once for each attempt"
    assert [headers["Host"] for headers, _ in receiver.got] == [f"hooks.example:{receiver.port}"]


def test_a_name_that_answers_otherwise_later_leads_nowhere(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    """DNS rebinding: public when the webhook was made, this machine when it is used."""
    receiver = new_receiver()
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    reach = Reach(resolve=lambda host, port: next(answers))
    url = "https://rebinding.example/x"
    reach.check(url)
    webhook, _ = hook(place, url)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place, waits_s=(), reach=lambda: reach):
        until(lambda: listed(place, webhook).state == "failed")
    assert "not on the public internet" in listed(place, webhook).error and receiver.got == []


def test_no_proxy_of_the_environment_sees_a_delivery(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, receiver = new_receiver(), new_receiver()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    webhook, _ = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place):
        until(lambda: listed(place, webhook).state == "delivered")
    assert len(receiver.got) == 1 and proxy.got == []


def test_only_the_server_that_dispatches_sends(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    receiver = new_receiver()
    webhook, _ = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place, leads=lambda: False):
        time.sleep(0.2)
        assert receiver.got == []
    with sending(place):
        until(lambda: receiver.got)


def test_a_closing_server_puts_back_what_is_on_its_way(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any
) -> None:
    receiver = new_receiver()
    receiver.answer = lambda handler: time.sleep(2)
    webhook, _ = hook(place, receiver.url)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place):
        until(lambda: receiver.got)
    row = listed(place, webhook)
    assert (row.state, row.attempts, row.next_attempt_s) == ("waiting", 0, 0)
    assert [thread.name for thread in threading.enumerate() if thread.name == "studio-sender"] == []


def test_to_close_takes_no_time(place: Store, sending: Any) -> None:
    """Commands start and close a studio for a moment's work."""
    with sending(place, look_s=30.0):
        time.sleep(0.2)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5.0


def test_a_table_that_cannot_be_read_stops_no_sender(
    place: Store, hook: Any, sending: Any, new_receiver: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = new_receiver()
    webhook, _ = hook(place, receiver.url)
    real, failures = place.webhooks.due, [ResourceError("the table is held.")] * 3

    def due() -> Any:
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(place.webhooks, "due", due)
    place.webhooks.test(OWNER, webhook.id)
    with sending(place):
        until(lambda: receiver.got)


KILLED = """
import sys
from pathlib import Path
from studio.jobs.events import Outcome
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store

store = Store(SqliteDatabase(Path(sys.argv[1])))
store.finish(store.claim(), Outcome("completed"))
print("moved", flush=True)
sys.stdin.read()
"""


def test_a_kill_between_the_transition_and_the_sending_loses_nothing(
    place: Store, hook: Any, put: Any, sending: Any, new_receiver: Any, until: Any, tmp_path: Path
) -> None:
    receiver = new_receiver()
    webhook, _ = hook(place, receiver.url)
    put(place, "c")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "jobs.sqlite3")]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:  # fmt: skip
        assert server.stdout is not None and server.stdout.readline() == "moved\n"
        server.send_signal(signal.SIGKILL)
    assert place.get("c", OWNER).state == "completed" and receiver.got == []
    with sending(place):
        until(lambda: listed(place, webhook).state == "delivered")
    assert len(receiver.got) == 1


def test_a_sender_that_dies_in_an_attempt_leaves_it_to_the_next(place: Store, hook: Any) -> None:
    webhook, _ = hook(place, "https://hooks.example/")
    place.webhooks.test(OWNER, webhook.id)
    (due,) = place.webhooks.due()
    assert place.webhooks.take([due.number]) == {due.number}
    assert place.webhooks.take([due.number]) == frozenset() and place.webhooks.due() == []
    left_s = listed(place, webhook).next_attempt_s - time.time()
    assert listed(place, webhook).state == "waiting" and 50 < left_s < 70


def test_a_port_that_is_closed_is_told_in_words(place: Store, hook: Any, sending: Any, until: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    webhook, _ = hook(place, f"http://127.0.0.1:{port}/?secret=abc")
    place.webhooks.test(OWNER, webhook.id)
    with sending(place, waits_s=()):
        until(lambda: listed(place, webhook).state == "failed")
    assert listed(place, webhook).error == "The connection failed (ConnectError)."


def test_the_receiver_of_the_docs_takes_what_is_signed_and_nothing_else(
    place: Store, hook: Any, put: Any, sending: Any, until: Any, tmp_path: Path
) -> None:
    text = (PROJECT_ROOT / "docs" / "WEBHOOKS.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    webhook, secret = hook(place, f"http://127.0.0.1:{port}/hooks", events=("job.cancelled",))
    environment = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret}
    command = [sys.executable, "-c", code]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as receiver, sending(place, waits_s=(0.2,) * 100):
        try:
            put(place, "c")
            place.cancel("c", OWNER)
            until(lambda: listed(place, webhook).state == "delivered", 30)
            said = receiver.stdout.readline()
            assert listed(place, webhook).id in said and "'job': 'c'" in said
            place.webhooks.rotate(OWNER, webhook.id)
            place.webhooks.rotate(OWNER, webhook.id)  # the receiver knows neither of the two any more
            place.webhooks.test(OWNER, webhook.id)
            newest = lambda: place.webhooks.deliveries(OWNER, webhook.id, 1)[0]  # noqa: E731
            until(lambda: newest().status == 401)
        finally:
            receiver.terminate()
    events = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", text, re.MULTILINE))
    assert events == {*get_args(WebhookEvent), "webhook.test"}, "the table lists all there are"


def test_a_studio_at_work_tells_its_owners_webhook(
    tmp_path: Path, fake_verbs: Any, new_receiver: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real children, real sockets: from the photos to the end of the training, and nothing to anybody else."""
    monkeypatch.setenv("PYTHONPATH", fake_verbs.FOLDER)
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"a photo")
    mine, theirs = new_receiver(), new_receiver()
    settings = Settings(home=tmp_path / "home", device="cpu", webhook_loopback=True)
    studio = Studio(settings, verbs=fake_verbs.VERBS, grace_s=1.0)
    try:
        _, secret = studio.webhooks.create(WebhookConfig(url=mine.url), owner=OWNER)
        studio.webhooks.create(WebhookConfig(url=theirs.url), owner="eve")
        check = studio.submit_check(CheckConfig(subject="quick", class_noun="person"), [photo], owner=OWNER)
        train = studio.submit_train(TrainConfig(instance_token="count 3 10"), check.id, owner=OWNER)
        studio.start()
        until(lambda: any(train.id in body and "job.completed" in body for _, body in mine.got), 60)
    finally:
        studio.close()
    events = [Webhook(secret).verify(body, headers) for headers, body in mine.got]
    of_train = [event["type"] for event in events if event["data"]["job"] == train.id]
    of_train = [name for name in of_train if name != "job.progress"]
    assert of_train == ["job.images_ready", "job.model_ready", "job.completed"]
    assert theirs.got == []
