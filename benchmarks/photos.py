"""How many photos does it take? Likeness of trained pictures against 1, 2, 4, 8 and 16 photos of held-out drawn people.

    python -m benchmarks.photos --identities 2

Each cell is the likeness benchmark with another number of photos. A reference of one photo is a poor one, so likeness
is measured twice: as the studio does, against the photos that were given, and against new drawings of the person that
no run has seen (``to_drawn``), which is the same yardstick for every number. It goes on where it was stopped. Results:
``benchmarks/results/photos.json``, and the table on standard output.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import likeness as bench_of
from studio.bases.resolve import resolve_base
from studio.compute.device import cpu_threads
from studio.core.presets import load_preset, override, parse_assignments
from studio.core.settings import load_settings

COUNTS = (1, 2, 4, 8, 16)
COLUMNS = ("photos", "steps", "likeness", "to_drawn", "twin_margin", "bleed", "following", "train_cpu_s")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    rows: list[dict[str, Any]] = []
    with cpu_threads(load_settings().threads):
        for count in options.counts:
            rows.append(cell(options, count))
            bench_of.write(options.out, json.dumps(report(options, rows), indent=1) + "\n")
            bench_of.say(table(rows[-1:]))
    print(table(rows))
    return 0


def cell(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """Return the means over the identities for one number of photos."""
    changes = {"likeness": "pocket", "certify": False, **parse_assignments(options.set)}
    config = override(load_preset(options.preset).config, changes)
    base = resolve_base(config.base, config.revision)
    bench = bench_of.opened_bench(config, base, options.work, photos=count)
    found = []
    for number in range(options.identities):
        bench_of.say(f"{count} photos, identity {number + 1} of {options.identities}")
        noun = bench_of.noun_of(number)
        found.append(bench_of.row_of(bench, number, bench_of.untrained_pictures(bench, noun)))
    return {
        "photos": count,
        "steps": found[0]["steps"],
        "likeness": bench_of.mean([row["likeness_after"] for row in found]),
        "to_drawn": bench_of.mean([row["likeness_to_drawn"] for row in found]),
        "twin_margin": bench_of.mean([row["likeness_after"] - row["likeness_to_twin"] for row in found]),
        "bleed": bench_of.mean([row["bleed"] for row in found]),
        "following": bench_of.mean([bench_of.mean(list(row["following_after"].values())) for row in found]),
        "train_cpu_s": round(bench_of.mean([row["train_cpu_s"] for row in found]), 1),
        "identities": [row["identity_seed"] for row in found],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(row[name]) for name in COLUMNS) + " |" for row in rows]
    return "\n".join(lines)


def report(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "benchmark": "photos",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "preset": options.preset,
        "overrides": parse_assignments(options.set),
        "machine": bench_of.machine(),
        "rows": list(rows),
    }


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--identities", type=int, default=2, help="number of held-out people")
    parser.add_argument("--counts", nargs="+", type=int, default=list(COUNTS), help="numbers of photos")
    parser.add_argument("--preset", default="pocket_lora_cpu", help="training preset")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a training setting")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "photos.json")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "photos-benchmark")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
