"""API keys on both databases; the clock is the database's."""

import re

import pytest
from sqlalchemy import select, update

from studio.core.errors import InputError, LoginError, NotFoundError
from studio.core.settings import Settings
from studio.jobs.keys import PEPPER_FILE, Keys, open_keys
from studio.jobs.schema import KEYS


@pytest.fixture
def keys(new_database):
    return Keys(new_database(), "a secret of the home")


def test_a_key_is_known_by_its_text_and_only_a_digest_is_kept(keys):
    key, text = keys.create(owner="ada", name="laptop", scopes=("jobs",))
    assert re.fullmatch(r"lsk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", text) and text.startswith(f"{key.id}_")
    found = keys.by_text(text)
    assert (found.owner, found.name, found.scopes, found.expires_s) == ("ada", "laptop", ("jobs",), None)
    assert found.last_used_day is None and keys.by_text(text).last_used_day is not None, "from the next request on"
    with keys._database.read() as db:
        assert text[len(key.id) + 1 :] not in str(db.execute(select(KEYS)).all())


def test_a_digest_made_with_another_secret_opens_nothing(keys, new_database):
    """Who can write the table, but not read the home, cannot make up a key."""
    _, text = keys.create(owner="ada", scopes=("read",))
    with pytest.raises(LoginError, match="opens nothing"):
        Keys(new_database(), "another secret").by_text(text)


@pytest.mark.parametrize("change", [lambda text: text[:-1] + "AB"[text[-1] == "A"], str.upper, lambda _: ""])
def test_what_is_not_quite_the_key_opens_nothing(keys, change):
    _, text = keys.create(owner="ada", scopes=("read",))
    with pytest.raises(LoginError, match="opens nothing"):
        keys.by_text(change(text))


def test_a_revoked_and_an_expired_key_open_nothing_in_words(keys):
    revoked, text = keys.create(owner="ada", scopes=("read",))
    cookie = keys.cookie_of(revoked)
    keys.revoke(revoked.id)
    for ask in (lambda: keys.by_text(text), lambda: keys.by_cookie(cookie), lambda: keys.require_live(revoked.id)):
        with pytest.raises(LoginError, match="revoked"):
            ask()
    expired, text = keys.create(owner="ada", scopes=("read",), days=1)
    assert keys.by_text(text).expires_s == pytest.approx(expired.created_s + 86400, abs=1)
    with keys._database.write() as db:
        db.execute(update(KEYS).where(KEYS.c.id == expired.id).values(expires_s=KEYS.c.created_s - 1))
    with pytest.raises(LoginError, match="expired"):
        keys.by_text(text)
    with pytest.raises(NotFoundError):
        keys.revoke("lsk_000000000000")


def test_a_cookie_signs_in_and_is_not_the_key(keys):
    key, text = keys.create(owner="ada", scopes=("read",))
    cookie = keys.cookie_of(key)
    assert keys.by_cookie(cookie).id == key.id and text[len(key.id) + 1 :] not in cookie
    with pytest.raises(LoginError):
        keys.by_text(cookie)
    other, _ = keys.create(owner="eve", scopes=("read",))
    with pytest.raises(LoginError):
        keys.by_cookie(cookie.replace(key.id, other.id))


def test_keys_are_listed_by_owner_and_wrong_orders_are_told_whole(keys):
    ids = [keys.create(owner=owner, scopes=("read",))[0].id for owner in ("ada", "eve", "ada")]
    assert {key.id for key in keys.of()} == set(ids) and len(keys.of("ada")) == 2
    with pytest.raises(InputError) as refused:
        keys.create(owner="", scopes=("read",), days=-1, quota={"jobs": -2, "joobs": 3})
    assert {problem.where for problem in refused.value.problems} == {"owner", "days", "jobs", "joobs"}


def test_what_an_administrator_does_for_others_is_written_down(keys):
    admin, _ = keys.create(owner="root", scopes=("admin",))
    keys.note_access(admin, "ada", "GET", "/files/check-1/out")
    (row,) = keys.accesses()
    assert (row["key"], row["owner"], row["method"], row["path"]) == (admin.id, "ada", "GET", "/files/check-1/out")


def test_the_secret_is_made_once_for_a_home_and_is_nobody_elses(tmp_path):
    settings = Settings(home=tmp_path / "home")
    first = open_keys(settings)
    _, text = first.create(owner="ada", scopes=("read",))
    second = open_keys(settings)
    assert second.by_text(text).owner == "ada"
    assert (settings.home / PEPPER_FILE).stat().st_mode & 0o077 == 0
    first.close()
    second.close()
