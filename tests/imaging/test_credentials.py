"""Content Credentials, read back with the library that other programs read them with."""

import importlib.util
import io
import json
import logging
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import c2pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image

from studio.core.config import CONFIGS
from studio.core.errors import InputError, ResourceError
from studio.core.settings import PROJECT_ROOT, load_settings
from studio.imaging import credentials
from studio.imaging.fit import encode
from studio.imaging.png import read_png, score_again, write_png
from studio.imaging.provenance import SOURCE_TYPE, is_marked, save_picture, signing
from studio.jobs.environment import variables_of
from studio.postprocess import finish
from studio.publishing import assemble
from studio.web import server, thumbnails

FORMATS = ("PNG", "JPEG", "WEBP")
PICTURE = Image.effect_noise((160, 120), 60).convert("RGB")


def _write_chain() -> Callable[..., tuple[Path, Path]]:
    path = PROJECT_ROOT / "tests" / "reference" / "certificates.py"
    spec = importlib.util.spec_from_file_location("certificates", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[..., tuple[Path, Path]] = module.write_chain
    return made


write_chain = _write_chain()


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, Path]]:
    """Make a certificate and set it."""

    def made(name: str = "signer", **given: Any) -> tuple[Path, Path]:
        cert, key = write_chain(tmp_path / name, **given)
        monkeypatch.setenv("STUDIO_C2PA_CERT", str(cert))
        monkeypatch.setenv("STUDIO_C2PA_KEY", str(key))
        return cert, key

    return made


def store_of(data: bytes) -> dict[str, Any]:
    """Return what a file's manifests say; the signature and every hash hold."""
    with Image.open(io.BytesIO(data)) as file:
        mime = f"image/{str(file.format).lower()}"
    closed = c2pa.Settings.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})
    with c2pa.Reader(mime, io.BytesIO(data), context=c2pa.Context(closed)) as reader:
        assert reader.get_validation_state() == "Valid"
        store: dict[str, Any] = json.loads(reader.json())
    return store


