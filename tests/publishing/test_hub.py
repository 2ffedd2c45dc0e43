"""Writing to the Hub: the real client against a stand-in that speaks the real protocol."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from pydantic import SecretStr

from studio.core.errors import ConflictError, InputError, JobCancelled, NotFoundError, ResourceError
from studio.core.settings import Settings
from studio.publishing import hub as hub_module
from studio.publishing.hub import check_access, delete, fetch_text, person_of, push, token_of

WRITE, READ, FINE, STRANGER = "hf_write0123456789", "hf_read0123456789", "hf_fine0123456789", "hf_other0123456789"
REPO = "ada/portrait"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "repo"
    (made / "gallery").mkdir(parents=True)
    (made / "README.md").write_text("---\nlicense: apache-2.0\ntags: [lora]\n---\n\n# Ada\n")
    (made / "pytorch_lora_weights.safetensors").write_bytes(b"\0" * 5000)
    (made / "gallery" / "01.png").write_bytes(b"\x89PNG\0" + bytes(range(200)))
    return made


def pushed(folder: Path, **changes: Any) -> hub_module.PushResult:
    given: dict[str, Any] = {"token": WRITE, "public": False, "update": False, "message": "Publish", **changes}
    return push(folder, given.pop("repo", REPO), given.pop("token"), **given)


def test_a_folder_becomes_one_commit_in_a_private_repository(hub: Any, folder: Path) -> None:
    assert not check_access(REPO, WRITE).exists
    done = pushed(folder)
    (commit,) = hub.commits(REPO)
    assert (commit.oid, commit.message) == (done.commit, "Publish") and done.url == f"{hub.address}/{REPO}"
    there = {name: blob.data for name, blob in commit.files.items() if name != ".gitattributes"}
    assert there == {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    assert hub.repos[REPO].private and hub.asked("GET", "xet-") == []
    assert pushed(folder) == done and len(hub.commits(REPO)) == 1, "the same again makes no second commit"


def test_a_personal_token_tells_whose_it_is_by_an_id_that_stays(hub: Any) -> None:
    person = person_of(READ)
    assert person == person_of(WRITE) and person.name == "ada" and person.id != person_of(STRANGER).id
    hub.accounts[WRITE] |= {"auth": "oauth"}
    with pytest.raises(InputError, match="not a personal access token"):
        person_of(WRITE)
    with pytest.raises(InputError, match="not known to the Hub") as caught:
        person_of("hf_unknown0123456789")
    assert "hf_unknown" not in str(caught.value)
    hub.fail("GET", "whoami", 503)
    with pytest.raises(ResourceError, match="status 503"):
        person_of(READ)
    assert len(hub.asked("GET", "whoami")) == 6, "each time asked once: somebody waits for the answer"


def test_a_public_repository_is_made_only_when_asked_for_and_none_is_written_to_otherwise(
    hub: Any, folder: Path
) -> None:
    pushed(folder, public=True)
    assert not hub.repos[REPO].private
    for call in (lambda: check_access(REPO, WRITE, update=True), lambda: pushed(folder, update=True)):
        with pytest.raises(ConflictError, match="is public"):
            call()
    hub.repos[REPO].private = True
    pushed(folder, public=True, update=True)
    assert not hub.repos[REPO].private and len(hub.commits(REPO)) == 1


def test_an_update_is_asked_for_and_takes_away_what_an_earlier_push_brought(hub: Any, folder: Path) -> None:
    first = pushed(folder)
    (folder / "gallery" / "01.png").unlink()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# Ada again\n")
    for call in (lambda: check_access(REPO, WRITE), lambda: pushed(folder)):
        with pytest.raises(ConflictError, match="is taken"):
            call()
    assert check_access(REPO, WRITE, update=True).exists
    second = pushed(folder, update=True, stale=lambda: ["gallery/01.png", "gallery/99.png", "README.md"])
    assert [commit.oid for commit in hub.commits(REPO)] == [first.commit, second.commit]
    assert set(hub.repos[REPO].head.files) == {".gitattributes", "README.md", "pytorch_lora_weights.safetensors"}
    assert b"again" in hub.repos[REPO].head.files["README.md"].data
    with pytest.raises(NotFoundError, match="to update"):
        check_access("ada/other", WRITE, update=True)


def test_an_empty_repository_of_ones_own_may_be_published_into(hub: Any, folder: Path) -> None:
    hub_module._api(WRITE).create_repo(REPO, private=True)
    assert check_access(REPO, WRITE).exists
    assert pushed(folder).commit == hub.repos[REPO].head.oid


@pytest.mark.parametrize("status", [408, 412, 429, 500, 503])
def test_a_busy_hub_is_asked_again_without_a_second_commit(hub: Any, folder: Path, status: int) -> None:
    hub.fail("POST", "/commit/", status, times=2, retry_after="0")
    hub.fail("POST", "/api/repos/create", 503)
    hub.fail("GET", "/api/whoami-v2", 429)
    said: list[str] = []
    check_access(REPO, WRITE)
    pushed(folder, on_wait=said.append)
    assert hub.asked("POST", "/commit/") == [status, status, 200] and len(hub.commits(REPO)) == 1
    assert len(said) == 3 and f"status {status}" in said[-1]


@pytest.mark.parametrize("answer", [0, 504])
def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub: Any, folder: Path, answer: int) -> None:
    hub.fail("POST", "/commit/", answer, after=True)
    hub.fail("POST", "/api/repos/create", answer, after=True)
    done = pushed(folder)
    assert [commit.oid for commit in hub.commits(REPO)] == [done.commit]
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# Ada again\n")
    hub.fail("POST", "/commit/", answer, after=True)
    again = pushed(folder, update=True)
    assert [commit.oid for commit in hub.commits(REPO)] == [done.commit, again.commit]


def test_somebody_elses_commit_in_between_is_seen_and_kept(hub: Any, folder: Path) -> None:
    pushed(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# Ada again\n")

    def interfere() -> bool:  # asked right before the commit, when the head was already looked at
        if len(hub.commits(REPO)) == 1:
            hub_module._api(WRITE).upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id=REPO)
        return False

    pushed(folder, update=True, should_stop=interfere)
    assert hub.asked("POST", "/commit/") == [200, 200, 412, 200]
    assert hub.repos[REPO].head.files["notes.txt"].data == b"mine" and len(hub.commits(REPO)) == 3


def test_an_upload_that_is_cut_off_goes_on_and_one_that_always_is_ends_in_words(
    hub: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http._DEFAULT_RETRY_ON_EXCEPTIONS", ())
    hub.fail("PUT", "/lfs/", 0)
    pushed(folder)
    assert hub.asked("PUT", "/lfs/").count(0) == 1 and len(hub.commits(REPO)) == 1
    (folder / "more.bin").write_bytes(b"\0" * 7000)
    hub.fail("PUT", "/lfs/", 403, times=100)
    with pytest.raises((ResourceError, InputError)) as caught:
        pushed(folder, update=True)
    assert "secret-address" not in str(caught.value) and WRITE not in str(caught.value)
    assert len(hub.commits(REPO)) == 1


def test_xet_uploads_as_well(hub: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.xet_folder = str(tmp_path / "xet")
    Path(hub.xet_folder).mkdir()
    done = pushed(folder)
    (commit,) = hub.commits(REPO)
    weights = (folder / "pytorch_lora_weights.safetensors").read_bytes()
    assert commit.oid == done.commit and hub.asked("PUT", "/lfs/") == [] != hub.asked("GET", "xet-write-token")
    assert commit.files["pytorch_lora_weights.safetensors"].sha256 == hashlib.sha256(weights).hexdigest()
    hub.fail("POST", "/commit/", 503, after=True)
    assert pushed(folder, update=True) == done and len(hub.commits(REPO)) == 1


def test_stopping_before_the_commit_publishes_nothing(hub: Any, folder: Path) -> None:
    with pytest.raises(JobCancelled):
        pushed(folder, should_stop=lambda: True)
    assert hub.commits(REPO) == []
    hub.fail("POST", "/commit/", 503, times=9, retry_after="60")
    asked: list[int] = []

    def after_a_while() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(JobCancelled, match="nothing was published"):
        pushed(folder, should_stop=after_a_while)


def test_a_repository_is_deleted_by_whom_it_belongs_to(hub: Any, folder: Path) -> None:
    pushed(folder)
    with pytest.raises(NotFoundError):
        delete(REPO, STRANGER)
    with pytest.raises(InputError, match="may only read"):
        delete(REPO, READ)
    delete(REPO, WRITE)
    assert REPO not in hub.repos
    with pytest.raises(NotFoundError):
        delete(REPO, WRITE)


def test_a_text_file_is_fetched_from_the_head(hub: Any, folder: Path, tmp_path: Path) -> None:
    assert fetch_text(REPO, "README.md", WRITE, tmp_path / "a") is None
    pushed(folder)
    assert fetch_text(REPO, "README.md", WRITE, tmp_path / "b") == (folder / "README.md").read_text()
    assert fetch_text(REPO, "LICENSE", WRITE, tmp_path / "c") is None


TOKENS: list[tuple[str | None, str, str]] = [
    (None, "none", "hf auth login"),
    ("", "none", "set a token"),
    ("hf_wrong", "bad_token", "not known to the Hub"),
    ("hf_wrong\n", "bad_token", "copy it again"),
    (READ, "read_only", "may only read"),
    (FINE, "read_only", "no write access to repositories of ada"),
    (STRANGER, "no_access", "use one of: eve/..."),
]


@pytest.mark.parametrize(("token", "code", "words"), TOKENS)
def test_a_token_that_will_not_do_is_told_before_anything_long(
    hub: Any, token: str | None, code: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_access(REPO, token)
    (problem,) = caught.value.problems
    assert (problem.where, problem.code) == ("token", code) and words in str(caught.value)
    assert not token or token not in str(caught.value)
    assert hub.asked("POST", "/") == [], "nothing was changed"


def test_organizations_and_fine_grained_tokens_may_write_where_they_are_allowed_to(hub: Any) -> None:
    assert not check_access("atelier/portrait", WRITE).exists
    grants = hub.accounts[FINE]["grants"]
    grants["scoped"] = [{"entity": {"type": "user", "name": "ada"}, "permissions": ["repo.write"]}]
    assert not check_access(REPO, FINE).exists


def test_a_name_of_somebody_else_is_taken(hub: Any, folder: Path) -> None:
    pushed(folder, public=True)
    with pytest.raises((ConflictError, InputError)):
        check_access(REPO, STRANGER, public=True)
    with pytest.raises(InputError, match="no write access to ada/portrait"):
        check_access(REPO, STRANGER, public=True, update=True)


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (401, InputError, "not accepted"),
        (402, ResourceError, "no storage"),
        (403, InputError, "no write access"),
        (409, ResourceError, "status 409"),
        (413, ResourceError, "no storage"),
        (400, InputError, "rejects"),
        (500, ResourceError, "could not accept"),
    ],
)
def test_every_refusal_of_the_hub_becomes_words(
    hub: Any, folder: Path, status: int, expected: type[Exception], words: str
) -> None:
    pushed(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# Ada again\n")
    hub.fail("POST", "/commit/", status, times=9, x_error_message="Invalid credentials in Authorization header")
    with pytest.raises(expected, match=words) as caught:
        pushed(folder, update=True)
    assert WRITE not in str(caught.value) and hub.address not in str(caught.value).replace(
        f"{hub.address}/settings/tokens", ""
    )


def test_a_card_that_the_hub_does_not_take_is_refused_before_the_upload(hub: Any, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: my-own\n---\n")
    with pytest.raises(InputError, match='"license" must be'):
        pushed(folder)
    assert hub.asked("PUT", "/lfs/") == [] and REPO not in hub.repos


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("HF_HUB_OFFLINE", True, "HF_HUB_OFFLINE"), ("ENDPOINT", "http://127.0.0.1:9", "cannot be reached")],
)
def test_without_a_connection_it_says_so(
    hub: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, words: str
) -> None:
    monkeypatch.setattr(hub_module.constants if name == "ENDPOINT" else constants, name, value)
    with pytest.raises(ResourceError, match=words):
        check_access(REPO, WRITE)


def test_the_token_of_the_settings_goes_before_that_of_the_machine_and_an_empty_one_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "get_token", lambda: "hf_machine")
    assert token_of(Settings()) == "hf_machine"
    assert token_of(Settings(hub_token=SecretStr("hf_mine"))) == "hf_mine"
    assert token_of(Settings(hub_token=SecretStr(""))) is None
