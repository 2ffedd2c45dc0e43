"""Writing to the Hugging Face Hub: who a token is, whether it may write, one commit, delete.

Everything goes through ``huggingface_hub``; what is added is words instead of stack traces, patience where the Hub asks
for it, and the certainty that a request which was answered too late is not done twice. Tokens are arguments: they are
written nowhere and appear in no error. Imports no torch, so that the server may check a token before it takes a job.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
    get_session,
    hf_raise_for_status,
)

from studio.core.domain import ShouldStop, never_stop
from studio.core.errors import ConflictError, InputError, NotFoundError, Problem, ResourceError
from studio.core.files import sha256_of
from studio.core.folder import files_below
from studio.core.progress import NOTHING_PUBLISHED, check_stop
from studio.core.settings import Settings

T = TypeVar("T")

_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses between the attempts of one request; the Hub's Retry-After takes precedence."""
_LONGEST_WAIT_S = 300.0
_ANSWER_S = 10.0
"""Longest wait for the Hub's answer when a visitor logs in with a token."""
_PASSING = frozenset({408, 412, 429, 500, 502, 503, 504})
"""Status codes after which a request is retried; 412 means that another commit came first."""
_TICK_S = 0.2
_BORN_WITH = frozenset({".gitattributes"})
"""Files that the Hub itself puts into a new repository."""
_IS_TAKEN = "the name {repo} is taken; choose another one, or set update to update the repository."
_IS_PUBLIC = "{repo} is public; set public if that is intended, or choose another name."


@dataclass(frozen=True, slots=True)
class Account:
    """Who a token belongs to."""

    name: str
    organizations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PersonalAccount:
    """An account of one person."""

    id: str
    """Survives a rename of the account; the same as ``sub`` of a login."""
    name: str


