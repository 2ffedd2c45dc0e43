import pytest

from studio.core.adapters import (
    EMBEDS_NAME,
    FULL_NAME,
    INFO_NAME,
    WEIGHTS_NAME,
    AdapterInfo,
    adapter_folder,
    adapter_sha256,
    checkpoint_steps,
    read_info,
    write_info,
)
from studio.core.errors import InputError, NotFoundError

INFO = AdapterInfo("pocket", None, "sd", "Ada", "woman", "sks", 256, 5.0, 20, "pocket", (0.6, 0.8), 10)


def put(folder, name=WEIGHTS_NAME, data=b"weights"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


def test_what_was_written_is_read_back(tmp_path):
    write_info(tmp_path, INFO)
    assert read_info(tmp_path) == INFO


def test_no_adapter_and_a_damaged_one_are_two_answers(tmp_path):
    with pytest.raises(NotFoundError, match="finish the training first"):
        read_info(tmp_path)
    (tmp_path / INFO_NAME).write_text("{")
    with pytest.raises(InputError, match="train again"):
        read_info(tmp_path)


def test_only_checkpoints_that_hold_weights_count_in_the_order_of_their_steps(tmp_path):
    put(tmp_path / "checkpoints" / "100")
    put(tmp_path / "checkpoints" / "20" / "adapter", FULL_NAME)
    put(tmp_path / "checkpoints" / "30", "resume.json")
    put(tmp_path / "checkpoints" / "latest")
    assert checkpoint_steps(tmp_path) == [20, 100]
    assert adapter_folder(tmp_path, 20) == tmp_path / "checkpoints" / "20" / "adapter"
    with pytest.raises(NotFoundError, match="use one of: 20, 100"):
        adapter_folder(tmp_path, 30)
    with pytest.raises(NotFoundError, match="finish the training first"):
        adapter_folder(tmp_path)
    assert adapter_folder(tmp_path.parent / put(tmp_path / "adapter").parent.name) == tmp_path / "adapter"


def test_the_hash_depends_on_weights_and_token_and_on_nothing_else(tmp_path):
    first = adapter_sha256(put(tmp_path / "a"))
    assert adapter_sha256(put(tmp_path / "a", INFO_NAME)) == first
    assert adapter_sha256(put(tmp_path / "a", EMBEDS_NAME)) != first
    assert adapter_sha256(put(tmp_path / "b", FULL_NAME)) != first
