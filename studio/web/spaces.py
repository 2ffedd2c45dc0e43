"""Spaces on the Hugging Face Hub: what would be pushed, as a local folder, and the push itself.

``python -m studio space build NAME --out DIR`` and ``space push NAME --repo ID``. A Space is the studio as it stands
in this checkout, its presets and app.py, a README with front matter (``spaces/NAME``, which may bring an app.py of its
own) and exact requirements.
"""

import re
import shutil
import tempfile
from pathlib import Path

from studio.core.errors import InputError, NotFoundError, Problem, ResourceError, StudioError
from studio.core.files import full_disk_in_words, is_disk_full
from studio.core.folder import require_free, swap
from studio.core.settings import PROJECT_ROOT, SHIPPED_ROOT

SPACES_DIR = SHIPPED_ROOT / "spaces"
_SHIPPED = ("studio", "presets", "app.py", "LICENSE")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "shipped", "*.pyc", ".*", "Thumbs.db", "desktop.ini")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?P<extras>\[[^\]]*\])?")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]{0,95}")


def names() -> list[str]:
    """Return the names of the Spaces that can be built."""
    return sorted(path.parent.name for path in SPACES_DIR.glob("*/README.md"))


@full_disk_in_words()
def build(name: str, out: Path) -> list[str]:
    """Write exactly what a push would send.

    Args:
        name: one of ``names()``.
        out: created; may be there if it is empty.

    Returns:
        The files, relative to ``out``, sorted.

    Raises:
        NotFoundError: no such Space. ConflictError: ``out`` holds something.
    """
    if name not in names():
        raise NotFoundError(f"there is no Space {name!r}; use one of: {', '.join(names())}.")
    require_free(out)
    part = out.resolve().with_name(f".{out.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for item in _SHIPPED:
            source = (PROJECT_ROOT if item == "studio" else SHIPPED_ROOT) / item
            if source.is_dir():
                shutil.copytree(source, part / item, ignore=_LEFT_OUT)
            else:
                shutil.copy2(source, part / item)
        shutil.copytree(SPACES_DIR / name, part, ignore=_LEFT_OUT, dirs_exist_ok=True)
        (part / "requirements.txt").write_text("\n".join(pinned(name)) + "\n", encoding="utf-8")
        swap(part, out.resolve())
    except OSError as error:
        if is_disk_full(error):
            raise
        raise ResourceError(f"{out} cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def pinned(name: str) -> list[str]:
    """Return a Space's requirements at exact versions; its build reads no constraints.

    They are the versions that the tests ran with, except where ``spaces/NAME/requirements.txt`` pins another one; what
    else that file names comes on top.
    """
    exact = dict(line.split("==") for line in _lines(SHIPPED_ROOT / "constraints.txt"))
    own = dict(line.split("==") for line in _lines(SPACES_DIR / name / "requirements.txt"))
    found = []
    for line in _lines(SHIPPED_ROOT / "requirements.txt"):
        match = _REQUIREMENT.match(line)
        assert match is not None, line
        package = match["name"].lower()
        found.append(f"{match['name']}{match['extras'] or ''}=={own.pop(package, None) or exact[package]}")
    return found + [f"{package}=={version}" for package, version in own.items()]


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [text for line in lines if (text := line.partition("#")[0].strip())]


def push(name: str, repo_id: str, *, private: bool = True) -> str:
    """Build a Space and push it in one commit; files there that do not belong to it any more are deleted.

    Args:
        name: one of ``names()``.
        repo_id: ``owner/name`` on the Hub; made if it is not there.
        private: of a Space that is made now; one that is there keeps its visibility.

    Returns:
        Its address.

    Raises:
        InputError: the id is none, or the Hub refuses (no token, no right to write). NotFoundError: no such Space.
        ResourceError: the Hub cannot be reached.
    """
    if not _REPO_ID.fullmatch(repo_id):
        raise InputError.of([Problem("--repo", f"{repo_id!r} is no id", "write it like ada/likeness-studio", "bad_id")])
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "space"
        build(name, built)
        api = HfApi()
        try:
            address = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                repo_type="space",
                folder_path=built,
                commit_message=f"Likeness Studio, Space {name}",
                delete_patterns="*",
            )
        except (HfHubHTTPError, LocalTokenNotFoundError) as error:
            raise _refused(error) from None
        except (OfflineModeIsEnabled, OSError) as error:
            raise ResourceError(f"the Hub cannot be reached ({type(error).__name__}); try again later.") from None
    return str(address)


def _refused(error: Exception) -> StudioError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None and status >= 500:
        return ResourceError(f"the Hub could not do it (status {status}); try again later.")
    cure = "log in with `hf auth login` and a token that may write, and check the id"
    words = "needs a token" if status is None else f"was refused by the Hub (status {status})"
    return InputError.of([Problem("--repo", words, cure, "refused")])
