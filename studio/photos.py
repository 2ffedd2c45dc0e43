"""The photo check: from a folder of anything to a dataset that can be trained on, with a verdict for every photo.

A verb; runs in a child process, from a notebook or in a test::

    dataset = check(CheckConfig(subject="Ada", class_noun="woman"), Path("photos"), Path("dataset"))

It decodes every photo safely, looks at each (size, sharpness, light, face) and at all together (duplicates, one
subject, variety), then crops and captions those that can be used. All metadata stays behind.
"""

import json
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.catalog import POCKET_FOLDER
from studio.config import CheckConfig
from studio.core import folder as output
from studio.core.files import full_disk_in_words, sha256_of, write_json
from studio.core.progress import PHOTOS_UNTOUCHED, ProgressReporter
from studio.domain import Dataset, Event, OnEvent, Photo, ShouldStop, Verdict, ignore_event, never_stop
from studio.errors import InputError, Problem
from studio.imaging import quality
from studio.imaging.bucket import nearest_bucket
from studio.imaging.crop import Box, centre_crop, face_crop, whole
from studio.imaging.decode import Decoded, decode, display_name, list_photos
from studio.imaging.faces import Face, find_faces, pose
from studio.likeness.base import Embeddings, LikenessEngine, Scale, centroid, likeness, photo_likeness
from studio.likeness.registry import choose_engine, is_person

LOOK_PX = 800
"""Longer side of the copies on which photos are judged; keeps a hundred photos below 200 MB."""
PREVIEW_PX = 256
"""Longer side of the previews."""

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
ATTRIBUTE_MIN_PROBABILITY = 0.8
"""What the attribute classifier is less sure of is left out of captions."""

