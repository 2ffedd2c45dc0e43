"""Do two checkouts write the same files? For changes that promise to change nothing.

    python -m benchmarks.same_bytes BEFORE AFTER [--work DIR]

In each checkout the command line checks the same drawn photos, trains 24 steps with one seed, makes the pictures of a
pack, exports, publishes without pushing and finishes. Prints every file that differs, and ends with status 1 if any
does. Folders that hold times or paths (reports, logs, records) are only asked whether they are there. One thread, so
that both compute in the same order; about three minutes per checkout on a quiet core.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

STEPS = (
    ("check", "photos", "--subject", "Ada", "--class-noun", "woman", "--out", "dataset"),
    ("train", "dataset", "--subject", "Ada", "--class-noun", "woman", "--set", "seed=1", "--set", "steps=24",
     "--set", "checkpoint_every_steps=12", "--out", "run"),
    ("generate", "run", "--pack", "pocket_styles", "--set", "count=1", "--out", "pictures"),
    ("export", "run", "--format", "kohya", "--out", "exported"),
    ("publish", "run", "--repo", "you/ada", "--pictures", "pictures", "--dry-run", "--out", "published"),
    ("finish", "pictures", "--chain", "avatar", "--set", "fit.max_bytes=60000", "--out", "finished"),
)  # fmt: skip
PATHS = {"photos", "dataset", "run", "pictures", "exported", "published", "finished"}
COMPARED = {".png", ".webp", ".jpg", ".safetensors", ".md", ".yaml"}


def digests(checkout: Path, photos: Path, out: Path) -> dict[str, str]:
    """Return file -> SHA-256 (of the members, for a zip) of everything that the verbs write in one checkout."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "STUDIO_HOME": str(out / "home"),
        "STUDIO_RESULTS_CACHE": "off",
    }
    places = {name: str(out / name) for name in PATHS} | {"photos": str(photos)}
    for step in STEPS:
        command = [sys.executable, "-m", "studio", *(places.get(word, word) for word in step[1:])]
        subprocess.run([*command[:3], step[0], *command[3:]], cwd=checkout, env=environment, check=True)
    found = {}
    for path in sorted(path for name in PATHS - {"photos"} for path in (out / name).rglob("*") if path.is_file()):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as opened:
                members = "".join(hashlib.sha256(opened.read(item)).hexdigest() for item in sorted(opened.namelist()))
            found[name] = hashlib.sha256(members.encode()).hexdigest()
        elif path.suffix in COMPARED and path.name != "config.yaml":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "there"
    return found


def main() -> int:
    """Run both and compare; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_bytes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--work", type=Path, help="folder for what is written; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        from studio.pocket.samples import sample_photos

        sample_photos(work / "photos")
        before = digests(given.before.resolve(), work / "photos", work / "before")
        after = digests(given.after.resolve(), work / "photos", work / "after")
    differ = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    print(f"{len(before)} files before, {len(after)} after; {len(differ)} differ")
    for name in differ:
        print(f"  {name}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
