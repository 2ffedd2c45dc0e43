"""What the studio does here and now, in the calling process and without a job: verbs for the command line, and plans.

A part of ``studio.service.Studio``. Verbs are strings until they run: importing this imports no torch.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studio.core import fit, listings, machine
from studio.core.domain import JobKind, OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.errors import NotFoundError
from studio.core.fit import FitPlan
from studio.core.openmp import set_openmp_defaults
from studio.core.settings import Settings
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.jobs.child import resolve
from studio.jobs.states import VerbSpec


def _computing(path: str) -> Callable[..., Any]:
    """Return a function that loads torch, as ``resolve`` does."""
    set_openmp_defaults()
    return resolve(path)


class HereAndNow:
    """The studio without its jobs.

    Args:
        settings: folders and limits.
        verbs: how each kind of job is run.
    """

    def __init__(self, settings: Settings, verbs: Mapping[JobKind, VerbSpec]) -> None:
        self._settings = settings
        self._verbs = verbs
        self._home = settings.home.expanduser().absolute()

    def run(
        self,
        verb: str,
        config: StrictModel,
        source: Path,
        out: Path,
        *,
        on_event: OnEvent = ignore_event,
        should_stop: ShouldStop = never_stop,
    ) -> Any:
        """Run a verb (check, train, generate, export, finish) here and now, in this process; return its result.

        Raises:
            NotFoundError: there is no such verb. StudioError: whatever the verb raises.
        """
        spec = next((spec for kind, spec in self._verbs.items() if kind == verb), None)
        if spec is None:
            raise NotFoundError(f"there is no verb {verb!r}; use one of: {', '.join(self._verbs)}.")
        return _computing(spec.path)(config, source, out, on_event=on_event, should_stop=should_stop)

    def plan(self, config: TrainConfig, photos: int) -> FitPlan:
        """Return an estimate of what a run takes, from measurements on this machine or else from the catalog."""
        room_bytes = machine.look(self._settings.device).memory_bytes
        return fit.plan_of(config, photos, fit.recall(self._home, config), room_bytes=room_bytes)

    def measure_plan(
        self,
        config: TrainConfig,
        dataset_dir: Path,
        *,
        on_event: OnEvent = ignore_event,
        should_stop: ShouldStop = never_stop,
    ) -> FitPlan:
        """Measure what a run will take with a few real steps here and now, in this process.

        Raises:
            StudioError: whatever would keep the run from starting.
        """
        plan_run = _computing("studio.plan:plan")
        measured: FitPlan = plan_run(config, dataset_dir, on_event=on_event, should_stop=should_stop)
        return measured

    def bench_likeness(self, folder: Path, engine: str, class_noun: str, **watching: Any) -> Any:
        """Measure a likeness engine on a folder of subjects, here and now, as ``studio.likeness.bench.measure``."""
        return _computing("studio.likeness.bench:measure")(folder, engine, class_noun, **watching)

    def bases(self) -> listings.Rows:
        """Return the catalog of base models, with the defaults of this machine."""
        return listings.bases(self._settings)
