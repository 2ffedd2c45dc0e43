from studio.core.settings import Settings
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
