"""Which engine measures likeness: by name, or the one that suits a base, a class noun and the pictures at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from studio.core.catalog import BASES, POCKET_FOLDER
from studio.core.domain import PERSON_NOUNS
from studio.core.errors import InputError, MissingExtraError, Problem
from studio.imaging.faces import Face, find_faces
from studio.imaging.quality import drawnness
from studio.likeness.base import LikenessEngine

ENGINES = ("pocket", "face", "sface", "subject")
"""Names of the engines."""

DRAWN_MIN = 1.0
"""Photos of a person are drawn if the median of their drawnness, less the evidence of a real face, is higher. Twenty
sets of drawn portraits measured 1.22 to 1.47, two sets of photographed people 0.30 and 0.66."""
FACE_WEIGHT = 0.3
"""Weight of the face detector's score; it is 1.2 to 3.1 for real faces and below 1 for the few drawn ones it finds."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, or why there is none."""

    engine: LikenessEngine | None
    reason: str
    """In words, for the log and the report."""


def is_person(class_noun: str) -> bool:
    """Return whether a class noun names a person (its last word decides: "young woman")."""
    return class_noun.lower().split()[-1] in PERSON_NOUNS


def get_engine(name: str, base_folder: Path | None = None) -> LikenessEngine:
    """Return an engine, loaded.

    Args:
        name: one of ``ENGINES``.
        base_folder: a base that brings its own identity encoder; only ``pocket`` uses it, None is the embedded base.

    Raises:
        InputError: no engine has that name.
        MissingExtraError: its weights are not here.
    """
    # Each engine drags a library along that the others can do without.
    if name == "pocket":
        from studio.likeness.pocket import PocketEngine

        return PocketEngine(base_folder or POCKET_FOLDER)
    if name == "face":
        from studio.likeness.face import FaceEngine

        return FaceEngine()
    if name == "sface":
        from studio.likeness.sface import SFaceEngine

        return SFaceEngine()
    if name == "subject":
        from studio.likeness.subject import SubjectEngine

        return SubjectEngine()
    raise InputError.of(
        [
            Problem(
                "likeness", f"there is no engine {name!r}", f"use one of: auto, {', '.join(ENGINES)}, none", "unknown"
            )
        ]
    )


def choose_engine(
    name: str,
    *,
    base: str | None,
    class_noun: str,
    pictures: Sequence[Image.Image] | None = None,
    drawn: bool | None = None,
    faces: int | None = None,
) -> EngineChoice:
    """Return the engine for a run.

    ``auto`` takes pocket for drawn people (where the base is one that draws them, or no base is known yet), face for
    photographed ones, subject for the rest if its weights are here; sface is taken by name only.

    Args:
        name: a config's likeness: auto, none or an engine's name.
        base: a catalog name or a local folder; None if it is not known yet (the photo check).
        class_noun: what the subject is.
        pictures: the subject's photos, RGB; None if there are none to look at.
        drawn: whether they are drawn portraits, where that is known already; None looks at the pictures.
        faces: number of the pictures with a photographed face, where that is known already.

    Raises:
        InputError: no engine has that name.
        MissingExtraError: the engine was asked for by name and its weights are not here.
    """
    if name == "none":
        return EngineChoice(None, "likeness is turned off")
    folder = _pocket_folder(base)
    if name != "auto":
        return EngineChoice(get_engine(name, folder), f"{name} was requested")
    if not is_person(class_noun):
        return _subject_or_none(class_noun)
    if drawn is None:
        drawn = looks_drawn(pictures) if pictures else base is not None
    if folder is not None and drawn:
        reason = "the photos are drawn portraits" if pictures else "the base draws portraits"
        return _or_reason("pocket", folder, reason)
    if folder is not None and base is not None:
        return EngineChoice(None, "photographed faces cannot be recognised in the drawings of this base")
    if pictures and faces is None:
        faces = sum(bool(find_faces(picture)) for picture in pictures)
    if pictures and faces is not None and faces < len(pictures) / 2:
        return EngineChoice(None, "fewer than half of the photos show a face")
    return _or_reason("face", None, "the subject is a person")


def looks_drawn(pictures: Sequence[Image.Image], faces: Sequence[Sequence[Face]] | None = None) -> bool:
    """Return whether photos of one person are drawn portraits, by how smooth they are and whether faces are found.

    Pictures that are too small to tell count as drawn; without any picture the answer is no. Photos of something else
    may look drawn, too: whether a drawn face is there is for the nets of ``pocket`` to say.

    Args:
        pictures: RGB.
        faces: the photographed faces in each of them, where they have been looked for already.
    """
    scores = []
    for index, picture in enumerate(pictures):
        score = drawnness(picture)
        if score is None:
            scores.append(DRAWN_MIN)
        else:
            found = find_faces(picture) if faces is None else faces[index]
            real = max((face.score for face in found), default=0.0)
            scores.append(score - FACE_WEIGHT * real)
    return bool(scores) and float(np.median(scores)) >= DRAWN_MIN


def _pocket_folder(base: str | None) -> Path | None:
    """Return the folder whose identity encoder may suit ``base``; None if its pictures are not drawn portraits."""
    if base is None:
        return POCKET_FOLDER if (POCKET_FOLDER / "identity").is_dir() else None
    row = BASES.get(base)
    if row is not None:
        return Path(row.source) if row.likeness == "pocket" else None
    return Path(base) if (Path(base) / "identity").is_dir() else None


def _or_reason(name: str, folder: Path | None, reason: str) -> EngineChoice:
    try:
        return EngineChoice(get_engine(name, folder), reason)
    except MissingExtraError as error:
        return EngineChoice(None, str(error))


def _subject_or_none(class_noun: str) -> EngineChoice:
    from studio.likeness.subject import SOURCE, at_hand

    if not at_hand():
        return EngineChoice(None, f"likeness of a {class_noun} needs the weights of {SOURCE}, which are not installed")
    return _or_reason("subject", None, "the subject is not a person")
