"""Which method keeps a person best, at what price? LoRA, DoRA, LoKr, pivotal and full, with and without a prior.

Each cell is the likeness benchmark (same held-out identities, photos, prompts and seeds) with another method::

    python -m benchmarks.methods --identities 3 --rates 0.5 1
    python -m benchmarks.methods --identities 1 --methods lora full --steps 40     # does it work?

The checkpoint is chosen as in every run, by likeness less bleed. It goes on where it was stopped, and then counts the
processor seconds of the last part only: delete the folder of a person that was cut off. Results:
``benchmarks/results/methods.json`` and, on standard output, one table of likeness, bleed, following, processor seconds
of training and megabytes.
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks import likeness as bench_of
from studio import __version__
from studio.bases.resolve import resolve_base
from studio.compute.device import cpu_threads
from studio.core.presets import load_preset, override, parse_assignments
from studio.core.settings import load_settings

_PLAIN: dict[str, Any] = {"token_learning_rate": None, "token_vectors": 1, "token_share": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {**_PLAIN, "method.name": "lora", "learning_rate": 1e-3},
    "dora": {**_PLAIN, "method.name": "lora", "method.dora": True, "learning_rate": 1e-3},
    "lokr": {**_PLAIN, "method.name": "lokr", "learning_rate": 3e-3},
    "pivotal": {"method.name": "lora"},
    "full": {**_PLAIN, "method.name": "full", "learning_rate": 1e-4},
}
"""Name -> changes to the preset, whose own method is ``pivotal``. Rates: see ``--set learning_rate=...`` for others."""

PRIORS: dict[str, dict[str, Any]] = {
    "none": {"prior.mode": "none"},
    "images": {"prior.mode": "images"},
    "prediction": {"prior.mode": "prediction"},
}
COLUMNS = (
    "method",
    "prior",
    "learning_rate",
    "likeness",
    "twin_margin",
    "bleed",
    "following",
    "train_cpu_s",
    "megabytes",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    rows: list[dict[str, Any]] = []
    with cpu_threads(load_settings().threads):
        for method in options.methods:
            for prior in options.priors:
                for rate in options.rates:
                    rows.append(cell(options, method, prior, rate))
                    bench_of.write(options.out, json.dumps(report(options, rows), indent=1) + "\n")
                    bench_of.say(table(rows[-1:]))
    print(table(rows))
    return 0


def cell(options: argparse.Namespace, method: str, prior: str, rate: float) -> dict[str, Any]:
    """Return the means over the identities of one method with one prior, at ``rate`` times the method's own rate."""
    preset = load_preset(options.preset).config
    changes = {"likeness": "pocket", "certify": False, **METHODS[method], **PRIORS[prior]}
    if options.steps:
        changes |= {"steps": options.steps, "checkpoint_every_steps": options.steps}
    config = override(preset, {**changes, **parse_assignments(options.set)})
    config = override(config, {"learning_rate": config.learning_rate * rate})
    base = resolve_base(config.base, config.revision)
    bench = bench_of.opened_bench(config, base, options.work)
    found, sizes = [], []
    for number in range(options.identities):
        bench_of.say(f"{method}, prior {prior}, identity {number + 1} of {options.identities}")
        noun = bench_of.noun_of(number)
        found.append(bench_of.row_of(bench, number, bench_of.untrained_pictures(bench, noun)))
        adapter = bench_of.folder_of(bench, number) / "run" / "adapter"
        sizes.append(sum(path.stat().st_size for path in adapter.glob("*.safetensors")))
    return {
        "method": method,
        "prior": prior,
        "likeness": bench_of.mean([row["likeness_after"] for row in found]),
        "twin_margin": bench_of.mean([row["likeness_after"] - row["likeness_to_twin"] for row in found]),
        "bleed": bench_of.mean([row["bleed"] for row in found]),
        "following": bench_of.mean([bench_of.mean(list(row["following_after"].values())) for row in found]),
        "train_cpu_s": round(bench_of.mean([row["train_cpu_s"] for row in found]), 1),
        "megabytes": round(bench_of.mean(sizes) / 1e6, 2),
        "learning_rate": config.learning_rate,
        "steps": found[0]["steps"],
        "identities": [row["identity_seed"] for row in found],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table, the best likeness first."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in sorted(rows, key=lambda row: -row["likeness"]):
        lines.append("| " + " | ".join(str(row[name]) for name in COLUMNS) + " |")
    return "\n".join(lines)


def report(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "preset": options.preset,
        "identities": options.identities,
        "changed": {"steps": options.steps, "set": options.set},
        "machine": bench_of.machine(),
        "versions": {"likeness-studio": __version__, "python": platform.python_version(), "torch": torch.__version__},
        "rows": list(rows),
    }


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--identities", type=int, default=3, help="number of held-out people")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--priors", nargs="+", choices=PRIORS, default=["none", "prediction"])
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0], help="factors of each method's learning rate")
    parser.add_argument("--preset", default="pocket_lora_cpu", help="training preset that the methods change")
    parser.add_argument("--steps", type=int, default=None, help="train shorter than the preset, to try it")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a training setting")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "methods.json")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "methods-benchmark")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
