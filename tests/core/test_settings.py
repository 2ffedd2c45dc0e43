"""The settings: read from STUDIO_* and from nowhere else."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from studio.core.errors import InputError
from studio.core.settings import PROJECT_ROOT, Settings, load_settings


def test_every_setting_can_be_given_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path))
    monkeypatch.setenv("STUDIO_PORT", "0")
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    settings = load_settings()
    assert (settings.home, settings.port, settings.device) == (tmp_path, 0, "cpu")


def test_wrong_variables_are_reported_at_once_by_their_full_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_PORT", "many")
    monkeypatch.setenv("STUDIO_DEVICE", "tpu")
    with pytest.raises(InputError) as caught:
        load_settings()
    assert {problem.where for problem in caught.value.problems} == {"STUDIO_PORT", "STUDIO_DEVICE"}


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_by_default_the_studio_listens_to_this_machine_only() -> None:
    assert Settings.model_fields["host"].default == "127.0.0.1"


def test_every_setting_explains_itself() -> None:
    assert all(field.description for field in Settings.model_fields.values())


SPACE = {"SYSTEM": "spaces", "SPACE_ID": "ada/studio", "OAUTH_CLIENT_ID": "a", "OAUTH_CLIENT_SECRET": "b"}
SPACE |= {"OAUTH_SCOPES": "openid", "OPENID_PROVIDER_URL": "https://huggingface.co"}


@pytest.mark.parametrize("missing", [None, *SPACE])
def test_people_log_in_where_the_platform_offers_it_unless_told_otherwise(
    missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SPACE.items():
        monkeypatch.setenv(name, "" if name == missing else value)
    if missing == "SPACE_ID":
        monkeypatch.delenv(missing)
    assert load_settings().login is (missing is None)
    monkeypatch.setenv("STUDIO_LOGIN", "false")
    assert load_settings().login is False


def test_a_login_that_anybody_could_make_up_is_refused_where_others_can_come(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SPACE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STUDIO_LOGIN", "true")
    assert load_settings().login is True, "to look at it on this machine alone"
    monkeypatch.setenv("STUDIO_HOST", "0.0.0.0")
    with pytest.raises(InputError, match="STUDIO_LOGIN: cannot be true here"):
        load_settings()


def test_a_space_is_framed_by_the_hub_and_found_by_its_proxy_and_no_other_server_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SPACE:
        monkeypatch.delenv(name, raising=False)
    assert (load_settings().frame_ancestors, load_settings().trusted_hosts) == ("'self'", "")
    monkeypatch.setenv("SPACE_ID", "ada/studio")
    space = load_settings()
    assert space.frame_ancestors == "'self' https://huggingface.co https://*.hf.space" and space.trusted_hosts == "*"
    monkeypatch.setenv("STUDIO_FRAME_ANCESTORS", "'none'")
    monkeypatch.setenv("STUDIO_TRUSTED_HOSTS", "studio.example")
    assert (load_settings().frame_ancestors, load_settings().trusted_hosts) == ("'none'", "studio.example")


def test_the_project_root_holds_the_presets() -> None:
    assert (PROJECT_ROOT / "presets").is_dir()
    assert (PROJECT_ROOT / "studio" / "core" / "settings.py").is_file()
