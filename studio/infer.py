"""The verb ``generate``: pack x adapter -> pictures, ranked by likeness, with a contact sheet.

A straight road: plan the pictures -> open the folder (go on, or refuse) -> load base and adapter -> render in batches,
writing each picture as soon as it is there -> rank -> contact sheet, zip, index, DONE. Runs in a worker's child process
or from a notebook. ``load_pipeline``, ``load_adapter`` and ``render_prompts`` are the lower calls for pictures without
a run folder: the untrained base, class pictures, benchmarks.

Every picture has its own seed and its own generator on the CPU, prompts are encoded one by one, and ``generate`` gives
every forward pass of a request the same number of rows: the same request gives the same pictures, whatever was missing.
Only another number of rows (``batch_size``) or of threads may round the last bits otherwise.
"""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import ceil, log, sqrt
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from safetensors import SafetensorError

from studio import __version__
from studio.adapters import AdapterInfo, adapter_folder, adapter_sha256, read_info
from studio.catalog import BASES, FamilySpec
from studio.config import GenerateConfig
from studio.core import folder as output
from studio.core.files import full_disk_in_words, read_json, replacing, write_json, write_zip
from studio.core.progress import PICTURES_KEPT, ProgressReporter, check_stop
from studio.device import Placement, choose_placement, cpu_threads, free_bytes, pick_device, pick_dtype
from studio.domain import Event, GenerateResult, Image, OnEvent, ShouldStop, ignore_event, never_stop
from studio.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.families import registry
from studio.families.base import Conditioning
from studio.families.loading import part_bytes, place
from studio.imaging.bucket import aspect, buckets
from studio.imaging.png import parameters_text, read_png, write_png
from studio.imaging.quality import Fingerprint
from studio.imaging.sheet import contact_sheet
from studio.likeness.base import LikenessEngine, likeness
from studio.likeness.registry import choose_engine
from studio.methods import registry as methods
from studio.packs import Pack, Shot, guidance_of, require_kind, takes
from studio.picture_cache import PictureCache, folder_digest, key_of, open_cache, packed, unpacked
from studio.presets import load_pack
from studio.selection import choose, prints_of
from studio.settings import load_settings
from studio.weights import Base, resolve_adapter, resolve_base

Shape = tuple[tuple[int, int], int, float]
"""Height and width in pixels, denoising steps, guidance scale."""

INDEX_NAME = "index.json"
SHEET_NAME = "contact_sheet.png"
ARCHIVE_NAME = "pictures.zip"
LEFT_OUT_NAME = "left_out"

_SHEET_PICTURES = 96
_SHEET_CELL_PX = 200
_SCORED_AT_ONCE = 16
_MAKING = "Making pictures"


# ---------------------------------------------------------------------------------------------------------- the verb


