import json
import subprocess
import sys
from pathlib import Path

import pytest

from studio.cli import bench, main
from studio.core.settings import Settings
from studio.likeness.bench import BenchResult, BenchRow, SpoiltFaces


class FakeStudio:
    """Stands in for the service."""

    def __init__(self, settings: Settings) -> None: ...

    def bench_likeness(self, folder: Path, engine: str, class_noun: str, **_: object) -> BenchResult:
        assert (engine, class_noun) == ("face", "woman")
        refused, measured = SpoiltFaces(4, 1.0, None), SpoiltFaces(4, 0.25, 0.9)
        row = BenchRow("Ada [1]", 4, 3, 1.04, 0.05, 0.1, "Bea", 0.4, 0.9, refused, measured)
        return BenchResult("face", "2", class_noun, "Mind the gap.", 0.85, 0.975, 0.8, 0.97, (row,), row)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(bench, "Studio", FakeStudio)
    return ["bench", "likeness", str(tmp_path), "--engine", "face", "--class-noun", "woman"]


def test_a_table_for_people(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(command) == 0
    shown = capsys.readouterr().out
    for text in (
        "Ada [1]",
        "3/4",
        "1.00 ± 0.05",
        "0.40 Bea",
        "100%",
        "25%",
        "spoilt by blur",
        "score 0.90",
        "0.850",
        "Mind the gap.",
    ):
        assert text in shown
    assert "spoilt by mosaic" not in shown


def test_raw_shows_more_than_one(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*command, "--raw"]) == 0
    assert "1.04 ± 0.05" in capsys.readouterr().out
    assert main.run(command) == 0
    assert "1.00 ± 0.05" in capsys.readouterr().out, "the next command is not asked for raw values"


def test_json_for_programs_has_the_raw_values(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["total"]["ceiling"] == 1.04
    assert result["subjects"][0]["blur"] == {"pictures": 4, "not_measured": 0.25, "likeness": 0.9}


def test_wrong_arguments_are_told_at_once_before_torch_is_there() -> None:
    asked = ["bench", "likeness", "NOWHERE", "--engine", "fcae", "--class-noun", ""]
    code = (
        f"import sys; from studio.cli import main; code = main.run({asked})\n"
        "print(code, [name for name in ('torch', 'cv2', 'dlib', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "2 []"
    said = " ".join(done.stderr.split())
    for text in ("did you mean 'face'?", "is not a folder of subjects", "class_noun"):
        assert text in said
