"""How long the queue takes with a thousand waiting jobs, on SQLite and on Postgres.

    python -m benchmarks.queue --out benchmarks/results/queue.json

Without ``--postgres`` a server is started in a temporary folder, if Debian's package is installed, and writes as safely
as one in earnest. With ``--seconds`` clients in threads look jobs up and read events as open pages do, beside an
attempt that tells ten steps a second.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from studio.core.domain import Event, JobFacts
from studio.jobs.events import Outcome
from studio.jobs.postgres import PostgresDatabase
from studio.jobs.queue import NewJob
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store

ROOT = Path(__file__).resolve().parents[1]
OWNERS = tuple(f"owner{number}" for number in range(5))


def timed(times: int, call: Callable[[], Any]) -> dict[str, float]:
    """Return how long a call takes, in milliseconds."""
    found = []
    for _ in range(times):
        begin_s = time.perf_counter()
        call()
        found.append((time.perf_counter() - begin_s) * 1000)
    return summary(found)


def summary(found_ms: list[float]) -> dict[str, float]:
    """Return the least (what other programs on the machine change least), the median, the 95th percentile, the most."""
    found_ms = sorted(found_ms)
    told = {
        "least_ms": found_ms[0],
        "median_ms": statistics.median(found_ms),
        "p95_ms": found_ms[min(len(found_ms) - 1, int(len(found_ms) * 0.95))],
        "most_ms": found_ms[-1],
    }
    return {name: round(value, 3) for name, value in told.items()}


def fill(store: Store, jobs: int) -> None:
    """Queue jobs of five owners; every third one waits for the one before it."""
    for number in range(jobs):
        owner = OWNERS[number // 3 % len(OWNERS)]
        kind, source = ("train", f"j{number - 1}") if number % 3 == 2 else ("check", None)
        facts = JobFacts(subject="Ada", class_noun="woman")
        store.insert(NewJob(f"j{number}", kind, owner, f"Photos of Ada {number}", "fp", source, None, facts))


def measure(store: Store, jobs: int) -> dict[str, Any]:
    """Return how long each call takes with so many waiting jobs."""
    begin_s = time.perf_counter()
    fill(store, jobs)
    found: dict[str, Any] = {"insert_mean_ms": round((time.perf_counter() - begin_s) / jobs * 1000, 3)}
    found["list_all_of_one_owner"] = timed(20, lambda: store.newest(OWNERS[0], 1000))
    found["list_50"] = timed(20, lambda: store.newest(OWNERS[1], 50))
    found["look_up"] = timed(200, lambda: store.get("j0", OWNERS[0]))

    claims = []

    def claim() -> None:
        claims.append(store.claim())

    found["claim"] = timed(40, claim)
    first = claims[0]
    assert first is not None
    steps = iter(range(10**6))

    def tell() -> None:
        step = next(steps)
        events = [Event("metrics", {"step": step, "loss": 0.1}), Event("progress", {"step": step, "total": 10**6})]
        store.append(first, events)

    found["tell_two_events"] = timed(200, tell)
    found["ask_whether_to_stop"] = timed(200, lambda: store.append(first, ()))
    found["heartbeat"] = timed(50, store.beat)
    ends = iter(claims[1:])
    found["finish"] = timed(len(claims) - 1, lambda: store.finish(next(ends), Outcome("completed", result={})))
    return found


def poll(store: Store, clients: int, seconds: float) -> dict[str, Any]:
    """Return how long look-ups take while clients poll each second beside an attempt that tells its steps."""
    running = store.claim()
    assert running is not None
    owner, end_s = store.owner_of(running.id), time.monotonic() + seconds
    found_ms: list[float] = []

    def client(number: int) -> None:
        seen = 0
        time.sleep(number / clients)
        while time.monotonic() < end_s:
            begin_s = time.perf_counter()
            store.get(running.id, owner)
            events = store.events(running.id, owner, seen)
            seen = events[-1][0] if events else seen
            found_ms.append((time.perf_counter() - begin_s) * 1000)
            time.sleep(max(0.0, 1.0 - (time.perf_counter() - begin_s)))

    def train() -> None:
        step = 0
        while time.monotonic() < end_s:
            step += 1
            store.append(running, [Event("metrics", {"step": step}), Event("progress", {"step": step, "total": 9**9})])
            time.sleep(0.1)

    memory = resident_bytes()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    threads.append(threading.Thread(target=train))
    cpu_s = time.process_time()
    for thread in threads:
        thread.start()
    middle = None
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        if middle is None and time.monotonic() > end_s - seconds / 2:
            middle = resident_bytes()
    return {
        "clients": clients, "seconds": seconds, "look_ups": len(found_ms), **summary(found_ms),
        "cpu_share": round((time.process_time() - cpu_s) / seconds, 3),
        "memory_mb": [round(value / 1e6, 1) for value in (memory, middle or 0, resident_bytes())],
    }  # fmt: skip


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def stores(postgres: str | None) -> Iterator[dict[str, Store]]:
    """Lend an empty queue on each database that is here."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = {"sqlite": Store(SqliteDatabase(folder / "jobs.sqlite3"))}
        server = helper(ROOT / "tests" / "reference" / "postgres_server.py")
        if postgres is None and server.program("initdb"):
            postgres = stack.enter_context(server.serve(safe=True)).url
        if postgres is not None:
            made["postgres"] = Store(PostgresDatabase(postgres))
        yield made
        for store in made.values():
            store.close()


def helper(path: Path) -> ModuleType:
    """Import a helper of the tests, which are no package, by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--postgres", help="address of an empty database")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "jobs": arguments.jobs, "owners": len(OWNERS), "python": platform.python_version(), "cpus": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    with stores(arguments.postgres) as made:
        for name, store in made.items():
            found[name] = measure(store, arguments.jobs)
            if arguments.seconds:
                found[name]["polling"] = poll(store, arguments.clients, arguments.seconds)
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
