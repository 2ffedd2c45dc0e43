"""Bases from the Hub, from Civitai and from single files, against servers of our own on the loopback interface."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from studio.bases import hub as sources
from studio.bases import local, single_file
from studio.bases.resolve import resolve_base
from studio.bases.tensorfile import Header
from studio.core.catalog import BASES
from studio.core.errors import InputError, MissingExtraError, NotFoundError, ResourceError
from studio.core.settings import Settings, load_settings
from studio.families.registry import family
from studio.methods.formats import clip_to_original, unet_to_original, vae_to_original

COMMIT, NEWER = "a" * 40, "b" * 40
KEY = "sesame-0123456789"


class Answers:
    """What a stand-in answers: path -> (status, headers, body); it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.table: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.address = ""

    def json(self, path: str, data: Any, status: int = 200, **headers: str) -> None:
        self.table[path] = (status, {"content-type": "application/json", **headers}, json.dumps(data).encode())

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]


@pytest.fixture
def serve() -> Iterator[Callable[[], Answers]]:
    servers = []

    def start() -> Answers:
        answers = Answers()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                answers.asked.append((self.command, path, dict(self.headers)))
                status, headers, body = answers.table.get(path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815  the server's own naming

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        answers.address = f"http://127.0.0.1:{server.server_address[1]}"
        return answers

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub(serve: Callable[[], Answers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """A stand-in of the Hub that knows no model yet."""
    answers = serve()
    # The client's own ENDPOINT stays: it builds its addresses from it and puts ours in its place.
    shared = str(tmp_path / "shared")
    for module in (sources, single_file):
        monkeypatch.setattr(module, "constants", SimpleNamespace(ENDPOINT=answers.address, HF_HUB_CACHE=shared))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 60)  # a busy machine is not a broken line
    monkeypatch.setattr(constants, "HF_HUB_CACHE", shared)
    return answers


def publish(hub: Answers, folder: Path, repo: str = "owner/model", commit: str = COMMIT) -> None:
    """Put a folder on the stand-in, as ``main`` and by its commit."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files |= {"v1-5-pruned.ckpt": b"pickle", "unet/diffusion_pytorch_model.bin": b"pickle", "README.md": b"#"}
    tree = []
    for name, body in files.items():
        digest = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        tree.append({"type": "file", "path": name, "size": len(body), "oid": digest})
        headers = {"x-repo-commit": commit, "etag": f'"{digest}"'}
        hub.table[f"/{repo}/resolve/{commit}/{name}"] = (200, headers, body)
    siblings = [{"rfilename": row["path"], "size": row["size"], "blobId": row["oid"]} for row in tree]
    facts = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
    info = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, **facts}
    for revision in ("", "/revision/main", f"/revision/{commit}"):
        hub.json(f"/api/models/{repo}{revision}", info)
    hub.json(f"/api/models/{repo}/tree/{commit}", tree)


# ------------------------------------------------------------------------------------------------------ the Hub


def test_a_base_from_the_hub_is_pinned_to_its_commit_and_then_needs_no_network(hub: Answers, tiny_base: Path) -> None:
    publish(hub, tiny_base)
    base = resolve_base("owner/model")
    assert base.revision == COMMIT and base.spec.name == "owner/model"
    assert load_file(base.folder / "unet" / "diffusion_pytorch_model.safetensors").keys()
    assert not any(path.suffix in (".bin", ".ckpt") for path in base.folder.rglob("*"))
    assert not any(path.endswith((".bin", ".ckpt", "README.md")) for path in hub.paths())

    publish(hub, tiny_base, commit=NEWER)
    hub.asked.clear()
    again = resolve_base("owner/model", COMMIT)
    assert (again.folder, again.revision, hub.asked) == (base.folder, COMMIT, [])
    assert resolve_base("owner/model").revision == NEWER


def test_an_offline_machine_takes_what_it_last_got(
    hub: Answers, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, tiny_base)
    resolve_base("owner/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_base("owner/model").revision == COMMIT
    with pytest.raises(MissingExtraError, match="choose base 'pocket'"):
        resolve_base("owner/other")


@pytest.mark.parametrize("offline", [False, True])
def test_a_guest_gets_out_of_the_cache_only_what_the_hub_shows_them(
    hub: Answers, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    publish(hub, tiny_base)
    resolve_base("owner/model")
    weights = {"adapter.json": b"{}", "pytorch_lora_weights.safetensors": b"\0"}
    cache = local.open_cache(load_settings())
    key = f"adapter--owner--hers--{COMMIT}"
    cache.put(key, 3, lambda folder: [(folder / name).write_bytes(data) for name, data in weights.items()] and None)
    hub.table = {path: row for path, row in hub.table.items() if not path.startswith("/api/")}  # private from now on
    for repo in ("owner/model", "owner/hers"):
        hub.json(f"/api/models/{repo}/auth-check", {}, status=404, **{"x-error-code": "RepoNotFound"})
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
    hub: Answers, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, tiny_base)
    resolve_base("owner/model")
    monkeypatch.setenv("STUDIO_GUEST", "1")
    hub.json("/api/models/owner/model/auth-check", {}, status=403, **{"x-error-code": "GatedRepo"})
    with pytest.raises(InputError, match="accept its licence"):
        resolve_base("owner/model", COMMIT)
    hub.json("/api/models/owner/model/auth-check", {})
    assert resolve_base("owner/model", COMMIT).revision == COMMIT


def test_the_cache_that_all_programs_share_is_used_where_it_lies(hub: Answers, tiny_base: Path, tmp_path: Path) -> None:
    place = tmp_path / "shared" / "models--owner--model"
    (place / "snapshots").mkdir(parents=True)
    (place / "snapshots" / COMMIT).symlink_to(tiny_base)
    assert resolve_base("owner/model", COMMIT).folder == place / "snapshots" / COMMIT
    assert hub.asked == []

    (place / "snapshots" / NEWER / "unet").mkdir(parents=True)  # begun by another program, never finished
    publish(hub, tiny_base, commit=NEWER)
    assert load_settings().home in resolve_base("owner/model", NEWER).folder.parents


def test_no_room_is_said_before_the_download(hub: Answers, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, tiny_base)
    monkeypatch.setenv("STUDIO_BASES_MAX_BYTES", "1000000")
    with pytest.raises(ResourceError, match="STUDIO_BASES_MAX_BYTES"):
        resolve_base("owner/model")
    assert not any("/resolve/" in path for path in hub.paths())


def test_a_download_that_broke_off_goes_on(hub: Answers, tiny_base: Path) -> None:
    publish(hub, tiny_base)
    broken = f"/owner/model/resolve/{COMMIT}/vae/config.json"
    whole = hub.table[broken]
    hub.table[broken] = (400, {}, b"")
    with pytest.raises((ResourceError, MissingExtraError)) as caught:
        resolve_base("owner/model")
    assert hub.address not in str(caught.value)
    hub.table[broken] = whole
    hub.asked.clear()
    assert resolve_base("owner/model").revision == COMMIT
    unet = f"/owner/model/resolve/{COMMIT}/unet/diffusion_pytorch_model.safetensors"
    assert hub.paths().count(unet) <= 1, "what had arrived is not sent again"


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
    hub: Answers, status: int, code: str, expected: type[Exception], words: str
) -> None:
    headers = {"x-error-code": code, "x-error-message": "secret-address"} if code else {}
    hub.json("/api/models/owner/model/revision/dev", {"error": "no"}, status, **headers)
    with pytest.raises(expected, match=words) as caught:
        resolve_base("owner/model", "dev")
    assert "secret-address" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_told_from_a_model_that_is_not_there(
    hub: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingExtraError, match="cannot be reached"):
        resolve_base("owner/model")


# ------------------------------------------------------------------------------------------- single-file checkpoints


@pytest.fixture(scope="session")
def checkpoint(tiny_base_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base as one file in the original layout, half precision."""
    parts = family("sd").load(tiny_base_clip, dtype=torch.float32, device=torch.device("cpu"))
    vae: Any = parts.vae
    tensors = {
        **unet_to_original(parts.denoiser.state_dict(), 1),
        **vae_to_original(vae.state_dict()),
        **clip_to_original(parts.text_encoders[0].state_dict(), "cond_stage_model.transformer."),
    }
    path = tmp_path_factory.mktemp("checkpoint") / "ada.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture
def configured(hub: Answers, tiny_base_clip: Path) -> Answers:
    """The Hub holds the configuration that single files of Stable Diffusion 1 are read with."""
    publish(hub, tiny_base_clip, repo=BASES["sd15"].source)
    return hub


def test_a_single_file_becomes_the_same_base_and_is_converted_once(
    configured: Answers, checkpoint: Path, tiny_base_clip: Path
) -> None:
    base = resolve_base(str(checkpoint))
    assert (base.spec.name, base.revision, base.family) == (str(checkpoint), None, "sd")
    for part in ("unet", "vae"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        made, original = load_file(base.folder / file), load_file(tiny_base_clip / file)
        assert made.keys() == original.keys()
        assert all(torch.equal(made[name], original[name].half()) for name in made)
    assert not any(path.endswith(".safetensors") for path in configured.paths()), "only its configuration is downloaded"
    configured.asked.clear()
    assert resolve_base(str(checkpoint)).folder == base.folder
    assert configured.asked == []


@pytest.mark.parametrize(
    ("marks", "metadata", "prediction", "zero_snr"),
    [
        ((), {}, "epsilon", False),
        (("v_pred",), {}, "v_prediction", False),
        (("v_pred", "ztsnr"), {}, "v_prediction", True),
        ((), {"modelspec.prediction_type": "v"}, "v_prediction", False),
        ((), {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
    ],
)
def test_a_single_file_is_trained_and_drawn_as_it_says_that_it_predicts(
    configured: Answers,
    checkpoint: Path,
    tmp_path: Path,
    marks: tuple[str, ...],
    metadata: dict[str, str],
    prediction: str,
    zero_snr: bool,
) -> None:
    tensors = load_file(checkpoint) | {name: torch.empty(0) for name in marks}
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    parts = family("sd").load(
        resolve_base(str(tmp_path / "x.safetensors")).folder, dtype=torch.float32, device=torch.device("cpu")
    )
    assert parts.schedule.objective.name == prediction == parts.scheduler.config.prediction_type
    last = parts.schedule.snr(torch.tensor([999])).item()
    assert (last < 1e-6) == zero_snr
    assert parts.scheduler.config.get("rescale_betas_zero_snr", False) == zero_snr
    if zero_snr:
        parts.scheduler.set_timesteps(4)
        assert parts.scheduler.timesteps[0] == 999


def test_a_scheduler_that_cannot_end_in_noise_gives_way_to_one_that_can() -> None:
    made = sources.scheduler(PNDMScheduler(beta_schedule="scaled_linear"), "v_prediction", True)
    assert made.config.rescale_betas_zero_snr and made.config.prediction_type == "v_prediction"
    assert made.config.beta_schedule == "scaled_linear"


@pytest.mark.parametrize(("answer", "prediction"), [(0.5, "epsilon"), (-2.5, "v_prediction")])
def test_a_net_of_stable_diffusion_2_that_says_nothing_is_asked(
    tiny_base: Path, answer: float, prediction: str
) -> None:
    unet: Any = family("sd").load(tiny_base, dtype=torch.float16, device=torch.device("cpu")).denoiser
    with torch.no_grad():
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.fill_(answer)
    assert sources.probed(unet) == prediction
    assert unet.dtype == torch.float16


def test_the_architecture_of_stable_diffusion_2_tells_what_it_predicts() -> None:
    for words, prediction in (("v2-512", "epsilon"), ("v2-768-v", "v_prediction"), ("v1", None)):
        header = Header({"a": (1,)}, {"modelspec.architecture": f"stable-diffusion-{words}"})
        assert sources.prediction(header) == prediction


def test_a_checkpoint_of_the_edm_schedule_is_refused(configured: Answers, checkpoint: Path, tmp_path: Path) -> None:
    save_file(load_file(checkpoint) | {"edm_vpred.sigma_max": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="EDM noise schedule"):
        resolve_base(str(tmp_path / "x.safetensors"))


def test_a_single_file_wants_its_configuration_once(checkpoint: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"stable-diffusion-v1-5.*connect once"):
        resolve_base(str(checkpoint))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a": torch.zeros(1)}, "not a checkpoint of a supported kind"),
        ({"lora_unet_x.lora_down.weight": torch.zeros(1, 1)}, "is a LoRA, not a base"),
        ({single_file._UNET_MARK: torch.zeros(4, 9, 3, 3)}, "not a checkpoint of a supported kind"),  # inpainting
        ({single_file._UNET_MARK: torch.zeros(4, 4, 3, 3)}, "not a complete Stable Diffusion"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    configured: Answers, tmp_path: Path, tensors: dict[str, torch.Tensor], words: str
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=words):
        resolve_base(str(tmp_path / "x.safetensors"))


def test_a_checkpoint_with_numbers_that_are_none_is_refused(
    configured: Answers, checkpoint: Path, tmp_path: Path
) -> None:
    tensors = load_file(checkpoint)
    tensors[single_file._UNET_MARK][0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(InputError, match="NaN or infinity in its unet"):
        resolve_base(str(tmp_path / "nan.safetensors"))


def test_pickles_damage_and_missing_files_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"\x80\x04")
    for name in ("x.ckpt", "missing.pt", "gone.bin"):
        with pytest.raises(InputError, match="can run malicious code"):
            resolve_base(str(tmp_path / name))
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 9)
    with pytest.raises(InputError, match="truncated or not a safetensors file"):
        resolve_base(str(tmp_path / "cut.safetensors"))
    with pytest.raises(InputError, match="does not exist"):
        resolve_base(str(tmp_path / "missing.safetensors"))


# ------------------------------------------------------------------------------------------------------ Civitai


@pytest.fixture
def civitai(serve: Callable[[], Answers], monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = serve()
    monkeypatch.setenv("STUDIO_CIVITAI_URL", answers.address)
    monkeypatch.setenv("STUDIO_CIVITAI_KEY", KEY)
    return answers


def offer(civitai: Answers, store: Answers, content: bytes, **changes: Any) -> None:
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
    civitai: Answers, serve: Callable[[], Answers], configured: Answers, checkpoint: Path
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
    civitai: Answers, serve: Callable[[], Answers], change: dict[str, Any], expected: type[Exception], words: str
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
    civitai: Answers, status: int, headers: dict[str, str], body: bytes, expected: type[Exception], words: str
) -> None:
    civitai.table["/api/v1/model-versions/70"] = (status, headers, body)
    if words == "unknown kind":
        civitai.table["/api/v1/model-versions/70"] = (200, {}, b'{"id": 70}')
    with pytest.raises(expected, match=words) as caught:
        resolve_base("civitai:@70")
    assert KEY not in str(caught.value) and "127.0.0.1" not in str(caught.value)


def test_without_a_key_the_way_to_one_is_shown(civitai: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDIO_CIVITAI_KEY")
    civitai.table["/api/v1/model-versions/70"] = (401, {}, b"")
    with pytest.raises(InputError, match="create a key in your Civitai account"):
        resolve_base("civitai:@70")


def test_a_log_in_page_is_no_model(civitai: Answers, serve: Callable[[], Answers]) -> None:
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
