"""HTML of the operator's tab: the queue of all owners, and what the disk holds."""

from markupsafe import Markup

from studio.core.units import bytes_text, duration_text
from studio.jobs.operation import Holdings, QueuedJob, QueueLook
from studio.web.page import parts, words, words_admin
from studio.web.page.templates import render

_NOTHING = "-"


def queue(look: QueueLook, mine: str) -> Markup:
    """Return the queue: who runs the jobs, what is free, and a row for each job.

    Args:
        look: how the queue stands.
        mine: the owner that looks; only their own jobs are links.
    """
    who = words_admin.ADMIN_LEADS if look.leads else words_admin.ADMIN_LED if look.led else words_admin.ADMIN_NOT_LED
    free, total = bytes_text(look.memory_free_bytes), bytes_text(look.memory_bytes)
    facts = (
        who,
        words_admin.ADMIN_RUNNING.format(running=look.running, slots=look.slots),
        words_admin.ADMIN_MEMORY.format(free=free, total=total, load=look.load, cores=look.cores),
    )
    paused = parts.notice(words_admin.ADMIN_PAUSED, [words_admin.ADMIN_PAUSED_WHY]) if look.paused else Markup()
    return paused + render(
        "admin.queue",
        title=words_admin.ADMIN_QUEUE,
        facts=facts,
        empty=words_admin.ADMIN_QUEUE_EMPTY,
        columns=words_admin.ADMIN_COLUMNS,
        jobs=[
            {
                "id": job.id,
                "kind": words_admin.ADMIN_KINDS[job.kind],
                "mine": job.owner == mine,
                "cells": (
                    job.owner,
                    state_of(job),
                    job.attempt or _NOTHING,
                    duration_text(job.age_s),
                    duration_text(job.waited_s),
                    _NOTHING if job.memory_bytes is None else bytes_text(job.memory_bytes),
                ),
            }
            for job in look.jobs
        ],
    )


def state_of(job: QueuedJob) -> str:
    """Return a job's state in words, with its place where it waits for its turn."""
    state = words.STATES.get(job.state) or words.JOB_STATES[job.state]
    return state if job.place is None else words_admin.ADMIN_PLACE.format(state=state, place=job.place)


def choice_of(job: QueuedJob) -> str:
    """Return a job as a choice of a list."""
    return words_admin.ADMIN_CHOICE.format(kind=words_admin.ADMIN_KINDS[job.kind], owner=job.owner, state=state_of(job))


def holdings(held: Holdings) -> Markup:
    """Return what the disk holds, by part of the home and by owner, and how the GPUs stand."""
    free, total = bytes_text(held.disk_free_bytes), bytes_text(held.disk_bytes)
    rows = [(words_admin.ADMIN_PLACES[name], bytes_text(size)) for name, size in held.places.items()]
    owners = [
        (share.owner, words.counted(words_admin.ADMIN_OWNER, share.jobs, size=bytes_text(share.bytes)))
        for share in held.owners
    ]
    gpus = [
        (gpu.name, words_admin.ADMIN_GPU.format(used=bytes_text(gpu.used_bytes), total=bytes_text(gpu.total_bytes)))
        for gpu in held.gpus
    ]
    groups = (
        (words_admin.ADMIN_GPUS, "", gpus),
        (words_admin.ADMIN_DISK, words_admin.ADMIN_DISK_FREE.format(free=free, total=total), rows),
        (words_admin.ADMIN_OWNERS, "", owners),
    )
    shown = [{"title": title, "text": text, "rows": listed} for title, text, listed in groups if listed]
    return render("admin.holdings", groups=shown)


def waits_paused() -> Markup:
    """Return what stands above a job that waits while the queue is paused."""
    return parts.notice(words_admin.WAITS_PAUSED, [words_admin.WAITS_PAUSED_WHY])
