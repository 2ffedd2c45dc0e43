from dataclasses import replace

from studio.core.keys import Use
from studio.core.machine import Gpu
from studio.core.units import duration_text
from studio.jobs.operation import Activity, CacheShare, Device, Holdings, OwnerShare, QueuedJob, QueueLook, Rented
from studio.jobs.queue import Deliveries, Delivery, OwnerUse, RunningJob
from studio.jobs.rentals import Money
from studio.web.page import parts_admin

JOB = QueuedJob("train-1", "train", "pendingGpu", "hf:7", 0, 130.0, 130.0, 2, None)
MINE = QueuedJob("generate-2", "generate", "generating", "hf:1", 1, 65.0, 5.0, None, 1_500_000_000)
LOOK = QueueLook(False, True, True, 1, 1, (MINE, JOB), 10**9, 2 * 10**9, 1.25, 2)


def test_a_row_says_whose_how_long_and_how_much_and_only_ones_own_job_is_a_link() -> None:
    said = parts_admin.queue(LOOK, "hf:1")
    assert said.count("<tr data-queued=") == 2 and said.count("<a ") == 1 and 'href="?job=generate-2"' in said
    assert "<td>Waiting for a free device, number 2</td>" in said and "<td>2 min</td>" in said
    assert "<td>1.5 GB</td>" in said and "<td>hf:7</td>" in said
    assert "This server runs the jobs." in said and "1 GB of 2 GB free" in said and "1.2 of 2 cores" in said
    assert "paused" not in said


def test_a_pause_and_a_queue_without_a_server_are_said() -> None:
    assert "The queue is paused" in parts_admin.queue(replace(LOOK, paused=True), "")
    assert "Another server" in parts_admin.queue(replace(LOOK, leads=False), "")
    assert "No server runs the jobs now." in parts_admin.queue(replace(LOOK, leads=False, led=False), "")
    assert "No job waits or runs." in parts_admin.queue(replace(LOOK, jobs=()), "")


def test_what_an_owner_is_called_is_text() -> None:
    assert "<script>" not in parts_admin.queue(replace(LOOK, jobs=(replace(JOB, owner="<script>"),)), "")


def test_the_disk_is_told_by_place_and_owner() -> None:
    gpus = (Gpu("NVIDIA H200", 4 * 10**9, 150 * 10**9),)
    held = Holdings({"jobs": 2000, "other": 10}, 3, 900, 10**9, 10**12, (OwnerShare("hf:1", 1, 2000),), gpus)
    said = parts_admin.holdings(held)
    assert "1 GB of 1 TB are free" in said and "1 job, 2 kB" in said and "4 GB of 150 GB in use" in said
    assert "GPUs" not in parts_admin.holdings(replace(held, gpus=()))


def test_owners_are_told_with_what_they_used_and_many_of_them_are_counted() -> None:
    used = OwnerUse(Use("2026-12", 12, 2, 3600.0), 3.0, 1)
    held = Holdings({}, None, 0, 1, 2, (OwnerShare("hf:1", 3, 2000, used), OwnerShare("<b>", 0, 0)), ())
    said = parts_admin.holdings(held)
    for words in (
        "3 jobs, 2 kB",
        "2 of them open",
        "12 photos",
        "1 API key",
        f"{duration_text(3600.0)} of running this month",
        "kept for 3 days",
        "&lt;b&gt;",
    ):
        assert words in said, words
    many = replace(held, owners=tuple(OwnerShare(f"hf:{number}", 1, 1) for number in range(60)))
    assert "and 10 more" in parts_admin.holdings(many) and "hf:55" not in parts_admin.holdings(many)


def test_caches_are_told_with_their_limits_and_what_lies_elsewhere() -> None:
    caches = (CacheShare("results", 500, 3, 2000), CacheShare("weights", 10, None, 1000, 9000))
    said = parts_admin.holdings(Holdings({}, 3, 500, 1, 2, (), (), (*caches, CacheShare("other", 1, 1, None))))
    assert "500 bytes of 2 kB, 3 entries" in said and "10 bytes of 1 kB, 9 kB more in the backup alone" in said
    assert "Result cache" in said and "<span>other</span>" in said and "1 entry" in said


RUNS = RunningJob("train-1", "train", "hf:7", 2, "here 1", True, None, 65.0, 1.0)
GOES_ON = Activity("here 1", (), (Device("cpu", (), None),), (), None, None, Deliveries({}, 0, ()))


def test_servers_and_devices_say_what_they_run() -> None:
    said = parts_admin.activity(GOES_ON)
    assert "here 1 (this one)" in said and "runs nothing" in said and "Processor" in said and ">free<" in said
    assert "Deliveries" not in said and "Rented" not in said
    elsewhere = replace(RUNS, id="generate-2", kind="generate", server="there 2", place="ssh", silent_s=30.0)
    devices = (Device("0", ("train-1",), 10**9), Device("cpu", (), None))
    said = parts_admin.activity(replace(GOES_ON, running=(RUNS, elsewhere), devices=devices))
    assert f"Training of hf:7, attempt 2, for {duration_text(65.0)}" in said and "GPU 0" in said
    assert (
        f"Pictures of hf:7, attempt 2, for {duration_text(65.0)}, on ssh (not heard of for {duration_text(30.0)})"
        in said
        and ">there 2<" in said
    )
    assert "Training, a base stays loaded for pictures, 1 GB" in said


def test_money_and_deliveries_are_told() -> None:
    rented = (Rented("vast", "RTX 4090", "train-1", 0.5, 120.0),)
    told = (
        Delivery("hf:7", "hooks.example.org", "job.completed", "waiting", 3, 500, 60.0, 300.0),
        Delivery("hf:8", None, "job.stalled", "failed", 9, None, 7200.0, None),
    )
    said = parts_admin.activity(
        replace(
            GOES_ON, rented=rented, money=Money("2026-12", 1.5, 0.25), budget=20.0,
            deliveries=Deliveries({"waiting": 1, "failed": 1}, 2, told),
        )
    )  # fmt: skip
    assert "2026-12: $1.50 of $20.00 spent, $0.25 reserved" in said and "vast RTX 4090" in said
    assert f"for train-1, $0.50 an hour, for {duration_text(120.0)}" in said
    assert "2 active webhooks. 1 wait, 1 failed, 0 delivered." in said
    assert "job.completed for hf:7 to hooks.example.org" in said
    assert f"waits, 3 attempts, last answer 500, next in {duration_text(300.0)}, {duration_text(60.0)} ago" in said
    assert "job.stalled for hf:8 to a sealed address" in said
