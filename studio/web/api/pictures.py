"""Pictures in requests and answers: by the digest of an upload, or as base64 in the JSON itself."""

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from studio.core.errors import InputError, Problem
from studio.core.files import write_bytes
from studio.core.strict import StrictModel
from studio.core.units import bytes_text
from studio.imaging import sniff
from studio.jobs import intake
from studio.web.routes import SentPhoto, Uploads

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.-]+)*;base64,", re.ASCII)
_WHITE = re.compile(r"\s+")


class SentFile(StrictModel):
    """One file of a request: an upload by its SHA-256, or the file itself in base64."""

    name: Annotated[str, Field(min_length=1, max_length=300)]
    """What verdicts and results call it; a caption is called like its photo and ends in .txt."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of its bytes, hexadecimal, if it was sent before with PUT /uploads/{sha256}."""
    data: str | None = None
    """Its bytes in base64, also as a data URL; all of a request together at most STUDIO_MAX_UPLOAD_BYTES."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.sha256 is None) == (self.data is None):
            raise ValueError("give either sha256 or data, exactly one of them")
        return self


def from_base64(text: str, where: str, max_bytes: int) -> bytes:
    """Return the bytes of a base64 text or a data URL.

    Args:
        text: the text; white space in it does not count.
        where: name of the parameter, for the refusal.
        max_bytes: most bytes.

    Raises:
        InputError: it is no base64, empty or too large.
    """
    begin = _DATA_URL.match(text[:200])
    text = text[begin.end() :] if begin else text
    try:
        data = base64.b64decode(_WHITE.sub("", text), validate=True)
    except ValueError:
        data = b""
    if not data:
        cure = "send the bytes of the file in base64"
        raise InputError.of([Problem(where, "is not base64", cure, "not_base64")])
    if len(data) > max_bytes:
        cure = "use a smaller version"
        raise InputError.of([Problem(where, f"is larger than {bytes_text(max_bytes)}", cure, "too_large")])
    return data


def picture_from_base64(text: str, where: str, max_bytes: int) -> bytes:
    """Return the bytes of a picture; raises as ``from_base64``, and InputError for a file that begins like none."""
    data = from_base64(text, where, max_bytes)
    if not sniff.is_photo(data[: sniff.HEAD_BYTES]):
        cure = "send a JPEG, PNG, WebP, HEIC or AVIF"
        raise InputError.of([Problem(where, "is not a picture that can be read", cure, "not_a_picture")])
    return data


@contextmanager
def staged(uploads: Uploads, owner: str, files: Sequence[tuple[str, bytes]]) -> Iterator[list[Path]]:
    """Yield the paths of files, given as name and bytes, for as long as a job takes them over.

    Raises:
        ResourceError: the disk is full.
    """
    with uploads.stage(owner) as stage:
        paths = []
        for number, (name, data) in enumerate(files):
            path = stage / str(number) / intake.safe_name(name)
            with intake.disk_errors():
                path.parent.mkdir(mode=0o700)
                write_bytes(path, data, durable=False)  # the job makes its own copy last
            paths.append(path)
        yield paths


@contextmanager
def taken(uploads: Uploads, owner: str, files: Sequence[SentFile], where: str, max_bytes: int) -> Iterator[list[Path]]:
    """Yield the paths of the files of a request in their order; uploads among them are gone afterwards.

    Raises:
        InputError: data that is no base64, each named. ConflictError: uploads that are not here.
        ResourceError: the disk is full.
    """
    problems: list[Problem] = []
    data: dict[int, bytes] = {}
    for number, file in enumerate(files):
        if file.data is not None:
            try:
                data[number] = from_base64(file.data, f"{where}.{number}.data", max_bytes)
            except InputError as error:
                problems += error.problems
    if problems:
        raise InputError.of(problems)
    sent = tuple(SentPhoto(sha256=file.sha256, name=file.name) for file in files if file.sha256 is not None)
    inline = [(files[number].name, content) for number, content in data.items()]
    with uploads.named(owner, sent) as named, staged(uploads, owner, inline) as written:
        by_kind = {True: iter(written), False: iter(named)}
        yield [next(by_kind[number in data]) for number in range(len(files))]
    uploads.drop(owner, sent)


def as_base64(path: Path) -> str:
    """Return a file in base64."""
    return base64.b64encode(path.read_bytes()).decode()
