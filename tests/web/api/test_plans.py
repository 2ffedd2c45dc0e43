"""What pictures would take: counted from the order, timed by earlier ones of the same base, never made up."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from studio.core.config import GenerateConfig
from studio.core.domain import JobFacts, JobView
from studio.core.settings import Settings
from studio.web.api.plans import plan_pictures

RUN = JobView("train-1", "train", "completed", "ada", "", 0.0, facts=JobFacts(base="sdxl"))


def made(base: str, seconds: float, images: int, **more: Any) -> JobView:
    result = {"seconds": seconds, "images": [{}] * images, **more}
    return JobView("generate-1", "generate", "completed", "ada", "", 0.0, facts=JobFacts(base=base), result=result)


def session(*jobs: JobView) -> Any:
    return SimpleNamespace(settings=Settings(device="cpu"), jobs=lambda kind, **_: list(jobs))


def test_time_is_the_median_of_what_such_pictures_took_here() -> None:
    jobs = (
        made("sdxl", 30.0, 3),
        made("sdxl", 12.0, 1, left_out=[{}] * 2),
        made("sdxl", 80.0, 5, from_cache=1),
        made("sd15", 1.0, 100),
        made("sdxl", 1.0, 4, from_cache=4),
    )
    plan = plan_pictures(session(*jobs), GenerateConfig(prompts=("a", "b"), count=3), RUN)
    assert (plan.pictures, plan.seconds, plan.measured) == (6, 60.0, True)
    assert "6 pictures, about 60 s (from 3 earlier jobs)" in plan.words
    assert plan.peak_bytes and "rough" in plan.words


def test_what_is_not_known_is_not_told() -> None:
    plan = plan_pictures(session(), GenerateConfig(pack="business"), replace(RUN, facts=JobFacts(base="somebody/x")))
    assert plan.pictures > 5 and plan.seconds is None and plan.peak_bytes is None and plan.fits is None
    assert "The time is known once" in plan.words
    assert (
        plan_pictures(session(made("sdxl", 1, 1)), GenerateConfig(prompts=("a",), adapter="a/b"), None).seconds is None
    )