@dataclass(frozen=True, slots=True)
class TargetRepository:
    """A repository as it is before it is written to."""

    repo: str
    public: bool
    """Whether it is public, or will be created public."""
    exists: bool
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did."""

    commit: str
    url: str


def token_of(settings: Settings) -> str | None:
    """Return the token to use: that of the settings, or else the one that this machine is logged in with.

    An empty token in the settings means none at all: a job of somebody who gave none must not take the machine's.
    """
    if settings.hub_token is not None:
        return settings.hub_token.get_secret_value() or None
    return get_token()


def person_of(token: str) -> PersonalAccount:
    """Ask the Hub, once, whose personal token this is.

    Tokens that another site got through its own login are refused: that site could pose as its users.

    Raises:
        InputError: the Hub does not know it, or it is not a personal access token.
        ResourceError: the Hub cannot be reached.
    """
    try:
        address = f"{_api(token).endpoint}/api/whoami-v2"
        # Not HfApi.whoami: it has no timeout, and a visitor is waiting for the page.
        said = get_session().get(address, headers=build_hf_headers(token=token), timeout=_ANSWER_S)
        hf_raise_for_status(said)
        data = said.json()
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise _token_problem("is not known to the Hub", "copy it again, or create a new one", "bad_token") from None
        raise ResourceError(f"the Hub cannot identify the token's owner ({_reason(error)}); try again later.") from None
    except OfflineModeIsEnabled:
        raise ResourceError("the Hub client is set to offline (HF_HUB_OFFLINE); unset that and try again.") from None
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise ResourceError(f"the Hub cannot be reached ({type(error).__name__}); try again later.") from None
    kind = (data.get("auth") or {}).get("type")
    if data.get("type") != "user" or kind != "access_token" or not data.get("id"):
        raise _token_problem("is not a personal access token", "use one of your own", "bad_token")
    return PersonalAccount(str(data["id"]), str(data.get("name", "")))


def check_access(repo: str, token: str | None, *, public: bool = False, update: bool = False) -> TargetRepository:
    """Find out, before anything long, whether ``repo`` can be written to as asked. Nothing is changed.

    Args:
        repo: ``owner/name``.
        token: of the Hub.
        public: whether everybody may see what is published.
        update: whether an existing repository is meant.

    Raises:
        InputError: no token, one that the Hub does not know, or one that may not write there.
        NotFoundError: the repository to update does not exist.
        ConflictError: the name is taken, or what is there is public and that was not asked for.
        ResourceError: the Hub cannot be reached.
    """
    api = _api(token)
    with _in_words(repo):
        account = _account(api, repo)
        try:
            info = _patiently(lambda: api.model_info(repo), never_stop)
        except RepositoryNotFoundError:
            info = None
        if info is None:
            if update:
                raise NotFoundError(f"there is no repository {repo} to update; leave update out to create it.")
            owners = (account.name, *account.organizations)
            if repo.partition("/")[0].casefold() not in {name.casefold() for name in owners}:
                message = f"belongs to {account.name}, who cannot create repositories for {repo.partition('/')[0]}"
                raise _token_problem(message, f"use one of: {', '.join(f'{name}/...' for name in owners)}", "no_access")
            return TargetRepository(repo, public, False, ())
        _patiently(lambda: api.auth_check(repo, write=True), never_stop)
    files = tuple(row.rfilename for row in info.siblings or ())
    is_public = not info.private
    if not update and set(files) - _BORN_WITH:
        raise ConflictError(_IS_TAKEN.format(repo=repo))
    if is_public and not public:
        raise ConflictError(_IS_PUBLIC.format(repo=repo))
    return TargetRepository(repo, is_public, True, files)


def push(
    folder: Path,
    repo: str,
    token: str | None,
    *,
    public: bool,
    update: bool,
    message: str,
    stale: Callable[[], Sequence[str]] = lambda: (),
    should_stop: ShouldStop = never_stop,
    on_wait: Callable[[str], None] = lambda words: None,
) -> PushResult:
    """Bring a folder onto the Hub in one commit; make the repository first if it is not there.

    Called again with the same folder it does nothing twice: what is there already makes no second commit.

    Args:
        folder: holds exactly what is pushed.
        repo: ``owner/name``.
        token: of the Hub.
        public: whether everybody may see it.
        update: whether an existing repository is meant.
        message: of the commit.
        stale: returns what an earlier push brought and this one does not: it is deleted, if it is there.
        should_stop: asked while waiting and before the commit.
        on_wait: told in words why it takes longer.

    Raises:
        As ``check_access``, and JobCancelled: ``should_stop`` answered True; nothing was committed.
    """
    api = _api(token)
    files = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    with _in_words(repo), _no_bars():
        if "README.md" in files:
            card = files["README.md"].read_text(encoding="utf-8")
            _patiently(lambda: ModelCard(card).validate(), should_stop, on_wait)
        info = _opened(api, repo, public, should_stop, on_wait)
        if not info.private and not public:
            raise ConflictError(_IS_PUBLIC.format(repo=repo))
        gone = stale() if update else ()

        def attempt() -> str:
            # All anew each time: the head may have moved, perhaps by a try of ours whose answer was lost.
            head = api.model_info(repo)
            there = {row.rfilename for row in head.siblings or ()}
            if not update and there - _BORN_WITH:
                if there - _BORN_WITH == files.keys() and _is_same(api, repo, files):
                    return str(head.sha)
                raise ConflictError(_IS_TAKEN.format(repo=repo))
            operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
            api.preupload_lfs_files(repo, operations, free_memory=False)
            operations += [CommitOperationDelete(name) for name in gone if name in there - files.keys()]
            check_stop(should_stop, NOTHING_PUBLISHED)
            return api.create_commit(repo, operations, commit_message=message, parent_commit=head.sha).oid

        commit = _patiently(attempt, should_stop, on_wait)
        if public and info.private:
            _patiently(lambda: api.update_repo_settings(repo, private=False), should_stop, on_wait)
    return PushResult(commit, f"{constants.ENDPOINT}/{repo}")


def fetch_text(repo: str, name: str, token: str | None, folder: Path) -> str | None:
    """Return a text file of a repository's head; None if it is not there.

    Args:
        repo: ``owner/name``.
        name: path in the repository.
        token: of the Hub.
        folder: where it may be downloaded to.

    Raises: as ``check_access``.
    """
    api = _api(token)
    with _in_words(repo):
        try:
            if not _patiently(lambda: api.file_exists(repo, name), never_stop):
                return None
            path = _patiently(lambda: api.hf_hub_download(repo, name, local_dir=folder), never_stop)
        except RepositoryNotFoundError:
            return None
    return Path(path).read_text(encoding="utf-8")


def delete(repo: str, token: str | None) -> None:
    """Delete a repository with all its history; this cannot be undone.

    Raises:
        NotFoundError: there is none. Otherwise as ``check_access``.
    """
    api = _api(token)
    with _in_words(repo):
        _account(api, repo)
        _patiently(lambda: api.model_info(repo), never_stop)
        _patiently(lambda: api.delete_repo(repo, missing_ok=True), never_stop)


# ------------------------------------------------------------------------------------------------------------ below


def _api(token: str | None) -> HfApi:
    if not token:
        raise _token_problem("is missing", "set a token with write access, or log in with `hf auth login`", "none")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise _token_problem("contains characters that are invalid in a token", "copy it again", "bad_token")
    return HfApi(endpoint=constants.ENDPOINT, token=token, library_name="likeness-studio")


def _account(api: HfApi, repo: str) -> Account:
    """Ask whose token it is, and refuse one that cannot write for ``repo``'s owner."""
    try:
        data = _patiently(api.whoami, never_stop)
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise
        cure = f"create one with write access at {constants.ENDPOINT}/settings/tokens"
        raise _token_problem("is not known to the Hub", cure, "bad_token") from None
    name = str(data.get("name", ""))
    account = Account(name, tuple(str(row.get("name")) for row in data.get("orgs") or ()))
    facts = (data.get("auth") or {}).get("accessToken") or {}
    role = facts.get("role")
    owner = repo.partition("/")[0]
    if role == "read":
        cure = f"create one with write access at {constants.ENDPOINT}/settings/tokens"
        raise _token_problem("may only read", cure, "read_only")
    if role == "fineGrained" and not _may_write(facts.get("fineGrained") or {}, owner, repo):
        cure = f"grant it write access to repositories of {owner} at {constants.ENDPOINT}/settings/tokens"
        raise _token_problem(f"has no write access to repositories of {owner}", cure, "read_only")
    return account


