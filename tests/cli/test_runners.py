"""`python -m studio runners`, as a person types it."""

import json
from pathlib import Path

import pytest

from studio.cli import main
from studio.jobs.runners import inventory
from studio.jobs.runners.inventory import Inventory, RentedView, RunnerView

RENTED = Inventory(
    (
        RunnerView("local", False, True, "", 1, "cpu"),
        RunnerView("vast", True, False, "Vast.ai gave no clear answer (status 500).", 2, "", "nothing on offer"),
    ),
    (
        RentedView("77", "vast", "train-1", 2, "running", 0.4, 1.0),
        RentedView(None, "vast", "t", 1, "unknown", None, 1.0),
    ),
    {"month": "2026-11", "spent": 3.456, "reserved": 2.0, "budget": 20.0},
)


def test_what_is_there_is_shown_to_people_and_programs(
    studio_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(["runners"]) == 0 and "local" in capsys.readouterr().out
    monkeypatch.setattr(inventory, "look", lambda settings: RENTED)
    assert main.run(["runners"]) == 0
    said = capsys.readouterr().out
    for words in (
        "vast: Vast.ai gave no clear answer (status 500).",
        "rented: 77 for train-1, running, $0.40 an hour",
        "rented: a machine that nobody has seen for t, unknown",
        "2026-11: $3.46 of $20.00 spent, $2.00 reserved",
    ):
        assert words in said
    assert main.run(["runners", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runners"][1]["alive"] is False and told["money"]["budget"] == 20.0


def test_a_sweep_says_what_it_did_and_fails_where_something_may_still_run(
    studio_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(["runners", "sweep"]) == 2 and "rents no machines" in capsys.readouterr().err
    swept: dict[str, object] = {"kept": ["1"], "given_back": ["2", "3"], "left": {}}
    monkeypatch.setattr(inventory, "sweep_now", lambda settings: swept)
    assert main.run(["runners", "sweep"]) == 0
    assert "2 machines given back, 1 belong to jobs that run." in capsys.readouterr().out
    swept["left"] = {"4": "it may still run.", "*": "no clear answer."}
    assert main.run(["runners", "sweep"]) == 1
    said = capsys.readouterr().out
    assert "4: it may still run." in said and "the list: no clear answer." in said
    assert main.run(["runners", "sweep", "--json"]) == 1
