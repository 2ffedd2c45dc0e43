"""From a base and an adapter to pixels: loading, batching and drawing."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from safetensors import SafetensorError

from studio.bases.resolve import Base, resolve_base
from studio.compute.device import Placement, choose_placement, free_bytes, pick_device, pick_dtype
from studio.core.adapters import AdapterInfo
from studio.core.domain import ShouldStop, never_stop
from studio.core.errors import InputError, Problem, ResourceError
from studio.core.progress import PICTURES_KEPT, check_stop
from studio.core.settings import load_settings
from studio.families import registry
from studio.families.base import Conditioning
from studio.families.loading import part_bytes, place
from studio.methods import registry as methods

Shape = tuple[tuple[int, int], int, float]
"""Height and width in pixels, denoising steps, guidance scale."""


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """One picture to make; nothing else decides how it looks."""

    prompt: str
    negative_prompt: str
    seed: int
    """In [0, 2**32)."""
    size_hw: tuple[int, int]
    """Height and width, pixels."""
    num_inference_steps: int
    guidance_scale: float

    @property
    def shape(self) -> Shape:
        """What the pictures of one forward pass have in common."""
        return self.size_hw, self.num_inference_steps, self.guidance_scale


def load_pipeline(base: str, revision: str | None = None) -> Any:
    """Load a base without any adapter, ready to make pictures on the best device of this machine.

    Args:
        base: a name from the catalog, a local diffusers folder, or a Hub id.
        revision: of a base from the Hub.

    Returns:
        A DiffusionPipeline of the base's family (diffusers gives its members no types, hence Any in this file).

    Raises:
        NotFoundError: no such base.
        InputError: its files are not those of a known family.
        MissingExtraError: the base is not on this machine and cannot be fetched.
    """
    return open_pipeline(resolve_base(base, revision))[0]


def open_pipeline(base: Base, adapter: Path | None = None, *, scale: float = 1.0) -> tuple[Any, Placement]:
    """Load a base, with an adapter or without, and put it where it draws fastest: data decide, not the user.

    Args:
        base: where its files are.
        adapter: a folder as for ``load_adapter``; None leaves the base as it is.
        scale: strength of the adapter.

    Returns:
        The pipeline, and where its parts are. Only with "device" may an adapter be added later.

    Raises:
        InputError: the base's or the adapter's files cannot be used.
    """
    pipeline, placement = load_base(base)
    if adapter is not None:
        load_adapter(pipeline, adapter, scale=scale)  # faster on the device; elsewhere before parts begin to move
    if placement != "device":
        place(pipeline, pick_device(load_settings().device), placement)
    return pipeline, placement


def load_base(base: Base, make_room: Callable[[], bool] = lambda: False) -> tuple[Any, Placement]:
    """Load a base and put it on the device if all of it fits; else its parts are not placed yet.

    Args:
        base: where its files are.
        make_room: asked where it does not fit; frees some of the device's memory and says whether it could.

    Raises:
        InputError: its files cannot be used.
    """
    device = pick_device(load_settings().device)
    family = registry.family(base.family)
    # On the CPU first, where there is room, so that the sizes are known before anything is moved.
    parts = family.load(base.folder, dtype=pick_dtype("auto", device), device=torch.device("cpu"))
    pipeline: Any = family.pipeline(parts)
    while (placement := choose_placement(part_bytes(pipeline), free_bytes(device))) != "device" and make_room():
        pass
    if placement == "device":
        place(pipeline, device, placement)
    return pipeline, placement


Opener = Callable[[AdapterInfo, Path | None, float], tuple[Any, Placement]]
"""(what is known of an adapter, its folder or None for the bare base, its strength) -> as ``open_pipeline``."""


def open_base(info: AdapterInfo, adapter: Path | None, scale: float) -> tuple[Any, Placement]:
    """Load the base that an adapter was trained on, with the adapter in it; an ``Opener``."""
    return open_pipeline(resolve_base(info.base, info.revision), adapter, scale=scale)


def load_adapter(pipeline: Any, folder: Path, *, scale: float = 1.0) -> None:
    """Add an adapter of any method to a pipeline without one, fused.

    Args:
        pipeline: all on one device; it is changed.
        folder: what ``train`` wrote: ``run/adapter`` or a checkpoint.
        scale: strength, > 0; 1 is as trained. The instance token's embedding has no strength.

    Raises:
        InputError: the weights are damaged or do not fit this base.
    """
    try:
        methods.method_of(folder).read(pipeline, folder, scale)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, InputError) as error:
        raise unusable_adapter(folder, error) from error


def unusable_adapter(folder: Path, error: Exception) -> InputError:
    """Return the error for an adapter that cannot be loaded, from a library's message."""
    said = error.problems[0].message if isinstance(error, InputError) else str(error)
    reason = said.strip().splitlines()[0] if said.strip() else type(error).__name__
    return InputError.of([Problem(folder.name, f"the adapter does not load into this base ({reason})", "train again")])


