"""Machines of Vast.ai.

Source: docs.vast.ai/api-reference and the code of its own client ``vastai`` 1.9.1. The list is that of ``/api/v1``: the
one of ``/api/v0`` has come back empty while machines ran. A key that is not accepted is answered with 404, as a machine
that is gone is; the body tells them apart.
"""

import json
import math
from typing import Any, TypeGuard

from studio.core.errors import ResourceError
from studio.core.units import gigabytes_text
from studio.jobs.runners.rented.base import Label, Machine, MachineState, Offer, RefusedError, Start, Wants
from studio.jobs.runners.rented.calls import Answer, Calls

URL = "https://console.vast.ai"
_PER_PAGE = 25
_MOST_PAGES = 100
_MOST_OFFERS = 20
_RELIABLE = 0.98
_MB_PER_GB = 1024
_STATES: dict[str | None, MachineState] = {
    None: "starting", "created": "starting", "loading": "starting", "rebooting": "starting",
    "exited": "over", "stopped": "over",
}  # fmt: skip
"""All others run, or nobody knows: the watchdogs end those."""


class Vast:
    """Vast.ai, for one installation.

    Args:
        key: API key.
        installation: whose machines.
        url: of the interface.
        timeout_s: longest wait for one answer.
    """

    name = "vast"

    def __init__(self, key: str, installation: str, *, url: str = URL, timeout_s: float = 30.0) -> None:
        self.installation = installation
        self._calls = Calls("Vast.ai", url or URL, key, timeout_s=timeout_s)

    def offers(self, wants: Wants) -> list[Offer]:
        """Return verified, reliable machines that can be rented now."""
        query: dict[str, Any] = {
            "type": "on-demand",
            "verified": {"eq": True},
            "external": {"eq": False},
            "rentable": {"eq": True},
            "rented": {"eq": False},
            "num_gpus": {"eq": 1},
            "reliability": {"gte": _RELIABLE},
            "gpu_ram": {"gte": wants.memory_gb * _MB_PER_GB * 0.97},  # a card of 24 GB reports a little less
            "disk_space": {"gte": wants.disk_gb},
            "dph_total": {"lte": wants.max_price_per_hour},
            "order": [["dph_total", "asc"]],
            "limit": _MOST_OFFERS,
            "allocated_storage": wants.disk_gb,
        }
        if wants.gpu:
            query["gpu_name"] = {"eq": wants.gpu}
        rows = self._ok("POST", "/api/v0/bundles/", body=query).field("offers")
        if not isinstance(rows, list):
            raise self._calls.unclear("no list of offers")
        found = [offer for row in rows if (offer := self._offer(row, wants)) is not None]
        return sorted(found, key=lambda offer: offer.price_per_hour)

    def create(self, offer: Offer, label: Label, start: Start) -> str:
        """Accept an offer."""
        body = {
            "client_id": "me",
            "image": start.image,
            "disk": start.disk_gb,
            "label": str(label),
            "env": dict(start.secrets),
            "runtype": "args",
            "args": list(start.command),
            "target_state": "running",
            "cancel_unavail": True,
        }
        answer = self._calls.ask("PUT", f"/api/v0/asks/{offer.id}/", body=body)
        if answer.status >= 400 or answer.field("success") is False:
            raise RefusedError(f"Vast.ai does not rent this machine ({answer.words()}).")
        machine_id = answer.field("new_contract")
        if answer.field("success") is not True or not _is_id(machine_id):
            raise self._calls.unclear("no number of a machine")
        return str(machine_id)

    def machines(self) -> list[Machine]:
        """Return the machines of this installation, after all pages of the account's were read and counted."""
        rows: dict[int, Any] = {}
        query = {"limit": str(_PER_PAGE), "select_filters": "{}", "order_by": json.dumps([{"col": "id", "dir": "asc"}])}
        for _ in range(_MOST_PAGES):
            answer = self._ok("GET", "/api/v1/instances/", query=list(query.items()))
            page, total = answer.field("instances"), answer.field("total_instances")
            if not isinstance(page, list) or not isinstance(total, int):
                raise self._calls.unclear("no list of machines")
            for row in page:
                if not isinstance(row, dict) or not _is_id(row.get("id")):
                    raise self._calls.unclear("a list of something else")
                rows[row["id"]] = row
            token = answer.field("next_token")
            if not token:
                if len(rows) != total:
                    raise self._calls.unclear(f"{len(rows)} of {total} machines")
                return [machine for row in rows.values() if (machine := self._machine(row)) is not None]
            if not page or not isinstance(token, str) or token == query.get("after_token"):
                raise self._calls.unclear("a list without end")
            query["after_token"] = token
        raise self._calls.unclear("a list without end")

    def look(self, machine_id: str) -> Machine | None:
        """Return a machine; None if it is clearly gone."""
        answer = self._calls.ask("GET", f"/api/v0/instances/{machine_id}/", query=[("owner", "me")])
        row = answer.field("instances")
        if answer.status == 404 and isinstance(answer.told, dict):
            return None
        if answer.status != 200 or not isinstance(answer.told, dict) or "instances" not in answer.told:
            raise self._calls.unclear(f"status {answer.status}")
        if row is None:
            return None
        machine = self._machine(row) if isinstance(row, dict) and str(row.get("id")) == machine_id else None
        if machine is None:
            raise self._calls.unclear("another machine")
        return machine

    def destroy(self, machine_id: str) -> None:
        """Destroy a machine; one that is only stopped costs on."""
        answer = self._calls.ask("DELETE", f"/api/v0/instances/{machine_id}/", body={})
        if answer.status != 404 and (answer.status >= 400 or answer.field("success") is not True):
            raise ResourceError(f"Vast.ai does not destroy machine {machine_id} ({answer.words()}).")

    def _ok(self, method: str, path: str, **asked: Any) -> Answer:
        answer = self._calls.ask(method, path, **asked)
        if answer.status != 200 or not isinstance(answer.told, dict) or answer.field("success") is False:
            raise self._calls.unclear(f"status {answer.status}, {answer.words()}")
        return answer

    def _offer(self, row: Any, wants: Wants) -> Offer | None:
        """Return an offer whose price is known and within bounds."""
        if not isinstance(row, dict) or not _is_id(row.get("id")):
            raise self._calls.unclear("no list of offers")
        price, per_gb = row.get("dph_total"), row.get("inet_down_cost") or 0.0
        if not _is_price(price) or not _is_price(per_gb) or price > wants.max_price_per_hour:
            return None
        memory_gb = row["gpu_ram"] / _MB_PER_GB if isinstance(row.get("gpu_ram"), int | float) else 0.0
        # It fetches no more than its disk holds.
        return Offer(
            str(row["id"]), f"{row.get('gpu_name', 'GPU')}, {gigabytes_text(memory_gb)}", price, per_gb * wants.disk_gb
        )

    def _machine(self, row: dict[str, Any]) -> Machine | None:
        label = Label.read(row.get("label"), self.installation)
        if label is None:
            return None
        price = row.get("dph_total")
        state = _STATES.get(row.get("actual_status"), "running")
        return Machine(str(row["id"]), label, state, price if _is_price(price) else None)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_price(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
