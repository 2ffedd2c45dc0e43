import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.bases.tensorfile import read_header, write_safetensors
from studio.core.errors import InputError


def test_a_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": torch.zeros(2, 3), "b": torch.zeros(())}, {"format": "pt"}, hash_key="hash")
    header = read_header(path, "file")
    assert header.shapes == {"a": (2, 3), "b": ()}
    assert header.metadata["format"] == "pt" and header.metadata["hash"].startswith("0x")


def test_the_hash_is_of_the_tensors_alone(tmp_path: Path) -> None:
    def digest(value: float, note: str) -> str:
        write_safetensors(tmp_path / "x", {"a": torch.full((2,), value)}, {"note": note}, hash_key="hash")
        return read_header(tmp_path / "x", "file").metadata["hash"]

    assert digest(1, "one") == digest(1, "two") != digest(2, "one")


def test_equal_tensors_make_equal_bytes_whatever_the_order_of_the_metadata(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(5.0), "a": torch.ones(2, 3, dtype=torch.float16)}
    metadata = {"z": "1", "format": "pt", "note": "ä"}
    for i in range(4):  # safetensors' own order is a matter of luck
        order = sorted(metadata, reverse=bool(i % 2))
        write_safetensors(tmp_path / str(i), tensors, {key: metadata[key] for key in order})
    contents = {(tmp_path / str(i)).read_bytes() for i in range(4)}
    assert len(contents) == 1
    found = load_file(tmp_path / "0")
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def raw(rows: Any, data_bytes: int = 8) -> bytes:
    text = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * data_bytes


def row(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\0\0",
        (2**63).to_bytes(8, "little") + b"{}",
        (17 * 2**20).to_bytes(8, "little") + b"{}",
        raw(row())[:-1],
        raw(b"[" * 5000),
        raw(b"\xff\xfe"),
        raw([]),
        raw({}),
        raw({"__metadata__": {"a": 1}, **row()}),
        raw(row(shape=[3])),
        raw(row(shape=[-2])),
        raw(row(shape=[2.0])),
        raw(row(shape=[True, 2])),
        raw(row(dtype="PICKLE")),
        raw(row(data_offsets=[8, 0])),
        raw(row(data_offsets=[0, 80])),
        raw({"a": {}}),
        raw({"a": None}),
    ],
    ids=str,
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="download it again") as caught:
        read_header(tmp_path / "x.safetensors", "file")
    assert caught.value.problems[0].where == "file"


@pytest.mark.parametrize("name", ["x.ckpt", "x.PT", "x.bin", "x.pth"])
def test_pickles_are_refused_by_their_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="can run malicious code"):
        read_header(tmp_path / name, "base")


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_header(tmp_path / "x.safetensors", "base")
    with pytest.raises(InputError, match="cannot be read"):
        read_header(tmp_path, "base")
