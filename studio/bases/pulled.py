"""Copies of published adapters that were downloaded to draw with them, and how they are forgotten.

``studio.jobs.forget`` calls this by its name. Repositories are told by digests, so that whoever goes on after a kill
needs no list of names.
"""

from collections.abc import Collection

from studio.bases.local import commits_file, open_cache
from studio.core.files import read_json, write_json
from studio.core.private import name_digest
from studio.core.settings import Settings

_ADAPTER = "adapter--"


def forget(settings: Settings, repos: Collection[str], *, dry_run: bool = False) -> tuple[int, int]:
    """Delete the copies of adapters, and the notes on them.

    Args:
        settings: where the cache is.
        repos: ``name_digest`` of each repository's ``owner/name``.
        dry_run: only count.

    Returns:
        How many files and bytes that are.

    Raises:
        OSError: an adapter is in use.
    """
    files = taken = 0
    cache = open_cache(settings)
    for key, folder in cache.entries().items() if repos else ():
        # Neither an owner nor a name on the Hub holds two hyphens in a row.
        repo = "/".join(key.removeprefix(_ADAPTER).split("--")[:2])
        if key.startswith(_ADAPTER) and name_digest(repo) in repos:
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            files, taken = files + len(sizes), taken + sum(sizes)
            if not dry_run:
                cache.erase(key)
    notes = read_json(commits_file(settings))
    if isinstance(notes, dict) and not dry_run:
        kept = {name: commit for name, commit in notes.items() if name_digest(name.partition("@")[0]) not in repos}
        if kept != notes:
            write_json(commits_file(settings), kept, shared=True)
    return files, taken