@full_disk_in_words()
def generate(
    config: GenerateConfig,
    run_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
    opener: "Opener | None" = None,
) -> GenerateResult:
    """Make the pictures of a pack or of free prompts with a trained adapter.

    Writes ``<subject>_<shot>/NNN.png``, a ``contact_sheet.png`` beside them where there are several, one for all,
    ``pictures.zip``, ``index.json`` and, last, ``DONE``. With ``keep``, what is not kept goes to ``left_out/``. Called
    again with the same config on the same folder, it keeps the pictures that are there and makes the missing ones.
    Pictures of the result cache are not made again.

    Args:
        config: what to make.
        run_dir: a folder that ``train`` wrote; not looked at where the config names a published adapter.
        out_dir: created if missing; empty, or left by a cancelled call with the same config.
        on_event: told of stages, progress and each picture.
        should_stop: asked at each denoising step.
        opener: gives the base with the adapter in it, where one stays loaded (``studio.resident``); None loads it.

    Returns:
        All pictures that are kept, best first (in the order of shots and seeds where likeness could not be measured).

    Raises:
        NotFoundError: the run is not finished; no such checkpoint, pack, base or published adapter.
        InputError: the adapter is damaged or of another family; the run holds no reference for the likeness engine; the
            pack is for other kinds of subject.
        MissingExtraError: the base or the result cache's client is not on this machine.
        ConflictError: ``out_dir`` holds other things.
        ResourceError: one picture alone does not fit into the device's memory, or the disk is full.
        JobCancelled: ``should_stop`` answered True; finished pictures stay.
    """
    started_s = time.monotonic()
    reporter = ProgressReporter(on_event, should_stop, kept=PICTURES_KEPT)
    pulled = resolve_adapter(config.adapter) if config.adapter else None  # lives, and keeps the files, to the end
    run_dir = pulled.folder if pulled else run_dir
    weights_dir = adapter_folder(run_dir, config.checkpoint)
    info = read_info(run_dir / "adapter")
    _require_reference(config, info)
    family = registry.family(info.family)
    sha256 = adapter_sha256(weights_dir) if config.adapter_scale > 0 else None
    plan, remarks = _plan(config, info, family.spec, sha256)

    finished = _open_folder(out_dir, config, info, sha256)
    if finished is not None:
        return finished
    for remark in remarks:
        reporter.warn(remark)
    ruler = _ruler(config, info, reporter)
    made = _Made(config.keep is not None)

    for index, item in enumerate(plan):
        if (picture := _kept(out_dir, item)) is not None:
            made.add(index, picture, ruler.score([picture])[0])
    if made.scores:
        reporter.message(f"{len(made.scores)} of {len(plan)} pictures were already there")
    missing = [index for index in range(len(plan)) if index not in made.scores]
    from_cache = 0

    rows = _rows_of([item.wish for item in plan], config.batch_size)
    with _opened_shelf(config, info, sha256, bool(missing), reporter) as shelf:
        for index in missing:
            reporter.check_stop()
            if (found := shelf.get(plan[index])) is not None:
                picture, sampler = found
                made.add(index, picture, ruler.score([picture])[0])
                _write_picture(out_dir, plan[index], picture, sampler, made.scores[index], on_event)
                from_cache += 1
        if from_cache:
            reporter.message(f"{from_cache} of {len(plan)} pictures were made before and come from the cache")
        missing = [index for index in missing if index not in made.scores]
        if missing:
            pipeline = _opened(config, info, weights_dir, opener or open_base, reporter)
            _make(pipeline, plan, missing, rows, out_dir, ruler, made, shelf, reporter)

    reporter.stage("ranking", "Ranking and packing the pictures")
    result = replace(
        _ranked(config, plan, made, ruler), seconds=round(time.monotonic() - started_s, 3), from_cache=from_cache
    )
    _sort_out(out_dir, result)
    result = _write_sheets(out_dir, plan, made, result, info.subject, config.pack or "prompts")
    _write_archive(out_dir, result, info.subject)
    write_json(out_dir / INDEX_NAME, asdict(result))
    output.finish(out_dir)
    return result


class _Made:
    """What is there of the plan, by index."""

    def __init__(self, with_prints: bool) -> None:
        self.thumbnails: dict[int, PILImage.Image] = {}
        self.scores: dict[int, float | None] = {}
        self.prints: dict[int, Fingerprint] = {}
        self._with_prints = with_prints

    def add(self, index: int, picture: PILImage.Image, score: float | None) -> None:
        self.thumbnails[index], self.scores[index] = _thumbnail(picture), score
        if self._with_prints:
            (self.prints[index],) = prints_of([picture])


def planned(config: GenerateConfig, run_dir: Path) -> list["Wish"]:
    """Return every picture that ``generate`` would make, in order, without making any.

    Raises:
        NotFoundError, InputError: as ``generate``, of everything that is known before a base is loaded.
    """
    weights_dir = adapter_folder(run_dir, config.checkpoint)
    info = read_info(run_dir / "adapter")
    _require_reference(config, info)
    sha256 = adapter_sha256(weights_dir) if config.adapter_scale > 0 else None
    return [item.wish for item in _plan(config, info, registry.family(info.family).spec, sha256)[0]]


def _opened(
    config: GenerateConfig, info: AdapterInfo, weights_dir: Path, opener: "Opener", reporter: ProgressReporter
) -> Any:
    reporter.stage("loading", f"Loading {public_name(info.base)}")
    pipeline, placement = opener(info, weights_dir if config.adapter_scale > 0 else None, config.adapter_scale)
    if placement != "device":
        reporter.message(
            f"the GPU has no room for all of {public_name(info.base)}: its parts take turns, which is slower"
        )
    return pipeline


