"""A base that stays loaded while adapters come and go, without a trace of those before.

Fusing adds an update to the base's weights, and taking it off by subtraction would leave rounding behind. So the
weights that an adapter touches are kept and put back, and the words that it teaches the tokenizer go with a copy of it.
One process draws many subjects this way, and jobs one after another (``studio.pictures.warm``).
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from studio.compute.device import Placement
from studio.core.adapters import AdapterInfo
from studio.core.errors import InputError, Problem
from studio.methods import registry as methods
from studio.methods import tokens
from studio.pictures.render import load_adapter, load_pipeline, unusable_adapter


class AdapterSwapper:
    """One base, loaded once.

    Args:
        base: a name from the catalog, a local diffusers folder, or a Hub id; or the pipeline of one that is loaded
            without an adapter, all of it on the device.
        revision: of a base from the Hub.

    Raises: as ``studio.pictures.render.load_pipeline``.
    """

    def __init__(self, base: Any, revision: str | None = None) -> None:
        self.pipeline: Any = load_pipeline(base, revision) if isinstance(base, str) else base
        """For ``render_prompts``; it is the same object under every adapter."""
        self._take_out: Callable[[], None] = _nothing

    def use_adapter(self, folder: Path | None, *, scale: float = 1.0) -> None:
        """Exchange the adapter.

        Args:
            folder: what ``train`` wrote, ``run/adapter`` or a checkpoint; None draws as the untrained base.
            scale: strength, > 0; 1 is as trained.

        Raises:
            InputError: the weights are damaged or do not fit this base; no adapter is loaded then.
        """
        take_out, self._take_out = self._take_out, _nothing
        take_out()
        if folder is not None:
            self._take_out = swap_in(self.pipeline, folder, scale)


class AdapterSwappers:
    """Several bases that stay loaded side by side, for ``generate(..., opener=residents.open)``."""

    def __init__(self) -> None:
        self._by_name: dict[str, AdapterSwapper] = {}

    def load(self, base: str) -> None:
        """Load one more.

        Args:
            base: a name from the catalog, or a Hub id.

        Raises: as ``studio.pictures.render.load_pipeline``.
        """
        self._by_name[base] = AdapterSwapper(base)

    @property
    def names(self) -> tuple[str, ...]:
        """What is loaded."""
        return tuple(self._by_name)

    def require(self, info: AdapterInfo) -> None:
        """Refuse an adapter of another base.

        Raises:
            InputError: its base is not among those that are loaded.
        """
        if info.base not in self._by_name:
            cure = f"use one that was trained on {' or '.join(self.names)}, or a studio that has its base"
            raise InputError.of([Problem("adapter", f"was trained on {info.base}", cure, "other_base")])

    def open(self, info: AdapterInfo, adapter: Path | None, scale: float) -> tuple[Any, Placement]:
        """Put an adapter into its base in the place of the one before; an ``Opener``.

        A base is here in one revision, the newest when it was loaded, whatever the adapter was trained on.

        Raises:
            InputError: its base is not loaded, or its weights do not fit.
        """
        self.require(info)
        resident = self._by_name[info.base]
        resident.use_adapter(adapter, scale=scale)
        return resident.pipeline, "device"


def swap_in(pipeline: Any, folder: Path, scale: float = 1.0) -> Callable[[], None]:
    """Put an adapter of any method into a pipeline, fused, and return a function that takes it out again, bit for bit.

    Args:
        pipeline: of the adapter's base; no other adapter is loaded.
        folder: what ``train`` wrote: ``run/adapter`` or a checkpoint.
        scale: strength, > 0; 1 is as trained.

    Returns:
        What takes the adapter out. Until then the weights that it touches are there twice.

    Raises:
        InputError: the weights are damaged or do not fit this base; the pipeline is as it was.
    """
    try:
        method = methods.method_of(folder)
        touched = method.touched(pipeline, folder)
        forget = _words(pipeline, folder)
    except (OSError, ValueError, KeyError, SafetensorError, InputError) as error:
        raise unusable_adapter(folder, error) from error
    kept = [parameter.detach().clone() for parameter in touched]

    def take_out() -> None:
        method.remove(pipeline)
        with torch.no_grad():
            for parameter, before in zip(touched, kept, strict=True):
                parameter.copy_(before)
        forget()

    try:
        load_adapter(pipeline, folder, scale=scale)
    except BaseException:
        take_out()
        raise
    return take_out


def _nothing() -> None:
    """Take out what was never put in."""


def _words(pipeline: Any, folder: Path) -> Callable[[], None]:
    """Return what takes the adapter's instance token out of tokenizers and text encoders again."""
    before = {
        name: (
            copy.deepcopy(getattr(pipeline, name.replace("text_encoder", "tokenizer"))),
            getattr(pipeline, name).get_input_embeddings().num_embeddings,
        )
        for name in tokens.encoders(pipeline, folder)
    }

    def forget() -> None:
        for name, (tokenizer, rows) in before.items():
            pipeline.register_modules(**{name.replace("text_encoder", "tokenizer"): tokenizer})
            encoder: Any = getattr(pipeline, name)
            if encoder.get_input_embeddings().num_embeddings != rows:
                encoder.resize_token_embeddings(rows)
                encoder.requires_grad_(False)

    return forget
