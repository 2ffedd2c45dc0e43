"""Every chain that is shipped: its schema, its steps, and how its settings are changed."""

import pytest

from studio.core.errors import InputError, NotFoundError
from studio.core.finish_config import FinishConfig
from studio.core.presets import finish_config, list_chains, load_chain

CHAINS = {chain.name: chain for chain in list_chains()}


def test_the_promised_chains_are_there():
    expected = {"headshot_white", "headshot_studio", "portrait_blur", "sticker", "avatar", "passport", "cutout"}
    assert set(CHAINS) >= expected | {"upscale_4x", "quick_2x", "print_4k", "web_16x9", "faces_2048"}


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_a_shipped_chain_makes_settings_that_read_back(name):
    config = finish_config(CHAINS[name])
    assert config.chain == name and config.steps == CHAINS[name].steps
    assert FinishConfig.parse(config.model_dump(mode="json")) == config
    assert CHAINS[name].description.endswith(".") and CHAINS[name].title


def test_settings_of_steps_are_changed_by_kind_and_name():
    config = finish_config(CHAINS["headshot_white"], {"fit.max_bytes": 9000, "cutout.model": "u2net", "seed": 3})
    by_kind = {step.do: step for step in config.steps}
    assert by_kind["fit"].max_bytes == 9000 and by_kind["cutout"].model == "u2net" and config.seed == 3
    assert CHAINS["headshot_white"].steps != config.steps


def test_every_wrong_change_is_named_at_once():
    changes = {"upscale.factor": 2, "fit.hight_px": 3, "cutout.model": "bria-rmbg", "sed": 1}
    with pytest.raises(InputError) as caught:
        finish_config(CHAINS["headshot_white"], changes)
    by_place = {problem.where: problem for problem in caught.value.problems}
    assert set(by_place) == {"upscale.factor", "fit.hight_px", "cutout.model", "sed"}
    assert "cutout, background, fit" in by_place["upscale.factor"].cure
    assert "height_px" in by_place["fit.hight_px"].cure
    assert "u2netp" in by_place["cutout.model"].message and "bria-rmbg" in by_place["cutout.model"].message


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"do": "fit"}, {"do": "cutout"}], "fit must be the last"),
        ([{"do": "cutout"}, {"do": "cutout"}], "once"),
        ([{"do": "polish"}], "polish"),
        ([{"do": "fit", "width_px": 3}], "belong together"),
        ([{"do": "fit", "size": "avatar", "aspect": "1:1"}], "one of size"),
        ([{"do": "fit", "quality": 10, "min_quality": 20}], "swap"),
        ([{"do": "upscale", "factor": 2, "long_side_px": 900}], "not both"),
        ([{"do": "upscale", "prompt": "a cat"}], "sd-x4"),
        ([{"do": "background", "fill": "picture"}], "belong together"),
        ([{"do": "background", "colour": "red"}], "colour"),
        ([{"do": "upscale", "long_side_px": 10**6}], "8192"),
    ],
)
def test_chains_that_make_no_sense_are_refused(steps, words):
    with pytest.raises(InputError, match=words):
        FinishConfig.parse({"steps": steps})


def test_an_unknown_chain_is_answered_with_the_known_ones():
    with pytest.raises(NotFoundError, match="headshot_white"):
        load_chain("headshot_green")
