from pathlib import Path
from types import SimpleNamespace

import pytest

from studio.core.errors import NotFoundError
from studio.finishing.matting import registry


def test_a_model_is_opened_from_its_own_weights_with_the_threads_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        registry, "resolve", lambda name, home, *, on_bytes: SimpleNamespace(path=home / f"{name}.onnx")
    )
    monkeypatch.setattr(registry, "RembgMatting", lambda name, path, *, threads: (name, path, threads))
    assert registry.open_matter("u2netp", tmp_path, threads=2) == ("u2netp", tmp_path / "u2netp.onnx", 2)


def test_a_model_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nope"):
        registry.open_matter("nope", tmp_path)