def actions_of(store: dict[str, Any], label: str | None = None) -> list[dict[str, Any]]:
    manifest = store["manifests"][label or store["active_manifest"]]
    (actions,) = [one["data"]["actions"] for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")]
    found: list[dict[str, Any]] = actions
    return found


def parent_of(store: dict[str, Any]) -> str | None:
    (parent,) = store["manifests"][store["active_manifest"]]["ingredients"]
    assert parent["relationship"] == "parentOf" and "title" not in parent, "a name may be that of the subject"
    label: str | None = parent.get("active_manifest")
    return label


def saved(file_format: str, **given: Any) -> bytes:
    data = io.BytesIO()
    save_picture(PICTURE, data, file_format, **given)
    return data.getvalue()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_generated_picture_is_signed_in_every_kind_of_file_and_keeps_its_mark(
    file_format: str, set_up: Callable[..., Any]
) -> None:
    set_up()
    data = saved(file_format)
    (made,) = actions_of(store_of(data))
    assert (made["action"], made["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert is_marked(data)
    with Image.open(io.BytesIO(data)) as file:
        file.load()
        assert file.size == PICTURE.size
    with pytest.raises(c2pa.C2paError, match="ManifestNotFound"):
        c2pa.Reader(f"image/{file_format.lower()}", io.BytesIO(saved(file_format, generated=False)))


def test_what_is_changed_afterwards_no_longer_fits_its_manifest(set_up: Callable[..., Any]) -> None:
    set_up()
    data = bytearray(saved("JPEG"))
    data[-100] ^= 255
    with c2pa.Reader("image/jpeg", io.BytesIO(bytes(data))) as reader:
        assert reader.get_validation_state() == "Invalid"


@pytest.mark.parametrize("kind", ["p384", "p521", "ed25519", "rsa"])
def test_every_kind_of_key_that_c2pa_names_signs(kind: str, set_up: Callable[..., Any]) -> None:
    keys: dict[str, Callable[[], Any]] = {
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }
    set_up(kind, key=keys[kind]())
    store_of(saved("PNG"))


def test_finish_keeps_the_manifest_of_what_it_was_given_and_signs_again(
    tmp_path: Path, set_up: Callable[..., Any]
) -> None:
    set_up()
    source = tmp_path / "of-ada.png"
    write_png(source, PICTURE, parameters="photo", record={"prompt": "photo of sks woman"})
    before = store_of(source.read_bytes())
    config = CONFIGS["finish"].parse({"steps": [{"do": "fit", "width_px": 80, "height_px": 60, "format": "jpeg"}]})
    result = finish(config, source, tmp_path / "out")
    (picture,) = result.pictures
    for file in (picture.file, picture.before, picture.after):
        store = store_of((tmp_path / "out" / file).read_bytes())
        assert parent_of(store) == before["active_manifest"]
        assert [one["action"] for one in actions_of(store)] == ["c2pa.opened", "c2pa.edited"]
        assert actions_of(store, before["active_manifest"])[0]["action"] == "c2pa.created"
    assert "of-ada" not in json.dumps(store)
    assert actions_of(store_of((tmp_path / "out" / result.contact_sheet).read_bytes()))


def test_zips_and_galleries_keep_it_too_and_small_copies_the_mark(tmp_path: Path, set_up: Callable[..., Any]) -> None:
    set_up()
    source = tmp_path / "1.png"
    write_png(source, PICTURE, parameters="photo", record={"prompt": "photo of sks woman"})
    before = store_of(source.read_bytes())["active_manifest"]
    result = finish(CONFIGS["finish"].parse({"steps": [{"do": "fit"}]}), source, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / str(result.archive)) as archive:
        (name,) = archive.namelist()
        assert parent_of(store_of(archive.read(name))) == before
    chosen: Any = SimpleNamespace(pictures=[SimpleNamespace(path=source, name="1.png", prompt=None)])
    (tmp_path / "repo").mkdir()
    (shown,) = assemble._write_gallery(chosen, tmp_path / "repo")
    assert parent_of(store_of((tmp_path / "repo" / shown.file).read_bytes())) == before
    set_up("ended", from_days=-9, to_days=-2)
    small = thumbnails._small(source)  # whoever only looks needs no certificate
    assert is_marked(small) and b"c2pa" not in small


def test_a_photo_that_is_finished_is_not_signed(tmp_path: Path, set_up: Callable[..., Any]) -> None:
    set_up()
    PICTURE.save(tmp_path / "photo.jpg")
    result = finish(CONFIGS["finish"].parse({"steps": [{"do": "fit"}]}), tmp_path / "photo.jpg", tmp_path / "out")
    assert b"c2pa" not in (tmp_path / "out" / result.pictures[0].file).read_bytes()


def test_a_picture_of_another_program_without_a_manifest_still_says_what_it_is(set_up: Callable[..., Any]) -> None:
    set_up()
    plain = io.BytesIO()
    PICTURE.save(plain, "PNG")
    store = store_of(saved("WEBP", parent=plain.getvalue()))
    assert parent_of(store) is None
    assert actions_of(store)[-1]["digitalSourceType"] == SOURCE_TYPE


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def photo(file_format: str) -> bytes:
    data = io.BytesIO()
    PICTURE.save(data, file_format)
    return data.getvalue()


def test_a_photo_with_a_manifest_that_nobody_can_read_is_never_said_to_be_created(set_up: Callable[..., Any]) -> None:
    set_up()
    png = photo("PNG")
    broken = png[:33] + chunk(b"caBX", b"no manifest") + png[33:]  # behind the header
    for parent in (broken, photo("AVIF")):
        store = store_of(saved("WEBP", parent=parent))
        assert [one["action"] for one in actions_of(store)] == ["c2pa.opened", "c2pa.edited"]
        assert parent_of(store) is None
    with pytest.raises(InputError, match="the picture it was made of"):
        saved("WEBP", parent=b"RIFF no more than a beginning")


def test_what_keeps_a_picture_from_being_signed_ends_the_job_also_where_one_is_edited(
    set_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up("ended", from_days=-9, to_days=-2)
    monkeypatch.setattr(credentials, "_out_of_time", lambda leaf: [])
    monkeypatch.setattr(credentials, "_try", lambda signer: None)
    monkeypatch.setattr(credentials.Signing, "_created", lambda self: pytest.fail("it was not created"))
    with pytest.raises(ResourceError, match="not valid at time of signing"):
        saved("PNG", parent=photo("PNG"))


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_the_manifest_counts_in_the_bytes_of_a_file(file_format: Any, set_up: Callable[..., Any]) -> None:
    set_up()
    parent = saved("PNG")
    given: dict[str, Any] = {"file_format": file_format, "quality": 95, "record": {}, "software": "x", "parent": parent}
    whole = len(encode(PICTURE, **given, generated=True).data)
    for limit in (whole - 1, whole - 900, whole - 3000):
        made = encode(PICTURE, **given, generated=True, max_bytes=limit)
        assert len(made.data) <= limit and made.quality is not None and made.quality < 95
        assert parent_of(store_of(made.data))
    with pytest.raises(InputError, match="needs at least"):
        encode(PICTURE, **given, generated=True, max_bytes=len(made.data) // 4)


def test_a_picture_that_gets_another_likeness_is_signed_anew(tmp_path: Path, set_up: Callable[..., Any]) -> None:
    set_up()
    path = tmp_path / "1.png"
    write_png(path, PICTURE, parameters="photo", record={"prompt": "photo"})
    score_again(path, {"engine": "pocket", "version": "1", "value": 0.5})
    store_of(path.read_bytes())
    found = read_png(path)
    assert found is not None and found[1]["likeness"]["value"] == 0.5


def refused(**given: Any) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        signing(load_settings())
    return {problem.code: str(problem) for problem in caught.value.problems}


def test_what_is_wrong_with_a_certificate_is_told_at_once(
    set_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_up("ended", from_days=-9, to_days=-2)
    assert "ended on" in refused()["expired"]
    set_up("later", from_days=2)
    assert set(refused()) == {"early"}
    set_up("server", purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert "cannot sign pictures" in refused()["cannot_sign"]
    set_up("dsa", key=dsa.generate_private_key(1024))
    assert "P-256" in refused()["key_kind"]

    _, other = write_chain(tmp_path / "other")
    set_up("ended again", from_days=-9, to_days=-2)
    monkeypatch.setenv("STUDIO_C2PA_KEY", str(other))
    assert set(refused()) == {"expired", "not_a_pair"}, "both at once"
    monkeypatch.delenv("STUDIO_C2PA_KEY")
    assert refused()["no_key"].startswith("STUDIO_C2PA_KEY")
    monkeypatch.setenv("STUDIO_C2PA_KEY", str(tmp_path / "nowhere.pem"))
    monkeypatch.setenv("STUDIO_C2PA_CERT", str(other))
    assert set(refused()) == {"no_file", "not_pem"}


def test_a_certificate_that_is_renewed_in_its_place_is_taken_up(set_up: Callable[..., Any]) -> None:
    set_up(to_days=3)
    first = signing()
    assert first is not None and first.days_left() == 2 and signing() is first
    set_up(to_days=30)
    renewed = signing()
    assert renewed is not None and renewed.days_left() == 29
    store_of(saved("PNG"))


def test_a_key_with_a_password_is_refused_without_a_word_of_it(set_up: Callable[..., Any]) -> None:
    _, key = set_up()
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"a password")
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    (told,) = refused().values()
    assert "without a password" in told and "BEGIN" not in told


def test_the_server_tells_it_at_its_start(set_up: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    set_up("ended", from_days=-9, to_days=-2)
    with pytest.raises(InputError, match="STUDIO_C2PA_CERT: is no longer valid"):
        server.create_app(None, load_settings())  # type: ignore[arg-type]  (it is not come to)
    set_up("ends soon", to_days=3)
    with caplog.at_level(logging.WARNING):
        server._require_credentials(load_settings())
    assert "ends in 2 days" in caplog.text


def test_a_certificate_that_ends_while_pictures_are_made_ends_the_job_in_words(
    set_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up("ended", from_days=-9, to_days=-2)
    monkeypatch.setattr(credentials, "_out_of_time", lambda leaf: [])
    monkeypatch.setattr(credentials, "_try", lambda signer: None)
    with pytest.raises(ResourceError, match="not valid at time of signing"):
        saved("PNG")


def test_a_time_stamping_service_is_asked_where_one_is_set_and_not_at_the_start(
    set_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_error(500)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        monkeypatch.setenv("STUDIO_C2PA_TIMESTAMP_URL", f"http://127.0.0.1:{service.server_port}")
        set_up()
        signing(load_settings())
        assert not asked
        with pytest.raises(ResourceError, match="could not be signed"):
            saved("PNG")
        service.shutdown()
    assert len(asked) == 1 and len(asked[0]) < 500, "a digest, not the picture"


def test_jobs_get_the_paths_and_never_the_key(set_up: Callable[..., Any]) -> None:
    _, key = set_up()
    settings = load_settings()
    variables = variables_of(settings)
    assert variables["STUDIO_C2PA_KEY"] == str(key)
    line = key.read_text().splitlines()[1]
    signer = signing(settings)
    assert line not in json.dumps(variables) + repr(settings) + repr(signer)
