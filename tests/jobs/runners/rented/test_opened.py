import pytest

from studio.core.errors import InputError
from studio.core.settings import Settings
from studio.jobs.runners.opened import open_runner
from studio.jobs.runners.rented.opened import installation_of, open_rented, problems_of
from studio.jobs.slots import slots_of
from studio.service import Studio

WHOLE = {"public_url": "https://studio.example.org/", "rent_key": "key", "rent_monthly_budget": 20}


@pytest.mark.parametrize("runner", ["vast", "hf_jobs"])
def test_everything_that_lacks_is_said_at_once_before_the_start(tmp_path, runner):
    with pytest.raises(InputError) as caught:
        Studio(Settings(home=tmp_path / "home", runner=runner, device="cpu"))
    named = [problem.where for problem in caught.value.problems]
    assert named == ["STUDIO_PUBLIC_URL", "STUDIO_RENT_KEY", "STUDIO_RENT_MONTHLY_BUDGET"]
    assert all(problem.cure for problem in caught.value.problems)
    assert not (tmp_path / "home").exists()


def test_photos_and_tokens_go_through_https_only(tmp_path):
    for url, fine in (
        ("http://studio.example.org", False),
        ("http://127.0.0.1:7860", True),
        (WHOLE["public_url"], True),
    ):
        settings = Settings(home=tmp_path, runner="vast", **{**WHOLE, "public_url": url})
        assert (problems_of(settings) == []) is fine


def test_links_and_tickets_name_the_public_address(tmp_path):
    settings = Settings(home=tmp_path, runner="vast", **WHOLE)
    desk, runner = open_rented(settings, tmp_path, Studio(Settings(home=tmp_path, device="cpu"))._store, grace_s=1.0)
    link = desk.storage.link("GET", "jobs/a", expires_s=60.0, max_bytes=0)
    assert link.url.startswith("https://studio.example.org/objects/jobs/a?")
    assert runner.launcher.address == "https://studio.example.org"
    assert runner.launcher.bounds.monthly_budget == 20


def test_what_needs_a_gpu_goes_there_and_the_clock_sweeps(tmp_path):
    settings = Settings(home=tmp_path, runner="hf_jobs", rent_machines=3, device="cpu", **WHOLE)
    studio = Studio(settings)
    desk, runner_of = open_runner(settings, tmp_path, studio._store, None, grace_s=1.0)
    assert runner_of("generate", tmp_path).name == "hf_jobs" and runner_of("check", tmp_path) is None
    assert len(desk.chores) == 1 and studio._clock.chores == (studio._weights.evict, *studio.desk.chores)
    assert slots_of(settings) == ({}, {}, {})
    studio.close()


def test_a_key_of_a_service_is_never_handed_on(tmp_path):
    from studio.jobs.environment import variables_of

    settings = Settings(home=tmp_path, runner="vast", **{**WHOLE, "rent_key": "the-secret-key"})
    assert "the-secret-key" not in str(variables_of(settings)) + repr(settings)
    assert "STUDIO_RENT_KEY" not in variables_of(settings)


def test_servers_on_one_home_have_one_label_and_its_key_is_not_in_it():
    assert installation_of(b"k" * 32) == installation_of(b"k" * 32) != installation_of(b"l" * 32)
    assert len(installation_of(b"k" * 32)) == 12
