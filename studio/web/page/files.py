"""Files of the page: links to a job's files, copies for Gradio's viewers, uploads and their removal."""

import base64
import contextlib
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageFont

from studio.core.errors import InputError
from studio.imaging.apart import decode
from studio.web.page.parts import Url
from studio.web.page.visitors import upload_folder
from studio.web.session import StudioSession
from studio.web.thumbnails import THUMBNAIL_PX

_LETTER, _LETTER_BACK = "#faf9f7", "#807e7a"
_BOOT_SECRET = secrets.token_hex(16)


def linker(session: StudioSession, job_id: str) -> Url:
    """Return a function from a path below the job's output folder to its link; None where there is no such file."""

    def link(relative: str) -> str | None:
        if not session.has_file(job_id, relative):
            return None
        # Relative on purpose: the page may live under a prefix that only the proxy knows.
        return f"files/{quote(job_id)}/{quote(relative)}"

    return link


def served_copy(path: Path) -> str:
    """Return the path of a copy that Gradio may serve, under a name that nobody can guess.

    Gradio serves only its own folder, to everybody who has the path. A hard link takes no space; a copy is made where
    links are not possible.
    """
    stat = path.stat()
    key = f"{_BOOT_SECRET}/{path}/{stat.st_mtime_ns}/{stat.st_size}"
    copy = upload_folder() / hashlib.sha256(key.encode()).hexdigest() / path.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except FileExistsError:
            pass
        except OSError:
            shutil.copyfile(path, copy)
    return str(copy)


def initial(name: str) -> str:
    """Return the path of a plain picture with the first letter of a name, for a subject of whom there is no picture."""
    letter = name[:1].upper() or "?"
    copy = upload_folder() / hashlib.sha256(f"{_BOOT_SECRET}/initial/{letter}".encode()).hexdigest() / "initial.png"
    if not copy.exists():
        picture = Image.new("RGB", (256, 256), _LETTER_BACK)
        font = ImageFont.load_default(140)
        ImageDraw.Draw(picture).text((128, 128), letter, fill=_LETTER, font=font, anchor="mm")
        copy.parent.mkdir(parents=True, exist_ok=True)
        picture.save(copy)
    return str(copy)


def uploads(paths: Iterable[str]) -> list[Path]:
    """Return those of ``paths`` that lie in the visitor's upload folder; any other file may be somebody else's."""
    folder = upload_folder().resolve()
    return [path for path in (Path(given).resolve() for given in paths) if path.is_relative_to(folder)]


def thumbnail(path: Path) -> str | None:
    """Return a small copy of an uploaded photo as a data address; None if it cannot be decoded.

    Like every photo it is decoded in a process of its own.
    """
    try:
        picture = decode(path, at_least_px=THUMBNAIL_PX).picture
    except InputError:
        return None
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    small = io.BytesIO()
    picture.save(small, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()}"


def delete(paths: Iterable[Path]) -> None:
    """Delete Gradio's copies of uploads that the studio has taken over."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()
