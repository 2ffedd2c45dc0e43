"""The result cache as one generation run uses it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import diffusers
import torch
from PIL import Image as PILImage

from studio.bases.resolve import resolve_base
from studio.compute.device import pick_device, pick_dtype
from studio.core.adapters import AdapterInfo
from studio.core.config import GenerateConfig
from studio.core.progress import ProgressReporter
from studio.core.settings import load_settings
from studio.pictures.picture_cache import PictureCache, folder_digest, key_of, open_cache, packed, unpacked
from studio.pictures.request import PlannedPicture


class RunResults:
    """The result cache as one run sees it; where it cannot be reached, the run goes on without."""

    def __init__(self, cache: PictureCache | None, facts: Mapping[str, Any], reporter: ProgressReporter):
        self._cache, self._facts, self._reporter = cache, facts, reporter

    def get(self, item: PlannedPicture) -> tuple[PILImage.Image, str] | None:
        """Return the picture and the name of its sampler."""
        if self._cache is None:
            return None
        try:
            value = self._cache.get(self._key(item))
        except OSError as error:
            self._give_up(error)
            return None
        found = unpacked(value, item.picture_request.size_hw) if value is not None else None
        return (found[0], str(found[1].get("sampler"))) if found is not None else None

    def put(self, item: PlannedPicture, picture: PILImage.Image, sampler: str) -> None:
        """Store a picture; a cache that fails is not used again in this run."""
        if self._cache is None:
            return
        try:
            self._cache.put(self._key(item), packed(picture, {"sampler": sampler}))
        except OSError as error:
            self._give_up(error)

    def _key(self, item: PlannedPicture) -> str:
        # Not how many pictures shared the pass, although that moves last bits: a shot of a pack, asked for again by
        # itself, is the picture that is there.
        return key_of(self._facts["adapter_sha256"], {**self._facts, **asdict(item.picture_request)})

    def _give_up(self, error: OSError) -> None:
        text = f"the result cache cannot be used ({type(error).__name__}: {error}), so all pictures are made anew"
        self._reporter.warn(text)
        self._cache = None


@contextmanager
def open_results(
    config: GenerateConfig,
    info: AdapterInfo,
    sha256: str | None,
    needed: bool,
    reporter: ProgressReporter,
) -> Iterator[RunResults]:
    """Open the result cache for one run; pictures without an adapter are not kept: nobody could forget them."""
    settings = load_settings()
    cache = open_cache(settings) if config.use_cache and needed and sha256 else None
    facts: dict[str, Any] = {}
    if cache is not None:
        device = pick_device(settings.device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        facts = {
            "version": 2,  # 1 cut long prompts
            "base": info.base if info.revision else folder_digest(resolve_base(info.base).folder),
            "revision": info.revision,
            "adapter_sha256": sha256,
            "adapter_scale": config.adapter_scale,
            # What computes decides the last bits.
            "device": device.type,
            "device_name": name,
            "dtype": str(pick_dtype("auto", device)),
            "threads": settings.threads or torch.get_num_threads(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }
    try:
        yield RunResults(cache, facts, reporter)
    finally:
        if cache is not None:
            cache.close()