_SCENE_ATTRIBUTES = ("background", "accessory", "clothing_colour", "clothes", "style", "expression", "light")
"""Never identity: what a caption names, the instance token does not have to learn."""
_DATASET_NAME = "dataset.json"
_SIDECAR_BYTES = 8192
_CAPTION_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing that is wrong with one photo."""

    code: str
    message: str
    cure: str
    serious: bool

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "cure": self.cure}


@dataclass(slots=True)
class _Candidate:
    """One file on its way through the check."""

    path: Path
    name: str
    look: Image.Image | None = None
    """Small copy, longer side ``LOOK_PX``; None if the file could not be decoded."""
    size_hw: tuple[int, int] | None = None
    face: Face | None = None
    """The largest face, in the pixels of ``look``."""
    likeness: float | None = None
    findings: list[_Finding] = field(default_factory=list)

    @property
    def serious(self) -> bool:
        return any(finding.serious for finding in self.findings)


@full_disk_in_words()
def check(
    config: CheckConfig,
    photos_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> Dataset:
    """Check a folder of photos and prepare those that can be used.

    Args:
        config: settings.
        photos_dir: the photos, and captions as ``<photo's name without ending>.txt`` where there are any. Only read.
        out_dir: becomes ``dataset.json``, ``photos/NNN.png``, ``previews/NNN.webp`` and ``DONE``; an older dataset
            there is replaced once the new one is complete.
        on_event: told stages, progress, each photo's verdict and warnings.
        should_stop: asked for every photo.

    Returns:
        The dataset, with at least one photo.

    Raises:
        InputError: no photos, too many, or none that can be used (every photo's problem is listed).
        ConflictError: ``out_dir`` holds something that is not a dataset.
        MissingExtraError: the likeness engine asked for by name is not installed.
        ResourceError: the disk is full.
        JobCancelled: ``should_stop`` said so; nothing was written.
    """
    out_dir = out_dir.resolve()
    reporter = ProgressReporter(on_event, should_stop, kept=PHOTOS_UNTOUCHED)
    files = _listed(config, photos_dir, reporter)
    _refuse_foreign(out_dir, photos_dir)

    reporter.start(3 * len(files))
    reporter.stage("reading", f"Reading {len(files)} photos")
    candidates = []
    for path, name in zip(files, _distinct_names(files), strict=True):
        candidates.append(_read(config, path, name))
        reporter.advance(f"Read {name}")
        reporter.check_stop()

    reporter.stage("looking", "Looking at faces and likeness")
    engine, drawn = _engine(config, [c.look for c in candidates if c.look is not None], reporter)
    embeddings = []
    for candidate in candidates:
        if is_person(config.class_noun) and not drawn:
            _look_for_faces(candidate)
        embeddings.append(_embedded(engine, candidate))
        reporter.advance(f"Looked at {candidate.name}")
        reporter.check_stop()
    if drawn and is_person(config.class_noun):
        _refuse_undrawn(candidates, embeddings)
    _mark_duplicates(candidates)
    _compare_subjects(config, candidates, embeddings, engine)

    chosen = [c for c in candidates if c.look is not None and (config.keep_rejected or not c.serious)]
    if not chosen:
        raise InputError.of(
            Problem(c.name, finding.message, finding.cure, finding.code) for c in candidates for finding in c.findings
        )
    set_problems = _set_problems(config, chosen, drawn)
    for problem in set_problems:
        reporter.warn(f"{problem['message']}; {problem['cure']}")

    reporter.stage("preparing", f"Preparing {len(chosen)} photos")
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "photos").mkdir(parents=True)
    (partial / "previews").mkdir()
    try:
        photos: list[Photo] = []
        verdicts: list[Verdict] = []
        captions = _DrawnCaptions() if drawn else None
        for candidate in candidates:
            preview = None
            if candidate in chosen:
                photo = _prepare(config, candidate, len(photos) + 1, partial, captions)
                photos.append(photo)
                preview = f"previews/{len(photos):03d}.webp"
            verdicts.append(_verdict(candidate, preview))
            on_event(Event("verdict", asdict(verdicts[-1])))
            reporter.advance(f"Prepared {candidate.name}" if preview else f"Left out {candidate.name}")
            reporter.check_stop()
        dataset = Dataset(
            subject=config.subject,
            class_noun=config.class_noun,
            photos=tuple(photos),
            verdicts=tuple(verdicts),
            set_problems=set_problems,
            likeness_engine=engine.name if engine else None,
        )
        write_json(partial / _DATASET_NAME, dataset.to_json(), ensure_ascii=False)
        output.finish(partial)
        output.swap(partial, out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return dataset


def load_dataset(folder: Path) -> Dataset:
    """Read the dataset that ``check`` wrote.

    Raises:
        InputError: the folder holds no finished dataset.
    """
    try:
        if output.is_finished(folder):
            return Dataset.from_json(json.loads((folder / _DATASET_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError.of(
        [Problem(display_name(folder.name), "holds no finished dataset", "run the photo check first", "no_dataset")]
    )


# ------------------------------------------------------------------------------------------------ before and after


def _listed(config: CheckConfig, photos_dir: Path, reporter: ProgressReporter) -> list[Path]:
    """Return the photos of the folder; their number is judged before any of them is opened."""
    files, others = list_photos(photos_dir)
    if not files:
        raise InputError.of([Problem("photos", "there are none", "add at least one photo", "no_photos")])
    if len(files) > config.max_photos:
        text = f"{len(files)} photos are more than the limit of {config.max_photos}"
        cure = f"keep the best {config.max_photos} or fewer; 8 to 20 good photos are enough"
        raise InputError.of([Problem("photos", text, cure, "too_many")])
    if others:
        names = ", ".join(display_name(path.name) for path in others[:5]) + (" ..." if len(others) > 5 else "")
        reporter.message(f"left alone, not photos: {names}")
    return files


def _engine(
    config: CheckConfig, looks: Sequence[Image.Image], reporter: ProgressReporter
) -> tuple[LikenessEngine | None, bool]:
    """Return the engine that compares the photos, if any, and whether these are drawn portraits."""
    choice = choose_engine(config.likeness, base=None, class_noun=config.class_noun, pictures=looks)
    if config.likeness == "none" and is_person(config.class_noun):
        # Even where nothing is to be compared, the face detector must not be asked about drawings.
        automatic = choose_engine("auto", base=None, class_noun=config.class_noun, pictures=looks).engine
        return None, automatic is not None and automatic.name == "pocket"
    if choice.engine is None and config.likeness != "none":
        reporter.warn(f"whether all photos show one subject was not checked: {choice.reason}")
    return choice.engine, choice.engine is not None and choice.engine.name == "pocket"


def _refuse_foreign(out_dir: Path, photos_dir: Path) -> None:
    """Refuse to replace anything but an empty folder or an older dataset."""
    if photos_dir.resolve().is_relative_to(out_dir):
        problem = Problem("out", "holds the photos themselves", "choose another folder", "same_folder")
        raise InputError.of([problem])
    if not (out_dir / _DATASET_NAME).is_file():
        output.require_free(out_dir)


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """Return a name to show for each file; what two names have in common once cleaned is told apart by a number."""
    names: list[str] = []
    for path in files:
        name, number = display_name(path.name), 2
        while name in names:
            name, number = f"{display_name(path.name)} ({number})", number + 1
        names.append(name)
    return names


def _verdict(candidate: _Candidate, preview: str | None) -> Verdict:
    status = "rejected" if preview is None else "usable" if candidate.findings else "good"
    return Verdict(
        name=candidate.name,
        status=status,  # type: ignore[arg-type]
        problems=tuple(finding.to_json() for finding in candidate.findings),
        size_hw=candidate.size_hw,
        likeness=candidate.likeness,
        preview=preview,
    )


# ---------------------------------------------------------------------------------------------------- one photo


def _read(config: CheckConfig, path: Path, name: str) -> _Candidate:
    """Decode a photo and judge its pixels."""
    candidate = _Candidate(path, name)
    try:
        decoded = decode(path, at_least_px=LOOK_PX)
    except InputError as error:
        for problem in error.problems:
            candidate.findings.append(_Finding(problem.code, problem.message, problem.cure, serious=True))
        return candidate
    candidate.size_hw = decoded.size_hw
    candidate.look = _at_most(decoded.picture, LOOK_PX)
    height, width = decoded.size_hw
    if min(height, width) < config.min_side_px:
        cure = f"use a photo with at least {config.min_side_px} px on its shorter side"
        candidate.findings.append(_Finding("too_small", f"is too small ({width} x {height} px)", cure, serious=True))
    candidate.findings += _exposure_findings(candidate.look) or _sharpness_findings(candidate.look)
    return candidate


def _at_most(picture: Image.Image, longest_px: int) -> Image.Image:
    """Shrink a picture to a longest side; never enlarge it."""
    scale = longest_px / max(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _sharpness_findings(picture: Image.Image) -> list[_Finding]:
    sharp = quality.sharpness(picture)
    if sharp >= SHARPNESS_WARNED:
        return []
    serious = sharp < SHARPNESS_REJECTED
    return [_Finding("blurred", "is blurred" if serious else "is slightly blurred", "use a sharper photo", serious)]


def _exposure_findings(picture: Image.Image) -> list[_Finding]:
    light = quality.exposure(picture)
    if light.dark < DARK_WARNED:
        serious = light.dark < DARK_REJECTED
        return [_Finding("too_dark", "is too dark", "use a photo with more light, or brighten it", serious)]
    if light.bright > BRIGHT_WARNED or light.clipped_bright > CLIPPED_WARNED:
        serious = light.bright > BRIGHT_REJECTED
        return [_Finding("too_bright", "is too bright", "use a photo with less light, or darken it", serious)]
    return []


def _look_for_faces(candidate: _Candidate) -> None:
    if candidate.look is None:
        return
    faces = find_faces(candidate.look)
    if not faces:
        cure = "use a photo with one clear face that looks towards the camera"
        candidate.findings.append(_Finding("no_face", "no face found", cure, serious=True))
        return
    candidate.face = faces[0]
    large = [face for face in faces if face.box[2] >= SECOND_FACE * faces[0].box[2]]
    if len(large) > 1:
        cure = "crop it so that only the subject is left"
        candidate.findings.append(_Finding("several_faces", f"shows {len(large)} faces", cure, serious=True))


def _embedded(engine: LikenessEngine | None, candidate: _Candidate) -> NDArray[np.float32] | None:
    """Return the photo's embedding; None without engine or picture, NaN where the engine sees no subject."""
    if engine is None or candidate.look is None:
        return None
    return engine.embed([candidate.look])[0]


def _refuse_undrawn(candidates: Sequence[_Candidate], embeddings: Sequence[NDArray[np.float32] | None]) -> None:
    """For drawn portraits the engine's own eye stands in for the face detector, which is made for photographs."""
    for candidate, embedding in zip(candidates, embeddings, strict=True):
        if embedding is not None and np.isnan(embedding).any():
            cure = "use a picture that shows the subject"
            candidate.findings.append(_Finding("no_face", "shows no portrait", cure, serious=True))


# ----------------------------------------------------------------------------------------------- all photos together


def _mark_duplicates(candidates: Sequence[_Candidate]) -> None:
    """Keep the largest of photos that are nearly the same; the others name the one that is kept."""
    usable = [c for c in candidates if c.look is not None and not c.serious]
    prints = {c.name: quality.fingerprint(c.look) for c in usable if c.look is not None}
    kept: list[_Candidate] = []
    for candidate in sorted(usable, key=lambda c: -min(c.size_hw or (0, 0))):
        twin = next((k for k in kept if quality.near_duplicates(prints[k.name], prints[candidate.name])), None)
        if twin is None:
            kept.append(candidate)
        else:
            finding = _Finding("near_duplicate", f"is nearly the same as {twin.name}", "leave one of the two out", True)
            candidate.findings.append(finding)


def _compare_subjects(
    config: CheckConfig,
    candidates: Sequence[_Candidate],
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
        candidate.likeness = round(float(score), 4)
        if is_odd:
            cure = f"leave it out, or check that it shows the same {config.class_noun}"
            message = "does not look like the subject of the other photos"
            candidate.findings.append(_Finding("not_same_subject", message, cure, serious=True))


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


def _set_problems(config: CheckConfig, chosen: Sequence[_Candidate], drawn: bool) -> tuple[Mapping[str, str], ...]:
    """Return what is wrong with the photos that can be used, taken together."""
    problems = []
    if len(chosen) < config.min_photos:
        found = "only one photo can be used" if len(chosen) == 1 else f"only {len(chosen)} photos can be used"
        cure = f"add more photos of the subject; {config.min_photos} or more give a better likeness"
        problems.append(_Finding("too_few", found, cure, serious=False))
    scores = [c.likeness for c in chosen if c.likeness is not None]
    if len(scores) >= 3 and float(np.median(scores)) < OTHER_SUBJECT:
        cure = f"use photos of one {config.class_noun} only"
        problems.append(_Finding("several_subjects", "the photos hardly look like one subject", cure, serious=False))
    looks = [c.look for c in chosen if c.look is not None]
    if quality.same_background(looks):
        cure = "add photos taken in other places, or the background will be learnt as part of the subject"
        problems.append(_Finding("same_background", "all photos have nearly the same background", cure, serious=False))
    faces = [(c.look, c.face) for c in chosen if c.look is not None and c.face is not None]
    same_pose = _same_head_pose(faces) if faces else quality.same_composition(looks)
    if same_pose:
        cure = "add photos from other angles"
        problems.append(_Finding("same_pose", "all photos show nearly the same pose", cure, serious=False))
    return tuple(problem.to_json() for problem in problems)


def _same_head_pose(faces: Sequence[tuple[Image.Image, Face]]) -> bool:
    """Tell whether at least four heads are turned and tilted alike (within about 6 and 4 degrees)."""
    poses = np.array([pose(look, face) for look, face in faces])
    return len(poses) >= 4 and bool((poses.std(axis=0) < (0.06, 0.07)).all())


# --------------------------------------------------------------------------------------------------------- preparing


def _prepare(
    config: CheckConfig, candidate: _Candidate, number: int, folder: Path, captions: "_DrawnCaptions | None"
) -> Photo:
    """Crop, shrink, caption and write one photo."""
    decoded = decode(candidate.path, at_least_px=2 * config.crop_px)
    box = _crop_box(config, candidate, decoded.size_hw)
    cut = _cut(decoded, box)
    if max(cut.size) < config.crop_px and decoded.picture.height < decoded.size_hw[0]:
        cut = _cut(decode(candidate.path), box)  # the crop is so small that it deserves the photo's full resolution
    prepared = _at_most(cut, config.crop_px)
    file = f"photos/{number:03d}.png"
    prepared.save(folder / file, compress_level=3)
    preview = _at_most(prepared, PREVIEW_PX)
    preview.save(folder / f"previews/{number:03d}.webp", quality=85)
    caption = _sidecar_caption(candidate.path, config.subject)
    if caption is None:
        caption = captions.describe(prepared) if captions else _PLAIN_CAPTION
    return Photo(
        file=file,
        name=candidate.name,
        sha256=sha256_of(folder / file),
        size_hw=(prepared.height, prepared.width),
        caption=caption,
        bucket=nearest_bucket((prepared.height, prepared.width)),
        crop_yxhw=box,
        problems=tuple(finding.code for finding in candidate.findings),
    )


def _crop_box(config: CheckConfig, candidate: _Candidate, size_hw: tuple[int, int]) -> Box:
    if config.crop == "none":
        return whole(size_hw)
    if config.crop == "face" and candidate.face is not None and candidate.look is not None:
        scale = size_hw[0] / candidate.look.height
        top, left, height, width = (round(value * scale) for value in candidate.face.box)
        return face_crop(size_hw, (top, left, height, width), at_least_px=config.min_side_px)
    return centre_crop(size_hw)


def _cut(decoded: Decoded, box: Box) -> Image.Image:
    """Cut a box given in the full photo's pixels out of a picture that may have been decoded smaller."""
    top, left, height, width = box
    scale_y = decoded.picture.height / decoded.size_hw[0]
    scale_x = decoded.picture.width / decoded.size_hw[1]
    y0, x0 = round(top * scale_y), round(left * scale_x)
    y1 = max(y0 + 1, round((top + height) * scale_y))
    x1 = max(x0 + 1, round((left + width) * scale_x))
    return decoded.picture.crop((x0, y0, x1, y1))


# ---------------------------------------------------------------------------------------------------------- captions

_PLAIN_CAPTION = "photo of {instance_token} {class_noun}"


def _sidecar_caption(path: Path, subject: str) -> str | None:
    """Return the caption that lies beside a photo, cleaned; None if there is none.

    The subject's name becomes the instance token, so that it never reaches a model; the three placeholders may be used
    and one of them is put in front where none is.
    """
    try:
        with path.with_suffix(".txt").open("rb") as file:
            raw = file.read(_SIDECAR_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return None
    return clean_caption(raw, subject)


def clean_caption(raw: str, subject: str) -> str | None:
    """Return a user's caption as one line with placeholders; None if nothing is left of it."""
    text = unicodedata.normalize("NFC", raw)
    text = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).split())
    text = text.replace("\ufffd", "")
    slot = "{instance_token} {class_noun}"
    text = text.replace("{subject}", slot)
    text = re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", slot, text, flags=re.IGNORECASE)
    text = re.sub(r"\{(?!(?:instance_token|class_noun)\})|(?<!\{instance_token)(?<!\{class_noun)\}", "", text)
    text = text[:_CAPTION_CHARACTERS].strip()
    if not text:
        return None
    if "{instance_token}" not in text:
        text = f"{_PLAIN_CAPTION}, {text}"
    return text


class _DrawnCaptions:
    """Captions of drawn portraits in the words that the pocket base was trained with."""

    def __init__(self) -> None:
        from studio.pocket.identity import load_classifier

        try:
            self._classifier: Any = load_classifier(POCKET_FOLDER / "attributes")
        except OSError:
            self._classifier = None

    def describe(self, picture: Image.Image) -> str:
        """Return a caption that names what is seen of the scene with confidence."""
        from studio.pocket import portraits

        if self._classifier is None:
            return _PLAIN_CAPTION
        return portraits.prompt_for("{instance_token} {class_noun}", **self._scene(picture))

    def _scene(self, picture: Image.Image) -> dict[str, str]:
        import torch

        pixels = torch.from_numpy(np.array(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = self._classifier(pixels)
        names: Mapping[str, Sequence[str]] = self._classifier.config["heads"]
        seen = {}
        for head in _SCENE_ATTRIBUTES:
            if head in logits:
                probability, index = logits[head][0].softmax(-1).max(-1)
                if float(probability) >= ATTRIBUTE_MIN_PROBABILITY:
                    seen[head] = names[head][int(index)]
        return seen
