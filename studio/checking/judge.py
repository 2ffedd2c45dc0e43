"""How the photo check judges one photo and the whole set: sharpness, exposure, faces, duplicates, other subjects."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.core.config import CheckConfig
from studio.core.errors import InputError
from studio.imaging import quality
from studio.imaging.apart import decode
from studio.imaging.crop import Shares, box_of, cut
from studio.imaging.decode import Decoded
from studio.imaging.faces import Face, pose
from studio.imaging.nudity import NudityCheck, refusal, warning
from studio.likeness.base import Embeddings, LikenessEngine, Scale, centroid, likeness, photo_likeness

LOOK_PX = 800
"""Longer side of the copies on which photos are judged; keeps a hundred photos below 200 MB."""


SHARPNESS_REJECTED, SHARPNESS_WARNED = 0.32, 0.42
"""Sharp photos measure 0.52-0.84; a Gaussian blur of 2 px at 512 px brings them to 0.24-0.46, of 3 px to 0.14-0.31."""


DARK_REJECTED, DARK_WARNED = 38.0, 56.0
"""Levels that 95 % of the pixels stay below; the darkest good photo seen had 61."""


BRIGHT_REJECTED, BRIGHT_WARNED = 225.0, 190.0
"""Levels that 95 % of the pixels stay above; the brightest good photo seen had 102."""


CLIPPED_WARNED = 0.6
"""Share of burnt-out pixels; a portrait before a white wall had 0.32."""


SECOND_FACE = 0.5
"""A face counts as a second person if it is at least this large beside the largest (height to height)."""


OTHER_SUBJECT, OTHER_SUBJECT_GAP = 0.5, 0.4
"""A photo shows somebody else if its likeness is below the first and by the second below the median of the set."""


RISKS = {
    "too_small": "details that are not there cannot be learned",
    "blurred": "the pictures may come out soft",
    "too_dark": "the pictures may come out dark and noisy",
    "too_bright": "the pictures may come out pale",
    "no_face": "what is learned from it may not be the face",
    "several_faces": "somebody else's face may be mixed in",
    "near_duplicate": "its pose and background count twice and may be learned as part of the subject",
    "not_same_subject": "another subject may be mixed in",
}
"""What may happen when a photo with a serious problem is used anyway, by the problem's code."""


@dataclass(frozen=True, slots=True)
class PhotoFinding:
    """One problem with one photo."""

    code: str
    message: str
    cure: str
    serious: bool

    def to_json(self, *, is_forced: bool = False) -> dict[str, str]:
        """Return the finding as the dataset file stores it.

        A serious one says what it would risk to use the photo; one of a photo that is used anyway says it as its cure.
        """
        risk = RISKS.get(self.code) if self.serious else None
        if risk is None:
            return {"code": self.code, "message": self.message, "cure": self.cure}
        if is_forced:
            return {"code": self.code, "message": self.message, "cure": f"it is used as you asked, but {risk}"}
        return {"code": self.code, "message": self.message, "cure": self.cure, "risk": risk}


@dataclass(slots=True)
class CandidatePhoto:
    """A photo being checked."""

    path: Path
    name: str
    look: Image.Image | None = None
    """Small copy, longer side ``LOOK_PX``; None if the file could not be decoded."""
    size_hw: tuple[int, int] | None = None
    faces: tuple[Face, ...] = ()
    """Photographed faces, the largest first, in the pixels of ``look``."""
    face: Face | None = None
    """The one that is the subject's; None where the subject is no person, or is drawn."""
    likeness: float | None = None
    caption: str | None = None
    """The user's caption, with placeholders; None if there is none."""
    bars: Shares | None = None
    """What lies between the black bars of the file; None if it has none."""
    crop: Shares | None = None
    """The user's crop of what lies between them; None if there is none."""
    findings: list[PhotoFinding] = field(default_factory=list)

    @property
    def serious(self) -> bool:
        """Whether any finding rejects the photo."""
        return any(finding.serious for finding in self.findings)


