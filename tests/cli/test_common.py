from pathlib import Path

import pytest

from studio.cli.common import given_options, published_folder, require_folder, train_config_of
from studio.core.config import PublishConfig
from studio.core.errors import InputError
from studio.core.settings import Settings


def test_a_file_and_a_folder_that_is_not_there_have_two_cures(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert require_folder(tmp_path, "photos") == tmp_path
    with pytest.raises(InputError, match="not a file in it"):
        require_folder(tmp_path / "a.jpg", "photos")
    with pytest.raises(InputError, match="give an existing folder"):
        require_folder(tmp_path / "nowhere", "photos")


def test_options_that_were_not_given_change_nothing_and_zero_is_given() -> None:
    assert given_options(seed=0, subject=None, title="") == {"seed": 0, "title": ""}


def test_a_publication_lies_beside_its_run(tmp_path: Path) -> None:
    assert published_folder(tmp_path / "run", PublishConfig(repo="ada/x")) == tmp_path.resolve() / "run-ada--x"


def test_what_is_given_by_name_wins_over_the_preset() -> None:
    config = train_config_of(Settings(), "pocket", None, ["steps=7"], subject="Ada")
    assert (config.base, config.steps, config.subject) == ("pocket", 7, "Ada")
