"""What has happened in a job so far, folded from its events; kept between polls, so that each reads only the new."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.domain import Event
from studio.ui.actions import Desk

_KEPT = 32


@dataclass
class Story:
    """One job's past. A resumed attempt tells steps again; the newest telling holds."""

    seq: int = 0
    """Number of the last event that was read."""
    stage: str = ""
    loss: dict[int, float] = field(default_factory=dict)
    """By step."""
    likeness: dict[int, float] = field(default_factory=dict)
    """By step."""
    samples: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By path."""
    verdicts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By file name."""
    images: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By path."""
    warnings: list[str] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        """Add one event."""
        data = event.data
        match event.kind:
            case "stage":
                self.stage = str(data.get("message") or data.get("name") or "")
            case "metrics":
                step = int(data["step"])
                for name, curve in (("loss", self.loss), ("likeness", self.likeness)):
                    if data.get(name) is not None:
                        curve[step] = float(data[name])
            case "sample":
                self.samples[data["path"]] = data
            case "verdict":
                self.verdicts[data["name"]] = data
            case "image":
                self.images[data["file"]] = data
            case "message":
                if data.get("level") == "warning" and data["text"] not in self.warnings:
                    self.warnings.append(str(data["text"]))


class Stories:
    """The stories of the jobs that somebody looks at; the least recently read one is dropped first."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, job_id: str) -> Story:
        """Return the job's story with everything that has happened until now."""
        with self._lock:
            story = self._stories.setdefault(job_id, Story())
            self._stories.move_to_end(job_id)
            while len(self._stories) > _KEPT:
                self._stories.popitem(last=False)
            for seq, event in self._desk.studio.events(job_id, owner=self._desk.owner, after=story.seq):
                story.tell(event)
                story.seq = seq
            return story
