"""The result cache: on the disk with a budget, in Redis over a real connection, and where neither answers."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakeredis import TcpFakeServer
from PIL import Image

from studio.core.errors import InputError, MissingExtraError
from studio.core.settings import Settings, load_settings
from studio.pictures import picture_cache
from studio.pictures.picture_cache import DiskCache, RedisCache, folder_digest, key_of, open_cache, packed, unpacked

ADAPTER = "ad" * 32
KEYS = [key_of(ADAPTER, {"seed": seed}) for seed in range(4)]


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The address of a small Redis server on the loopback interface."""
    server = TcpFakeServer(("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_picture_comes_back_to_the_bit_with_its_facts() -> None:
    picture = Image.effect_noise((24, 16), 80).convert("RGB")
    found = unpacked(packed(picture, {"sampler": "DDIM"}), (16, 24))
    assert found is not None
    assert (found[0].tobytes(), found[1]) == (picture.tobytes(), {"sampler": "DDIM"})


@pytest.mark.parametrize("value", [b"", b"no picture", packed(Image.new("RGB", (8, 8)), {})[:60]])
def test_what_is_no_whole_picture_is_nothing(value: bytes) -> None:
    assert unpacked(value, (8, 8)) is None
    assert unpacked(packed(Image.new("RGB", (9, 8)), {}), (8, 8)) is None


def test_a_key_depends_on_every_fact_and_not_on_their_order() -> None:
    one = key_of(ADAPTER, {"a": 1, "b": 2})
    assert one == key_of(ADAPTER, {"b": 2, "a": 1}) != key_of(ADAPTER, {"a": 1, "b": 3})
    assert one != key_of("be" * 32, {"a": 1, "b": 2})


def test_the_disk_keeps_values_for_another_process(tmp_path: Path) -> None:
    DiskCache(tmp_path / "cache", 10**6).put(KEYS[0], b"value")
    cache = DiskCache(tmp_path / "cache", 10**6)
    assert (cache.get(KEYS[0]), cache.get(KEYS[1])) == (b"value", None)
    assert not list(tmp_path.rglob("*.part"))


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 250)
    for age, key in enumerate(KEYS[:2]):
        cache.put(key, bytes(100))
        os.utime(tmp_path / f"{key}.png", ns=(age, age))
    assert cache.get(KEYS[0])  # used now, so the other one is older
    cache.put(KEYS[2], bytes(100))
    assert [cache.get(key) is not None for key in KEYS[:3]] == [True, False, True]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.png")) <= 250


def test_a_value_beyond_the_budget_is_not_kept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 50)
    cache.put(KEYS[0], bytes(100))
    assert cache.get(KEYS[0]) is None


def test_redis_keeps_values_for_another_client_and_forgets_them_in_the_end(redis_url: str) -> None:
    import redis

    cache = open_cache(Settings(results_cache=redis_url))
    assert isinstance(cache, RedisCache)
    assert cache.get(KEYS[0]) is None
    cache.put(KEYS[0], b"\x00\xffvalue")
    cache.close()
    other = RedisCache(redis_url)
    assert other.get(KEYS[0]) == b"\x00\xffvalue"
    other.close()
    with redis.Redis.from_url(redis_url) as client:
        (name,) = client.keys("likeness-studio:picture:*")
        assert 0 < client.ttl(name) <= 30 * 24 * 3600


@pytest.mark.parametrize("where", ["disk", "redis"])
def test_what_an_adapter_has_drawn_is_forgotten_with_it(redis_url: str, tmp_path: Path, where: str) -> None:
    settings = Settings(home=tmp_path, results_cache=where if where == "disk" else redis_url)
    other = key_of("be" * 32, {"seed": 1})
    cache = open_cache(settings)
    assert cache is not None
    for key in (*KEYS[:2], other):
        cache.put(key, b"12345")
    if where == "disk":  # as an earlier version kept it, by the picture's digest alone
        (tmp_path / "cache" / "pictures" / "ab").mkdir()
        (tmp_path / "cache" / "pictures" / "ab" / f"{'ab' * 32}.png").write_bytes(b"12345")
    else:
        cache.put("ab" * 32, b"12345")
    assert picture_cache.forget(settings, [ADAPTER], dry_run=True) == (3, 15)
    assert cache.get(KEYS[0]) == b"12345"
    assert picture_cache.forget(settings, [ADAPTER]) == (3, 15)
    assert [cache.get(key) for key in (*KEYS[:2], other)] == [None, None, b"12345"]
    assert picture_cache.forget(settings, [ADAPTER]) == (0, 0)
    cache.close()


