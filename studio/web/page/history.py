"""What has happened in a job so far, collected from its events; kept, so that each poll reads only new ones."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.core.domain import Event
from studio.web.session import StudioSession

_MAX_KEPT = 32


@dataclass
class JobHistory:
    """One job's past. A resumed attempt reports steps again; the newest report counts."""

    seq: int = 0
    """Number of the last event that was read."""
    stage: str = ""
    """What the job says it does."""
    stage_name: str = ""
    """The same as one word of the verb."""
    loss: dict[int, float] = field(default_factory=dict)
    """By step."""
    likeness: dict[int, float] = field(default_factory=dict)
    """By step."""
    summaries: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """By step: spread, word and engine of the likeness."""
    samples: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By path."""
    verdicts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By file name."""
    images: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By path."""
    warnings: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Add one event."""
        data = event.data
        match event.kind:
            case "stage":
                self.stage_name = str(data.get("name") or "")
                self.stage = str(data.get("message") or self.stage_name)
            case "progress":
                if self.stage_name == "loading" and data.get("step"):  # loading is over where things are being done
                    self.stage = self.stage_name = ""
            case "metrics":
                step = int(data["step"])
                for name, curve in (("loss", self.loss), ("likeness", self.likeness)):
                    if data.get(name) is not None:
                        curve[step] = float(data[name])
                if "val_loss" in data:
                    self._sampled(step, data)
            case "sample":
                self.samples[data["path"]] = data
            case "verdict":
                self.verdicts[data["name"]] = data
            case "image":
                self.images[data["file"]] = data
            case "message":
                if data.get("level") == "warning" and data["text"] not in self.warnings:
                    self.warnings.append(str(data["text"]))

    def _sampled(self, step: int, data: Mapping[str, Any]) -> None:
        """Note who measured a checkpoint; points of another engine or version do not belong on the same curve."""
        summary = data.get("likeness_summary")
        if data.get("likeness") is None:
            self.likeness.pop(step, None)
        self.summaries.pop(step, None)
        if summary is None:
            return
        self.summaries[step] = summary
        ruler = (summary["engine"], summary["version"])
        for other in set(self.likeness) - {step}:
            of_other = self.summaries.get(other)
            if of_other is None or (of_other["engine"], of_other["version"]) != ruler:
                self.likeness.pop(other)


class JobHistories:
    """The histories of the jobs that somebody looks at; the least recently read one is dropped first."""

    def __init__(self, session: StudioSession) -> None:
        self._session = session
        self._histories: OrderedDict[str, JobHistory] = OrderedDict()
        self._lock = threading.Lock()

    def drop(self, jobs: Collection[str]) -> None:
        """Forget the histories of these jobs."""
        with self._lock:
            for job_id in jobs:
                self._histories.pop(job_id, None)

    def read(self, job_id: str) -> JobHistory:
        """Return the job's history up to now."""
        with self._lock:
            history = self._histories.setdefault(job_id, JobHistory())
            self._histories.move_to_end(job_id)
            while len(self._histories) > _MAX_KEPT:
                self._histories.popitem(last=False)
            for seq, event in self._session.studio.events(job_id, owner=self._session.owner, after=history.seq):
                history.add(event)
                history.seq = seq
            return history
