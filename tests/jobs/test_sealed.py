from pathlib import Path

import pytest

from studio.core.errors import InputError
from studio.core.settings import Settings, load_settings
from studio.jobs.environment import variables_of
from studio.jobs.queue import NewJob
from studio.jobs.sealed import Tokens, opened, seal
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store

OLD, NEW, TOKEN = "o" * 32, "n" * 32, "hf_write0123456789"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(SqliteDatabase(tmp_path / "jobs.sqlite3"))


def settings(keys: str | None) -> Settings:
    return Settings(secrets_key=keys)  # type: ignore[arg-type]


def test_a_token_opens_with_any_of_the_keys_and_for_its_own_job_alone() -> None:
    sealed = seal(OLD, "publish-1", TOKEN)
    assert TOKEN not in sealed and sealed != seal(OLD, "publish-1", TOKEN)
    assert opened(f"{NEW}, {OLD}", "publish-1", sealed) == TOKEN, "while keys are exchanged"
    assert opened(NEW, "publish-1", sealed) is None
    assert opened(OLD, "publish-2", sealed) is None, "a row that was copied onto another job"
    assert opened(OLD, "publish-1", sealed[:-8] + "AAAAAAA=") is None


def test_another_server_with_the_key_has_the_token_and_one_without_has_not(store: Store) -> None:
    here, there, without = (
        Tokens(store, settings(OLD)),
        Tokens(store, settings(f"{NEW},{OLD}")),
        Tokens(store, settings(None)),
    )
    store.insert(NewJob("publish-1", "publish", "ada", "t", "f", sealed=here.take("publish-1", TOKEN)))
    assert (here.of("publish-1"), there.of("publish-1"), without.of("publish-1")) == (TOKEN, TOKEN, None)
    store.cancel("publish-1", "ada")
    assert there.of("publish-1") is None and store.sealed_of("publish-1") is None, "it goes with the end of the job"
    there.give("publish-1", "hf_another")
    there.give("publish-1", "hf_third")
    assert there.of("publish-1") == "hf_another", "one that it has still is kept"
    assert Tokens(store, settings(NEW)).of("publish-1") == "hf_another"


def test_no_token_is_sealed_without_a_key_and_none_that_is_empty(store: Store) -> None:
    assert Tokens(store, settings(None)).take("train-1", TOKEN) is None
    assert Tokens(store, settings(OLD)).take("train-1", "") is None


def test_a_short_key_is_refused_unshown_and_a_job_never_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "STUDIO_SECRETS_KEY" not in variables_of(settings(OLD))
    monkeypatch.setenv("STUDIO_SECRETS_KEY", f"{OLD},short-and-secret")
    with pytest.raises(InputError, match="STUDIO_SECRETS_KEY: must be 32 characters") as told:
        load_settings()
    assert "short-and-secret" not in str(told.value)
