"""How long owners want their jobs kept."""

from pathlib import Path

import pytest

from studio.core.errors import InputError
from studio.core.retention import Retention
from studio.core.settings import Settings
from studio.service import Studio


def test_a_choice_is_kept_for_its_owner_alone_and_can_be_taken_back(store):
    assert store.kept_days("ada") is None and store.all_kept_days() == {}
    store.keep_for("ada", 7.0)
    store.keep_for("bob", 3.5)
    store.keep_for("ada", 9.0)
    assert (store.kept_days("ada"), store.kept_days("eve")) == (9.0, None)
    assert store.all_kept_days() == {"ada": 9.0, "bob": 3.5}
    store.keep_for("ada", None)
    assert store.all_kept_days() == {"bob": 3.5}


def test_the_studio_takes_no_more_days_than_its_operator(tmp_path: Path) -> None:
    studio = Studio(Settings(home=tmp_path, auth="keys"))
    assert studio.retention(owner="ada") == Retention(30.0, None, 30.0)
    assert studio.keep_for(7, owner="ada") == Retention(7.0, 7.0, 30.0)
    for days in (0, -1, 31, float("nan")):
        with pytest.raises(InputError):
            studio.keep_for(days, owner="ada")
    assert studio.retention(owner="ada").days == 7.0 and studio.retention(owner="bob").days == 30.0
    studio.close()
