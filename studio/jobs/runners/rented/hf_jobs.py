"""Jobs of Hugging Face.

Source: ``huggingface_hub`` 2.4, whose functions ask the same addresses. They are asked directly here because an answer
that is clear must be told from one that is not. A job that has ended costs nothing and stays listed: it counts as gone.
"""

import re
from typing import Any

from studio.core.errors import ResourceError
from studio.jobs.runners.rented.base import APP, Label, Machine, Offer, RefusedError, Start, Wants
from studio.jobs.runners.rented.calls import Calls

URL = "https://huggingface.co"
_ENDED = frozenset({"COMPLETED", "CANCELED", "ERROR", "DELETED"})
_PER_HOUR = {"second": 3600.0, "minute": 60.0, "hour": 1.0}
_GIGABYTES = re.compile(r"(\d+(?:\.\d+)?)\s*GB", re.IGNORECASE)
_MOST_PAGES = 200


class HfJobs:
    """Jobs of Hugging Face, for one installation.

    Args:
        key: token that may run jobs.
        installation: whose machines.
        url: of the Hub.
        timeout_s: longest wait for one answer.
    """

    name = "hf_jobs"

    def __init__(self, key: str, installation: str, *, url: str = URL, timeout_s: float = 30.0) -> None:
        self.installation = installation
        self._calls = Calls("Hugging Face", url or URL, key, timeout_s=timeout_s)
        self._known_namespace: str | None = None

    def offers(self, wants: Wants) -> list[Offer]:
        """Return the kinds of machines with one GPU whose price is known."""
        answer = self._calls.ask("GET", "/api/jobs/hardware")
        if answer.status != 200 or not isinstance(answer.told, list):
            raise self._calls.unclear("no list of hardware")
        found = []
        for row in answer.told:
            offer = _offer(row) if isinstance(row, dict) else None
            if offer is not None and offer.price_per_hour <= wants.max_price_per_hour and _fits(row, wants):
                found.append(offer)
        return sorted(found, key=lambda offer: offer.price_per_hour)

    def create(self, offer: Offer, label: Label, start: Start) -> str:
        """Run a job."""
        labels = {"app": APP, "installation": label.installation, "job": label.job, "attempt": str(label.attempt)}
        body = {
            "command": list(start.command),
            "arguments": [],
            "environment": {},  # whoever sees the job sees these
            "secrets": dict(start.secrets),
            "flavor": offer.id,
            "timeoutSeconds": int(start.max_s),  # without it, half an hour
            "attempts": 1,
            "labels": labels,
            "dockerImage": start.image,
        }
        answer = self._calls.ask("POST", f"/api/jobs/{self._namespace()}", body=body)
        if answer.status >= 400:
            raise RefusedError(f"Hugging Face does not run this job ({answer.words()}).")
        machine_id = answer.field("id")
        if not isinstance(machine_id, str) or not machine_id:
            raise self._calls.unclear("no id of a job")
        return machine_id

    def machines(self) -> list[Machine]:
        """Return the jobs of this installation that have not ended, after all pages were read."""
        path = f"/api/jobs/{self._namespace()}"
        query = [("label", f"app={APP}"), ("label", f"installation={self.installation}")]
        found: list[Machine] = []
        for _ in range(_MOST_PAGES):
            answer = self._calls.ask("GET", path, query=query)
            if answer.status != 200 or not isinstance(answer.told, list):
                raise self._calls.unclear("no list of jobs")
            found += [machine for row in answer.told if (machine := self._machine(row)) is not None]
            if answer.next_url is None:
                return found
            if not answer.told or not self._calls.belongs(answer.next_url) or answer.next_url == path:
                raise self._calls.unclear("a list without end")
            path, query = answer.next_url, []
        raise self._calls.unclear("a list without end")

    def look(self, machine_id: str) -> Machine | None:
        """Return a job; None if it has clearly ended."""
        answer = self._calls.ask("GET", f"/api/jobs/{self._namespace()}/{machine_id}")
        if answer.status == 404 and isinstance(answer.told, dict):
            return None
        if answer.status != 200 or answer.field("id") != machine_id:
            raise self._calls.unclear(f"status {answer.status}")
        return self._machine(answer.told)

    def destroy(self, machine_id: str) -> None:
        """Cancel a job."""
        path = f"/api/jobs/{self._namespace()}/{machine_id}/cancel"
        answer = self._calls.ask("POST", path)
        if answer.status not in (200, 404, 409):  # 409: it has ended; a look will tell
            raise ResourceError(f"Hugging Face does not cancel job {machine_id} ({answer.words()}).")

    def _namespace(self) -> str:
        if self._known_namespace is None:
            name = self._calls.ask("GET", "/api/whoami-v2").field("name")
            if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
                raise self._calls.unclear("no name of an account")
            self._known_namespace = name
        return self._known_namespace

    def _machine(self, row: Any) -> Machine | None:
        """Return a job that costs money; None for one that has ended, and for those of others."""
        status = row.get("status") if isinstance(row, dict) else None
        stage = status.get("stage") if isinstance(status, dict) else None
        if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(stage, str):
            raise self._calls.unclear("a list of something else")
        labels = row.get("labels") or {}
        text = "/".join(str(labels.get(name, "")) for name in ("app", "installation", "job", "attempt"))
        label = Label.read(text, self.installation)
        if label is None or stage in _ENDED:
            return None
        return Machine(row["id"], label, "starting" if stage == "SCHEDULING" else "running")


def _offer(row: dict[str, Any]) -> Offer | None:
    """Return a kind of machine with one GPU; None if it has none, or its price is not known."""
    gpu, price = row.get("accelerator"), row.get("unitCostUSD")
    factor = _PER_HOUR.get(str(row.get("unitLabel")))
    if not isinstance(gpu, dict) or str(gpu.get("quantity")) != "1" or factor is None or not row.get("name"):
        return None
    if isinstance(price, bool) or not isinstance(price, int | float) or not price > 0:
        return None
    return Offer(str(row["name"]), f"{gpu.get('model') or row['name']}, {gpu.get('vram')}", price * factor)


def _fits(row: dict[str, Any], wants: Wants) -> bool:
    memory = _GIGABYTES.search(str(row["accelerator"].get("vram")))
    names = {str(name).lower() for name in (row.get("name"), row.get("prettyName"), row["accelerator"].get("model"))}
    return memory is not None and float(memory[1]) >= wants.memory_gb and (not wants.gpu or wants.gpu.lower() in names)
