"""The studio's nouns: frozen records that travel between rooms, and to people as JSON.

Ground level: standard library only. Paths inside records are relative to the folder that the verb wrote.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

PERSON_NOUNS = frozenset({"person", "woman", "man", "girl", "boy", "lady", "gentleman", "child", "baby"})
"""Class nouns for which a photo must show a face."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a verb reports while it works.

    Kinds and their ``data`` (all JSON):
      ``stage``    name (loading, caching, training ...), message
      ``progress`` step, total, eta_s (float or None), message, and counted (False) where step is only a share of total
      ``metrics``  step, and any of loss, val_loss, learning_rate, step_s, likeness, likeness_summary, bleed
      ``sample``   step, path, prompt, likeness (float or None)   path of a picture below the output folder
      ``verdict``  one Verdict as a dict
      ``image``    one Image (``finish``: one FinishedPicture) as a dict
      ``message``  level (info, warning), text
    """

    kind: Literal["stage", "progress", "metrics", "sample", "verdict", "image", "message"]
    data: Mapping[str, Any]


def plain(value: Any) -> Any:
    """Return ``value`` as strict JSON data: records and tuples opened, NaN and infinities as None, the rest as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # browsers reject NaN in JSON
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy and torch scalars
        return plain(value.item())
    return str(value)


OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def ignore_event(event: Event) -> None:
    """Default listener."""


def never_stop() -> bool:
    """Default for ``should_stop``."""
    return False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The photo check's judgement of one photo."""

    name: str
    """The photo's file name as the user knows it (printable, without folders)."""
    status: Literal["good", "usable", "rejected"]
    problems: tuple[Mapping[str, str], ...] = ()
    """Each with code, message, cure."""
    size_hw: tuple[int, int] | None = None
    """Height and width in pixels after EXIF orientation; None if it could not be decoded."""
    likeness: float | None = None
    """Likeness to the other photos of the set, on the calibrated scale; None if not measured."""
    preview: str | None = None
    """A small copy, of the crop or of a photo that was left out, in the dataset folder; None if it is unreadable."""
    original: str | None = None
    """The photo without metadata and black bars, in the dataset folder: what the set is edited from."""
    crop: tuple[float, float, float, float] | None = None
    """What of that is used: top, left, height, width as shares of its height and width; None if it was left out."""
    notes: tuple[str, ...] = ()
    """What was done to the photo beside cropping, in words."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One prepared training photo: a row of dataset.json."""

    file: str
    """Path relative to the dataset folder; RGB PNG without metadata."""
    name: str
    """The user's file name; never leaves this machine."""
    sha256: str
    """Of the prepared file's bytes."""
    size_hw: tuple[int, int]
    caption: str
    """Holds the placeholders {instance_token} and {class_noun}."""
    bucket: str
    """Nearest aspect bucket as "W:H", for example "1:1"."""
    crop_yxhw: tuple[int, int, int, int]
    """Top, left, height, width of the crop in the oriented photo, pixels."""
    problems: tuple[str, ...] = ()
    """Codes of the warnings that the photo carries."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What ``check`` returns and writes as dataset.json."""

    subject: str
    class_noun: str
    photos: tuple[Photo, ...]
    verdicts: tuple[Verdict, ...]
    set_problems: tuple[Mapping[str, str], ...]
    """Problems of the set as a whole: code, message, cure."""
    likeness_engine: str | None
    """The engine that compared the photos; None if none could."""
    drawn: bool | None = None
    """Whether they are drawn portraits; False for photographs, None where no check has looked."""
    version: int = 1
    likeness_summary: Mapping[str, Any] | None = None
    """Likeness of the photos in use to each other, as ``studio.likeness.base.summarise`` puts it."""
    class_noun_guessed: bool = False
    """Nobody said what the photos show: the class noun is what the check saw in them."""
    advice: tuple[Mapping[str, str], ...] = ()
    """What would make the set better: code, message, cure."""
    consent: bool = False
    """Whoever made the set has said that the person in the photos agrees."""


@dataclass(frozen=True, slots=True)
class Image:
    """One generated picture."""

    file: str
    """Path relative to the output folder; PNG with text chunks."""
    shot: str
    prompt: str
    negative_prompt: str
    seed: int
    likeness: float | None
    rank: int
    """1 = the most alike; 0 while not yet ranked, and of pictures that were left out."""
    duplicate_of: str | None = None
    """The better picture that this one nearly repeats; looked for only where pictures are left out."""
    likeness_engine: str | None = None
    """The engine that was asked; None if none was."""
    likeness_version: str | None = None
    """Its version."""
    adapter_scale: float | None = None
    """Strength of the adapter; None in files of earlier versions."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What ``train`` returns and writes into report.json."""

    adapter: str
    """Path of the adapter folder relative to the run folder."""
    best_step: int
    best_reason: str
    steps: int
    seconds: float
    likeness_before: float | None
    likeness_after: float | None
    bleed: float | None
    likeness_engine: str | None
    checkpoints: tuple[Mapping[str, Any], ...] = ()
    """Per checkpoint: step, likeness, bleed, val_loss, likeness_summary."""
    likeness_version: str | None = None
    """Of the engine; scores of other versions mean something else."""
    likeness_summary: Mapping[str, Any] | None = None
    """Of the best checkpoint's samples, as ``studio.likeness.base.summarise`` puts it."""
    likeness_summary_before: Mapping[str, Any] | None = None
    """Of the untrained base's samples."""


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """What ``generate`` returns and writes as index.json."""

    images: tuple[Image, ...]
    contact_sheet: str
    archive: str
    """A zip of all pictures, relative to the output folder."""
    seconds: float
    likeness_mean: float | None
    likeness_engine: str | None
    left_out: tuple[Image, ...] = ()
    """Pictures that were made and not kept, best first."""
    likeness_mean_made: float | None = None
    """Mean of all that were made, also those left out."""
    sheets: tuple[str, ...] = ()
    """A contact sheet per shot with several pictures, relative to the output folder."""
    from_cache: int = 0
    """Pictures that the result cache held."""
    likeness_version: str | None = None
    """Of the engine; scores of other versions mean something else."""
    withheld: int = 0
    """Pictures that were made and that the operator's check for nudity withholds; they are written nowhere."""
    likeness_summary: Mapping[str, Any] | None = None
    """Of the pictures that are kept, as ``studio.likeness.base.summarise`` puts it."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What ``export`` returns and writes as export.json."""

    format: str
    files: tuple[str, ...]
    """Relative to the output folder."""
    certificate: str
    bytes: int
    """Of all files together."""
    difference_max: int
    """Largest difference of the reloaded pictures from the trained model's, of 255."""
    difference_mean: float
    seconds: float