def _make(
    pipeline: Any,
    plan: Sequence["_Item"],
    missing: Sequence[int],
    rows: Mapping["Shape", int],
    out_dir: Path,
    ruler: "_Ruler",
    made: _Made,
    shelf: "_Shelf",
    reporter: ProgressReporter,
) -> None:
    """Render what is missing, writing each picture as soon as it is there."""
    reporter.stage("generating", f"Making {len(missing)} pictures")
    sampler = type(pipeline.scheduler).__name__.removesuffix("Scheduler")
    reporter.start(len(plan), len(made.scores))
    reporter.tick(_MAKING)
    wishes = [plan[index].wish for index in missing]
    with cpu_threads(load_settings().threads):
        for batch in render_batches(
            pipeline,
            wishes,
            rows=rows,
            should_stop=reporter.should_stop,
            on_step=lambda: reporter.tick(_MAKING),
        ):
            scores = ruler.score([picture for _, picture in batch])
            for (position, picture), score in zip(batch, scores, strict=True):
                index = missing[position]
                made.add(index, picture, score)
                _write_picture(out_dir, plan[index], picture, sampler, score, reporter.on_event)
                shelf.put(plan[index], picture, sampler)
            reporter.advance(_MAKING, len(batch))


def _write_picture(
    out_dir: Path, item: "_Item", picture: PILImage.Image, sampler: str, score: float | None, on_event: OnEvent
) -> None:
    (out_dir / item.file).parent.mkdir(exist_ok=True)
    write_png(out_dir / item.file, picture, parameters=item.parameters(sampler), record=item.record)
    on_event(Event("image", asdict(item.image(score, rank=0))))


def _ranked(config: GenerateConfig, plan: Sequence["_Item"], made: _Made, ruler: "_Ruler") -> GenerateResult:
    """Choose what is kept of each shot, and rank it."""
    kept, duplicate_of = set(range(len(plan))), dict[int, int]()
    if config.keep is not None:
        kept = set()
        by_shot: dict[str, list[int]] = {}
        for index, item in enumerate(plan):
            by_shot.setdefault(item.shot, []).append(index)
        for places in by_shot.values():
            scores, prints = [made.scores[i] for i in places], [made.prints[i] for i in places]
            chosen = choose(scores, prints, config.keep)
            kept |= {places[i] for i in chosen.kept}
            duplicate_of |= {places[i]: places[other] for i, other in chosen.duplicate_of.items()}
    order = sorted(range(len(plan)), key=lambda index: (-(made.scores[index] or 0.0), index))

    def place(index: int) -> str:
        return plan[index].file if index in kept else f"{LEFT_OUT_NAME}/{plan[index].file}"

    def images(indices: Sequence[int]) -> tuple[Image, ...]:
        found = []
        for number, index in enumerate(indices, start=1):
            ranked = index in kept and made.scores[index] is not None
            twin = duplicate_of.get(index)
            found.append(
                replace(
                    plan[index].image(made.scores[index], rank=number if ranked else 0),
                    file=place(index),
                    duplicate_of=None if twin is None else place(twin),
                )
            )
        return tuple(found)

    return GenerateResult(
        images=images([index for index in order if index in kept]),
        contact_sheet=SHEET_NAME,
        archive=ARCHIVE_NAME,
        seconds=0.0,
        likeness_mean=_mean([made.scores[index] for index in kept]),
        likeness_engine=ruler.name,
        left_out=images([index for index in order if index not in kept]),
        likeness_mean_made=_mean(list(made.scores.values())),
    )


def _mean(scores: Sequence[float | None]) -> float | None:
    found = [score for score in scores if score is not None]
    return round(sum(found) / len(found), 4) if found else None


# ------------------------------------------------------------------------------- lower calls: pipeline and pictures


@dataclass(frozen=True, slots=True)
class Wish:
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
    device = pick_device(load_settings().device)
    family = registry.family(base.family)
    # On the CPU first, where there is room, so that the sizes are known before anything is moved.
    parts = family.load(base.folder, dtype=pick_dtype("auto", device), device=torch.device("cpu"))
    pipeline: Any = family.pipeline(parts)
    placement = choose_placement(part_bytes(pipeline), free_bytes(device))
    if placement == "device":
        place(pipeline, device, placement)
    if adapter is not None:
        load_adapter(pipeline, adapter, scale=scale)  # faster on the device; elsewhere before parts begin to move
    if placement != "device":
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
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise unusable_adapter(folder, error) from error


