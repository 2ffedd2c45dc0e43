"""A stand-in of the Hugging Face Hub on the loopback interface: the real protocol, in memory, for the real client.

It knows accounts with their tokens, model repositories with their commits, uploads of large files, and downloads; it
keeps a log of what it was asked and can be told to fail: ``hub.fail("POST", "/commit/", 503, times=2)``.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

WRITE, READ, FINE, STRANGER = "hf_write0123456789", "hf_read0123456789", "hf_fine0123456789", "hf_other0123456789"

_LICENCES = {
    "apache-2.0",
    "mit",
    "creativeml-openrail-m",
    "openrail++",
    "openrail",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "other",
}
_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class Blob:
    data: bytes | None
    """None of a file whose bytes went elsewhere (xet)."""
    size: int
    sha256: str
    lfs: bool

    @classmethod
    def of(cls, data: bytes, *, lfs: bool = False) -> "Blob":
        return cls(data, len(data), hashlib.sha256(data).hexdigest(), lfs)

    @property
    def oid(self) -> str:
        data = self.data
        if self.lfs or data is None:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repo:
    private: bool
    commits: list[Commit]

    @property
    def head(self) -> Commit:
        return self.commits[-1]


@dataclass
class Fault:
    method: str
    path: str
    status: int
    times: int
    after: bool
    """Fail only after the work was done: the client cannot know."""
    headers: dict[str, str]


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, message: str, code: str = "", **body: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.body = status, code, {"error": message, **body}


@dataclass
class Hub:
    """What the stand-in holds; ``address`` is where it listens."""

    address: str = ""
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    log: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path, status."""
    bodies: list[bytes] = field(default_factory=list)
    """Of all commits, as they came."""
    faults: list[Fault] = field(default_factory=list)
    xet_folder: str | None = None
    """Where xet puts what it uploads; None refuses xet."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fail(self, method: str, path: str, status: int, *, times: int = 1, after: bool = False, **headers: str) -> None:
        """Answer the next ``times`` requests whose path holds ``path`` with ``status``; 0 hangs up half-way."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(method, path, status, times, after, named))

    def asked(self, method: str, path: str) -> list[int]:
        """Return the answers to requests whose path holds ``path``."""
        return [status for verb, asked, status in self.log if verb == method and path in asked]

    def commits(self, repo: str) -> list[Commit]:
        """Return the commits that somebody made, without the one that a repository is born with."""
        return self.repos[repo].commits[1:]

    def _fault(self, method: str, path: str, after: bool) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.path in path and fault.after == after and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    # What the routes do; each gets the match of its path, the caller (None without a token) and the body

    def whoami(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        if caller is None:
            raise _Refused(401, "Invalid username or password.")
        token = {"displayName": "test", "role": caller["role"]}
        if caller["role"] == "fineGrained":
            token["fineGrained"] = caller["grants"]
        orgs = [{"name": name, "roleInOrg": "write"} for name in caller.get("orgs", ())]
        kind = caller.get("auth", "access_token")
        return {"type": "user", "id": account_id(caller["name"]), "name": caller["name"], "fullname": "", "orgs": orgs,
                "avatarUrl": "/1.svg", "isPro": False, "auth": {"type": kind, "accessToken": token}}  # fmt: skip

    def create(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        asked = json.loads(body)
        owner = asked.get("organization") or (caller or {}).get("name")
        name = f"{owner}/{asked['name']}"
        self._require_write(caller, owner)
        url = f"{self.address}/{name}"
        if name in self.repos:
            raise _Refused(409, "You already created this model repo", url=url)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repos[name] = Repo(private, [_commit("initial commit", {".gitattributes": Blob.of(_ATTRIBUTES)})])
        return {"url": url, "name": name, "id": name}

    def remove(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        asked = json.loads(body)
        owner = asked.get("organization") or (caller or {}).get("name")
        name = f"{owner}/{asked['name']}"
        self._require_write(caller, owner)
        self._repo(name, caller)
        del self.repos[name]
        return {}

    def settings(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        repo = self._repo(match["repo"], caller)
        self._require_write(caller, match["repo"].split("/")[0])
        asked = json.loads(body)
        repo.private = asked.get("visibility", "private" if asked.get("private") else "public") == "private"
        return {"private": repo.private}

    def auth_check(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        self._repo(match["repo"], caller)
        if match["write"]:
            self._require_write(caller, match["repo"].split("/")[0])
        return {}

    def validate_yaml(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        text = json.loads(body)["content"]
        found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        errors = []
        data = yaml.safe_load(found[1]) if found else {}
        if data.get("license") not in _LICENCES:
            errors.append('"license" must be one of the known ones')
        if data.get("license") == "other" and not (data.get("license_name") and data.get("license_link")):
            errors.append('"license_name" and "license_link" are wanted beside "other"')
        base = data.get("base_model")
        if base is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(base)):
            errors.append('"base_model" must be a model id')
        for row in data.get("widget") or []:
            if not (isinstance(row.get("text"), str) and isinstance(row.get("output", {}).get("url"), str)):
                errors.append('"widget" must hold texts with outputs')
        if not all(isinstance(tag, str) for tag in data.get("tags") or []):
            errors.append('"tags" must be strings')
        if errors:
            raise _Refused(400, "Invalid metadata", errors=[{"message": error} for error in errors], warnings=[])
        return {"errors": [], "warnings": []}

    def preupload(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        repo = self._repo(match["repo"], caller)
        self._require_write(caller, match["repo"].split("/")[0])
        answer = []
        for row in json.loads(body)["files"]:
            sample = base64.b64decode(row["sample"])
            is_large = row["size"] > 0 and (b"\0" in sample or row["path"].endswith((".safetensors", ".bin", ".pt")))
            known = repo.head.files.get(row["path"])
            oid = None if known is None else known.sha256 if known.lfs else known.oid
            mode = "lfs" if is_large else "regular"
            answer.append({"path": row["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answer}

    def lfs_batch(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        self._repo(match["repo"], caller)
        self._require_write(caller, match["repo"].split("/")[0])
        objects = []
        for row in json.loads(body)["objects"]:
            answer = {"oid": row["oid"], "size": row["size"]}
            if row["oid"] not in self.objects:
                answer["actions"] = {
                    "upload": {"href": f"{self.address}/lfs/{row['oid']}?signature=secret-address"},
                    "verify": {"href": f"{self.address}/lfs-verify/{row['oid']}"},
                }
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        if hashlib.sha256(body).hexdigest() != match["oid"]:
            raise _Refused(400, "the bytes are not those that were announced")
        self.objects[match["oid"]] = body
        return {}

    def lfs_verify(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        asked = json.loads(body)
        if len(self.objects.get(asked["oid"], b"")) != asked["size"]:
            raise _Refused(400, "not there, or of another size")
        return {}

    def xet_token(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        self._repo(match["repo"], caller)
        if self.xet_folder is None:
            raise _Refused(404, "no xet here")
        facts = {"casUrl": f"local://{self.xet_folder}", "accessToken": "xet", "exp": int(time.time()) + 3600}
        headers = {"X-Xet-Cas-Url": facts["casUrl"], "X-Xet-Access-Token": "xet",
                   "X-Xet-Token-Expiration": str(facts["exp"])}  # fmt: skip
        return facts, headers

    def commit(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        name = match["repo"]
        repo = self._repo(name, caller)
        self._require_write(caller, name.split("/")[0])
        self.bodies.append(body)
        files, message = dict(repo.head.files), ""
        for line in body.splitlines():
            row = json.loads(line)
            key, value = row["key"], row["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, repo.head.oid):
                    raise _Refused(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = Blob.of(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                data = self.objects.get(value["oid"])
                if data is None and self.xet_folder is None:
                    raise _Refused(400, f"the object of {value['path']} was not uploaded")
                files[value["path"]] = Blob(data, value["size"], value["oid"], lfs=True)
            elif key == "deletedFile" and files.pop(value["path"], None) is None:
                raise _Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        repo.commits.append(_commit(message, files, repo.head.oid))
        oid = repo.head.oid
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.address}/{name}/commit/{oid}", "hookOutput": ""}

    def info(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        name = match["repo"]
        repo = self._repo(name, caller)
        commit = self._revision(repo, match["rev"])
        siblings = [{"rfilename": path, "size": blob.size, "blobId": blob.oid} for path, blob in commit.files.items()]
        return {"_id": name, "id": name, "modelId": name, "author": name.split("/")[0], "sha": commit.oid,
                "private": repo.private, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
                "createdAt": "2026-01-01T00:00:00.000Z", "lastModified": "2026-01-01T00:00:00.000Z",
                "siblings": siblings, "usedStorage": 0}  # fmt: skip

    def tree(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        commit = self._revision(self._repo(match["repo"], caller), match["rev"])
        return [_entry(path, blob) for path, blob in sorted(commit.files.items())]

    def paths_info(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        commit = self._revision(self._repo(match["repo"], caller), match["rev"])
        asked = json.loads(body)["paths"] if body[:1] == b"{" else re.findall(r"paths=([^&]*)", unquote(body.decode()))
        return [_entry(path, commit.files[path]) for path in asked if path in commit.files]

    def resolve(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        commit = self._revision(self._repo(match["repo"], caller), match["rev"])
        blob = commit.files.get(match["path"])
        if blob is None or blob.data is None:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes", "ETag": f'"{blob.oid}"'}
        if blob.lfs:
            headers |= {"ETag": f'"{blob.sha256}"', "X-Linked-ETag": f'"{blob.sha256}"',
                        "X-Linked-Size": str(blob.size)}  # fmt: skip
        return blob.data, headers

    def harnesses(self, match: re.Match, caller: dict | None, body: bytes) -> Any:
        return []

    def _repo(self, name: str, caller: dict | None) -> Repo:
        repo = self.repos.get(name)
        if repo is None or (repo.private and not _owns(caller, name.split("/")[0])):
            raise _Refused(404 if caller else 401, "Repository not found", "RepoNotFound")
        return repo

    def _revision(self, repo: Repo, revision: str | None) -> Commit:
        if revision in (None, "main"):
            return repo.head
        for commit in repo.commits:
            if commit.oid == revision:
                return commit
        raise _Refused(404, "Invalid rev id", "RevisionNotFound")

    def _require_write(self, caller: dict | None, owner: str | None) -> None:
        if caller is None:
            raise _Refused(401, "Invalid username or password.")
        if caller["role"] == "read" or not _owns(caller, owner):
            raise _Refused(403, "You don't have the rights to do this")


def account_id(name: str) -> str:
    """Return the id of an account, which is also ``sub`` of its logins."""
    return hashlib.sha1(name.encode()).hexdigest()[:24]


def _owns(caller: dict | None, owner: str | None) -> bool:
    return caller is not None and owner in (caller["name"], *caller.get("orgs", ()))


def _commit(message: str, files: dict[str, Blob], parent: str = "") -> Commit:
    content = json.dumps([message, parent, {path: blob.sha256 for path, blob in files.items()}])
    return Commit(hashlib.sha1(content.encode()).hexdigest(), message, files)


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    return entry


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_MODEL = rf"/api/models/{_REPO}"
_ROUTES: list[tuple[str, str, str]] = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("GET", r"/api/agent-harnesses", "harnesses"),
    ("POST", r"/api/repos/create", "create"),
    ("DELETE", r"/api/repos/delete", "remove"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("PUT", rf"{_MODEL}/settings", "settings"),
    ("GET", rf"{_MODEL}/auth-check(?P<write>/write)?", "auth_check"),
    ("POST", rf"{_MODEL}/preupload/(?P<rev>[^/]+)", "preupload"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>\w+)", "lfs_put"),
    ("POST", r"/lfs-verify/(?P<oid>\w+)", "lfs_verify"),
    ("GET", rf"{_MODEL}/xet-(?:read|write)-token/(?P<rev>[^/]+)", "xet_token"),
    ("POST", rf"{_MODEL}/commit/(?P<rev>[^/]+)", "commit"),
    ("GET", rf"{_MODEL}/tree/(?P<rev>[^/]+)(?:/.*)?", "tree"),
    ("POST", rf"{_MODEL}/paths-info/(?P<rev>[^/]+)", "paths_info"),
    ("GET", rf"{_MODEL}(?:/revision/(?P<rev>[^/]+))?", "info"),
    ("GET", rf"/{_REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body in one packet

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            fault = hub._fault(self.command, path, after=False)
            if fault is not None and fault.status == 0:  # hangs up in the middle of the body
                self.rfile.read(min(1000, int(self.headers.get("content-length") or 0)))
                self._hang_up(path)
                return
            body = self._body()
            if fault is not None:
                self._send(path, fault.status, {"error": "as asked"}, fault.headers)
                return
            status, answer, headers = self._work(path, body)
            late = hub._fault(self.command, path, after=True)
            if late is not None and late.status == 0:
                self._hang_up(path)
                return
            if late is not None:
                status, answer, headers = late.status, {"error": "as asked"}, late.headers
            self._send(path, status, answer, headers)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("content-length") or 0))

        def _work(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            caller = hub.accounts.get(token)
            method = "GET" if self.command == "HEAD" else self.command
            try:
                if token and caller is None and not path.startswith("/lfs"):
                    raise _Refused(401, "Invalid credentials in Authorization header")
                for verb, pattern, name in _ROUTES:
                    if verb == method and (match := re.fullmatch(pattern, path)):
                        if "rev" not in match.re.groupindex:
                            match = re.fullmatch(pattern + r"(?P<rev>\0)?", path)
                        with hub.lock:
                            made = getattr(hub, name)(match, caller, body)
                        answer, headers = made if isinstance(made, tuple) else (made, {})
                        return 200, answer, headers
                raise _Refused(404, f"the stand-in has no {method} {path}")
            except _Refused as refused:
                headers = {"X-Error-Code": refused.code} if refused.code else {}
                message = refused.body["error"]
                return refused.status, refused.body, {**headers, "X-Error-Message": message}

        def _send(self, path: str, status: int, answer: Any, headers: dict[str, str]) -> None:
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            window = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
            if window and isinstance(answer, bytes) and status == 200:
                first, last = int(window[1]), int(window[2]) if window[2] else len(data) - 1
                headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
                status, data = 206, data[first : last + 1]
            hub.log.append((self.command, path, status))
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(answer, bytes) else "application/json"
            for name, value in {"Content-Type": kind, **headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            self.wfile.flush()

        def _hang_up(self, path: str) -> None:
            hub.log.append((self.command, path, 0))
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """Serve a hub with four accounts: ``ada`` (write), ``ada`` (read), ``ada`` (fine-grained), ``eve`` (write)."""
    hub = Hub()
    scoped = [{"entity": {"type": "user", "name": "ada"}, "permissions": ["repo.content.read"]}]
    hub.accounts = {
        WRITE: {"name": "ada", "role": "write", "orgs": ["atelier"]},
        READ: {"name": "ada", "role": "read"},
        FINE: {"name": "ada", "role": "fineGrained", "grants": {"canReadGatedRepos": False, "scoped": scoped}},
        STRANGER: {"name": "eve", "role": "write"},
    }
    server = _Server(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Serve = Callable[[], contextlib.AbstractContextManager[Hub]]
