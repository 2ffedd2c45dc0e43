"""Fixtures that every room shares: no network, no home of the user's, and tiny bases with random weights.

Tests that need a base take ``tiny_base`` (a Stable Diffusion folder of 0.3 million parameters, made once per session);
``tiny_bases("flux")`` gives one of any other family; tests that need a dataset without running the photo check take
``make_dataset``.
"""

import functools
import gc
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

# Read by huggingface_hub and torch when they are imported, so it must come before anything else.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
_KEPT = {"STUDIO_REQUIRE_BROWSER", "STUDIO_REQUIRE_POSTGRES", "STUDIO_REQUIRE_S3", "STUDIO_REQUIRE_RAY"}
_KEPT |= {"STUDIO_SCREENSHOTS"}
for _name in [name for name in os.environ if name.startswith("STUDIO_") and name not in _KEPT]:
    del os.environ[_name]
os.environ["STUDIO_LANGUAGE"] = "en"  # whatever the developer's system speaks

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the tests share their cores with whatever else runs

_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 8 * 2**30
# The queue and the folders of jobs wait for the disk after each write, which is a quarter of a test's time. Where there
# is room enough in memory, nothing of a test lies on a disk.
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# Half a million objects live as long as the process; looking through them so often costs a twentieth of all the time.
gc.set_threshold(50_000, 20, 20)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import yaml  # noqa: E402
from PIL import Image  # noqa: E402

# On a busy machine any example may take long once.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

TINY_BASES = Path(__file__).parent / "reference" / "tiny_bases.py"
ONNX_FILES = Path(__file__).parent / "reference" / "onnx_files.py"
HUB_STAND_IN = Path(__file__).parent / "reference" / "hub_stand_in.py"
POSTGRES_SERVER = Path(__file__).parent / "reference" / "postgres_server.py"


@pytest.fixture(autouse=True)
def studio_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point STUDIO_HOME at a fresh folder, and compute on the CPU."""
    home = tmp_path / "home"
    monkeypatch.setenv("STUDIO_HOME", str(home))
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    return home


def load_file_module(path: Path) -> ModuleType:
    """Import a helper of the tests, which are no package, by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tiny_base(
    folder: Path,
    *,
    vae: str = "AutoencoderTiny",
    prediction_type: str = "v_prediction",
    words: int = 0,
    hidden_act: str = "quick_gelu",
) -> Path:
    """Write a complete Stable Diffusion folder with random weights: 64 px pictures, 8 x 8 x 4 latents.

    Args:
        folder: created when missing.
        vae: AutoencoderTiny or AutoencoderKL.
        prediction_type: v_prediction or epsilon.
        words: size of the vocabulary, filled up with words that mean nothing; 0 keeps it small.
        hidden_act: quick_gelu as in Stable Diffusion 1, gelu as in 2.
    """
    pipeline = load_file_module(TINY_BASES).stable_diffusion(vae, prediction_type, words=words, hidden_act=hidden_act)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def postgres_servers() -> ModuleType:
    """Return what starts servers of Postgres; see ``reference/postgres_server.py``."""
    module = load_file_module(POSTGRES_SERVER)
    if module.program("initdb") is None:
        assert not os.environ.get("STUDIO_REQUIRE_POSTGRES"), "Postgres must be here, and is not"
        pytest.skip("needs Debian's package postgresql")
    return module


@pytest.fixture(scope="session")
def new_postgres_url(postgres_servers: ModuleType) -> Iterator[Callable[[], str]]:
    """Return a function that returns the address of an empty Postgres schema; one server for all tests."""
    with postgres_servers.serve() as server:
        yield postgres_servers.schemas(server)


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[str]:
    """The address of moto's S3 server."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        assert not os.environ.get("STUDIO_REQUIRE_S3"), "moto must be here, and is not"
        pytest.skip("needs moto[server]")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(bucket_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket's address, with the variables by which it is reached."""
    import urllib.request

    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": bucket_server,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"studio-{os.urandom(6).hex()}"
    urllib.request.urlopen(urllib.request.Request(f"{bucket_server}/{name}", method="PUT"), timeout=30).close()
    return f"s3://{name}/of-a-test"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in of the Hub that the studio's own calls go to; see ``reference/hub_stand_in.py``."""
    from huggingface_hub import constants

    import studio.bases.hub
    import studio.bases.single_file
    import studio.publishing.hub

    module = load_file_module(HUB_STAND_IN)
    with module.serve() as server:
        shared = str(tmp_path / "hub-cache")
        # The client's own ENDPOINT stays: it builds its addresses from it and puts ours in its place.
        ours = SimpleNamespace(ENDPOINT=server.address, HF_HUB_CACHE=shared)
        monkeypatch.setattr(studio.publishing.hub, "constants", ours)
        monkeypatch.setattr(studio.bases.hub, "constants", ours)
        monkeypatch.setattr(studio.bases.single_file, "constants", ours)
        monkeypatch.setattr("huggingface_hub.repocard.constants", ours)
        monkeypatch.setattr(studio.publishing.hub, "_WAITS_S", (0.0,) * 5)
        monkeypatch.setattr(studio.publishing.hub, "get_token", lambda: None)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", shared)
        yield server