@dataclass(frozen=True, slots=True)
class FinishedPicture:
    """One picture that went through a chain."""

    file: str
    """Path relative to the output folder."""
    source: str
    """Name of the picture that it was made from."""
    size_hw: tuple[int, int]
    """Height and width, pixels."""
    size_bytes: int
    quality: int | None
    """Quality that the format needed; None for PNG."""
    before: str
    """Preview of the source in the same size and cut, relative to the output folder; WebP, at most 1024 px."""
    after: str
    """Preview of the result, as ``before``."""
    seconds: float
    sha256: str
    """Of the file's bytes."""
    notes: tuple[str, ...] = ()
    """What a user might not expect about it, as full sentences."""


@dataclass(frozen=True, slots=True)
class FinishResult:
    """What ``finish`` returns and writes as index.json."""

    pictures: tuple[FinishedPicture, ...]
    failed: tuple[Mapping[str, str], ...]
    """Pictures that could not be finished: where (the name), message, cure, code."""
    contact_sheet: str
    archive: str | None
    """A zip of all pictures; None where only a contact sheet was asked for."""
    seconds: float
    chain: str | None


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What ``publish`` returns and writes as publish.json."""

    repo: str
    """``owner/name``."""
    url: str
    commit: str | None
    """Id of the commit on the Hub; None where nothing was sent."""
    public: bool
    form: str
    licence: str
    files: tuple[str, ...]
    """Relative to the folder ``repo`` in the output folder, which holds exactly what was pushed."""
    pictures: int
    bytes: int
    """Of all files together."""
    warnings: tuple[str, ...]
    """What the user should know, as full sentences."""
    seconds: float


JobKind = Literal["check", "train", "generate", "export", "finish", "publish"]
JobState = Literal[
    "pending",
    "pendingGpu",
    "pendingImages",
    "pendingModel",
    "training",
    "generating",
    "exporting",
    "finishing",
    "publishing",
    "checking",
    "completed",
    "stalled",
    "cancelled",
]
TERMINAL_STATES: frozenset[str] = frozenset({"completed", "stalled", "cancelled"})


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What a job is about; None where it is not known or does not apply.

    Subject, class noun and base are those of the source job where the request itself leaves them out.
    """

    subject: str | None = None
    class_noun: str | None = None
    name: str | None = None
    """What its owner calls a photo set."""
    base: str | None = None
    preset: str | None = None
    adapter: str | None = None
    """A published adapter that takes the place of a run."""
    pack: str | None = None
    prompt: str | None = None
    """The first of the free prompts."""
    format: str | None = None
    """Of an export."""
    chain: str | None = None
    steps: tuple[str, ...] = ()
    """Kinds of the finish steps, in order."""
    repo: str | None = None
    """``owner/name`` on the Hub."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "JobFacts":
        """Rebuild from plain JSON data; a fact that this version does not know is left out."""
        known = {row.name: data[row.name] for row in fields(cls) if row.name in data}
        return cls(**{**known, "steps": tuple(known.get("steps", ()))})


@dataclass(frozen=True, slots=True)
class SourceJob:
    """The unfinished job that another one waits for."""

    id: str
    kind: JobKind
    title: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner sees it; plain JSON through ``plain``."""

    id: str
    kind: JobKind
    state: JobState
    owner: str
    title: str
    created_s: float
    """Seconds since the epoch."""
    started_s: float | None = None
    finished_s: float | None = None
    attempt: int = 0
    cause: str | None = None
    """Why it is stalled, in words, always set then; of an open job why nothing new of it can be stored, mostly None."""
    problems: tuple[Mapping[str, str], ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)
    """The newest progress event's data."""
    result: Mapping[str, Any] | None = None
    """The verb's result as JSON; set when completed."""
    source: str | None = None
    """Id of the job whose output this one reads."""
    facts: JobFacts = JobFacts()
    """What it is about; ``studio.core.job_words`` puts it into words."""
    waits_for: SourceJob | None = None
    """The source while this job waits for its end."""
    place: int | None = None
    """Its place in the queue while it waits for its turn, 1 for the next one to start."""
    starts_in_s: float | None = None
    """About how long until it starts, in seconds, from how long such jobs took; None where that is not known."""
    hearts: tuple[str, ...] = ()
    """Pictures of a generate job that its owner has given a heart, by their ``file``, the newest heart last."""
    cost_usd: float | None = None
    """What the machines that were rented for it have cost at most, US dollars; None where none was."""
    cause_status: int | None = None
    """HTTP status of the error that the cause is, such as 422 for what the request can mend; None where it is none."""