def _may_write(grants: Any, owner: str, repo: str) -> bool:
    """Return whether a fine-grained token may write for an owner, or to this one repository."""
    for scope in grants.get("scoped") or ():
        entity = scope.get("entity") or {}
        names = {str(entity.get(key, "")).casefold() for key in ("name", "_id", "id")}
        if names & {owner.casefold(), repo.casefold()} and "repo.write" in (scope.get("permissions") or ()):
            return True
    return "repo.write" in (grants.get("global") or ())


def _opened(api: HfApi, repo: str, public: bool, should_stop: ShouldStop, on_wait: Callable[[str], None]) -> Any:
    """Return what is known of a repository, made if it was not there."""
    try:
        return _patiently(lambda: api.model_info(repo), should_stop, on_wait)
    except RepositoryNotFoundError:
        # exist_ok: the answer to a first try may have been lost.
        _patiently(lambda: api.create_repo(repo, private=not public, exist_ok=True), should_stop, on_wait)
        return _patiently(lambda: api.model_info(repo), should_stop, on_wait)


def _is_same(api: HfApi, repo: str, files: Mapping[str, Path]) -> bool:
    """Return True if the head holds each of the files with this content."""
    there = {row.path: row for row in api.get_paths_info(repo, list(files))}
    for name, path in files.items():
        row = there.get(name)
        if not isinstance(row, RepoFile) or row.size != path.stat().st_size:
            return False
        if row.lfs is not None:
            same = row.lfs.sha256 == sha256_of(path)
        else:
            data = path.read_bytes()
            same = row.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # as git names it
        if not same:
            return False
    return True


