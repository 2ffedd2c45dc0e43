"""Pictures per second of a finish chain against the same work by hand: rembg and a network, file by file.

    python -m benchmarks.finish PHOTO [PHOTO ...] [--rounds 3] [--out benchmarks/results/finish.json]

The work: cut out with u2netp, clean the edges, enlarge twice with animevideov3, write a PNG. By hand, both models are
loaded once, and edges are cleaned with rembg's own ``decontaminate``; a second number loads both for every file, as a
script that is called per file does. ``import rembg`` is not counted (it compiles for a minute when it is new). The ways
take turns, and the fastest round of each counts: what else the machine does must not decide. CPU seconds stand beside.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from studio.bases.weight_files import resolve
from studio.core.finish_config import FinishConfig
from studio.core.settings import load_settings
from studio.finishing.networks.read import build, read_weights
from studio.postprocess import finish

STEPS = [{"do": "cutout", "refine": "none"}, {"do": "upscale", "model": "animevideov3", "factor": 2}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--side", type=int, default=384, help="photos are scaled to this longer side first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    import rembg  # noqa: F401  not counted

    home = load_settings().home
    weights = resolve("u2netp", home).path
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models" / "u2netp").mkdir(parents=True)
        (folder / "models" / "u2netp" / "u2netp.onnx").symlink_to(weights)
        os.environ["U2NET_HOME"] = str(folder)
        (folder / "in").mkdir()
        for index, path in enumerate(arguments.photos):
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((arguments.side, arguments.side))
            picture.save(folder / "in" / f"{index:03d}.png")
        files = sorted((folder / "in").iterdir())
        config = FinishConfig.parse({"steps": STEPS})
        ways: dict[str, Callable[[int], Any]] = {
            "by hand, models loaded once": lambda _: by_hand(files, folder, home, once=True),
            "by hand, models loaded per file": lambda _: by_hand(files, folder, home, once=False),
            "finish": lambda number: finish(config, folder / "in", folder / f"out-{number}"),
        }
        rounds = [{name: _timed(way, number) for name, way in ways.items()} for number in range(arguments.rounds)]
    # Wall-clock and CPU seconds, each of its fastest round.
    fastest = {name: tuple(min(one[name][clock] for one in rounds) for clock in (0, 1)) for name in ways}
    result: dict[str, Any] = {
        "pictures": len(files),
        "side_px": arguments.side,
        "rounds": arguments.rounds,
        "pictures_per_s": {name: round(len(files) / wall_s, 3) for name, (wall_s, _) in fastest.items()},
        "cpu_s_per_picture": {name: round(cpu_s / len(files), 2) for name, (_, cpu_s) in fastest.items()},
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")


def _timed(way: Callable[[int], Any], number: int) -> tuple[float, float]:
    """Return the wall-clock seconds and the CPU seconds."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    way(number)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def by_hand(files: list[Path], folder: Path, home: Path, *, once: bool) -> None:
    """Do the same with rembg's and spandrel's own calls."""
    import rembg

    def loaded() -> tuple[Any, Any]:
        return rembg.new_session("u2netp"), build(read_weights(resolve("animevideov3", home).path), "animevideov3")

    tools = loaded()
    for path in files:
        session, network = tools if once else loaded()
        with Image.open(path) as opened:
            cutout = rembg.remove(opened.convert("RGB"), session=session, decontaminate=True)
        pixels = np.array(cutout)
        values = torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1)[None].float() / 255
        enlarged = (network(values)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        size = (pixels.shape[1] * 2, pixels.shape[0] * 2)
        made = Image.fromarray(enlarged).resize(size, Image.Resampling.LANCZOS)
        made.putalpha(Image.fromarray(pixels[..., 3]).resize(size, Image.Resampling.BICUBIC))
        made.save(folder / f"{path.stem}-by-hand.png")


if __name__ == "__main__":
    main()
