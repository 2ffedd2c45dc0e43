"""Scopes and quotas at the one object that everything asks for jobs; requests in a minute."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studio.core.errors import ForbiddenError, QuotaError
from studio.core.keys import ApiKey, Use
from studio.core.settings import Settings
from studio.service import Studio
from studio.web.limits import NEEDS, LimitedStudio, RequestCounter, is_limited, rate_headers
from studio.web.login import Visitor

HERE_ONLY = {"start", "close", "run", "measure_plan", "bench_likeness"}
"""What the server and the command line do themselves; nobody is lent these."""


NOTHING = Use("2026-11", 0, 0, 0.0)


class Recorder:
    """Stands in for a studio: answers everything, and remembers what it was asked."""

    def __init__(self, use: Use = NOTHING, state: str = "cancelled") -> None:
        self.asked: list[str] = []
        self.use, self.state = use, state

    def usage(self, *, owner: str) -> Use:
        return self.use

    def knows(self, key: str, *, owner: str) -> bool:
        return key == "known"

    def get(self, job_id: str, *, owner: str) -> Any:
        return SimpleNamespace(state=self.state, kind="train", result={"verdicts": [1, 2, 3]})

    def __getattr__(self, name: str) -> Any:
        def answer(*args: Any, **kwargs: Any) -> str:
            self.asked.append(name)
            return name

        return answer


def limited(studio: Any, scopes: tuple[Any, ...] | None = ("jobs",), **quota: Any) -> LimitedStudio:
    if scopes is None:
        return LimitedStudio(studio, Settings(**{f"quota_{name}": value for name, value in quota.items()}), None)
    key = ApiKey("lsk_0", "ada", "", scopes, 0.0, quota=quota)
    return LimitedStudio(studio, Settings(), lambda: Visitor("ada", "ada", key=key))


def test_every_method_of_the_studio_has_its_scope_or_is_lent_to_nobody() -> None:
    methods = {name for name, _ in inspect.getmembers(Studio, inspect.isfunction) if not name.startswith("_")}
    assert methods - HERE_ONLY == set(NEEDS)
    for name in HERE_ONLY:
        with pytest.raises(AttributeError):
            getattr(limited(Recorder()), name)


@pytest.mark.parametrize(
    ("scopes", "may"),
    [(("read",), {"read"}), (("jobs",), {"read", "jobs"}), (("publish",), {"read", "publish"}), ((), set())],
)
def test_a_key_is_refused_what_its_scopes_do_not_name(scopes: tuple[Any, ...], may: set[str]) -> None:
    for name, scope in NEEDS.items():
        studio = Recorder()
        call = getattr(limited(studio, scopes), name)
        if scope is None or scope in may:
            given: tuple[Any, ...] = {"submit_check": (None, []), "usage": ()}.get(name, ("job",))
            call(*given, owner="ada")
        else:
            with pytest.raises(ForbiddenError, match=f"needs the scope {scope}"):
                call("job", owner="ada")
            assert studio.asked == []


def test_a_training_that_is_published_needs_both_scopes() -> None:
    with pytest.raises(ForbiddenError, match="publish"):
        limited(Recorder(), ("jobs",)).submit_train(None, "check", owner="ada", publish=object())
    assert limited(Recorder(), ("jobs", "publish")).submit_train(None, "check", owner="ada", publish=object())


def test_all_limits_that_a_job_would_go_beyond_are_told_and_nothing_is_started() -> None:
    studio = Recorder(Use("2026-11", photos=4, jobs=1, gpu_s=600.0))
    photos = [Path("1.jpg"), Path("1.txt"), Path("2.jpg")]
    with pytest.raises(QuotaError) as refused:
        limited(studio, photos=5, jobs=1).submit_check(None, photos, owner="ada")
    assert [problem.where for problem in refused.value.problems] == ["photos", "jobs"] and studio.asked == []
    with pytest.raises(QuotaError, match="gpu_minutes: are used up"):
        limited(studio, gpu_minutes=10).submit_train(None, "check", owner="ada")
    assert limited(studio, gpu_minutes=10, photos=6).submit_check(None, photos, owner="ada") == "submit_check"
    with pytest.raises(QuotaError, match="would be 7"):  # what an edited set has is copied
        limited(studio, photos=6).submit_check(None, [], owner="ada", edits="check")


def test_a_request_that_is_repeated_starts_nothing_and_is_not_refused() -> None:
    full = limited(Recorder(Use("2026-11", 0, 1, 0.0)), jobs=1)
    assert full.submit_train(None, "check", owner="ada", key="known") == "submit_train"
    with pytest.raises(QuotaError):
        full.submit_train(None, "check", owner="ada", key="new")


def test_to_go_on_with_an_ended_job_is_to_start_one() -> None:
    use = Use("2026-11", 0, 1, 0.0)
    with pytest.raises(QuotaError):
        limited(Recorder(use), jobs=1).retry("train-1", owner="ada")
    assert limited(Recorder(use, "training"), jobs=1).retry("train-1", owner="ada") == "retry"


def test_quotas_hold_without_keys_too() -> None:
    with pytest.raises(QuotaError):
        limited(Recorder(Use("2026-11", 0, 1, 0.0)), None, jobs=1).submit_train(None, "check", owner="local")
    assert is_limited(Settings(quota_jobs=1)) and not is_limited(Settings())


def test_so_many_requests_a_minute_and_then_a_new_minute() -> None:
    now = [100.0]
    counter = RequestCounter(lambda: now[0])
    assert [counter.count("ada", 2).left for _ in range(4)] == [1, 0, -1, -1]
    assert counter.count("eve", 2).left == 1
    now[0] += 30
    late = counter.count("ada", 2)
    assert (late.left, late.resets_in_s) == (-1, 30)
    assert dict(rate_headers(late)) == {
        b"ratelimit-policy": b'"minute";q=2;w=60',
        b"ratelimit": b'"minute";r=0;t=30',
        b"retry-after": b"30",
    }
    now[0] += 30
    assert counter.count("ada", 2).left == 1
    assert b"retry-after" not in dict(rate_headers(counter.count("ada", 2)))