def render_prompts(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    size_hw: tuple[int, int],
    num_inference_steps: int,
    guidance_scale: float,
    negative_prompt: str = "",
    batch_size: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> list[PILImage.Image]:
    """Make one picture per pair of prompt and seed; prompts are used as they are.

    Args:
        pipeline: with or without an adapter.
        prompts: N prompts.
        seeds: N seeds in [0, 2**32).
        size_hw: height and width, pixels.
        num_inference_steps: denoising steps.
        guidance_scale: up to 1 means no guidance.
        negative_prompt: what the pictures must not show.
        batch_size: pictures per forward pass; None lets the device decide.
        should_stop: asked at each denoising step.

    Returns:
        N RGB pictures, in order.

    Raises:
        JobCancelled: ``should_stop`` answered True.
        ResourceError: one picture alone does not fit into the device's memory.
    """
    picture_requests = [
        PictureRequest(prompt, negative_prompt, seed, size_hw, num_inference_steps, guidance_scale)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    made: dict[int, PILImage.Image] = {}
    for batch in render_batches(pipeline, picture_requests, batch_size=batch_size, should_stop=should_stop):
        made.update(batch)
    return [made[position] for position in range(len(picture_requests))]


def render_batches(
    pipeline: Any,
    picture_requests: Sequence[PictureRequest],
    *,
    batch_size: int | None = None,
    rows: Mapping[Shape, int] | None = None,
    should_stop: ShouldStop = never_stop,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[list[tuple[int, PILImage.Image]]]:
    """Make pictures batch by batch; a batch may hold different prompts and seeds, never different sizes.

    Args:
        pipeline: with or without an adapter.
        picture_requests: what to make.
        batch_size: pictures per forward pass; None lets the device decide.
        rows: pictures in each forward pass of a shape, where the last is filled up to: a matrix product over another
            number of rows may round otherwise, and so a picture would depend on how many were missing.
        should_stop: asked at each denoising step.
        on_step: called at each denoising step.

    Yields:
        (position in ``picture_requests``, RGB picture) of each batch, as soon as it is done.

    Raises:
        JobCancelled: ``should_stop`` answered True.
        ResourceError: one picture alone does not fit into the device's memory.
    """
    pieces, inputs = _prompt_inputs(pipeline)
    groups: dict[tuple[Shape, int], list[int]] = {}
    for position, picture_request in enumerate(picture_requests):
        # Short prompts are not filled up to long ones beside them: a picture must not depend on its company.
        groups.setdefault((picture_request.shape, pieces(picture_request)), []).append(position)
    for (shape, _), waiting in groups.items():
        size_hw = shape[0]
        size = rows[shape] if rows else batch_size or _batch_size(pipeline._execution_device, size_hw)
        while waiting:
            batch, rest = waiting[:size], waiting[size:]
            row_wishes = [picture_requests[position] for position in batch]
            if rows:
                row_wishes += row_wishes[-1:] * (size - len(batch))
            try:
                pictures = _render(pipeline, row_wishes, inputs, should_stop, on_step)
            except torch.OutOfMemoryError:
                if len(row_wishes) == 1:
                    height, width = size_hw
                    raise ResourceError(
                        f"one picture of {width} x {height} px does not fit into the device's memory; "
                        "make smaller pictures, or set STUDIO_DEVICE=cpu."
                    ) from None
                size = ceil(len(row_wishes) / 2)
                torch.cuda.empty_cache()
                continue
            yield list(zip(batch, pictures, strict=False))  # what only filled up is dropped
            waiting = rest


def _render(
    pipeline: Any,
    picture_requests: Sequence[PictureRequest],
    inputs: Callable[[Sequence[PictureRequest]], dict[str, Any]],
    should_stop: ShouldStop,
    on_step: Callable[[], None],
) -> list[PILImage.Image]:
    first = picture_requests[0]
    check_stop(should_stop, PICTURES_KEPT)

    def at_step(_pipeline: Any, _step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        check_stop(should_stop, PICTURES_KEPT)
        on_step()
        return {}

    made = pipeline(
        **inputs(picture_requests),
        height=first.size_hw[0],
        width=first.size_hw[1],
        num_inference_steps=first.num_inference_steps,
        # Generators on the CPU: a seed gives the same noise on every device.
        generator=[torch.Generator("cpu").manual_seed(picture_request.seed) for picture_request in picture_requests],
        callback_on_step_end=at_step,
        output_type="pil",
    )
    return list(made.images)


def _prompt_inputs(
    pipeline: Any,
) -> tuple[Callable[[PictureRequest], int], Callable[[Sequence[PictureRequest]], dict[str, Any]]]:
    """Return the number of pieces of a request's prompts, and requests -> the pipeline's arguments for theirs.

    The requests of one call have the same number of pieces; each prompt is encoded once.
    """
    family, parts = registry.opened(pipeline)
    cache: dict[tuple[str, int], Conditioning] = {}

    def pieces(request: PictureRequest) -> int:
        return max(family.pieces(parts, prompt) for prompt in (request.prompt, request.negative_prompt))

    def encode(prompts: Sequence[str], count: int) -> Conditioning:
        for prompt in prompts:
            if (prompt, count) not in cache:
                # One by one, so that an embedding never depends on which prompts it was encoded with.
                with torch.no_grad():
                    cache[prompt, count] = family.encode_in_pieces(parts, [prompt], count)
        rows = [cache[prompt, count] for prompt in prompts]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def inputs(picture_requests: Sequence[PictureRequest]) -> dict[str, Any]:
        count = max(map(pieces, picture_requests))
        wanted, unwanted = (
            encode([picture_request.prompt for picture_request in picture_requests], count),
            encode([picture_request.negative_prompt for picture_request in picture_requests], count),
        )
        return family.pipeline_inputs(wanted, unwanted, picture_requests[0].guidance_scale)

    return pieces, inputs


def rows_per_pass(picture_requests: Sequence[PictureRequest], batch_size: int | None) -> dict[Shape, int]:
    """Return for each shape of a request how many pictures a forward pass has, which no cancelled run changes."""
    device = pick_device(load_settings().device)
    counts = Counter(picture_request.shape for picture_request in picture_requests)
    limits = {shape: batch_size or _batch_size(device, shape[0]) for shape in counts}
    # Evenly: of ten pictures with room for eight, two passes of five leave no row unused.
    return {shape: ceil(count / ceil(count / limits[shape])) for shape, count in counts.items()}


def _batch_size(device: torch.device, size_hw: tuple[int, int]) -> int:
    # On a GPU four pictures of 512 px, on a CPU eight of 64 px: larger batches gain little there.
    pixels = 8 * 64**2 if device.type == "cpu" else 4 * 512**2
    return max(1, min(16, pixels // (size_hw[0] * size_hw[1])))
