"""What the photos show, as far as this machine can see it: photographed faces, drawn portraits, or neither.

The class noun is compared with it, or guessed from it where nobody said one; a guess is always told.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from studio.checking.captions import DrawnCaptions
from studio.checking.judge import CandidatePhoto, PhotoFinding
from studio.core.config import CheckConfig
from studio.core.errors import MissingExtraError
from studio.core.packs import subject_kind
from studio.imaging.faces import find_faces
from studio.likeness.base import shows_subject
from studio.likeness.registry import get_engine, is_person, looks_drawn

SAY_IT = "say what it is: woman, man, dog, cat, teapot ..."
"""The cure wherever the class noun is missing or seems wrong."""

MOST = 0.6
"""Share of the photos from which on they are said to show faces."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in the photos that can be decoded."""

    photos: int
    faces: int
    """Photos with at least one photographed face."""
    drawn: bool
    """Whether they are drawn portraits: drawn all over, and most with a face that can be read."""
    drawn_noun: str | None = None
    """What most of the drawn portraits show, woman or man; None if they are none."""


def look_for_faces(candidate: CandidatePhoto) -> None:
    """Find the photographed faces in the photo's small copy."""
    if candidate.look is not None:
        candidate.faces = tuple(find_faces(candidate.look))


def sum_up(config: CheckConfig, candidates: Sequence[CandidatePhoto]) -> Seen:
    """Sum up what the photos show, after ``look_for_faces``.

    The nets that know drawn faces are asked only where a person may be shown and the pictures look drawn at all: dogs
    before a blurred wall look drawn, too, but have no face that these nets can read.
    """
    looked = [(c.look, c.faces) for c in candidates if c.look is not None]
    faces = sum(bool(found) for _, found in looked)
    seen = Seen(len(looked), faces, drawn=False)
    if not looked or (config.class_noun and not is_person(config.class_noun)):
        return seen
    looks = [look for look, _ in looked]
    if config.likeness != "pocket" and not looks_drawn(looks, [found for _, found in looked]):
        return seen
    try:
        readable = shows_subject(get_engine("pocket").embed(looks))
    except MissingExtraError:
        return seen
    if np.mean(readable) < 0.5:
        return seen
    portraits = [look for look, is_face in zip(looks, readable, strict=True) if is_face]
    return Seen(len(looked), faces, drawn=True, drawn_noun=DrawnCaptions().noun(portraits))


def guess(seen: Seen) -> str:
    """Return the class noun that fits what was seen; thing where no face was."""
    if seen.drawn:
        return seen.drawn_noun or "person"
    return "person" if seen.faces and seen.faces >= seen.photos / 2 else "thing"


def guessed_finding(seen: Seen, noun: str) -> PhotoFinding:
    """Return what is said of a guess, as a problem of the set."""
    reason = "no face was found" if noun == "thing" else f"a face was found in {seen.faces} of {seen.photos} photos"
    if seen.drawn:
        reason = "they look like drawn portraits"
    message = f"nobody said what the photos show; {reason}, so they are taken as photos of a {noun}"
    return PhotoFinding("class_guessed", message, SAY_IT, serious=False)


def contradiction(seen: Seen, noun: str) -> PhotoFinding | None:
    """Return where the class noun and what was seen do not go together; None where nothing speaks against it."""
    if not seen.photos or seen.drawn:
        return None
    if is_person(noun) and seen.faces < seen.photos / 2:
        found = "in any" if not seen.faces else f"in more than {seen.faces}"
        message = f"no face was found {found} of {seen.photos} photos of a {noun}"
        if seen.photos == 1:
            message = f"no face was found in the photo of a {noun}"
        cure = f"if they show something else, {SAY_IT}; otherwise use photos with one clear face"
        return PhotoFinding("other_class", message, cure, serious=False)
    if not is_person(noun) and seen.faces >= MOST * seen.photos:
        kind = subject_kind(noun)
        message = f"a face of a person was found in {seen.faces} of {seen.photos} photos of a {noun}"
        cure = f"if they show a person, say so; otherwise use photos of the {kind} alone"
        return PhotoFinding("other_class", message, cure, serious=False)
    return None


def consent_missing(config: CheckConfig, seen: Seen) -> PhotoFinding | None:
    """Return what is said of photographed people where nobody has told that they agree; None where that is not so."""
    if config.consent or seen.drawn or not seen.faces or not is_person(config.class_noun):
        return None
    message = "nobody has said that the person in the photos agrees"
    return PhotoFinding("no_consent", message, "ask the person, then say so (consent)", serious=False)
