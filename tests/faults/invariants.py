"""What must be true of an installation when all is over, whatever was killed on the way; used by the kill loops.

``broken`` looks at the table, the folders of the jobs and the storage, and returns a sentence for each thing that is
wrong. It asks the database itself, so that a view cannot hide anything.
"""

import fcntl
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select

from studio.core.domain import TERMINAL_STATES
from studio.jobs.child import LOCK_FILE, OUT_FOLDER
from studio.jobs.database import Database
from studio.jobs.schema import EVENTS, JOBS


def broken(database: Database, home: Path, accepted: Mapping[str, int | None]) -> list[str]:
    """Return what is wrong; nothing if all is well.

    Args:
        database: with the table of jobs.
        home: of the installation; its storage, if it has one, lies in there.
        accepted: id of each job that was taken, and how many steps ``steps.txt`` must tell of, each once;
            None for a job without that file.
    """
    with database.read() as db:
        rows = {row["id"]: row for row in db.execute(select(JOBS)).mappings()}
        events = [(row.job, row.seq) for row in db.execute(select(EVENTS.c.job, EVENTS.c.seq))]
    found = [f"{job} was accepted and is lost" for job in sorted(accepted.keys() - rows.keys())]
    found += [f"{job} is there and nobody has asked for it" for job in sorted(rows.keys() - accepted.keys())]
    found += [f"{job} has events and is not there" for job in sorted({job for job, _ in events} - rows.keys())]
    for job, row in rows.items():
        found += [f"{job} {words}" for words in _of_row(row)]
        if any(seq > row["last_seq"] for of, seq in events if of == job):
            found.append(f"{job} has events that were never numbered")
        folder = home / "jobs" / job
        found += [f"{job} {words}" for words in _of_folder(folder, row, accepted.get(job))]
        found += [f"{job} {words}" for words in _of_storage(home / "storage" / "jobs" / job, folder, row)]
    return found


def _of_row(row: Mapping[str, object]) -> list[str]:
    found = []
    if row["state"] not in TERMINAL_STATES:
        found.append(f"has not ended: it is {row['state']}")
    if (row["state"] == "completed") != (row["result"] is not None):
        found.append(f"is {row['state']} and has {'no' if row['result'] is None else 'a'} result")
    if row["state"] == "stalled" and not row["cause"]:
        found.append("is stalled without a cause")
    if row["state"] in TERMINAL_STATES and row["finished_s"] is None:
        found.append("has ended at no time")
    if row["state"] in TERMINAL_STATES and any(row[name] is not None for name in ("holder", "leased_until_s", "place")):
        found.append("has ended and holds a lease")
    return found


def _of_folder(folder: Path, row: Mapping[str, object], steps: int | None) -> list[str]:
    found = []
    lock = folder / LOCK_FILE
    if lock.exists():
        with lock.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append("still has a process")
    if steps is not None and row["state"] == "completed":
        path = folder / OUT_FOLDER / "steps.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        if [line.split()[0] for line in lines] != [str(step) for step in range(1, steps + 1)]:
            found.append("has done a step twice, or not at all")
    return found


def _of_storage(storage: Path, folder: Path, row: Mapping[str, object]) -> list[str]:
    """Compare what an attempt on another machine has committed with what everybody sees."""
    committed = storage / "result.json"
    if not committed.exists():
        return []
    found = []
    told = json.loads(committed.read_bytes())
    result = json.loads(str(row["result"])) if row["result"] is not None else None
    if told["attempt"] > int(str(row["attempt"])):
        found.append("has the result of an attempt that it never had")
    if row["state"] == "completed" and told["ending"]["result"] != result:
        found.append("shows another result than the one that was committed first")
    for file in told["ending"]["files"]:
        path = folder / OUT_FOLDER / file["path"]
        if row["state"] == "completed" and not (
            path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
        ):
            found.append(f"shows another {file['path']} than the committed attempt's")
    return found
