from studio.core.settings import Settings
from studio.jobs.environment import variables_of


def test_a_key_for_civitai_reaches_the_child_as_it_is():
    key = "sesame-0123456789"
    assert variables_of(Settings(civitai_key=key))["STUDIO_CIVITAI_KEY"] == key
    assert "STUDIO_CIVITAI_KEY" not in variables_of(Settings())
