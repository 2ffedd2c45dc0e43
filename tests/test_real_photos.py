"""Real photos of things and animals take the whole road: check, train, generate."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from studio.cli.common import app

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "dreambooth"

#: Folder -> class noun, as the data set's own list has them.
SUBJECTS = {
    "dog": "dog",
    "backpack_dog": "backpack",
    "bear_plushie": "stuffed animal",
    "cat2": "cat",
    "robot_toy": "toy",
    "teapot": "teapot",
}


def spoken(*arguments: str) -> dict:
    """Run a command and return its last line of JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    answer: dict = json.loads(result.stdout.strip().splitlines()[-1])
    return answer


@pytest.mark.whole
@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
@pytest.mark.parametrize(
    "folder", [name if name == "dog" else pytest.param(name, marks=pytest.mark.slow) for name in SUBJECTS]
)
def test_real_photos_become_a_run_and_pictures(folder: str, tmp_path: Path) -> None:
    short = ("steps=2", "samples_per_checkpoint=1", "sample_steps=2", "certify=false")
    settings = [part for assignment in short for part in ("--set", assignment)]
    run, pictures = tmp_path / "run", tmp_path / "pictures"
    spoken("check", str(REAL / folder), "--class-noun", SUBJECTS[folder])
    about = ("--subject", folder, "--class-noun", SUBJECTS[folder], "--base", "pocket")
    spoken("train", str(REAL / folder), *about, *settings, "--out", str(run))
    assert (run / "DONE").is_file()
    spoken("generate", str(run), "--prompt", "photo of {subject} at the beach", "--count", "2", "--out", str(pictures))
    assert len(list(pictures.glob("*/*.png"))) == 2
    assert (pictures / "contact_sheet.png").is_file()
