import json
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.core.catalog import FAMILIES
from studio.core.errors import InputError
from studio.core.train_config import TrainConfig
from studio.training.photos import _require_fit, read_dataset


def test_a_dataset_is_read_and_one_that_cannot_be_used_is_refused_in_words(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_dataset(photos=2)
    assert len(read_dataset(folder).photos) == 2
    raw = json.loads((folder / "dataset.json").read_text())
    for change, words in (({"version": 9}, "has version 9"), ({"photos": []}, "contains no usable photo")):
        (folder / "dataset.json").write_text(json.dumps({**raw, **change}))
        with pytest.raises(InputError, match=words):
            read_dataset(folder)
    with pytest.raises(InputError, match="check the photos first"):
        read_dataset(tmp_path)


def test_all_settings_that_a_family_has_no_use_for_are_named_at_once() -> None:
    wanted = TrainConfig.parse(
        {"token_learning_rate": 1e-3, "compile_blocks": True, "quantization": "8bit", "method": {"text_encoder": True}}
    )
    for spec in FAMILIES.values():
        useless = {
            "method.text_encoder": not spec.learning_text_encoders,
            "token_learning_rate": not spec.learns_token,
            "compile_blocks": not spec.compiles,
            "quantization": not spec.quantizes,
        }
        with pytest.raises(InputError) as caught:
            _require_fit(wanted, spec)
        assert {problem.where for problem in caught.value.problems} == {name for name, bad in useless.items() if bad}
