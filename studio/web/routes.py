"""The plain HTTP routes beside Gradio's endpoints: uploads that survive a restart, files with their digests.

Called by ``studio.web.server``; used by ``studio.remote.run`` and by anybody's curl (docs/API.md). Gradio's own upload
knows no digest and is wiped when the server starts, so that a broken transfer could only begin anew; these go on.
"""

import contextlib
import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Field

from studio.core.config import CheckConfig
from studio.core.errors import ConflictError, InputError, Problem, ResourceError, StudioError, UnavailableError
from studio.core.evicted import evicted
from studio.core.files import sha256_of, write_bytes
from studio.core.private import UPLOADS_NAME, owner_digest
from studio.core.settings import Settings
from studio.core.strict import StrictModel
from studio.jobs import intake
from studio.jobs.sweep import UPLOAD_LIFE_S
from studio.web.hearts import zip_of
from studio.web.session import StudioSession, home_files
from studio.web.thumbnails import PICTURES, thumbnail_of

_UPLOADS_PER_PHOTO = 2
"""A photo and its caption."""
_SHA256 = re.compile(r"[0-9a-f]{64}")

SessionOf = Callable[[Request], StudioSession]
"""Returns the studio as the sender of a request may see it."""

# Kinds of file that jobs write for people. Of others, only those that a job's result names are served, as plain bytes.
_SERVED = {
    ".png": ("image/png", "inline"),
    ".jpg": ("image/jpeg", "inline"),
    ".webp": ("image/webp", "inline"),
    ".zip": ("application/zip", "attachment"),
    ".safetensors": ("application/octet-stream", "attachment"),
    ".json": ("application/json", "attachment"),
    ".jsonl": ("application/jsonl", "attachment"),
    ".yaml": ("application/yaml", "attachment"),
}
_CHANGES = {"Cache-Control": "private, no-cache"}
_PLAIN_BYTES = ("application/octet-stream", "attachment")


class SentPhoto(StrictModel):
    """One uploaded file of a check."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of its bytes, hexadecimal."""
    name: Annotated[str, Field(min_length=1, max_length=300)]
    """What verdicts call it; a caption is called like its photo and ends in .txt."""


class CheckRequest(StrictModel):
    """Body of ``POST /checks``."""

    photos: tuple[SentPhoto, ...] = ()
    """The files, each uploaded before; none are needed where ``edits`` names a check."""
    subject: str = CheckConfig.model_fields["subject"].default
    """Name of the subject, for titles."""
    class_noun: str = CheckConfig.model_fields["class_noun"].default
    """What the subject is: woman, man, dog, teapot."""
    edits: str = ""
    """Id of a check whose photos come first, as it kept them; what the body leaves out stays as it was there."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """More settings of the check by name."""
    key: str | None = None
    """The same key with the same request is the same job."""


def add_routes(app: FastAPI, session_of: SessionOf, settings: Settings) -> None:
    """Add the routes to the app; every one sees only what belongs to the owner of its request."""
    uploads = Uploads(settings)

    @app.exception_handler(StudioError)
    async def refused(_: Request, error: StudioError) -> JSONResponse:
        found = [asdict(problem) for problem in error.problems]
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        return JSONResponse({"error": str(error), "problems": found}, status_code=error.status, headers=headers)

    @app.get("/uploads")
    def held(request: Request) -> dict[str, Any]:
        return {"held": uploads.held(session_of(request).owner)}

    @app.put("/uploads/{sha256}")
    async def upload(request: Request, sha256: str) -> JSONResponse:
        owner = session_of(request).owner
        data = await request.body()
        new = await run_in_threadpool(uploads.put, owner, sha256, data)
        return JSONResponse({"sha256": sha256, "bytes": len(data)}, status_code=201 if new else 200)

    @app.post("/checks")
    async def check(request: Request) -> dict[str, Any]:
        try:
            body = CheckRequest.parse(await request.json())
        except ValueError:
            raise InputError.of([Problem("body", "is not JSON", "send a JSON object", "not_json")]) from None
        return await run_in_threadpool(_check, session_of(request), uploads, body)

    @app.get("/files/{job_id}")
    def job_files(request: Request, job_id: str) -> dict[str, Any]:
        return manifest(session_of(request), job_id)

    @app.get("/hearts/{job_id}")
    def hearts(request: Request, job_id: str) -> FileResponse:
        return _hearts(session_of(request), job_id)

    @app.get("/files/{job_id}/{relative:path}")
    def job_file(request: Request, job_id: str, relative: str, small: bool = False) -> FileResponse:
        return _job_file(session_of(request), job_id, relative, small=small)


class Uploads:
    """Files by their SHA-256, apart for each owner, until a check takes them.

    Args:
        settings: of the installation.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.home.expanduser().absolute() / UPLOADS_NAME
        self._most = settings.max_photos * _UPLOADS_PER_PHOTO
        self._max_bytes = settings.max_upload_bytes

    def held(self, owner: str) -> list[str]:
        """Return the digests of the files that are here; those that no check took for a day are deleted first."""
        oldest_s = time.time() - UPLOAD_LIFE_S
        found = []
        for path in self._files(owner):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()
                elif _SHA256.fullmatch(path.name):
                    found.append(path.name)
        return sorted(found)

    def put(self, owner: str, sha256: str, data: bytes) -> bool:
        """Keep a file on the disk for good; returns False if it was there.

        Raises:
            InputError: the bytes have another digest, or are too many.
            ConflictError: the owner has as many waiting uploads as one check takes.
            ResourceError: the disk is full.
        """
        if not _SHA256.fullmatch(sha256) or hashlib.sha256(data).hexdigest() != sha256:
            problem = Problem("sha256", "is not the SHA-256 of the bytes that arrived", "send the file again", "digest")
            raise InputError.of([problem])
        if len(data) > self._max_bytes:
            cure = f"send at most {self._max_bytes} bytes"
            raise InputError.of([Problem(sha256, "is too large", cure, "too_large")])
        held = self.held(owner)
        if sha256 in held:
            return False
        if len(held) >= self._most:
            raise ConflictError(f"{len(held)} files wait for a check already; start it, or wait a day.")
        with intake.disk_errors():
            self._of(owner).mkdir(mode=0o700, parents=True, exist_ok=True)
            write_bytes(self._of(owner) / sha256, data, shared=True)
        return True

    @contextlib.contextmanager
    def named(self, owner: str, photos: tuple[SentPhoto, ...]) -> Any:
        """Yield the paths of uploaded files under the names that they go by.

        Raises:
            ConflictError: some are not here; each is named.
        """
        held = set(self.held(owner))
        cure = "send it with PUT /uploads/SHA256"
        missing = [
            Problem(photo.sha256, f"({photo.name}) is not here", cure, "not_uploaded")
            for photo in photos
            if photo.sha256 not in held
        ]
        if missing:
            raise ConflictError.of(missing)
        with self.stage(owner) as stage:
            paths = []
            for number, photo in enumerate(photos):
                path = stage / str(number) / intake.safe_name(photo.name)
                with intake.disk_errors():
                    path.parent.mkdir(mode=0o700)
                    shutil.copyfile(self._of(owner) / photo.sha256, path)
                paths.append(path)
            yield paths

    @contextlib.contextmanager
    def stage(self, owner: str) -> Iterator[Path]:
        """Yield an empty folder of the owner's, for files on their way into a job; it is deleted afterwards.

        Raises:
            ResourceError: the disk is full.
        """
        stage = self._of(owner) / f".check-{secrets.token_hex(8)}"  # the name that the sweep of uploads knows
        try:
            with intake.disk_errors():
                stage.mkdir(mode=0o700, parents=True)
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def drop(self, owner: str, photos: tuple[SentPhoto, ...]) -> None:
        """Delete uploads that a check has taken over."""
        for photo in photos:
            (self._of(owner) / photo.sha256).unlink(missing_ok=True)

    def _of(self, owner: str) -> Path:
        return self._folder / owner_digest(owner)

    def _files(self, owner: str) -> list[Path]:
        folder = self._of(owner)
        return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _check(session: StudioSession, uploads: Uploads, body: CheckRequest) -> dict[str, Any]:
    own = {"subject": body.subject, "class_noun": body.class_noun}
    if body.edits:
        own = {name: value for name, value in own.items() if name in body.model_fields_set}
    with uploads.named(session.owner, body.photos) as paths:
        job = session.submit_check(paths, {**body.settings, **own}, key=body.key, edits=body.edits or None)
    uploads.drop(session.owner, body.photos)
    return asdict(job)


