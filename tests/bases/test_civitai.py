import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.bases.resolve import resolve_base
from studio.core.errors import InputError, MissingExtraError, NotFoundError, ResourceError
from studio.core.settings import Settings

KEY = "sesame-0123456789"


@pytest.fixture
def civitai(serve: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    answers = serve()
    monkeypatch.setenv("STUDIO_CIVITAI_URL", answers.address)
    monkeypatch.setenv("STUDIO_CIVITAI_KEY", KEY)
    return answers


def offer(civitai: Any, store: Any, content: bytes, **changes: Any) -> None:
    """Offer model 7 with version 70, whose file lies on another host."""
    file = {
        "name": "ada.safetensors",
        "type": "Model",
        "sizeKB": len(content) / 1024,
        "metadata": {"format": "SafeTensor"},
        "hashes": {"SHA256": hashlib.sha256(content).hexdigest().upper()},
        "downloadUrl": f"{civitai.address}/api/download/models/70",
        **changes.pop("file", {}),
    }
    version = {"id": 70, "files": [file]}
    kind = changes.pop("type", "Checkpoint")
    civitai.json("/api/v1/models/7", {"id": 7, "type": kind, "modelVersions": [version, {"id": 60}]})
    civitai.json("/api/v1/model-versions/70", {**version, "model": {"type": kind}})
    signed = f"{store.address}/bucket/ada?signature=hush"
    civitai.table["/api/download/models/70"] = (307, {"location": signed}, b"")
    store.table["/bucket/ada"] = (200, {"content-type": "binary/octet-stream"}, content)


def test_a_checkpoint_from_civitai_becomes_a_base_and_the_key_goes_to_civitai_alone(
    civitai: Any, serve: Callable[[], Any], configured: Any, checkpoint: Path
) -> None:
    store = serve()
    offer(civitai, store, checkpoint.read_bytes())
    base = resolve_base("civitai:7")
    assert (base.revision, base.spec.name) == ("70", "civitai:7")
    assert (base.folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert not list(base.folder.glob("*.safetensors")), "the download itself is gone"
    assert all(headers.get("Authorization") == f"Bearer {KEY}" for _, _, headers in civitai.asked)
    assert [path for _, path, headers in store.asked if "Authorization" not in headers] == ["/bucket/ada"]
    assert not any(KEY in path for path in civitai.paths() + store.paths())

    civitai.asked.clear()
    for name, revision in (("civitai:7", "70"), ("civitai:7@70", None), ("civitai:@70", None)):
        assert resolve_base(name, revision).folder == base.folder
    assert civitai.asked == []


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        ({"file": {"name": "ada.ckpt", "metadata": {"format": "PickleTensor"}}}, InputError, "only a pickle"),
        ({"file": {"type": "Archive"}}, InputError, "contains no model file"),
        ({"type": "LORA"}, InputError, "is a LORA"),
        ({"file": {"hashes": {"SHA256": "00"}}}, ResourceError, "arrived damaged"),
        ({"file": {"downloadUrl": "ftp://127.0.0.1/x"}}, ResourceError, "redirects to another site"),
        ({"file": {"sizeKB": 10**10}}, ResourceError, "STUDIO_BASES_MAX_BYTES"),
    ],
)
def test_what_civitai_offers_and_cannot_be_used_is_refused(
    civitai: Any, serve: Callable[[], Any], change: dict[str, Any], expected: type[Exception], words: str
) -> None:
    offer(civitai, serve(), b"content", **change)
    with pytest.raises(expected, match=words) as caught:
        resolve_base("civitai:7@70")
    assert KEY not in str(caught.value) and "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected", "words"),
    [
        (401, {}, b"", InputError, "the key in STUDIO_CIVITAI_KEY"),
        (403, {}, b"", InputError, "early access"),
        (404, {}, b"", NotFoundError, "check the id"),
        (429, {}, b"", ResourceError, "status 429"),
        (200, {}, b"<html>", ResourceError, "cannot be read"),
        (200, {}, b"[]", ResourceError, "cannot be read"),
        (200, {}, b"{}", InputError, "unknown kind"),
    ],
)
def test_every_answer_of_civitai_becomes_a_clear_error(
    civitai: Any, status: int, headers: dict[str, str], body: bytes, expected: type[Exception], words: str
) -> None:
    civitai.table["/api/v1/model-versions/70"] = (status, headers, body)
    if words == "unknown kind":
        civitai.table["/api/v1/model-versions/70"] = (200, {}, b'{"id": 70}')
    with pytest.raises(expected, match=words) as caught:
        resolve_base("civitai:@70")
    assert KEY not in str(caught.value) and "127.0.0.1" not in str(caught.value)


def test_without_a_key_the_way_to_one_is_shown(civitai: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDIO_CIVITAI_KEY")
    civitai.table["/api/v1/model-versions/70"] = (401, {}, b"")
    with pytest.raises(InputError, match="create a key in your Civitai account"):
        resolve_base("civitai:@70")


def test_a_log_in_page_is_no_model(civitai: Any, serve: Callable[[], Any]) -> None:
    offer(civitai, serve(), b"content")
    civitai.table["/api/download/models/70"] = (200, {"content-type": "text/html; charset=utf-8"}, b"<html>log in")
    with pytest.raises(InputError, match="the key in STUDIO_CIVITAI_KEY"):
        resolve_base("civitai:7@70")


def test_civitai_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_CIVITAI_URL", "http://127.0.0.1:9")
    with pytest.raises(MissingExtraError, match="Civitai cannot be reached"):
        resolve_base("civitai:7")


@pytest.mark.parametrize(
    "name", ["civitai:", "civitai:@", "civitai:seven", "civitai:7@", "civitai:7@x", "civitai:../7"]
)
def test_what_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(NotFoundError, match="not the id of a model"):
        resolve_base(name)


def test_the_key_is_never_shown() -> None:
    settings = Settings(civitai_key=KEY)  # type: ignore[arg-type]
    assert KEY not in repr(settings) and KEY not in str(settings.model_dump()) and KEY not in settings.model_dump_json()