def _patiently(
    call: Callable[[], T], should_stop: ShouldStop, on_wait: Callable[[str], None] = lambda words: None
) -> T:
    """Return what ``call`` returns, tried again while the Hub is busy or the line is bad."""
    for wait_s in (*_WAITS_S, None):
        try:
            return call()
        except (HfHubHTTPError, httpx2.TransportError, OSError, json.JSONDecodeError) as error:
            if isinstance(error, OfflineModeIsEnabled) or not _passes(error) or wait_s is None:
                raise
            wait_s = max(wait_s, _asked_wait_s(error))
            on_wait(f"The Hub is busy ({_reason(error)}); trying again in {wait_s:.0f} s.")
        end_s = time.monotonic() + wait_s
        while (left_s := end_s - time.monotonic()) > 0:
            check_stop(should_stop, NOTHING_PUBLISHED, "while waiting for the Hub")
            time.sleep(min(_TICK_S, left_s))
    raise AssertionError  # the last try returns or raises


def _passes(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    # JSONDecodeError: a gateway's page instead of the Hub's answer.
    return isinstance(error, httpx2.TransportError | ConnectionError | TimeoutError | json.JSONDecodeError)


def _asked_wait_s(error: Exception) -> float:
    """Return the pause that the Hub asks for, seconds; 0 where it says nothing that can be understood."""
    response = getattr(error, "response", None)
    try:
        return min(_LONGEST_WAIT_S, float(response.headers["retry-after"])) if response is not None else 0.0
    except (KeyError, ValueError):
        return 0.0


def _reason(error: Exception) -> str:
    """Return what went wrong without the address, which may hold a signature."""
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else type(error).__name__


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the client's progress bars out of what the studio says itself."""
    were_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            enable_progress_bars()


@contextmanager
def _in_words(repo: str) -> Iterator[None]:
    """Turn what the Hub's client raises into words without addresses and tokens."""
    try:
        yield
    except RepositoryNotFoundError:
        raise NotFoundError(f"the Hub has no repository {repo}, or this token cannot see it.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise _token_problem(
                "was not accepted by the Hub", "create a new one with write access", "bad_token"
            ) from None
        if status == 403:
            cure = f"use one with write access, or grant access at {constants.ENDPOINT}/settings/tokens"
            raise _token_problem(f"has no write access to {repo}", cure, "no_access") from None
        if status in (402, 413):
            raise ResourceError(f"the Hub has no storage for {repo} ({_reason(error)}); free some there.") from None
        if status == 400:
            said = " ".join(str(error.server_message or "").split())[:200]
            raise InputError.of(
                [Problem("repo", f"the Hub rejects {repo}{f' ({said})' if said else ''}", "correct it", "refused")]
            ) from None
        again = "try again later; the assembled files are kept"
        raise ResourceError(f"the Hub could not accept {repo} ({_reason(error)}); {again}.") from None
    except OfflineModeIsEnabled:
        raise ResourceError("the Hub client is set to offline (HF_HUB_OFFLINE); unset that and try again.") from None
    except ValueError as error:  # the client's own checks, the card's among them
        problem = Problem("repo", f"the Hub rejects it ({_said(error)})", "correct it", "refused")
        raise InputError.of([problem]) from None
    # RuntimeError: what hf_xet and lost uploads end in; their texts hold addresses.
    except (httpx2.HTTPError, ConnectionError, TimeoutError, RuntimeError) as error:
        raise ResourceError(
            f"the Hub cannot be reached ({type(error).__name__}); check the connection and try again."
        ) from None


def _said(error: ValueError) -> str:
    """Return what the client found wrong; of a card, what the Hub said, which comes as JSON."""
    text = str(error)
    with suppress(ValueError, KeyError, TypeError):
        text = "; ".join(str(row["message"]) for row in json.loads(text)["errors"])
    return " ".join(text.split())[:300]


def _token_problem(message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem("token", message, cure, code)])