def read_candidate(config: CheckConfig, path: Path, name: str, nudity: NudityCheck | None = None) -> CandidatePhoto:
    """Decode a photo and judge its pixels; one that the operator's check refuses is as one that cannot be read."""
    candidate = CandidatePhoto(path, name, crop=config.crops.get(name))
    try:
        decoded = decode(path, at_least_px=None if candidate.crop else LOOK_PX)
    except InputError as error:
        for problem in error.problems:
            candidate.findings.append(PhotoFinding(problem.code, problem.message, problem.cure, serious=True))
        return candidate
    doubted = nudity is not None and nudity.found(decoded.picture)
    candidate.bars = quality.black_bars(decoded.picture)
    decoded = cropped(candidate, without_bars(candidate, decoded))
    candidate.size_hw = decoded.size_hw
    if nudity is not None and (doubted or nudity.found(decoded.picture)):
        said = refusal(name) if nudity.refuses else warning(name)
        candidate.findings.append(PhotoFinding(said.code, said.message, said.cure, serious=nudity.refuses))
        if nudity.refuses:
            return candidate
    candidate.look = keep_at_most(decoded.picture, LOOK_PX)
    height, width = decoded.size_hw
    if min(height, width) < config.min_side_px:
        cure = f"use a photo with at least {config.min_side_px} px on its shorter side"
        candidate.findings.append(
            PhotoFinding("too_small", f"is too small ({width} x {height} px)", cure, serious=True)
        )
    candidate.findings += _exposure_findings(candidate.look) or _sharpness_findings(candidate.look)
    return candidate


def without_bars(candidate: CandidatePhoto, decoded: Decoded) -> Decoded:
    """Return what lies between a photo's black bars."""
    return cut(decoded, box_of(candidate.bars, decoded.size_hw)) if candidate.bars else decoded


def cropped(candidate: CandidatePhoto, decoded: Decoded) -> Decoded:
    """Return what the user's crop leaves of a photo without bars."""
    return cut(decoded, box_of(candidate.crop, decoded.size_hw)) if candidate.crop else decoded