@pytest.fixture
def near_hub(hub: Any, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that knows the stand-in of the Hub and nobody else; its caches are empty."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "STUDIO_"))}
    ours = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf-home"), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **ours, "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return family -> a whole tiny base of it, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("families")
    return functools.cache(lambda name: load_file_module(TINY_BASES).write(name, folder / name))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base like pocket: AutoencoderTiny and v-prediction."""
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def tiny_base_kl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base like Stable Diffusion 1.5: AutoencoderKL and epsilon."""
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny_kl", vae="AutoencoderKL", prediction_type="epsilon")


@pytest.fixture(scope="session")
def tiny_base_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose single-file checkpoint other programs could read: AutoencoderKL and as many words as CLIP has."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_clip"
    return write_tiny_base(folder, vae="AutoencoderKL", prediction_type="epsilon", words=49408)


@pytest.fixture(scope="session")
def tiny_base_xl_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for Stable Diffusion XL."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_xl_clip"
    return load_file_module(TINY_BASES).write("sdxl", folder, words=49408, second_width=32)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a dataset folder as ``check`` does: ``make_dataset(photos=4)``."""

    def make(
        photos: int = 4, *, name: str = "dataset", buckets: tuple[str, ...] = ("1:1",), class_noun: str = "woman"
    ) -> Path:
        from studio.core.domain import Dataset, Photo
        from studio.core.records import to_dict
        from studio.imaging.bucket import aspect

        folder = tmp_path / name
        (folder / "photos").mkdir(parents=True)
        random = np.random.default_rng(0)
        rows = []
        for index in range(photos):
            bucket = buckets[index % len(buckets)]
            height, width = 64, round(64 * aspect(bucket))
            coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            path = folder / "photos" / f"{index:03}.png"
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
            rows.append(
                Photo(
                    file=f"photos/{index:03}.png",
                    name=f"IMG_{index}.jpg",
                    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    size_hw=(height, width),
                    caption="photo of {instance_token} {class_noun}",
                    bucket=bucket,
                    crop_yxhw=(0, 0, height, width),
                )
            )
        dataset = Dataset("Ada", class_noun, tuple(rows), (), (), None)
        (folder / "dataset.json").write_text(json.dumps(to_dict(dataset)), encoding="utf-8")
        (folder / "DONE").touch()
        return folder

    return make


@pytest.fixture
def events() -> Iterator[list]:
    """A list to collect events in: ``on_event=events.append``."""
    yield []


def tiny_rrdb(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the tensors of a Real-ESRGAN network of one block with random weights; it enlarges four times."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, int]] = {"conv_first": (8, 3)}
    for dense in (1, 2, 3):
        for conv in (1, 2, 3, 4):
            shapes[f"body.0.rdb{dense}.conv{conv}"] = (32, 8 + 32 * (conv - 1))
        shapes[f"body.0.rdb{dense}.conv5"] = (8, 136)
    shapes |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (8, 8)) | {"conv_last": (3, 8)}
    tensors = {}
    for name, (out, into) in shapes.items():
        tensors[f"{name}.weight"] = random.normal(0, 0.5 / into**0.5, (out, into, 3, 3)).astype(np.float32)
        tensors[f"{name}.bias"] = np.full(out, 0.4 if name == "conv_last" else 0.0, np.float32)
    return tensors


@pytest.fixture(scope="session")
def tiny_upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a tiny network that enlarges four times."""
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("networks") / "tiny_x4.safetensors"
    save_file(tiny_rrdb(), path)
    return path


@pytest.fixture(scope="session")
def sface_stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``sface.onnx`` and ``yunet.onnx``: nets of the shape of SFace and YuNet, which need a download."""
    onnx_files = load_file_module(ONNX_FILES)
    folder = tmp_path_factory.mktemp("sface")
    onnx_files.sface(folder / "sface.onnx")
    onnx_files.yunet(folder / "yunet.onnx")
    return folder


@pytest.fixture(scope="session")
def tiny_presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped presets, cut down: two steps, two shots."""
    folder = tmp_path_factory.mktemp("tiny") / "presets"
    shutil.copytree(Path(__file__).parents[1] / "presets", folder)
    for path in (folder / "train").glob("*.yaml"):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        data["config"] |= {"steps": 2, "checkpoint_every_steps": 2, "samples_per_checkpoint": 1, "sample_steps": 2}
        data["config"]["certify"] = False  # `export` proves it
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
    for path in (folder / "packs").glob("*.yaml"):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        data["shots"] = data["shots"][:2]
        del data["preview"]
        used = str(data["shots"])
        data["wildcards"] = {name: words for name, words in data.get("wildcards", {}).items() if f"{{{name}}}" in used}
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return folder
