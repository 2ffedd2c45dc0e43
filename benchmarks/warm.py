"""Packs one after another on one warm process: seconds from order to work, seconds and memory of each job.

    python -m benchmarks.warm [--jobs 200] [--adapters 3] [--out benchmarks/results/warm.json]

A whole studio with the real verb on pocket; the runs hold adapters of small random numbers, since what they draw does
not matter here. The first job starts a process and loads the base; all others exchange the adapter. Memory is the
resident set of that process after each job. ``growth`` compares the most of the last half with the most of the second
tenth, when everything has been used once.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.packs import write_run
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import JobKind
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs.runners.local import process_of
from studio.jobs.states import VERBS, VerbSpec
from studio.service import Studio

OWNERS = ("ada", "bob")
PACK = GenerateConfig.parse(
    {"prompts": ["photo of {subject}"], "width_px": 64, "height_px": 64, "num_inference_steps": 4, "use_cache": False}
)
STAND_INS = """
import shutil

def check(config, source, out, *, on_event, should_stop):
    out.mkdir(exist_ok=True)
    return {}

def train(config, source, out, *, on_event, should_stop):
    shutil.copytree(FOLDER + "/" + config.instance_token, out, dirs_exist_ok=True)
    return {}
"""
"""The verbs before ``generate``: they bring the runs that are there already."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--adapters", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = measure(Path(name), arguments.jobs, arguments.adapters)
    warm = rows[1:]
    tenth = max(1, len(rows) // 10)
    settled = max(row["rss_bytes"] for row in rows[tenth : 2 * tenth] or rows)
    most = max(row["rss_bytes"] for row in rows[len(rows) // 2 :])
    result = {
        "jobs": len(rows),
        "adapters": arguments.adapters,
        "processes": len({row["process"] for row in rows}),
        "first_start_s": rows[0]["start_s"],
        "start_s": _spread([row["start_s"] for row in warm]),
        "job_s": _spread([row["job_s"] for row in warm]),
        "job_s_last_tenth": _spread([row["job_s"] for row in rows[-tenth:]]),
        "memory_bytes_settled": settled,
        "memory_bytes_most_of_last_half": most,
        "growth": round(most / settled - 1, 4),
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": psutil.cpu_count()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def measure(folder: Path, jobs: int, adapters: int) -> list[dict[str, Any]]:
    """Run so many jobs of two owners in turns; return what was seen of each."""
    for seed in range(adapters):
        write_run(folder / "runs" / f"run{seed}", seed)
    (folder / "stand_ins.py").write_text(f"FOLDER = {str(folder / 'runs')!r}\n{STAND_INS}")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    verbs: Mapping[JobKind, VerbSpec] = {
        **VERBS,
        "check": VerbSpec("stand_ins:check", CheckConfig, "checking", needs_device=False),
        "train": VerbSpec("stand_ins:train", TrainConfig, "training", needs_device=True),
    }
    studio = Studio(Settings(home=folder / "home", owner="nobody"), verbs=verbs)
    studio.start()
    try:
        runs = {(owner, seed): _run(studio, folder, owner, seed) for owner in OWNERS for seed in range(adapters)}
        rows = []
        for number in range(jobs):
            owner = OWNERS[number % len(OWNERS)]
            rows.append(_one(studio, owner, runs[owner, number % adapters]))
        return rows
    finally:
        studio.close()


def _run(studio: Studio, folder: Path, owner: str, seed: int) -> str:
    (folder / "photo.png").write_bytes(b"a photo")
    check = studio.submit_check(CheckConfig(class_noun="woman"), [folder / "photo.png"], owner=owner)
    run = studio.submit_train(TrainConfig(instance_token=f"run{seed}"), check.id, owner=owner)
    studio.wait(run.id, owner=owner)
    return run.id


def _one(studio: Studio, owner: str, run: str) -> dict[str, Any]:
    begun_s = time.perf_counter()
    job = studio.submit_generate(PACK, run, owner=owner)
    start_s = None
    while start_s is None:
        for _, event in studio.events(job.id, owner=owner):
            if event.kind == "stage" and event.data["name"] == "generating":
                start_s = time.perf_counter() - begun_s
        time.sleep(0.005)
    done = studio.wait(job.id, owner=owner)
    if done.state != "completed":
        raise SystemExit(f"{job.id} is {done.state}: {done.cause}")
    process = process_of(studio.out_dir(job.id, owner=owner).parent)
    assert process is not None
    return {
        "start_s": round(start_s, 3),
        "job_s": round(time.perf_counter() - begun_s, 3),
        "process": process,
        "rss_bytes": psutil.Process(process).memory_info().rss,
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = min(len(ordered) - 1, int(0.95 * len(ordered)))
    return {"median": round(statistics.median(ordered), 3), "p95": ordered[at], "most": ordered[-1]}


if __name__ == "__main__":
    main()
