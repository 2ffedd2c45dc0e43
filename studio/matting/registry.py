"""Matting models by name."""

from pathlib import Path

from studio.matting.base import Matter
from studio.matting.rembg import RembgMatter
from studio.weight_files import OnBytes, resolve


def open_matter(
    name: str, home: Path, *, threads: int | None = None, on_bytes: OnBytes = lambda done, total: None
) -> Matter:
    """Load a matting model, fetching its weights if need be.

    Args:
        name: of ``studio.config.MattingModel``.
        home: the studio's home, where weights are kept.
        threads: CPU threads; None leaves the engine's own choice.
        on_bytes: told while weights are fetched.

    Raises:
        NotFoundError: no such model. MissingExtraError: its weights or rembg are not here and cannot be had.
    """
    return RembgMatter(name, resolve(name, home, on_bytes=on_bytes).path, threads=threads)