def keep_at_most(picture: Image.Image, longest_px: int) -> Image.Image:
    """Shrink a picture to a longest side; never enlarge it."""
    scale = longest_px / max(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _sharpness_findings(picture: Image.Image) -> list[PhotoFinding]:
    sharp = quality.sharpness(picture)
    if sharp >= SHARPNESS_WARNED:
        return []
    serious = sharp < SHARPNESS_REJECTED
    return [PhotoFinding("blurred", "is blurred" if serious else "is slightly blurred", "use a sharper photo", serious)]


def _exposure_findings(picture: Image.Image) -> list[PhotoFinding]:
    light = quality.exposure(picture)
    if light.dark < DARK_WARNED:
        serious = light.dark < DARK_REJECTED
        return [PhotoFinding("too_dark", "is too dark", "use a photo with more light, or brighten it", serious)]
    if light.bright > BRIGHT_WARNED or light.clipped_bright > CLIPPED_WARNED:
        serious = light.bright > BRIGHT_REJECTED
        return [PhotoFinding("too_bright", "is too bright", "use a photo with less light, or darken it", serious)]
    return []


def judge_faces(candidate: CandidatePhoto) -> None:
    """Judge the number and the size of the faces in a photo of a person."""
    if candidate.look is None:
        return
    faces = candidate.faces
    if not faces:
        cure = "use a photo with one clear face that looks towards the camera"
        candidate.findings.append(PhotoFinding("no_face", "no face found", cure, serious=True))
        return
    candidate.face = faces[0]
    large = [face for face in faces if face.box[2] >= SECOND_FACE * faces[0].box[2]]
    if len(large) > 1:
        cure = "crop it so that only the subject is left"
        candidate.findings.append(PhotoFinding("several_faces", f"shows {len(large)} faces", cure, serious=True))


def embed_photos(engine: LikenessEngine | None, candidate: CandidatePhoto) -> NDArray[np.float32] | None:
    """Return the photo's embedding; None without engine or picture, NaN where the engine sees no subject."""
    if engine is None or candidate.look is None:
        return None
    return engine.embed([candidate.look])[0]


def refuse_undrawn(candidates: Sequence[CandidatePhoto], embeddings: Sequence[NDArray[np.float32] | None]) -> None:
    """For drawn portraits the likeness engine replaces the face detector, which is made for photographs."""
    for candidate, embedding in zip(candidates, embeddings, strict=True):
        if embedding is not None and np.isnan(embedding).any():
            cure = "use a picture that shows the subject"
            candidate.findings.append(PhotoFinding("no_face", "is not a portrait", cure, serious=True))


def mark_duplicates(candidates: Sequence[CandidatePhoto]) -> None:
    """Keep the largest of photos that are nearly the same; the others name the one that is kept."""
    usable = [c for c in candidates if c.look is not None and not c.serious]
    prints = {c.name: quality.fingerprint(c.look) for c in usable if c.look is not None}
    kept: list[CandidatePhoto] = []
    for candidate in sorted(usable, key=lambda c: -min(c.size_hw or (0, 0))):
        twin = next((k for k in kept if quality.near_duplicates(prints[k.name], prints[candidate.name])), None)
        if twin is None:
            kept.append(candidate)
        else:
            finding = PhotoFinding(
                "near_duplicate", f"is nearly the same as {twin.name}", "remove one of the two", True
            )
            candidate.findings.append(finding)


def compare_subjects(
    config: CheckConfig,
    candidates: Sequence[CandidatePhoto],
    embeddings: Sequence[NDArray[np.float32] | None],
    engine: LikenessEngine | None,
) -> None:
    """Give each photo its likeness to the others and find those that show somebody else."""
    if engine is None:
        return
    seen = [
        (c, row) for c, row in zip(candidates, embeddings, strict=True) if row is not None and not np.isnan(row).any()
    ]
    compared = [(c, row) for c, row in seen if not c.serious]
    if len(compared) < 2:
        return
    rows = np.stack([row for _, row in compared])
    scores, odd = odd_ones(rows, engine.scale(config.class_noun))
    for (candidate, _), score, is_odd in zip(compared, scores, odd, strict=True):
        candidate.likeness = None if np.isnan(score) else round(float(score), 4)
        if is_odd:
            cure = f"remove it, or use it anyway if it does show the same {config.class_noun}"
            message = "does not look like the subject of the other photos"
            candidate.findings.append(PhotoFinding("not_same_subject", message, cure, serious=True))


def odd_ones(embeddings: Embeddings, scale: Scale) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Find the photos that do not show the subject of the majority.

    Intruders pull a plain centroid towards themselves, so likeness is first measured against a core: the photo that is
    most alike to the others (by the median) and its nearest half. With five photos or more, two intruders may even
    show one and the same other person. Two photos alone cannot say which of them is odd.

    Args:
        embeddings: ``(N, D)``, rows of unit length, N >= 2.
        scale: of the engine that made them.

    Returns:
        Likeness of each photo to the others of the subject ``(N,)``, and whether it is odd ``(N,)``.
    """
    count = len(embeddings)
    if count < 3:
        return photo_likeness(embeddings, scale), np.zeros(count, dtype=bool)
    cosines = embeddings @ embeddings.T
    to_others = [np.median(np.delete(cosines[i], i)) for i in range(count)]
    core = np.argsort(-cosines[int(np.argmax(to_others))])[: count // 2 + 1]
    scores = np.array([_to_set(embeddings, i, core, scale) for i in range(count)], dtype=np.float32)
    odd = (scores < OTHER_SUBJECT) & (scores < np.median(scores) - OTHER_SUBJECT_GAP)
    accepted = np.flatnonzero(~odd)
    final = np.array([_to_set(embeddings, i, accepted, scale) for i in range(count)], dtype=np.float32)
    return final, odd


def _to_set(embeddings: Embeddings, index: int, members: NDArray[np.intp], scale: Scale) -> float:
    """Return the likeness of one photo to the centroid of the others among ``members``."""
    others = embeddings[members[members != index]]
    return float(likeness(embeddings[index : index + 1], centroid(others), scale)[0])


def problems_of_set(config: CheckConfig, chosen: Sequence[CandidatePhoto], not_compared: str) -> list[PhotoFinding]:
    """Return the problems of the usable photos as a set; ``not_compared`` says why nobody compared them, if so."""
    problems = []
    if not_compared:
        text = f"whether all photos show one subject was not checked: {not_compared}"
        problems.append(PhotoFinding("not_compared", text, "look through them yourself", serious=False))
    if len(chosen) < config.min_photos:
        found = "only one photo can be used" if len(chosen) == 1 else f"only {len(chosen)} photos can be used"
        cure = f"add more photos of the subject; {config.min_photos} or more give a better likeness"
        problems.append(PhotoFinding("too_few", found, cure, serious=False))
    scores = [c.likeness for c in chosen if c.likeness is not None]
    if len(scores) >= 3 and float(np.median(scores)) < OTHER_SUBJECT:
        cure = f"use photos of one {config.class_noun} only"
        problems.append(
            PhotoFinding("several_subjects", "the photos do not seem to show the same subject", cure, serious=False)
        )
    looks = [c.look for c in chosen if c.look is not None]
    if quality.same_background(looks):
        cure = "add two or more taken in other places, or the background will be learned as part of the subject"
        problems.append(
            PhotoFinding("same_background", "all photos have nearly the same background", cure, serious=False)
        )
    faces = [(c.look, c.face) for c in chosen if c.look is not None and c.face is not None]
    same_pose = _same_head_pose(faces) if faces else quality.same_composition(looks)
    if same_pose:
        cure = "add two or more from other angles"
        problems.append(PhotoFinding("same_pose", "all photos show nearly the same pose", cure, serious=False))
    return problems


def _same_head_pose(faces: Sequence[tuple[Image.Image, Face]]) -> bool:
    """Return whether at least four heads are turned and tilted alike (within about 6 and 4 degrees)."""
    poses = np.array([pose(look, face) for look, face in faces])
    return len(poses) >= 4 and bool((poses.std(axis=0) < (0.06, 0.07)).all())