def manifest(session: StudioSession, job_id: str) -> dict[str, Any]:
    """Return the files of a job with their sizes and digests, none until it is completed; raises NotFoundError."""
    job = session.studio.get(job_id, owner=session.owner)
    rows = []
    if job.state == "completed":
        folder = session.studio.out_dir(job.id, owner=session.owner)
        for relative in home_files(job, folder):
            away = evicted(folder / relative)  # known without fetching it
            if away is not None:
                rows.append({"path": relative, "bytes": away.bytes, "sha256": away.sha256})
            elif (path := session.out_file(job.id, relative)) is not None:
                rows.append({"path": relative, "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    return {"job": job.id, "kind": job.kind, "state": job.state, "files": rows}


def _hearts(session: StudioSession, job_id: str) -> FileResponse:
    """Return a zip of the pictures with a heart of one of the owner's jobs."""
    path = zip_of(session, job_id)
    if path is None:
        raise HTTPException(404, "No picture of this job has a heart.")
    return FileResponse(path, media_type="application/zip", filename="hearts.zip", headers=_CHANGES)


def _is_named(session: StudioSession, job_id: str, relative: str) -> bool:
    """Tell whether the result of a completed job names the file."""
    job = session.studio.get(job_id, owner=session.owner)
    return job.state == "completed" and relative in home_files(job, session.studio.out_dir(job.id, owner=session.owner))


def _job_file(session: StudioSession, job_id: str, relative: str, *, small: bool = False) -> FileResponse:
    """Return one file of one of the owner's jobs, ``small`` a picture's thumbnail.

    Every reason to refuse looks the same from outside.
    """
    missing = HTTPException(404, "There is no such file.")
    try:
        path = session.out_file(job_id, relative)
    except (UnavailableError, ResourceError):  # of an own file, which cannot be fetched now
        raise
    except (StudioError, OSError, ValueError):
        raise missing from None
    if path is None or (path.suffix not in _SERVED and not _is_named(session, job_id, relative)):
        raise missing
    if small and path.suffix in PICTURES:
        path = thumbnail_of(session, job_id, path) or path
    media_type, disposition = _SERVED.get(path.suffix, _PLAIN_BYTES)
    return FileResponse(
        path,
        media_type=media_type,
        content_disposition_type=disposition,
        filename=path.name,
        headers={"Cache-Control": "private, max-age=60"},
    )
