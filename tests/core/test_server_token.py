"""The token that opens a server: made once, read by its user only, given to nobody else's server."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio.core.errors import InputError
from studio.core.server_token import TOKEN_FILE, known_token, lends_logins, require_guarded, server_token
from studio.core.settings import Settings, load_settings

GIVEN = "a-token-of-the-owner"


def test_the_token_is_made_once_and_only_its_user_may_read_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with ThreadPoolExecutor(8) as pool:  # eight servers that start at the same time
        made = set(pool.map(lambda _: server_token(settings), range(8)))
    (token,) = made
    assert token is not None and len(token) >= 40
    path = tmp_path / "home" / TOKEN_FILE
    assert path.read_text().strip() == token and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [TOKEN_FILE], "nothing is left of the other seven"


def test_a_token_may_be_given_or_turned_off(tmp_path: Path) -> None:
    assert server_token(Settings(home=tmp_path / "home", token=GIVEN)) == GIVEN
    assert server_token(Settings(home=tmp_path / "home", token="off")) is None
    assert server_token(Settings(home=tmp_path / "home", login=True, host="0.0.0.0")) is None
    assert not (tmp_path / "home").exists()
    played = Settings(home=tmp_path / "home", login=True)
    assert server_token(played), "its cookies can be made up by anybody"


def test_a_token_that_can_be_guessed_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_TOKEN", "short-one")
    with pytest.raises(InputError, match="STUDIO_TOKEN: must be off, or 16") as caught:
        load_settings()
    assert "short-one" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "served"),
    [
        ({"host": "0.0.0.0", "token": "off"}, False),
        ({"host": "192.168.1.20", "token": "off"}, False),
        ({"host": "127.0.0.1", "token": "off"}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "token": "off", "login": True}, True),
    ],
)
def test_a_server_that_others_reach_needs_token_or_login(settings: dict[str, object], served: bool) -> None:
    if served:
        require_guarded(Settings(**settings))
    else:
        with pytest.raises(InputError, match="STUDIO_TOKEN: cannot be off"):
            require_guarded(Settings(**settings))


def test_settings_for_a_jobs_process_do_not_hold_the_token() -> None:
    assert GIVEN not in str(Settings(token=GIVEN).model_dump(mode="json")) and GIVEN not in repr(Settings(token=GIVEN))
    assert "token" not in Settings(token=GIVEN).model_dump()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:7860", "http://localhost:7860/", "http://[::1]:7860", "http://127.0.0.2"]
)
def test_programs_of_the_same_user_find_the_token_by_themselves(url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert known_token(settings, url) is None
    made = server_token(settings)
    assert made is not None and known_token(settings, url) == made


@pytest.mark.parametrize(
    "url", ["http://192.168.1.20:7860", "https://studio.example", "http://localhost.evil.example", "x"]
)
def test_no_other_machine_is_given_the_token_of_this_one(url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    server_token(settings)
    assert known_token(settings, url) is None
    assert known_token(Settings(home=tmp_path, remote_token=GIVEN), url) == GIVEN


@pytest.mark.parametrize(
    ("owner", "settings", "lends"),
    [
        ("local", {}, True),
        ("eve", {}, False),
        ("local", {"token": "off"}, False),
        ("local", {"token": "off", "login": True}, True),
    ],
)
def test_logins_are_lent_to_an_owner_who_has_shown_who_they_are(owner: str, settings: dict, lends: bool) -> None:
    assert lends_logins(Settings(**settings), owner) == lends


def test_where_keys_are_used_the_token_opens_nothing_and_others_may_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_keys = Settings(home=tmp_path / "home", auth="keys", token="off", host="0.0.0.0")
    require_guarded(by_keys)
    assert server_token(by_keys) is None and not (tmp_path / "home").exists()
    assert lends_logins(by_keys, by_keys.owner) and not lends_logins(by_keys, "ada")
    monkeypatch.setenv("STUDIO_AUTH", "keys")
    assert load_settings().login is False
    monkeypatch.setenv("STUDIO_LOGIN", "true")
    with pytest.raises(InputError, match="STUDIO_AUTH: cannot be keys where people log in"):
        load_settings()
