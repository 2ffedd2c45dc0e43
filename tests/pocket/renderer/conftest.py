"""One calm person and one calm scene, in which a single trait can be changed and the difference be seen."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from studio.pocket.renderer.people import Identity, Scene, sample_identity, sample_scene

Picture = npt.NDArray[np.uint8]


@pytest.fixture
def person() -> Callable[..., Identity]:
    """Make a plain person; keywords change traits."""

    def make(class_noun: str = "woman", **changes: Any) -> Identity:
        plain = replace(
            sample_identity(3, class_noun),
            skin="tan",
            age="adult",
            hair_style="short",
            hair_colour="brown",
            fringe="none",
            part_side=1,
            beard="none",
            face_shape="oval",
            eyes="almond",
            eye_colour="brown",
            brows="thin",
            nose="button",
            mouth="full",
            ears="small",
            mark="none",
            glasses="none",
        )
        return replace(plain, **changes)

    return make


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """Make a plain scene; keywords change it."""

    def make(**changes: Any) -> Scene:
        plain: dict[str, Any] = {
            "style": "photo",
            "light": "neutral",
            "background": "plain grey",
            "accessory": "none",
            "expression": "neutral",
            "gaze": "straight",
            "clothes": "t-shirt",
            "clothing_colour": "blue",
            "yaw": 0.0,
            "roll": 0.0,
            "zoom": 1.0,
            "shift_yx": (0.0, 0.0),
        }
        return sample_scene(1, **(plain | changes))

    return make


@pytest.fixture
def changed() -> Callable[[Picture, Picture], int]:
    """Count the pixels in which two pictures differ by more than 24 levels in some channel."""

    def count(one: Picture, other: Picture) -> int:
        return int((np.abs(one.astype(int) - other.astype(int)).max(axis=2) > 24).sum())

    return count
