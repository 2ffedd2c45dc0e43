from typing import Any

import pytest

from studio.core.config import GenerateConfig
from studio.core.errors import InputError
from studio.pictures import request


def config(**changes: Any) -> GenerateConfig:
    usual = {"prompts": ["photo of {subject}", "{subject} at the beach"], "count": 2, "use_cache": False}
    return GenerateConfig.parse({**usual, **changes})


def test_more_cannot_be_kept_than_is_made() -> None:
    with pytest.raises(InputError, match=r"keep: cannot be more than count \(2\)"):
        config(keep=3)


def test_a_base_that_draws_squares_only_gets_squares() -> None:
    assert request._drawable("16:9", "pocket") == "1:1"
    assert request._drawable("16:9", "sd15") == request._drawable("16:9", "/a/folder") == "16:9"


@pytest.mark.parametrize(
    ("changes", "aspect", "expected_hw"),
    [
        ({}, "1:1", (512, 512)),
        ({}, "3:4", (592, 440)),
        ({}, "16:9", (384, 680)),
        ({"width_px": 256}, "1:1", (256, 256)),
        ({"width_px": 384}, "2:3", (576, 384)),
        ({"height_px": 256}, "16:9", (256, 456)),
        ({"width_px": 320, "height_px": 640}, "1:1", (640, 320)),
    ],
)
def test_size_follows_the_aspect_unless_asked_otherwise(
    changes: dict[str, int], aspect: str, expected_hw: tuple[int, int]
) -> None:
    assert request._size_hw(config(**changes), aspect, 512, 8) == expected_hw


def test_shot_names_become_folders_that_differ_everywhere() -> None:
    assert request._folder_names(["at night", "at_night", "At Night", "../x", "é"]) == [
        "at_night",
        "at_night_2",
        "At_Night_3",
        "x",
        "é",
    ]
