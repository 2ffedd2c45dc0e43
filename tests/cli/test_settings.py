"""The command ``settings``: what --set takes, for people and for programs, and the page of variables."""

import json
from pathlib import Path

import pytest

from studio import __version__
from studio.cli import main
from studio.cli.settings import markdown
from studio.core.config import CONFIGS
from studio.core.described import variables

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("verb", CONFIGS)
def test_the_settings_of_a_verb_are_readable_in_80_columns(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main.run(["settings", verb]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 6 and all(len(line) <= 80 for line in lines[:-1])


def test_a_setting_is_shown_with_its_sentence_its_values_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["settings", "train"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "optimizer adamw; adamw8bit, adafactor: less memory;" in shown
    assert "adamw, adamw8bit, adafactor, prodigy, schedule_free; default: adamw" in shown
    assert "The preset sets many of these" in shown


def test_a_program_gets_the_settings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["settings", "finish", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in answer["settings"]}
    assert answer["verb"] == "finish" and rows["fit.format"]["choices"] == ["png", "jpeg", "webp"]


def test_without_a_verb_the_variables_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["settings"]) == 0
    assert "STUDIO_JOB_SILENCE_S" in capsys.readouterr().out


def test_a_verb_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["settings", "paint"]) == 2
    assert "use one of: check, train" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("verb", CONFIGS)
def test_the_help_of_a_verb_names_the_list_of_its_settings(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([verb, "--help"]) == 0
    assert "`settings " in capsys.readouterr().out


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"likeness-studio {__version__}"


def test_the_page_of_variables_is_what_the_code_says() -> None:
    page = (DOCS / "SETTINGS.md").read_text(encoding="utf-8")
    write = "from studio.cli.settings import *; open('docs/SETTINGS.md', 'w').write(markdown(variables()))"
    assert page == markdown(variables()), f'docs/SETTINGS.md has fallen behind; run: python -c "{write}"'
