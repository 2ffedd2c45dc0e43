from dataclasses import replace

from studio.core.machine import Gpu
from studio.jobs.operation import Holdings, OwnerShare, QueuedJob, QueueLook
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
