"""How OpenMP should wait on a machine that does other things, too: the same steps under several settings.

    python benchmarks/busy_cores.py --rounds 20 --out benchmarks/results/busy_cores.jsonl
    python benchmarks/busy_cores.py --read benchmarks/results/busy_cores.jsonl

One process for each setting loads the embedded base and then rests. In every round each of them, in a new order, works
alone for a moment: beside nothing, beside one busy process, beside one for each core. What is told is paired within its
round: the median over the rounds of this setting's time per step over that of the first one, torch's own, and the CPU
time of a step, which other programs change little. Of what is called quiet, rounds in which other programs took more
than ``--others`` of the machine are left out.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

SETTINGS: dict[str, dict[str, str]] = {
    "as torch is": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin 500": {"GOMP_SPINCOUNT": "500"},
    "spin 2000": {"GOMP_SPINCOUNT": "2000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""Name -> variables of the environment."""

WORKER = """
import sys, time
import torch
from diffusers import UNet2DConditionModel
torch.manual_seed(0)
unet = UNet2DConditionModel.from_pretrained(sys.argv[1], subfolder="unet")
unet.requires_grad_(False)
for name, weight in unet.named_parameters():
    weight.requires_grad_("attn" in name or "conv" in name)
side, wide = unet.config.sample_size, unet.config.cross_attention_dim
noise, text = torch.randn(8, unet.config.in_channels, side, side), torch.randn(8, 40, wide)
at = torch.randint(0, 1000, (8,))
def train():
    unet(noise, at, text).sample.square().mean().backward()
    unet.zero_grad(set_to_none=True)
@torch.no_grad()
def draw():
    unet(noise[:4], at[:4], text[:4])
work = {"train": train, "draw": draw}
for step in work.values():
    step()
print("ready", flush=True)
for line in sys.stdin:
    name, least_s = line.split()
    steps, cpu_s, begin_s = 0, time.process_time(), time.perf_counter()
    while steps == 0 or time.perf_counter() - begin_s < float(least_s):
        work[name]()
        steps += 1
    print((time.perf_counter() - begin_s) / steps, (time.process_time() - cpu_s) / steps, steps, flush=True)
"""
BUSY = "while True: pass"
WORK = ("train", "draw")


def machine_s() -> float:
    """Return the CPU seconds that all programs of this machine have taken."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def measure(rounds: int, loads: list[int], moment_s: float, out: Path) -> None:
    """Work through all rounds and write a line for each moment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    base, cores = str(ROOT / "studio" / "pocket" / "base"), len(os.sched_getaffinity(0))
    workers: dict[str, Any] = {}
    for name, variables in SETTINGS.items():
        workers[name] = subprocess.Popen(
            [sys.executable, "-c", WORKER, base], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=clean | variables,
        )  # fmt: skip
        assert workers[name].stdout.readline() == "ready\n"
    dice, others = random.Random(0), []
    try:
        for number in range(rounds):
            for busy in loads:
                others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
                time.sleep(0.3 if busy else 0.0)
                for work in WORK:
                    for name in dice.sample(sorted(workers), len(workers)):
                        worker, before_s, begin_s = workers[name], machine_s(), time.perf_counter()
                        worker.stdin.write(f"{work} {moment_s}\n")
                        worker.stdin.flush()
                        step_s, cpu_s, steps = map(float, worker.stdout.readline().split())
                        wall_s = time.perf_counter() - begin_s
                        foreign = (machine_s() - before_s - cpu_s * steps) / wall_s / cores
                        row = {"round": number, "busy": busy, "work": work, "setting": name, "step_s": step_s}
                        with out.open("a") as file:
                            file.write(json.dumps({**row, "cpu_s": cpu_s, "others": round(foreign, 3)}) + "\n")
                for other in others:
                    other.kill()
                    other.wait()
    finally:
        for process in (*others, *workers.values()):
            process.kill()


def summary(rows: list[dict[str, Any]], most_others: float) -> list[dict[str, Any]]:
    """Return for each load, work and setting the paired ratio to torch's own setting, and times of a step in ms."""
    first, told = next(iter(SETTINGS)), []
    for busy in sorted({row["busy"] for row in rows}):
        for work in WORK:
            found: dict[str, dict[int, Any]] = {name: {} for name in SETTINGS}
            for row in rows:
                quiet_enough = busy or row["others"] <= most_others
                if (row["busy"], row["work"]) == (busy, work) and quiet_enough:
                    found[row["setting"]][row["round"]] = row
            for name, mine in found.items():
                rounds = sorted(mine.keys() & found[first].keys())
                if not rounds:
                    continue
                ratios = [mine[number]["step_s"] / found[first][number]["step_s"] for number in rounds]
                told.append(
                    {"busy": busy, "work": work, "setting": name, "rounds": len(rounds),
                     "time_ratio": round(statistics.median(ratios), 3),
                     "step_ms": round(1000 * statistics.median(mine[number]["step_s"] for number in rounds), 1),
                     "cpu_ms": round(1000 * statistics.median(mine[number]["cpu_s"] for number in rounds), 1)}
                )  # fmt: skip
    return told


def main() -> None:
    """Measure, or read what was measured, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--loads", type=int, nargs="+", default=[0, 1, 2], help="busy processes beside the steps")
    parser.add_argument("--moment-s", type=float, default=0.4)
    parser.add_argument("--others", type=float, default=0.05, help="most that others may take of a quiet machine")
    parser.add_argument("--out", type=Path, default=Path("busy_cores.jsonl"), help="gets a line for each moment")
    parser.add_argument("--read", type=Path, help="only tell what this file holds")
    given = parser.parse_args()
    if not given.read:
        measure(given.rounds, given.loads, given.moment_s, given.out)
    rows = [json.loads(line) for line in (given.read or given.out).read_text().splitlines()]
    for row in summary(rows, given.others):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
