from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from studio.core.config import CheckConfig
from studio.core.domain import JobView
from studio.core.errors import ConflictError
from studio.web.page.photos_tab import editable

JOB = JobView("check-1", "check", "completed", "local", "Photos of Ada", created_s=0.0)


def _session(*, has_dataset: bool = True, keeps_photos: bool = True) -> Any:
    def check_settings(job_id: str, *, owner: str) -> CheckConfig:
        if not keeps_photos:
            raise ConflictError("this photo set keeps no photos to edit")
        return CheckConfig(subject="Ada")

    studio = SimpleNamespace(check_settings=check_settings)
    found = Path("dataset.json") if has_dataset else None
    return SimpleNamespace(studio=studio, owner="local", out_file=lambda job_id, relative: found)


def test_a_set_is_edited_when_its_check_has_ended_and_has_kept_the_photos() -> None:
    assert editable(_session(), JOB) == CheckConfig(subject="Ada")
    assert editable(_session(), replace(JOB, state="stalled")) == CheckConfig(subject="Ada")
    assert editable(_session(), replace(JOB, state="checking")) is None
    assert editable(_session(has_dataset=False), JOB) is None
    assert editable(_session(keeps_photos=False), JOB) is None, "the page opens with sets of an earlier version"
