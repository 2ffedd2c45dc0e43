"""What the studio tells Prometheus: queue, attempts, steps, requests, memory, deliveries, money.

No owner, id or name is in any of it.

Needs the extra ``metrics`` (prometheus-client); without it the studio counts nothing and ``/v1/metrics`` says so.
Called by ``studio.web.server`` and by what answers ``/v1/metrics``.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil

from studio.core.errors import MissingExtraError, StudioError

if TYPE_CHECKING:
    from studio.jobs.server import Server

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Source: prometheus.io/docs/instrumenting/exposition_formats."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_JOB_S = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_STEP_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST_S = (0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 60)


class Metrics:
    """The figures of one server; those of the table of jobs are asked when somebody reads them.

    Args:
        server: of the studio.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self, server: "Server") -> None:
        try:
            import prometheus_client as prometheus
            from prometheus_client.core import GaugeMetricFamily
        except ImportError:
            raise MissingExtraError(
                "metrics need the Python package prometheus-client; run: pip install prometheus-client."
            ) from None
        self._write, self._gauge, self._server = prometheus.generate_latest, GaugeMetricFamily, server
        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        registry.register(self)
        own: dict[str, Any] = {"registry": registry}
        self._started = prometheus.Counter("studio_attempts_started", "Attempts that began here.", ["kind"], **own)
        self._ended = prometheus.Histogram(
            "studio_attempt_seconds",
            "How long attempts took that ended here: completed, stalled, cancelled, lost or released.",
            ["kind", "outcome"], buckets=_JOB_S, **own,
        )  # fmt: skip
        self._steps = prometheus.Histogram(
            "studio_step_seconds", "How long one step of a training takes.", ["kind"], buckets=_STEP_S, **own
        )
        self._requests = prometheus.Histogram(
            "studio_http_request_seconds",
            "How long requests took until their answer was sent, by the template of their route.",
            ["method", "route", "status"], buckets=_REQUEST_S, **own,
        )  # fmt: skip

    # What happens here

    def started(self, kind: str) -> None:
        """See ``Observer.started``."""
        self._started.labels(kind).inc()

    def stepped(self, kind: str, seconds: float) -> None:
        """See ``Observer.stepped``."""
        self._steps.labels(kind).observe(seconds)

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """See ``Observer.ended``."""
        self._ended.labels(kind, outcome).observe(seconds)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            method: any; those that nobody knows are counted as other.
            route: the template of the route, never the address itself.
            status: of the answer.
            seconds: until the whole answer was sent.
        """
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).observe(seconds)

    # What is read

    def text(self) -> bytes:
        """Return all of it in the text format of Prometheus; asks the database."""
        text: bytes = self._write(self._registry)
        return text

    def describe(self) -> list[Any]:
        """Name nothing beforehand, so that the database is not asked when this is registered."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield what is asked when somebody reads it."""
        jobs = self._gauge("studio_jobs", "Jobs in the table.", labels=["kind", "state"])
        waits = self._gauge(
            "studio_jobs_oldest_seconds",
            "Seconds since the oldest job of this kind and state was submitted that has not ended.",
            labels=["kind", "state"],
        )
        told = self._gauge("studio_deliveries", "Deliveries to webhooks in the table.", labels=["state"])
        machines = self._gauge("studio_rented_machines", "Rented machines that may cost money now.")
        money = self._gauge(
            "studio_rented_dollars",
            "US dollars of this month (UTC): spent, and reserved for machines that may run now.",
            labels=["what"],
        )
        answers = 1.0
        try:
            for row in self._server.figures():
                jobs.add_metric([row.kind, row.state], row.jobs)
                if row.state not in ("completed", "stalled", "cancelled"):
                    waits.add_metric([row.kind, row.state], row.oldest_s)
            for state, count in self._server.deliveries().items():
                told.add_metric([state], count)
            rented, spent, reserved = self._server.rented()
            machines.add_metric([], rented)
            money.add_metric(["spent"], spent)
            money.add_metric(["reserved"], reserved)
        except StudioError:
            answers = 0.0
        yield from (jobs, waits, told, machines, money)
        server = self._server
        yield self._gauge("studio_table_answers", "Whether the table of jobs could be asked.", answers)
        yield self._gauge("studio_running", "Attempts that run here.", server.running())
        yield self._gauge("studio_leads", "Whether this server dispatches.", float(server.leads()))
        yield self._gauge("studio_draining", "Whether this server takes no more jobs.", float(server.is_draining()))
        yield self._gauge("studio_jobs_memory_bytes", "Resident memory of the processes of jobs.", _memory_of_jobs())
        try:
            yield self._gauge("studio_home_free_bytes", "Room that is left in STUDIO_HOME.", server.free_bytes())
        except OSError:
            return


def _memory_of_jobs() -> int:
    """Return what the children of this process take together, bytes; pages that they share count for each."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return total
