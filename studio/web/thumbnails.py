"""Small copies of the pictures that a job made: made once, when somebody first looks at them.

They keep the mark of generated pictures, and are not signed: who looks waits for no time stamping service, and where
one is out of reach or a certificate has ended, pictures are still shown.

They lie in the job's own folder, so that whatever deletes a job deletes them; the backup leaves them out, as it does
all that is hidden. Called by ``studio.web.routes``.
"""

import hashlib
import io
from pathlib import Path

from studio.core.errors import InputError
from studio.core.files import write_bytes
from studio.imaging.apart import decode_bytes, is_generated
from studio.imaging.decode import read_photo
from studio.imaging.provenance import save_unsigned
from studio.web.session import StudioSession

THUMBNAIL_PX = 256
"""Longer side of a thumbnail."""
PICTURES = frozenset({".png", ".jpg", ".webp"})
"""Endings of the files that have one."""
_FOLDER = ".thumbnails"


def thumbnail_of(session: StudioSession, job_id: str, picture: Path) -> Path | None:
    """Return a picture of a job as a small WebP file; None if it cannot be read or the job's folder is gone.

    Like every picture it is decoded in a process of its own: it may have come from another machine.

    Args:
        session: of the owner.
        job_id: the job that made the picture.
        picture: as ``StudioSession.out_file`` gives it.
    """
    folder = session.studio.out_dir(job_id, owner=session.owner).parent / _FOLDER
    try:
        stat = picture.stat()
        key = f"{picture}/{stat.st_mtime_ns}/{stat.st_size}"
        small = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.webp"
        if not small.exists():
            folder.mkdir(exist_ok=True)  # not the job's own folder: it may be going just now
            write_bytes(small, _small(picture), durable=False)
    except (OSError, InputError):
        return None
    return small


def _small(path: Path) -> bytes:
    original = read_photo(path)
    picture = decode_bytes(original, path.name, at_least_px=THUMBNAIL_PX, keep_alpha=True).picture
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    data = io.BytesIO()
    save_unsigned(picture, data, "WEBP", generated=is_generated(original), quality=80)
    return data.getvalue()
