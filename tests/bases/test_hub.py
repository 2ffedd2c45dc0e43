"""Bases from the Hub, against a server of our own on the loopback interface."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file

from studio.bases import hub as sources
from studio.bases import local
from studio.bases.resolve import resolve_base
from studio.core.errors import InputError, MissingExtraError, NotFoundError, ResourceError
from studio.core.settings import load_settings

COMMIT, NEWER = "a" * 40, "b" * 40


def test_a_base_from_the_hub_is_pinned_to_its_commit_and_then_needs_no_network(model_hub: Any, tiny_base: Path) -> None:
    model_hub.publish(tiny_base)
    base = resolve_base("owner/model")
    assert base.revision == COMMIT and base.spec.name == "owner/model"
    assert load_file(base.folder / "unet" / "diffusion_pytorch_model.safetensors").keys()
    assert not any(path.suffix in (".bin", ".ckpt") for path in base.folder.rglob("*"))
    assert not any(path.endswith((".bin", ".ckpt", "README.md")) for path in model_hub.paths())

    model_hub.publish(tiny_base, commit=NEWER)
    model_hub.asked.clear()
    again = resolve_base("owner/model", COMMIT)
    assert (again.folder, again.revision, model_hub.asked) == (base.folder, COMMIT, [])
    assert resolve_base("owner/model").revision == NEWER


def test_an_offline_machine_takes_what_it_last_got(
    model_hub: Any, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_hub.publish(tiny_base)
    resolve_base("owner/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_base("owner/model").revision == COMMIT
    with pytest.raises(MissingExtraError, match="choose base 'pocket'"):
        resolve_base("owner/other")


@pytest.mark.parametrize("offline", [False, True])
def test_a_guest_gets_out_of_the_cache_only_what_the_hub_shows_them(
    model_hub: Any, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    model_hub.publish(tiny_base)
    resolve_base("owner/model")
    weights = {"adapter.json": b"{}", "pytorch_lora_weights.safetensors": b"\0"}
    cache = local.open_cache(load_settings())
    key = f"adapter--owner--hers--{COMMIT}"
    cache.put(key, 3, lambda folder: [(folder / name).write_bytes(data) for name, data in weights.items()] and None)
    # Private from now on.
    model_hub.table = {path: row for path, row in model_hub.table.items() if not path.startswith("/api/")}
    for repo in ("owner/model", "owner/hers"):
        model_hub.json(f"/api/models/{repo}/auth-check", {}, status=404, **{"x-error-code": "RepoNotFound"})
    assert resolve_base("owner/model", COMMIT).revision == COMMIT, "the machine's owner may"
    assert sources.adapter_from_hub("owner/hers", COMMIT, load_settings()).revision == COMMIT
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("STUDIO_GUEST", "1")
    refusal = MissingExtraError if offline else NotFoundError
    for revision in (COMMIT, None):
        with pytest.raises(refusal):
            resolve_base("owner/model", revision)
        with pytest.raises(refusal):
            sources.adapter_from_hub("owner/hers", revision, load_settings())


def test_a_guest_is_asked_for_the_licence_of_a_gated_base_that_is_here(
    model_hub: Any, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_hub.publish(tiny_base)
    resolve_base("owner/model")
    monkeypatch.setenv("STUDIO_GUEST", "1")
    model_hub.json("/api/models/owner/model/auth-check", {}, status=403, **{"x-error-code": "GatedRepo"})
    with pytest.raises(InputError, match="accept its licence"):
        resolve_base("owner/model", COMMIT)
    model_hub.json("/api/models/owner/model/auth-check", {})
    assert resolve_base("owner/model", COMMIT).revision == COMMIT


def test_the_cache_that_all_programs_share_is_used_where_it_lies(
    model_hub: Any, tiny_base: Path, tmp_path: Path
) -> None:
    place = tmp_path / "shared" / "models--owner--model"
    (place / "snapshots").mkdir(parents=True)
    (place / "snapshots" / COMMIT).symlink_to(tiny_base)
    assert resolve_base("owner/model", COMMIT).folder == place / "snapshots" / COMMIT
    assert model_hub.asked == []

    (place / "snapshots" / NEWER / "unet").mkdir(parents=True)  # begun by another program, never finished
    model_hub.publish(tiny_base, commit=NEWER)
    assert load_settings().home in resolve_base("owner/model", NEWER).folder.parents


def test_no_room_is_said_before_the_download(model_hub: Any, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_hub.publish(tiny_base)
    monkeypatch.setenv("STUDIO_BASES_MAX_BYTES", "1000000")
    with pytest.raises(ResourceError, match="STUDIO_BASES_MAX_BYTES"):
        resolve_base("owner/model")
    assert not any("/resolve/" in path for path in model_hub.paths())


def test_a_download_that_broke_off_goes_on(model_hub: Any, tiny_base: Path) -> None:
    model_hub.publish(tiny_base)
    broken = f"/owner/model/resolve/{COMMIT}/vae/config.json"
    whole = model_hub.table[broken]
    model_hub.table[broken] = (400, {}, b"")
    arrived: set[str] = set()
    for _ in range(5):  # the files are fetched side by side: what came before the failure is a matter of chance
        with pytest.raises((ResourceError, MissingExtraError)) as caught:
            resolve_base("owner/model")
        assert model_hub.address not in str(caught.value)
        notes = load_settings().home.rglob("*.safetensors.metadata")
        arrived |= {f"/owner/model/resolve/{COMMIT}/{path.parent.name}/{path.stem}" for path in notes}
    assert arrived
    model_hub.table[broken] = whole
    model_hub.asked.clear()
    assert resolve_base("owner/model").revision == COMMIT
    sent = {path for command, path, _ in model_hub.asked if command == "GET"}
    assert broken in sent
    assert not arrived & sent, "what had arrived is not sent again"


@pytest.mark.parametrize(
    ("status", "code", "expected", "words"),
    [
        (403, "GatedRepo", InputError, "accept its licence"),
        (404, "RepoNotFound", NotFoundError, "check its name"),
        (401, "RepoNotFound", NotFoundError, "check its name"),
        (404, "RevisionNotFound", NotFoundError, "at revision dev"),
        (400, "", ResourceError, "status 400"),
    ],
)
def test_every_answer_of_the_hub_becomes_a_clear_error(
    model_hub: Any, status: int, code: str, expected: type[Exception], words: str
) -> None:
    headers = {"x-error-code": code, "x-error-message": "secret-address"} if code else {}
    model_hub.json("/api/models/owner/model/revision/dev", {"error": "no"}, status, **headers)
    with pytest.raises(expected, match=words) as caught:
        resolve_base("owner/model", "dev")
    assert "secret-address" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_told_from_a_model_that_is_not_there(
    model_hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingExtraError, match="cannot be reached"):
        resolve_base("owner/model")
