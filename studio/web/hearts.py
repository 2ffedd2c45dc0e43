"""The pictures of a job that have a heart: which they are, and all of them as one zip, made when somebody asks for it.

Like thumbnails the zip lies in the job's own folder, hidden: whatever deletes a job deletes it, and the backup leaves
it out. Called by ``studio.web.routes`` and the page.
"""

import hashlib
import json
from pathlib import Path

from studio.core.domain import JobView
from studio.core.files import write_zip
from studio.web.session import StudioSession

_FOLDER = ".hearts"


def hearted(job: JobView) -> list[str]:
    """Return the pictures of a job that are kept and have a heart, by their ``file``, the best first."""
    made = [str(image["file"]) for image in (job.result or {}).get("images", ())] if job.result else list(job.hearts)
    return [file for file in made if file in job.hearts]


def zip_of(session: StudioSession, job_id: str) -> Path | None:
    """Return a zip of a job's pictures with a heart; None where there are none.

    Raises:
        NotFoundError: the owner has no such job. OSError: the disk is full.
    """
    job = session.studio.get(job_id, owner=session.owner)
    members = [(file, path) for file in hearted(job) if (path := session.out_file(job.id, file)) is not None]
    if not members:
        return None
    folder = session.studio.out_dir(job.id, owner=session.owner).parent / _FOLDER
    files = sorted(file for file, _ in members)
    archive = folder / f"{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:32]}.zip"
    if not archive.exists():
        folder.mkdir(exist_ok=True)
        write_zip(archive, sorted(members))
        for older in folder.glob("*.zip"):
            if older != archive:
                older.unlink(missing_ok=True)
    return archive
