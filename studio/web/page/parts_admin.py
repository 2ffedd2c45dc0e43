"""HTML of the operator's tab: the queue of all owners, what goes on, and what disk and caches hold."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from studio.core.units import bytes_text, dollars, duration_text
from studio.jobs.operation import Activity, CacheShare, Device, Holdings, OwnerShare, QueuedJob, QueueLook, Rented
from studio.jobs.queue import Delivery, RunningJob
from studio.web.page import parts, words, words_admin
from studio.web.page.templates import render

_NOTHING = "-"
_MOST_ROWS = 50
"""Of one group; of the others it is said how many there are."""
_SILENT_S = 10.0
"""A server that lives is heard of more often."""


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


def activity(seen: Activity) -> Markup:
    """Return what goes on: servers and what they run, devices, rented machines, deliveries."""
    servers: dict[str, list[str]] = {seen.server: []}
    for job in seen.running:
        servers.setdefault(job.server, []).append(_runs(job))
    rows = [
        (words_admin.ADMIN_THIS_SERVER.format(server=name) if name == seen.server else name, _joined(runs))
        for name, runs in servers.items()
    ]
    groups = [(words_admin.ADMIN_SERVERS, words_admin.ADMIN_SERVERS_INFO, rows)]
    kinds = {job.id: words_admin.ADMIN_KINDS[job.kind] for job in seen.running}
    groups.append((words_admin.ADMIN_DEVICES, "", [_device(device, kinds) for device in seen.devices]))
    if seen.money is not None:
        money = words_admin.ADMIN_MONEY.format(
            month=seen.money.month,
            spent=dollars(seen.money.spent),
            budget=dollars(seen.budget or 0.0),
            reserved=dollars(seen.money.reserved),
        )
        groups.append((words_admin.ADMIN_RENTED, money, [_rented(row) for row in seen.rented]))
    told = seen.deliveries
    counts = {state: told.counts.get(state, 0) for state in words_admin.ADMIN_DELIVERY_STATES}
    if told.webhooks or any(counts.values()):
        count = words_admin.ADMIN_DELIVERIES_COUNT.format(**counts)
        text = f"{words.counted(words_admin.ADMIN_WEBHOOKS, told.webhooks)} {count}"
        groups.append((words_admin.ADMIN_DELIVERIES, text, [_delivery(row) for row in told.newest]))
    return _groups(groups)


def holdings(held: Holdings) -> Markup:
    """Return what the disk and the caches hold, by part of the home and by owner, and how the GPUs stand."""
    free, total = bytes_text(held.disk_free_bytes), bytes_text(held.disk_bytes)
    rows = [(words_admin.ADMIN_PLACES[name], bytes_text(size)) for name, size in held.places.items()]
    gpus = [
        (gpu.name, words_admin.ADMIN_GPU.format(used=bytes_text(gpu.used_bytes), total=bytes_text(gpu.total_bytes)))
        for gpu in held.gpus
    ]
    owners = [_owner(share) for share in held.owners]
    caches = [_cache(share) for share in held.caches]
    groups = (
        (words_admin.ADMIN_GPUS, "", gpus),
        (words_admin.ADMIN_OWNERS, "", owners),
        (words_admin.ADMIN_CACHES, words_admin.ADMIN_CACHES_INFO, caches),
        (words_admin.ADMIN_DISK, words_admin.ADMIN_DISK_FREE.format(free=free, total=total), rows),
    )
    return _groups([group for group in groups if group[2]])


def _groups(groups: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]) -> Markup:
    shown = []
    for title, text, rows in groups:
        more = len(rows) - _MOST_ROWS
        rest = words.counted(words_admin.ADMIN_MORE, more) if more > 0 else ""
        shown.append({"title": title, "text": text, "rows": rows[:_MOST_ROWS], "rest": rest})
    return render("admin.groups", groups=shown)


def _joined(parts_of_row: Sequence[str]) -> str:
    return "; ".join(parts_of_row) or words_admin.ADMIN_SERVER_IDLE


def _runs(job: RunningJob) -> str:
    facts = {
        "kind": words_admin.ADMIN_KINDS[job.kind],
        "owner": job.owner,
        "attempt": job.attempt,
        "time": duration_text(job.began_s),
    }
    text = words_admin.ADMIN_RUNS if job.place is None else words_admin.ADMIN_RUNS_AT
    said = text.format(**facts, place=job.place)
    if job.silent_s > _SILENT_S:
        said += f" ({words_admin.ADMIN_SILENT.format(time=duration_text(job.silent_s))})"
    return said


def _device(device: Device, kinds: Mapping[str, str]) -> tuple[str, str]:
    name = words_admin.ADMIN_DEVICE_NAMES.get(device.name) or words_admin.ADMIN_DEVICE_GPU.format(name=device.name)
    facts = [kinds.get(job) or words_admin.ADMIN_KINDS[job.partition("-")[0]] for job in device.jobs]
    facts = facts or [words_admin.ADMIN_DEVICE_FREE]
    if device.warm_bytes is not None:
        facts.append(words_admin.ADMIN_DEVICE_WARM.format(size=bytes_text(device.warm_bytes)))
    return name, ", ".join(facts)


def _rented(row: Rented) -> tuple[str, str]:
    price, time = dollars(row.price_per_hour), duration_text(row.age_s)
    return f"{row.service} {row.what}", words_admin.ADMIN_RENTED_ROW.format(job=row.job, price=price, time=time)


def _delivery(row: Delivery) -> tuple[str, str]:
    host = row.host or words_admin.ADMIN_DELIVERY_SEALED
    facts = [words_admin.ADMIN_DELIVERY_STATES[row.state]]
    if row.attempts:
        facts.append(words.counted(words_admin.ADMIN_DELIVERY_TRIES, row.attempts))
    if row.status is not None:
        facts.append(words_admin.ADMIN_DELIVERY_STATUS.format(status=row.status))
    if row.next_s is not None and row.attempts:
        facts.append(words_admin.ADMIN_DELIVERY_NEXT.format(time=duration_text(row.next_s)))
    facts.append(words_admin.ADMIN_DELIVERY_AGE.format(time=duration_text(row.age_s)))
    return words_admin.ADMIN_DELIVERY.format(type=row.type, owner=row.owner, host=host), ", ".join(facts)


def _owner(share: OwnerShare) -> tuple[str, str]:
    facts = [words.counted(words_admin.ADMIN_OWNER, share.jobs, size=bytes_text(share.bytes))]
    used = share.used
    if used is not None:
        counts = (
            (words_admin.ADMIN_OWNER_OPEN, used.use.jobs),
            (words_admin.ADMIN_OWNER_PHOTOS, used.use.photos),
            (words_admin.ADMIN_OWNER_KEYS, used.keys),
        )
        facts += [words.counted(text, count) for text, count in counts if count]
        if used.use.gpu_s >= 1.0:
            facts.append(words_admin.ADMIN_OWNER_TIME.format(time=duration_text(used.use.gpu_s)))
        if used.days is not None:
            facts.append(words.counted(words_admin.ADMIN_OWNER_DAYS, round(used.days)))
    return share.owner, ", ".join(facts)


def _cache(share: CacheShare) -> tuple[str, str]:
    size = bytes_text(share.bytes)
    if share.limit_bytes is not None:
        size = words_admin.ADMIN_CACHE_OF.format(size=size, limit=bytes_text(share.limit_bytes))
    facts = [size]
    if share.entries is not None:
        facts.append(words.counted(words_admin.ADMIN_CACHE_ENTRIES, share.entries))
    if share.away_bytes:
        facts.append(words_admin.ADMIN_CACHE_AWAY.format(size=bytes_text(share.away_bytes)))
    return words_admin.ADMIN_CACHE_NAMES.get(share.name, share.name), ", ".join(facts)


def waits_paused() -> Markup:
    """Return what stands above a job that waits while the queue is paused."""
    return parts.notice(words_admin.WAITS_PAUSED, [words_admin.WAITS_PAUSED_WHY])