@pytest.mark.parametrize("where", ["disk", "redis"])
def test_all_pictures_go_at_once_and_others_of_the_server_stay(redis_url: str, tmp_path: Path, where: str) -> None:
    settings = Settings(home=tmp_path, results_cache="disk" if where == "disk" else redis_url)
    cache = open_cache(settings)
    assert cache is not None
    for key in KEYS:
        cache.put(key, b"value")
    if isinstance(cache, RedisCache):
        cache._ask(lambda client: client.set("somebody else's", b"x"))
    assert picture_cache.clear(settings, dry_run=True) == (4, 20) and cache.get(KEYS[0]) == b"value"
    assert picture_cache.clear(settings) == (4, 20) and picture_cache.clear(settings) == (0, 0)
    assert cache.get(KEYS[0]) is None
    if isinstance(cache, RedisCache):
        assert cache._ask(lambda client: client.get("somebody else's")) == b"x"
    cache.close()
    assert picture_cache.clear(Settings(home=tmp_path, results_cache="off")) == (0, 0)


def test_without_a_cache_there_is_nothing_to_forget() -> None:
    assert picture_cache.forget(Settings(results_cache="off"), [ADAPTER]) == (0, 0)
    with pytest.raises(OSError, match="ConnectionError"):
        picture_cache.forget(Settings(results_cache="redis://127.0.0.1:1/0"), [ADAPTER])


def test_a_server_that_does_not_answer_is_an_os_error_without_its_password() -> None:
    cache = RedisCache("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(OSError, match="ConnectionError") as caught:
        cache.get(KEYS[0])
    assert "secret" not in str(caught.value)
    cache.close()


def test_a_cluster_is_asked_by_its_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    import redis

    asked: list[str] = []

    class Cluster:
        @classmethod
        def from_url(cls, url: str, **_: object) -> "Cluster":
            asked.append(url)
            return cls()

        def getex(self, name: str, ex: int) -> bytes:
            return name.encode()

        def close(self) -> None:
            asked.append("closed")

    monkeypatch.setattr(redis, "RedisCluster", Cluster)
    cache = open_cache(Settings(results_cache="redis+cluster://127.0.0.1:7000"))
    assert cache is not None and not asked  # no network before the first question
    assert cache.get("k") == b"likeness-studio:picture:k"
    cache.close()
    assert asked == ["redis://127.0.0.1:7000", "closed"]


def test_without_its_client_redis_is_refused_kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(MissingExtraError, match="pip install redis"):
        open_cache(Settings(results_cache="redis://127.0.0.1"))


def test_the_cache_can_be_switched_off_and_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_cache(Settings(results_cache="off")) is None
    monkeypatch.setenv("STUDIO_RESULTS_CACHE", "memcached://x")
    with pytest.raises(InputError, match="STUDIO_RESULTS_CACHE: must be disk, off"):
        load_settings()


def test_a_local_base_is_known_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "weights").write_bytes(b"one")
    assert folder_digest(folders[0]) == folder_digest(folders[1])
    (folders[1] / "unet" / "weights").write_bytes(b"two")
    assert folder_digest(folders[0]) != folder_digest(folders[1])
    monkeypatch.setattr(picture_cache, "_READ_IN_FULL_BYTES", 0)
    before = folder_digest(folders[0])
    os.utime(folders[0] / "unet" / "weights", ns=(1, 1))
    assert folder_digest(folders[0]) != before
