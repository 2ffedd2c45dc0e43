import pytest

from studio.core.config import CheckConfig, GenerateConfig
from studio.core.presets import override
from studio.core.train_config import TrainConfig
from studio.web.page import widgets

FIELDS = widgets.describe(TrainConfig, without={"subject"})
BY_PATH = {field.path: field for field in FIELDS}


def test_every_setting_of_training_has_a_widget_with_its_own_sentence() -> None:
    expected = set()
    for name, info in TrainConfig.model_fields.items():
        nested = getattr(info.annotation, "model_fields", None)
        expected |= {f"{name}.{inner}" for inner in nested} if nested else {name}
    assert set(BY_PATH) == expected - {"subject"}
    assert all(field.info.endswith(".") for field in FIELDS)
    assert not any("None" in field.info for field in FIELDS)
    assert BY_PATH["batch_size"].info == TrainConfig.model_fields["batch_size"].description


def test_kinds_choices_and_ranges_come_from_the_class() -> None:
    assert BY_PATH["learning_rate"].kind == "number" and BY_PATH["learning_rate"].range == "above 0.0 to 1.0"
    assert BY_PATH["resolution_px"].optional and BY_PATH["resolution_px"].range == "32 to 2,048, a multiple of 8"
    assert BY_PATH["lr_scheduler"].choices[0] == "constant"
    assert BY_PATH["flip"].kind == "flag"
    assert BY_PATH["steps"].kind == "integer" and BY_PATH["steps"].optional
    assert BY_PATH["method.rank"].label == "Rank" and BY_PATH["sample_steps"].label == "Sample steps"


def test_lists_are_left_to_the_tab() -> None:
    assert "prompts" not in {field.path for field in widgets.describe(GenerateConfig)}


@pytest.mark.parametrize("config", [TrainConfig(), CheckConfig(), GenerateConfig(pack="any")])
def test_an_untouched_form_changes_nothing(config: TrainConfig | CheckConfig | GenerateConfig) -> None:
    fields = widgets.describe(type(config))
    shown = widgets.values_of(config, fields)
    assert None not in shown.values()
    assert widgets.collect(fields, shown, shown) == {}


def test_touched_settings_reach_the_config() -> None:
    shown = widgets.values_of(TrainConfig(), FIELDS)
    given = {
        **shown,
        "steps": " 120 ",
        "method.rank": 4,
        "min_snr_gamma": "5",
        "flip": True,
        "prior.mode": "prediction",
    }
    config = override(TrainConfig(), widgets.collect(FIELDS, given, shown))
    assert (config.steps, config.method.rank, config.min_snr_gamma) == (120, 4, 5.0)
    assert config.flip and config.prior.mode == "prediction"


def test_clearing_a_setting_makes_it_automatic() -> None:
    start = override(TrainConfig(), {"min_snr_gamma": 5, "steps": 200})
    shown = widgets.values_of(start, FIELDS)
    assert (shown["min_snr_gamma"], shown["steps"]) == ("5.0", "200")
    changes = widgets.collect(FIELDS, {**shown, "min_snr_gamma": ""}, shown)
    assert override(start, changes).min_snr_gamma is None


def test_a_word_where_a_number_belongs_is_named_with_its_label() -> None:
    from studio.core.errors import InputError
    from studio.web.page import parts

    shown = widgets.values_of(TrainConfig(), FIELDS)
    changes = widgets.collect(FIELDS, {**shown, "steps": "many"}, shown)
    with pytest.raises(InputError) as caught:
        override(TrainConfig(), changes)
    assert "many" in parts.error(caught.value, widgets.labels(FIELDS))