def unusable_adapter(folder: Path, error: Exception) -> InputError:
    """Return what to tell of an adapter that does not load, from what a library said of it."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
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
    wishes = [
        Wish(prompt, negative_prompt, seed, size_hw, num_inference_steps, guidance_scale)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    made: dict[int, PILImage.Image] = {}
    for batch in render_batches(pipeline, wishes, batch_size=batch_size, should_stop=should_stop):
        made.update(batch)
    return [made[position] for position in range(len(wishes))]


def render_batches(
    pipeline: Any,
    wishes: Sequence[Wish],
    *,
    batch_size: int | None = None,
    rows: Mapping[Shape, int] | None = None,
    should_stop: ShouldStop = never_stop,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[list[tuple[int, PILImage.Image]]]:
    """Make pictures batch by batch; a batch may hold different prompts and seeds, never different sizes.

    Args:
        pipeline: with or without an adapter.
        wishes: what to make.
        batch_size: pictures per forward pass; None lets the device decide.
        rows: pictures in each forward pass of a shape, where the last is filled up to: a matrix product over another
            number of rows may round otherwise, and so a picture would depend on how many were missing.
        should_stop: asked at each denoising step.
        on_step: called at each denoising step.

    Yields:
        (position in ``wishes``, RGB picture) of each batch, as soon as it is done.

    Raises:
        JobCancelled: ``should_stop`` answered True.
        ResourceError: one picture alone does not fit into the device's memory.
    """
    inputs = _prompt_inputs(pipeline)
    groups: dict[Shape, list[int]] = {}
    for position, wish in enumerate(wishes):
        groups.setdefault(wish.shape, []).append(position)
    for shape, waiting in groups.items():
        size_hw = shape[0]
        size = rows[shape] if rows else batch_size or _batch_size(pipeline._execution_device, size_hw)
        while waiting:
            batch, rest = waiting[:size], waiting[size:]
            row_wishes = [wishes[position] for position in batch]
            if rows:
                row_wishes += row_wishes[-1:] * (size - len(batch))
            try:
                pictures = _render(pipeline, row_wishes, inputs, should_stop, on_step)
            except torch.OutOfMemoryError:
                if len(row_wishes) == 1:
                    height, width = size_hw
                    raise ResourceError(
                        f"one picture of {width} x {height} px does not fit into the device's memory; "
                        "make smaller pictures or set STUDIO_DEVICE=cpu."
                    ) from None
                size = ceil(len(row_wishes) / 2)
                torch.cuda.empty_cache()
                continue
            yield list(zip(batch, pictures, strict=False))  # what only filled up is dropped
            waiting = rest


def _render(
    pipeline: Any,
    wishes: Sequence[Wish],
    inputs: Callable[[Sequence[Wish]], dict[str, Any]],
    should_stop: ShouldStop,
    on_step: Callable[[], None],
) -> list[PILImage.Image]:
    first = wishes[0]
    check_stop(should_stop, PICTURES_KEPT)

    def at_step(_pipeline: Any, _step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        check_stop(should_stop, PICTURES_KEPT)
        on_step()
        return {}

    made = pipeline(
        **inputs(wishes),
        height=first.size_hw[0],
        width=first.size_hw[1],
        num_inference_steps=first.num_inference_steps,
        # Generators on the CPU: a seed gives the same noise on every device.
        generator=[torch.Generator("cpu").manual_seed(wish.seed) for wish in wishes],
        callback_on_step_end=at_step,
        output_type="pil",
    )
    return list(made.images)


def _prompt_inputs(pipeline: Any) -> Callable[[Sequence[Wish]], dict[str, Any]]:
    """Return wishes -> the pipeline's arguments for their prompts and guidance; each prompt is encoded once."""
    family, parts = registry.opened(pipeline)
    cache: dict[str, Conditioning] = {}

    def encode(prompts: Sequence[str]) -> Conditioning:
        for prompt in prompts:
            if prompt not in cache:
                # One by one, so that an embedding never depends on which prompts it was encoded with.
                with torch.no_grad():
                    cache[prompt] = family.encode_prompts(parts, [prompt])
        return {name: torch.cat([cache[prompt][name] for prompt in prompts]) for name in cache[prompts[0]]}

    def inputs(wishes: Sequence[Wish]) -> dict[str, Any]:
        wanted, unwanted = encode([wish.prompt for wish in wishes]), encode([wish.negative_prompt for wish in wishes])
        return family.pipeline_inputs(wanted, unwanted, wishes[0].guidance_scale)

    return inputs


