"""A photo set that is edited: a new check of the photos that an earlier one has kept, and of what is added.

Only the earlier job's own folder is read: the uploads may be gone by then.
"""

import json
from pathlib import Path

from studio.core.config import CheckConfig
from studio.core.errors import ConflictError, NotFoundError
from studio.jobs.child import OUT_FOLDER, REQUEST_FILE
from studio.jobs.intake import Upload, safe_name


def originals_of(job_dir: Path) -> list[Upload]:
    """Return the photos that a check has kept, under the names of its verdicts, and the captions beside them.

    Raises:
        ConflictError: it has kept none: it is not finished, or is of an older version.
    """
    out_dir = job_dir / OUT_FOLDER
    try:
        verdicts = json.loads((out_dir / "dataset.json").read_text(encoding="utf-8"))["verdicts"]
    except (OSError, ValueError, KeyError):
        verdicts = []
    uploads: list[Upload] = []
    for verdict in verdicts:
        path = out_dir / str(verdict.get("original"))
        if path.is_file():
            name = safe_name(verdict["name"])
            uploads.append(Upload(path, name))
            caption = path.with_suffix(".txt")
            uploads += [Upload(caption, f"{name}.txt")] if caption.is_file() else []
    if not uploads:
        raise ConflictError("this photo set keeps no photos to edit; drop the photos and check them again.")
    return uploads


def settings_of(job_dir: Path) -> CheckConfig:
    """Return the settings of a check job, without edits of photos that it has not kept.

    Raises: as ``originals_of``, and NotFoundError: its request is gone.
    """
    names = {upload.name for upload in originals_of(job_dir)}
    try:
        config = json.loads((job_dir / REQUEST_FILE).read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError):
        raise NotFoundError("the settings of this photo set are gone; check the photos again.") from None
    for edit in ("exclude", "force"):
        config[edit] = [name for name in config.get(edit, ()) if name in names]
    for edit in ("captions", "crops"):
        config[edit] = {name: value for name, value in config.get(edit, {}).items() if name in names}
    return CheckConfig.parse(config)
