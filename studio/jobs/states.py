"""Kinds of jobs and the verbs that they run, the states of a job, and the transitions between them.

``store`` builds its conditional updates from ``TRANSITIONS``, so that a transition that is not in the table cannot
happen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import JobKind, JobState
from studio.core.finish_config import FinishConfig
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class VerbSpec:
    """How one kind of job is run."""

    path: str
    """``module:function``, resolved only where the verb runs."""
    config: type[StrictModel]
    working: JobState
    """The state while the verb makes progress."""
    needs_device: bool
    """Whether it loads a base: it is pendingGpu while all devices are taken, pendingModel until its first progress."""
    warm_path: str | None = None
    """The same verb for a process that runs one job after another and keeps its base loaded; None where none does."""


VERBS: dict[JobKind, VerbSpec] = {
    "check": VerbSpec("studio.check:check", CheckConfig, "checking", needs_device=False),
    "train": VerbSpec("studio.train:train", TrainConfig, "training", needs_device=True),
    "generate": VerbSpec(
        "studio.infer:generate",
        GenerateConfig,
        "generating",
        needs_device=True,
        warm_path="studio.infer:generate_warm",
    ),
    "export": VerbSpec("studio.export:export", ExportConfig, "exporting", needs_device=True),
    "finish": VerbSpec("studio.postprocess:finish", FinishConfig, "finishing", needs_device=False),
    "publish": VerbSpec("studio.publish:publish", PublishConfig, "publishing", needs_device=True),
}
"""The one table of verbs: kind of job -> how it is run."""

SOURCE_KIND: dict[JobKind, JobKind] = {
    "train": "check",
    "generate": "train",
    "export": "train",
    "finish": "generate",
    "publish": "train",
}
"""Kind of job -> kind of the job whose output it reads. check reads uploads; so does finish without a source."""

WAITING: frozenset[str] = frozenset({"pending", "pendingGpu", "pendingImages"})
"""No attempt is running."""
RUNNING: frozenset[str] = frozenset(
    {"pendingModel", "checking", "training", "generating", "exporting", "finishing", "publishing"}
)
"""A worker has claimed the job; its process may be alive."""

_WORKING = RUNNING - {"pendingModel"}
_ENDS: frozenset[str] = frozenset({"stalled", "cancelled"})

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "pending": frozenset({"pendingGpu", "pendingImages"}) | RUNNING | _ENDS,
    "pendingGpu": frozenset({"pending"}) | RUNNING | _ENDS,
    "pendingImages": frozenset({"pending", "pendingGpu"}) | _ENDS,
    # A verb that finds its work done completes without any progress; a job whose attempt is lost is pending again.
    "pendingModel": _WORKING | _ENDS | {"completed", "pending"},
    "checking": _ENDS | {"completed", "pending"},
    "training": _ENDS | {"completed", "pending"},
    "generating": _ENDS | {"completed", "pending"},
    "exporting": _ENDS | {"completed", "pending"},
    "finishing": _ENDS | {"completed", "pending"},
    "publishing": _ENDS | {"completed", "pending"},
    "completed": frozenset(),
    "stalled": frozenset({"pending"}),
    "cancelled": frozenset({"pending"}),
}
"""State -> states that may follow it. A job that has ended becomes ``pending`` only when its owner retries it."""


def origins(target: str) -> tuple[str, ...]:
    """Return the states from which ``target`` may be entered, sorted."""
    return tuple(sorted(state for state, followers in TRANSITIONS.items() if target in followers))


def claimed_state(verb: VerbSpec) -> JobState:
    """Return the state right after a worker has claimed a job."""
    return "pendingModel" if verb.needs_device else verb.working


def waiting_state(verb: VerbSpec, source_state: str | None, device_busy: bool) -> JobState:
    """Return the state in which a job waits.

    Args:
        verb: how the job is run.
        source_state: state of the job whose output it reads; None if it reads none.
        device_busy: another job is running.

    Returns:
        ``pendingImages``, ``pendingGpu``, ``pending`` (may be claimed), or ``stalled`` where the source can no
        longer complete by itself.
    """
    if source_state in _ENDS:
        return "stalled"
    if source_state not in (None, "completed"):
        return "pendingImages"
    return "pendingGpu" if device_busy and verb.needs_device else "pending"
