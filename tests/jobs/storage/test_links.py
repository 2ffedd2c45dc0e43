from urllib.parse import parse_qs, urlsplit

import pytest

from studio.jobs.storage.links import LinkError, LinkSigner, key_of


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def signer(clock):
    return LinkSigner(b"k" * 32, "http://studio.test:1234", clock)


def parts_of(url):
    parts = urlsplit(url)
    return parts.path.removeprefix("/objects/"), {name: values[0] for name, values in parse_qs(parts.query).items()}


def test_a_link_is_good_for_its_method_its_object_and_its_time(signer, clock):
    name, asked = parts_of(signer.link("PUT", "jobs/a/file", expires_s=60, max_bytes=123))
    assert name == "jobs/a/file"
    assert signer.read("PUT", name, asked) == 123
    clock.now_s += 59
    assert signer.read("PUT", name, asked) == 123
    clock.now_s += 1
    with pytest.raises(LinkError):
        signer.read("PUT", name, asked)


@pytest.mark.parametrize(
    ("method", "name", "change"),
    [
        ("GET", "jobs/a/file", {}),
        ("GET", "jobs/a/file", {"method": "GET"}),
        ("PUT", "jobs/b/file", {}),
        ("PUT", "jobs/a/file", {"ends": "9999999999"}),
        ("PUT", "jobs/a/file", {"most": "99999"}),
        ("PUT", "jobs/a/file", {"signature": ""}),
        ("PUT", "jobs/a/file", {"signature": "é"}),
        ("PUT", "jobs/a/file", {"ends": ""}),
    ],
)
def test_a_link_that_is_changed_in_anything_is_refused(signer, method, name, change):
    _, asked = parts_of(signer.link("PUT", "jobs/a/file", expires_s=60, max_bytes=123))
    with pytest.raises(LinkError):
        signer.read(method, name, {**asked, **change})


def test_a_link_of_another_installation_is_refused(signer, clock):
    name, asked = parts_of(
        LinkSigner(b"x" * 32, "http://studio.test", clock).link("GET", "a", expires_s=60, max_bytes=0)
    )
    with pytest.raises(LinkError):
        signer.read("GET", name, asked)


def test_a_token_opens_one_attempt_of_one_job(signer):
    token = signer.token("train-1", 2)
    assert signer.is_token(token, "train-1", 2)
    assert not signer.is_token(token, "train-1", 3)
    assert not signer.is_token(token, "train-2", 2)
    assert not signer.is_token("", "train-1", 2)
    assert not signer.is_token("é", "train-1", 2)
    assert signer.token("train-1", 12) != signer.token("train-11", 2)


def test_the_key_is_made_once_for_its_user_alone(tmp_path):
    key = key_of(tmp_path / "home")
    assert len(key) == 32
    assert key_of(tmp_path / "home") == key
    assert (tmp_path / "home" / "machines.key").stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["machines.key"]
