import pytest

from studio.core.errors import InputError
from studio.core.finish_config import HUB_FILE, SIZES, STEPS, FinishConfig, FitStep


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"do": "fit"}, {"do": "cutout"}], "fit must be the last step"),
        ([{"do": "cutout"}, {"do": "cutout"}], "cutout"),
        ([{"do": "background", "fill": "picture"}], "belong together"),
        ([{"do": "background", "picture": "a.png"}], "belong together"),
        ([{"do": "upscale", "factor": 2, "long_side_px": 1024}], "not both"),
        ([{"do": "upscale", "prompt": "a woman"}], "only for model sd-x4"),
        ([{"do": "fit", "width_px": 10}], "give both or neither"),
        ([{"do": "fit", "size": "avatar", "aspect": "4:5"}], "give one of"),
        ([{"do": "fit", "quality": 20}], "swap them"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_words(steps, words):
    with pytest.raises(InputError, match=words):
        FinishConfig.parse({"steps": steps})


def test_the_target_of_a_fit_is_width_before_height():
    assert FitStep(size="4x5").target_wh() == SIZES["4x5"] == (1080, 1350)
    assert FitStep(width_px=30, height_px=20).target_wh() == (30, 20)
    assert FitStep(aspect="4:5").target_wh() is None


def test_every_kind_of_step_is_known_by_its_own_word():
    assert {kind: step.model_fields["do"].default for kind, step in STEPS.items()} == {kind: kind for kind in STEPS}


@pytest.mark.parametrize("name", ["hf:a/b/../c.pth", "hf:a/b/.x.pth", "hf:a/c.pth", "hf:a/b/c.exe"])
def test_a_file_on_the_hub_cannot_lead_out_of_its_repository(name):
    assert HUB_FILE.fullmatch(name) is None
    assert HUB_FILE.fullmatch("hf:a/b/nets/c.safetensors")
