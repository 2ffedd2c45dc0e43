"""Matting with rembg's sessions: its preparation of the picture, its models, on a file that we have verified.

rembg's own default model has a non-commercial licence and two of its sessions send the picture to a paid service, so
a model is always named and always one of our catalog. rembg never downloads anything here.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from studio.core.errors import MissingExtraError


class RembgMatting:
    """One model, loaded.

    Args:
        name: rembg's name of the model.
        weights: its ONNX file.
        threads: CPU threads; None leaves onnxruntime's own choice.

    Raises:
        MissingExtraError: rembg or onnxruntime is not installed.
    """

    def __init__(self, name: str, weights: Path, *, threads: int | None = None) -> None:
        self.name = name
        try:
            import onnxruntime

            kind = _session_classes()[name]
        except ImportError as error:
            raise MissingExtraError(
                f"the Python package {error.name or 'rembg'!r} is not installed; install requirements.txt."
            ) from error
        # The only place where a session asks for its file: without this, rembg would look for it and download it.
        ours = type(kind.__name__, (kind,), {"download_models": classmethod(lambda cls, *_, **__: str(weights))})
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Like OpenMP's, its threads spin while they wait: twice the work beside another program, and no faster alone.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        available = set(onnxruntime.get_available_providers())
        providers = [one for one in ("CUDAExecutionProvider", "CPUExecutionProvider") if one in available]
        self._session: Any = ours(name, options, providers=providers)

    def matte(self, picture: Image.Image) -> NDArray[np.float32]:
        """Return the matte of an RGB picture of any size, ``(H, W)`` in [0, 1]; 1 is subject."""
        with np.errstate(invalid="ignore", divide="ignore"):  # a picture of one colour has no range to stretch
            masks = self._session.predict(picture)
        whole = masks[0]
        for mask in masks[1:]:  # the clothes model answers with one mask per kind of garment
            whole = ImageChops.lighter(whole, mask)
        return np.asarray(whole).astype(np.float32) / np.float32(255)


def _session_classes() -> dict[str, Any]:
    """Return rembg's sessions by name.

    ``import rembg`` itself would import pymatting, which compiles itself for a minute at first use; the sessions need
    nothing of it. So they are imported below a package that was found but not run, which is taken away again.
    """
    if "rembg" in sys.modules:
        return importlib.import_module("rembg.sessions").sessions
    spec = importlib.util.find_spec("rembg")
    if spec is None:
        raise ModuleNotFoundError("rembg is not installed", name="rembg")
    sys.modules["rembg"] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module("rembg.sessions").sessions
    finally:
        del sys.modules["rembg"]
