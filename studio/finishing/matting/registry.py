"""Matting models by name."""

from pathlib import Path

from studio.bases.weight_files import OnBytes, resolve
from studio.finishing.matting.base import Matting
from studio.finishing.matting.rembg import RembgMatting


def open_matter(
    name: str, home: Path, *, threads: int | None = None, on_bytes: OnBytes = lambda done, total: None
) -> Matting:
    """Load a matting model, fetching its weights if need be.

    Args:
        name: of ``studio.core.finish_config.MattingModel``.
        home: the studio's home, where weights are kept.
        threads: CPU threads; None leaves the engine's own choice.
        on_bytes: told while weights are fetched.

    Raises:
        NotFoundError: no such model. MissingExtraError: its weights or rembg are not here and cannot be had.
    """
    return RembgMatting(name, resolve(name, home, on_bytes=on_bytes).path, threads=threads)