def _rows_of(wishes: Sequence[Wish], batch_size: int | None) -> dict[Shape, int]:
    """Return for each shape of a request how many pictures a forward pass has, which no cancelled run changes."""
    device = pick_device(load_settings().device)
    counts = Counter(wish.shape for wish in wishes)
    limits = {shape: batch_size or _batch_size(device, shape[0]) for shape in counts}
    # Evenly: of ten pictures with room for eight, two passes of five leave no row unused.
    return {shape: ceil(count / ceil(count / limits[shape])) for shape, count in counts.items()}


def _batch_size(device: torch.device, size_hw: tuple[int, int]) -> int:
    # On a GPU four pictures of 512 px, on a CPU eight of 64 px: larger batches gain little there.
    pixels = 8 * 64**2 if device.type == "cpu" else 4 * 512**2
    return max(1, min(16, pixels // (size_hw[0] * size_hw[1])))


# ----------------------------------------------------------------------------------------------------------- planning


@dataclass(frozen=True, slots=True)
class _Item:
    """One picture of the plan."""

    file: str
    shot: str
    wish: Wish
    record: Mapping[str, Any]
    """What the picture's ``likeness_studio`` chunk says; a file with another record is not this picture."""

    def image(self, score: float | None, rank: int) -> Image:
        wish = self.wish
        rounded = None if score is None else round(score, 4)
        return Image(self.file, self.shot, wish.prompt, wish.negative_prompt, wish.seed, rounded, rank)

    def parameters(self, sampler: str) -> str:
        wish = self.wish
        return parameters_text(
            prompt=wish.prompt,
            negative_prompt=wish.negative_prompt,
            seed=wish.seed,
            num_inference_steps=wish.num_inference_steps,
            guidance_scale=wish.guidance_scale,
            sampler=sampler,
            size_hw=wish.size_hw,
            model=self.record["base"],
            adapter_sha256=self.record["adapter_sha256"],
            version=__version__,
        )


def _plan(
    config: GenerateConfig, info: AdapterInfo, spec: FamilySpec, sha256: str | None
) -> tuple[list[_Item], list[str]]:
    """Return every picture to make, in order, and what the user should know beforehand."""
    pack, remarks = _pack(config, info)
    if config.negative_prompt and not spec.negative_prompt:
        remarks.append("this base knows no negative prompt; it is left out")
    steps = config.num_inference_steps or info.num_inference_steps
    items: list[_Item] = []
    folders = _folder_names([f"{info.subject}_{shot.name}" for shot in pack.shots])
    for shot, folder in zip(pack.shots, folders, strict=True):
        words = {"instance_token": info.instance_token, "class_noun": info.class_noun}
        found = takes(pack, shot, **words, seed=config.seed, count=config.count)
        size_hw = _size_hw(config, _drawable(shot.aspect, info.base), info.resolution_px, spec.bucket_multiple_px)
        own_guidance = guidance_of(shot, info.guidance_scale)
        for number, take in enumerate(found):
            negative = ", ".join(text for text in (take.negative_prompt, config.negative_prompt) if text)
            wish = Wish(
                prompt=take.prompt,
                negative_prompt=negative if spec.negative_prompt else "",
                seed=(config.seed + len(items)) % 2**32,
                size_hw=size_hw,
                num_inference_steps=steps,
                guidance_scale=own_guidance if config.guidance_scale is None else config.guidance_scale,
            )
            record = {
                **asdict(wish),
                "size_hw": list(size_hw),
                "shot": shot.name,
                "base": public_name(info.base),
                "revision": info.revision,
                "adapter_sha256": sha256,
                "adapter_scale": config.adapter_scale,
            }
            items.append(_Item(f"{folder}/{number + 1:03d}.png", shot.name, wish, record))
    return items, remarks


def _pack(config: GenerateConfig, info: AdapterInfo) -> tuple[Pack, list[str]]:
    """Return the pack, or one made of the free prompts, and what the user should know of it."""
    remarks: list[str] = []
    if config.pack is None:
        for prompt in config.prompts:
            if "{subject}" not in prompt and not _names_token(prompt, info.instance_token):
                remarks.append(
                    f'the prompt "{prompt}" names neither {{subject}} nor {info.instance_token}: '
                    "its pictures need not show the subject"
                )
        # model_construct: a Shot must name {subject}, a free prompt need not.
        shots = tuple(
            Shot.model_construct(name=f"prompt_{number}", prompt=prompt)
            for number, prompt in enumerate(config.prompts, start=1)
        )
        return Pack.model_construct(name="prompts", title="Prompts", description="", shots=shots), remarks
    pack = load_pack(config.pack, load_settings().presets_dir)
    if pack.bases and info.base not in pack.bases:
        remarks.append(
            f"the pack {pack.name} is written for {' and '.join(pack.bases)}; "
            f"{public_name(info.base)} may not know its words"
        )
    require_kind(pack, info.class_noun)
    return pack, remarks


def _names_token(prompt: str, token: str) -> bool:
    if "{instance_token}" in prompt:
        return True
    return re.search(rf"(?<!\w){re.escape(token)}(?!\w)", prompt, re.IGNORECASE) is not None


def _drawable(wanted: str, base: str) -> str:
    """Return the shape that the base draws and that is nearest to the wanted one."""
    row = BASES.get(base)
    shapes = row.aspects if row else ()
    if not shapes or wanted in shapes:
        return wanted
    return min(shapes, key=lambda shape: abs(log(aspect(shape)) - log(aspect(wanted))))


def _size_hw(config: GenerateConfig, shape: str, resolution_px: int, multiple_px: int) -> tuple[int, int]:
    """Return the size that the config asks for; a side that it leaves open follows the shot's shape."""
    height, width = buckets(resolution_px, multiple_px)[shape]
    asked_height, asked_width = config.height_px, config.width_px
    if asked_height is None and asked_width is None:
        return height, width

    def rounded(length: float) -> int:
        return max(1, round(length / multiple_px)) * multiple_px

    if asked_height is None and asked_width is not None:
        return rounded(asked_width * height / width), rounded(asked_width)
    if asked_width is None and asked_height is not None:
        return rounded(asked_height), rounded(asked_height * width / height)
    assert asked_height is not None and asked_width is not None
    return rounded(asked_height), rounded(asked_width)


def _folder_names(names: Sequence[str]) -> list[str]:
    """Return a safe folder name for each shot; names that only differ in case or blanks get a number."""
    taken: set[str] = set()
    folders = []
    for name in names:
        stem = folder = _slug(name)
        number = 2
        while folder.casefold() in taken:
            folder, number = f"{stem}_{number}", number + 1
        taken.add(folder.casefold())
        folders.append(folder)
    return folders


def _slug(name: str) -> str:
    return re.sub(r"[^\w\-]+", "_", name).strip("_") or "shot"


def public_name(base: str) -> str:
    """Return the base's name without folders of this machine: pictures and exports travel."""
    return Path(base).name if Path(base).exists() else base


# ------------------------------------------------------------------------------------------------- folder and resume


def _open_folder(out_dir: Path, config: GenerateConfig, info: AdapterInfo, sha256: str | None) -> GenerateResult | None:
    """Claim the folder for this request; return the result if it is already finished."""
    request = {
        "verb": "generate",
        # These change no picture beyond its last bits, so that others may go on.
        "config": config.model_dump(mode="json", exclude={"batch_size", "use_cache"}),
        "base": info.base,
        "revision": info.revision,
        "adapter_sha256": sha256,
    }
    if not output.claim(out_dir, request, what="pictures") or not output.is_finished(out_dir):
        return None
    data = read_json(out_dir / INDEX_NAME)
    if data is None or not all((out_dir / row["file"]).is_file() for row in data["images"]):
        output.reopen(out_dir)
        return None
    lists = {name: tuple(Image(**row) for row in data[name]) for name in ("images", "left_out")}
    return GenerateResult(**{**data, **lists, "sheets": tuple(data["sheets"])})


def _kept(out_dir: Path, item: _Item) -> PILImage.Image | None:
    """Return a picture of the plan that is there already; one that was left out comes back for the new choice."""
    for path in (out_dir / item.file, out_dir / LEFT_OUT_NAME / item.file):
        found = read_png(path)
        if found is not None and found[1] == item.record:
            if path != out_dir / item.file:
                (out_dir / item.file).parent.mkdir(exist_ok=True)
                os.replace(path, out_dir / item.file)
            return found[0]
    return None


def _sort_out(out_dir: Path, result: GenerateResult) -> None:
    """Move the pictures that are not kept."""
    for image in result.left_out:
        place = out_dir / image.file
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(out_dir / image.file.removeprefix(f"{LEFT_OUT_NAME}/"), place)


# -------------------------------------------------------------------------------------------------- the result cache


class _Shelf:
    """The result cache as one run sees it; where it cannot be reached, the run goes on without."""

    def __init__(self, cache: PictureCache | None, facts: Mapping[str, Any], reporter: ProgressReporter):
        self._cache, self._facts, self._reporter = cache, facts, reporter

    def get(self, item: _Item) -> tuple[PILImage.Image, str] | None:
        """Return the picture and the name of its sampler."""
        if self._cache is None:
            return None
        try:
            value = self._cache.get(self._key(item))
        except OSError as error:
            self._give_up(error)
            return None
        found = unpacked(value, item.wish.size_hw) if value is not None else None
        return (found[0], str(found[1].get("sampler"))) if found is not None else None

    def put(self, item: _Item, picture: PILImage.Image, sampler: str) -> None:
        if self._cache is None:
            return
        try:
            self._cache.put(self._key(item), packed(picture, {"sampler": sampler}))
        except OSError as error:
            self._give_up(error)

    def _key(self, item: _Item) -> str:
        # Not how many pictures shared the pass, although that moves last bits: a shot of a pack, asked for again by
        # itself, is the picture that is there.
        return key_of({**self._facts, **asdict(item.wish)})

    def _give_up(self, error: OSError) -> None:
        text = f"the result cache cannot be used ({type(error).__name__}: {error}), so all pictures are made"
        self._reporter.warn(text)
        self._cache = None


@contextmanager
def _opened_shelf(
    config: GenerateConfig,
    info: AdapterInfo,
    sha256: str | None,
    needed: bool,
    reporter: ProgressReporter,
) -> Iterator[_Shelf]:
    settings = load_settings()
    cache = open_cache(settings) if config.use_cache and needed else None
    facts: dict[str, Any] = {}
    if cache is not None:
        device = pick_device(settings.device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        facts = {
            "version": 1,
            "base": info.base if info.revision else folder_digest(resolve_base(info.base).folder),
            "revision": info.revision,
            "adapter_sha256": sha256,
            "adapter_scale": config.adapter_scale if sha256 else 0.0,
            # What computes decides the last bits.
            "device": device.type,
            "device_name": name,
            "dtype": str(pick_dtype("auto", device)),
            "threads": settings.threads or torch.get_num_threads(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }
    try:
        yield _Shelf(cache, facts, reporter)
    finally:
        if cache is not None:
            cache.close()


# ----------------------------------------------------------------------------------------------- likeness and events


@dataclass(frozen=True, slots=True)
class _Ruler:
    """Measures pictures against the run's photos, or says None of each."""

    name: str | None
    engine: LikenessEngine | None = None
    reference: NDArray[np.float32] | None = None
    class_noun: str = ""

    def score(self, pictures: Sequence[PILImage.Image]) -> list[float | None]:
        if self.engine is None or self.reference is None:
            return [None] * len(pictures)
        values = likeness(self.engine.embed(pictures), self.reference, self.engine.scale(self.class_noun))
        return [float(value) for value in values]


def _require_reference(config: GenerateConfig, info: AdapterInfo) -> None:
    if info.centroid is None or config.likeness in ("auto", "none", info.likeness_engine):
        return
    problem = Problem(
        "likeness",
        f"the run holds a reference for {info.likeness_engine}, not for {config.likeness}",
        f"choose auto, {info.likeness_engine} or none",
        "no_reference",
    )
    raise InputError.of([problem])


def _ruler(config: GenerateConfig, info: AdapterInfo, reporter: ProgressReporter) -> _Ruler:
    if config.likeness == "none":
        return _Ruler(None)
    if info.likeness_engine is None or info.centroid is None:
        reporter.warn("this run holds no likeness reference, so its pictures are not ranked")
        return _Ruler(None)
    try:
        choice = choose_engine(info.likeness_engine, base=info.base, class_noun=info.class_noun)
    except MissingExtraError as error:
        reporter.warn(f"the pictures are not ranked: {error}")
        return _Ruler(None)
    if choice.engine is None:
        reporter.warn(f"the pictures are not ranked: {choice.reason}")
        return _Ruler(None)
    return _Ruler(choice.engine.name, choice.engine, np.asarray(info.centroid, dtype=np.float32), info.class_noun)


# ------------------------------------------------------------------------------------------------- sheet and archive


def _thumbnail(picture: PILImage.Image) -> PILImage.Image:
    """Return a copy that is small enough to keep hundreds of in memory."""
    copy = picture.copy()
    copy.thumbnail((2 * _SHEET_CELL_PX, 2 * _SHEET_CELL_PX))
    return copy


def _write_sheets(
    out_dir: Path, plan: Sequence[_Item], made: _Made, result: GenerateResult, subject: str, title: str
) -> GenerateResult:
    """Write one sheet for all that is kept and one for each shot with several pictures; return the result with them."""
    index_of = {item.file: index for index, item in enumerate(plan)}
    by_shot: dict[str, list[Image]] = {}
    for image in result.images:
        by_shot.setdefault(image.shot, []).append(image)
    _write_sheet(out_dir / SHEET_NAME, result.images, index_of, made, f"{subject} · {title}", result.likeness_mean)
    sheets = []
    for shot, images in by_shot.items():
        if len(images) > 1 and len(by_shot) > 1:
            sheets.append(str(Path(images[0].file).parent / SHEET_NAME))
            heading = f"{subject} · {shot.replace('_', ' ')}"
            mean = _mean([made.scores[index_of[image.file]] for image in images])
            _write_sheet(out_dir / sheets[-1], images, index_of, made, heading, mean)
    return replace(result, sheets=tuple(sorted(sheets)))


def _write_sheet(
    path: Path, images: Sequence[Image], index_of: Mapping[str, int], made: _Made, title: str, mean: float | None
) -> None:
    shown = images[:_SHEET_PICTURES]
    captions = []
    for image in shown:
        facts = [f"seed {image.seed}"]
        if image.likeness is not None:
            facts.insert(0, f"likeness {image.likeness:.2f}")
        captions.append((image.shot.replace("_", " "), " · ".join(facts)))
    total = len(images)
    parts = [f"{total} pictures" if len(shown) == total else f"the first {len(shown)} of {total} pictures"]
    if mean is not None:
        parts += ["most alike first", f"mean likeness {mean:.2f}"]
    sheet = contact_sheet(
        [made.thumbnails[index_of[image.file]] for image in shown],
        captions,
        columns=max(3, min(8, ceil(sqrt(len(shown) * 1.4)))),
        cell_px=_SHEET_CELL_PX,
        title=title,
        subtitle=" · ".join(parts),
    )
    with replacing(path, durable=False) as part:
        sheet.save(part, format="PNG")


def _write_archive(out_dir: Path, result: GenerateResult, subject: str) -> None:
    """Write all pictures and an index; the same pictures give the same bytes."""
    index = {
        "subject": subject,
        "likeness_engine": result.likeness_engine,
        "likeness_mean": result.likeness_mean,
        "images": [asdict(image) for image in result.images],
    }
    members: list[tuple[str, Path | bytes]] = [(name, out_dir / name) for name in sorted(i.file for i in result.images)]
    members.append((INDEX_NAME, (json.dumps(index, indent=1) + "\n").encode()))
    write_zip(out_dir / ARCHIVE_NAME, members)
