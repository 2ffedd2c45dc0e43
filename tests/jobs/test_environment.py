import os

from studio.core.settings import Settings, load_settings
from studio.jobs.environment import rules_of, variables_of


def test_a_key_for_civitai_reaches_the_child_as_it_is():
    key = "sesame-0123456789"
    assert variables_of(Settings(civitai_key=key))["STUDIO_CIVITAI_KEY"] == key
    assert "STUDIO_CIVITAI_KEY" not in variables_of(Settings())


def test_the_operators_check_goes_along_to_other_machines():
    assert rules_of(Settings()) == {}
    assert rules_of(Settings(nudity_pictures="refuse", nudity_from=0.5)) == {
        "STUDIO_NUDITY_PICTURES": "refuse",
        "STUDIO_NUDITY_PHOTOS": "off",
        "STUDIO_NUDITY_FROM": "0.5",
    }


def test_what_needs_an_address_stays_behind_with_it(tmp_path, monkeypatch):
    settings = Settings(
        home=tmp_path,
        database_url="postgresql://db/studio",
        works="always",
        backup_url="file:///b",
        weights_max_bytes=1,
    )
    for name in list(os.environ):
        if name.startswith("STUDIO_"):
            monkeypatch.delenv(name)
    for name, value in variables_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings().home == tmp_path, "a child can read all of it"
