"""What Prometheus reads: figures of the queue and of this server, no id, owner or name."""

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from studio.core.errors import MissingExtraError, ResourceError
from studio.jobs.queue import Figure
from studio.web.metrics import Metrics


def a_server(**changes: Any) -> Any:
    figures = [Figure("train", "pendingGpu", 3, 61.5), Figure("check", "completed", 7, 9000.0)]
    usual = {
        "figures": lambda: figures, "running": lambda: 2, "leads": lambda: True, "is_draining": lambda: False,
        "free_bytes": lambda: 5 * 10**9, "deliveries": lambda: {"waiting": 4, "failed": 1},
        "rented": lambda: (2, 7.5, 1.25),
    }  # fmt: skip
    return SimpleNamespace(**{**usual, **changes})


def told(metrics: Metrics) -> dict[str, float]:
    rows = [row.rsplit(" ", 1) for row in metrics.text().decode().splitlines() if not row.startswith("#")]
    return {name: float(value) for name, value in rows}


def test_the_queue_the_attempts_and_the_requests_are_told() -> None:
    metrics = Metrics(a_server())
    metrics.started("train")
    metrics.stepped("train", 0.2)
    metrics.ended("train", "completed", 30.0)
    metrics.requested("GET", "/v1/jobs/{job_id}", 200, 0.01)
    metrics.requested("BREW", "other", 405, 0.01)
    found = told(metrics)
    wanted = {
        'studio_jobs{kind="train",state="pendingGpu"}': 3,
        'studio_jobs{kind="check",state="completed"}': 7,
        'studio_jobs_oldest_seconds{kind="train",state="pendingGpu"}': 61.5,
        'studio_attempts_started_total{kind="train"}': 1,
        'studio_attempt_seconds_count{kind="train",outcome="completed"}': 1,
        'studio_attempt_seconds_sum{kind="train",outcome="completed"}': 30,
        'studio_step_seconds_bucket{kind="train",le="0.25"}': 1,
        'studio_step_seconds_bucket{kind="train",le="0.1"}': 0,
        'studio_http_request_seconds_count{method="GET",route="/v1/jobs/{job_id}",status="200"}': 1,
        'studio_http_request_seconds_count{method="other",route="other",status="405"}': 1,
        "studio_running": 2, "studio_leads": 1, "studio_draining": 0, "studio_home_free_bytes": 5e9,
        "studio_table_answers": 1, 'studio_deliveries{state="waiting"}': 4, 'studio_deliveries{state="failed"}': 1,
        "studio_rented_machines": 2, 'studio_rented_dollars{what="spent"}': 7.5,
        'studio_rented_dollars{what="reserved"}': 1.25,
    }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["studio_jobs_memory_bytes"] >= 0 and found["process_resident_memory_bytes"] > 10**7
    assert 'studio_jobs_oldest_seconds{kind="check",state="completed"}' not in found


def test_a_table_that_does_not_answer_is_told_and_hides_nothing_else() -> None:
    def broken() -> Any:
        raise ResourceError("it is gone.")

    found = told(Metrics(a_server(figures=broken)))
    assert found["studio_table_answers"] == 0 and found["studio_running"] == 2
    assert not [name for name in found if name.startswith("studio_jobs{")]


def test_every_name_is_one_and_every_family_has_its_sentence() -> None:
    text = Metrics(a_server()).text().decode()
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names)) and set(names) == set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match="pip install prometheus-client"):
        Metrics(a_server())
