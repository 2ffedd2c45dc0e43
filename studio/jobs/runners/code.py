"""The studio's own code as one archive, for machines that have nothing of it."""

import hashlib
import io
import tarfile
from pathlib import Path

from studio.core.folder import is_clutter
from studio.core.settings import PROJECT_ROOT, SHIPPED_ROOT


def code_archive() -> tuple[bytes, str]:
    """Return the code as a gzipped tar archive, and what stands for its content."""
    digest = hashlib.sha256()
    # Most of it are weights, which hardly shrink.
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as archive:
        for root, names in ((PROJECT_ROOT, ("studio",)), (SHIPPED_ROOT, ("presets", "requirements.txt"))):
            for name in names:
                for path in _files(root / name):
                    relative = path.relative_to(root).as_posix()
                    content = path.read_bytes()
                    digest.update(f"{relative}\0{len(content)}\0".encode() + content)
                    entry = tarfile.TarInfo(relative)
                    entry.size, entry.mode = len(content), 0o600
                    archive.addfile(entry, io.BytesIO(content))
    return data.getvalue(), digest.hexdigest()[:16]


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = (path for path in place.rglob("*") if path.is_file() and not is_clutter(path))
    return sorted(path for path in found if "__pycache__" not in path.parts and "shipped" not in path.parts)
