"""The verb ``generate``: pack x adapter -> pictures, ranked by likeness, with a contact sheet.

A straight road: plan the pictures -> open the folder (go on, or refuse) -> load base and adapter -> render in batches,
writing each picture as soon as it is there -> rank -> contact sheet, zip, index, DONE. Runs in a worker's child process
or from a notebook. ``load_pipeline``, ``load_adapter`` and ``render_prompts`` are the lower calls for pictures without
a run folder: the untrained base, class pictures, benchmarks.

Every picture has its own seed and its own generator on the CPU, and prompts are encoded one by one, so that a picture
does not depend on its neighbours in the batch (beyond the last bits of floating point).
"""

import json
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from safetensors import SafetensorError

from studio import __version__
from studio.adapters import AdapterInfo, adapter_folder, adapter_sha256, read_info
from studio.catalog import FamilySpec
from studio.config import GenerateConfig
from studio.device import cpu_threads, pick_device, pick_dtype
from studio.domain import Event, GenerateResult, Image, OnEvent, ShouldStop, ignore_event, never_stop
from studio.errors import ConflictError, InputError, JobCancelled, MissingExtraError, Problem, ResourceError
from studio.families import registry
from studio.families.base import Conditioning
from studio.imaging.bucket import buckets
from studio.imaging.png import parameters_text, read_png, write_png
from studio.imaging.sheet import contact_sheet
from studio.likeness.base import LikenessEngine, likeness
from studio.likeness.registry import choose_engine
from studio.methods import registry as methods
from studio.presets import Shot, fill, load_pack, subject_kind
from studio.settings import load_settings
from studio.weights import resolve_adapter, resolve_base

REQUEST_NAME = "request.json"
INDEX_NAME = "index.json"
SHEET_NAME = "contact_sheet.png"
ARCHIVE_NAME = "pictures.zip"
DONE_NAME = "DONE"

_SHEET_PICTURES = 96
_SHEET_CELL_PX = 200
_SCORED_AT_ONCE = 16


# ---------------------------------------------------------------------------------------------------------- the verb


def generate(
    config: GenerateConfig,
    run_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> GenerateResult:
    """Make the pictures of a pack or of free prompts with a trained adapter.

    Writes ``<shot>/NNN.png``, ``contact_sheet.png``, ``pictures.zip``, ``index.json`` and, last, ``DONE``. Called again
    with the same config on the same folder, it keeps the pictures that are there and makes the missing ones.

    Args:
        config: what to make.
        run_dir: a folder that ``train`` wrote; not looked at where the config names a published adapter.
        out_dir: created if missing; empty, or left by a cancelled call with the same config.
        on_event: told of stages, progress and each picture.
        should_stop: asked at each denoising step.

    Returns:
        All pictures, best first (in the order of shots and seeds where likeness could not be measured).

    Raises:
        NotFoundError: the run is not finished; no such checkpoint, pack, base or published adapter.
        InputError: the adapter is damaged or of another family; the run holds no reference for the likeness engine.
        ConflictError: ``out_dir`` holds other things.
        ResourceError: one picture alone does not fit into the device's memory.
        JobCancelled: ``should_stop`` answered True; finished pictures stay.
    """
    started_s = time.monotonic()
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
        on_event(Event("message", {"level": "warning", "text": remark}))
    ruler = _ruler(config, info, on_event)
    thumbnails: dict[int, PILImage.Image] = {}
    scores: dict[int, float | None] = {}

    for index, item in enumerate(plan):
        if (picture := _kept(out_dir, item)) is not None:
            thumbnails[index], scores[index] = _thumbnail(picture), ruler.score([picture])[0]
    if thumbnails:
        text = f"{len(thumbnails)} of {len(plan)} pictures were already there"
        on_event(Event("message", {"level": "info", "text": text}))
    missing = [index for index in range(len(plan)) if index not in thumbnails]

    if missing:
        on_event(Event("stage", {"name": "loading", "message": f"Loading {_public_name(info.base)}"}))
        pipeline = load_pipeline(info.base, info.revision)
        if sha256 is not None:
            load_adapter(pipeline, weights_dir, scale=config.adapter_scale)
        on_event(Event("stage", {"name": "generating", "message": f"Making {len(missing)} pictures"}))
        sampler = type(pipeline.scheduler).__name__.removesuffix("Scheduler")
        progress = _Progress(len(plan), len(thumbnails), on_event)
        progress.tell()
        wishes = [plan[index].wish for index in missing]
        with cpu_threads(load_settings().threads):
            for batch in render_batches(
                pipeline,
                wishes,
                batch_size=config.batch_size,
                should_stop=should_stop,
                on_step=progress.tell_each_second,
            ):
                measured = ruler.score([picture for _, picture in batch])
                for (position, picture), score in zip(batch, measured, strict=True):
                    index, item = missing[position], plan[missing[position]]
                    (out_dir / item.file).parent.mkdir(exist_ok=True)
                    write_png(out_dir / item.file, picture, parameters=item.parameters(sampler), record=item.record)
                    thumbnails[index], scores[index] = _thumbnail(picture), score
                    on_event(Event("image", asdict(item.image(score, rank=0))))
                progress.add(len(batch))
        del pipeline

    on_event(Event("stage", {"name": "ranking", "message": "Ranking and packing the pictures"}))
    order = sorted(range(len(plan)), key=lambda index: (-(scores[index] or 0.0), index))
    found = [score for score in scores.values() if score is not None]
    result = GenerateResult(
        images=tuple(
            plan[index].image(scores[index], rank=0 if scores[index] is None else place)
            for place, index in enumerate(order, start=1)
        ),
        contact_sheet=SHEET_NAME,
        archive=ARCHIVE_NAME,
        seconds=round(time.monotonic() - started_s, 3),
        likeness_mean=round(sum(found) / len(found), 4) if found else None,
        likeness_engine=ruler.name,
    )
    _write_sheet(
        out_dir, [thumbnails[index] for index in order], result, f"{info.subject} · {config.pack or 'prompts'}"
    )
    _write_archive(out_dir, result, info.subject)
    _write_text(out_dir / INDEX_NAME, json.dumps(asdict(result), indent=1) + "\n")
    _write_text(out_dir / DONE_NAME, "")
    return result


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
    found = resolve_base(base, revision)
    device = pick_device(load_settings().device)
    family = registry.family(found.family)
    pipeline: Any = family.pipeline(family.load(found.folder, dtype=pick_dtype("auto", device), device=device))
    return pipeline.to(device)


def load_adapter(pipeline: Any, folder: Path, *, scale: float = 1.0) -> None:
    """Add an adapter of any method to a pipeline without one, fused.

    Args:
        pipeline: as ``load_pipeline`` gives it; it is changed.
        folder: what ``train`` wrote: ``run/adapter`` or a checkpoint.
        scale: strength, > 0; 1 is as trained. The instance token's embedding has no strength.

    Raises:
        InputError: the weights are damaged or do not fit this base.
    """
    try:
        methods.method_of(folder).read(pipeline, folder, scale)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = Problem(folder.name, f"the adapter does not load into this base ({reason})", "train again")
        raise InputError.of([problem]) from error


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
    should_stop: ShouldStop = never_stop,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[list[tuple[int, PILImage.Image]]]:
    """Make pictures batch by batch; a batch may hold different prompts and seeds, never different sizes.

    Yields:
        (position in ``wishes``, RGB picture) of each batch, as soon as it is done.

    Raises:
        JobCancelled: ``should_stop`` answered True.
        ResourceError: one picture alone does not fit into the device's memory.
    """
    inputs = _prompt_inputs(pipeline)
    groups: dict[tuple[tuple[int, int], int, float], list[int]] = {}
    for position, wish in enumerate(wishes):
        groups.setdefault((wish.size_hw, wish.num_inference_steps, wish.guidance_scale), []).append(position)
    for (size_hw, _, _), waiting in groups.items():
        size = batch_size or _batch_size(pipeline.device, size_hw)
        while waiting:
            batch, rest = waiting[:size], waiting[size:]
            try:
                pictures = _render(pipeline, [wishes[position] for position in batch], inputs, should_stop, on_step)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    height, width = size_hw
                    raise ResourceError(
                        f"one picture of {width} x {height} px does not fit into the device's memory; "
                        "make smaller pictures or set STUDIO_DEVICE=cpu."
                    ) from None
                size = ceil(len(batch) / 2)
                torch.cuda.empty_cache()
                continue
            yield list(zip(batch, pictures, strict=True))
            waiting = rest


def _render(
    pipeline: Any,
    wishes: Sequence[Wish],
    inputs: Callable[[Sequence[Wish]], dict[str, Any]],
    should_stop: ShouldStop,
    on_step: Callable[[], None],
) -> list[PILImage.Image]:
    first = wishes[0]
    if should_stop():
        raise JobCancelled("Stopped; finished pictures are kept.")

    def at_step(_pipeline: Any, _step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        if should_stop():
            raise JobCancelled("Stopped; finished pictures are kept.")
        on_step()
        return {}

    output = pipeline(
        **inputs(wishes),
        height=first.size_hw[0],
        width=first.size_hw[1],
        num_inference_steps=first.num_inference_steps,
        # Generators on the CPU: a seed gives the same noise on every device.
        generator=[torch.Generator("cpu").manual_seed(wish.seed) for wish in wishes],
        callback_on_step_end=at_step,
        output_type="pil",
    )
    return list(output.images)


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


def _batch_size(device: torch.device, size_hw: tuple[int, int]) -> int:
    # On a GPU four pictures of 512 px, on a CPU the same pixels as sixteen of 64 px: larger batches gain nothing there.
    pixels = 16 * 64**2 if device.type == "cpu" else 4 * 512**2
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
    shots, remarks = _shots(config, info)
    if config.negative_prompt and not spec.negative_prompt:
        remarks.append("this base knows no negative prompt; it is left out")
    steps = config.num_inference_steps or info.num_inference_steps
    guidance = info.guidance_scale if config.guidance_scale is None else config.guidance_scale
    items: list[_Item] = []
    folders = _folder_names([shot.name for shot in shots])
    for shot, folder in zip(shots, folders, strict=True):
        prompt = fill(shot.prompt, instance_token=info.instance_token, class_noun=info.class_noun)
        negative = ", ".join(text for text in (shot.negative_prompt, config.negative_prompt) if text)
        size_hw = _size_hw(config, shot.aspect, info.resolution_px, spec.bucket_multiple_px)
        for number in range(config.count):
            wish = Wish(
                prompt=prompt,
                negative_prompt=negative if spec.negative_prompt else "",
                seed=(config.seed + len(items)) % 2**32,
                size_hw=size_hw,
                num_inference_steps=steps,
                guidance_scale=guidance,
            )
            record = {
                **asdict(wish),
                "size_hw": list(size_hw),
                "shot": shot.name,
                "base": _public_name(info.base),
                "revision": info.revision,
                "adapter_sha256": sha256,
                "adapter_scale": config.adapter_scale,
            }
            items.append(_Item(f"{folder}/{number + 1:03d}.png", shot.name, wish, record))
    return items, remarks


def _shots(config: GenerateConfig, info: AdapterInfo) -> tuple[list[Shot], list[str]]:
    remarks: list[str] = []
    if config.pack is None:
        for prompt in config.prompts:
            if "{subject}" not in prompt and not _names_token(prompt, info.instance_token):
                remarks.append(
                    f'the prompt "{prompt}" names neither {{subject}} nor {info.instance_token}: '
                    "its pictures need not show the subject"
                )
        # model_construct: a Shot must name {subject}, a free prompt need not.
        shots = [
            Shot.model_construct(name=f"prompt_{number}", prompt=prompt, negative_prompt="", aspect="1:1")
            for number, prompt in enumerate(config.prompts, start=1)
        ]
        return shots, remarks
    pack = load_pack(config.pack, load_settings().presets_dir)
    if pack.bases and info.base not in pack.bases:
        remarks.append(
            f"the pack {pack.name} is written for {' and '.join(pack.bases)}; "
            f"{_public_name(info.base)} may not know its words"
        )
    kind = subject_kind(info.class_noun)
    if kind not in pack.subjects:
        remarks.append(f"the pack {pack.name} is written for {' and '.join(pack.subjects)}, not for {kind}")
    return list(pack.shots), remarks


def _names_token(prompt: str, token: str) -> bool:
    if "{instance_token}" in prompt:
        return True
    return re.search(rf"(?<!\w){re.escape(token)}(?!\w)", prompt, re.IGNORECASE) is not None


def _size_hw(config: GenerateConfig, aspect: str, resolution_px: int, multiple_px: int) -> tuple[int, int]:
    """Return the size that the config asks for; a side that it leaves open follows the shot's aspect."""
    height, width = buckets(resolution_px, multiple_px)[aspect]
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


def _public_name(base: str) -> str:
    """Return the base's name without folders of this machine: pictures travel."""
    return Path(base).name if Path(base).exists() else base


# ------------------------------------------------------------------------------------------------- folder and resume


def _open_folder(out_dir: Path, config: GenerateConfig, info: AdapterInfo, sha256: str | None) -> GenerateResult | None:
    """Claim the folder for this request; return the result if it is already finished."""
    request = {
        "verb": "generate",
        # The batch size changes no picture, so another one may go on.
        "config": config.model_dump(mode="json", exclude={"batch_size"}),
        "base": info.base,
        "revision": info.revision,
        "adapter_sha256": sha256,
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    there = _read_json(out_dir / REQUEST_NAME)
    if there != request:
        if any(path.name != REQUEST_NAME and not path.name.startswith(".") for path in out_dir.iterdir()):
            held = "other files" if there is None else "pictures of other settings"
            raise ConflictError(f"{out_dir.name}: the folder holds {held}; choose another one.")
        _write_text(out_dir / REQUEST_NAME, json.dumps(request, indent=1, sort_keys=True) + "\n")
        return None
    if not (out_dir / DONE_NAME).is_file():
        return None
    data = _read_json(out_dir / INDEX_NAME)
    if data is None or not all((out_dir / row["file"]).is_file() for row in data["images"]):
        (out_dir / DONE_NAME).unlink()
        return None
    return GenerateResult(**{**data, "images": tuple(Image(**row) for row in data["images"])})


def _kept(out_dir: Path, item: _Item) -> PILImage.Image | None:
    found = read_png(out_dir / item.file)
    return found[0] if found is not None and found[1] == item.record else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


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


def _ruler(config: GenerateConfig, info: AdapterInfo, on_event: OnEvent) -> _Ruler:
    if config.likeness == "none":
        return _Ruler(None)
    if info.likeness_engine is None or info.centroid is None:
        text = "this run holds no likeness reference, so its pictures are not ranked"
        on_event(Event("message", {"level": "warning", "text": text}))
        return _Ruler(None)
    try:
        choice = choose_engine(info.likeness_engine, base=info.base, class_noun=info.class_noun)
    except MissingExtraError as error:
        on_event(Event("message", {"level": "warning", "text": f"the pictures are not ranked: {error}"}))
        return _Ruler(None)
    if choice.engine is None:
        on_event(Event("message", {"level": "warning", "text": f"the pictures are not ranked: {choice.reason}"}))
        return _Ruler(None)
    return _Ruler(choice.engine.name, choice.engine, np.asarray(info.centroid, dtype=np.float32), info.class_noun)


class _Progress:
    """Counts finished pictures and tells the time that is left."""

    def __init__(self, total: int, kept: int, on_event: OnEvent) -> None:
        self._total, self._done, self._kept, self._on_event = total, kept, kept, on_event
        self._started_s = self._told_s = time.monotonic()
        self._each_s: float | None = None

    def add(self, pictures: int) -> None:
        self._done += pictures
        self._each_s = (time.monotonic() - self._started_s) / (self._done - self._kept)
        self.tell()

    def tell(self) -> None:
        now_s = self._told_s = time.monotonic()
        eta_s = None
        if self._each_s is not None:
            whole_s = self._each_s * (self._total - self._kept)
            eta_s = round(max(0.0, whole_s - (now_s - self._started_s)), 1)
        data = {"step": self._done, "total": self._total, "eta_s": eta_s, "message": "Making pictures"}
        self._on_event(Event("progress", data))

    def tell_each_second(self) -> None:
        if time.monotonic() - self._told_s >= 1.0:
            self.tell()


# ------------------------------------------------------------------------------------------------- sheet and archive


def _thumbnail(picture: PILImage.Image) -> PILImage.Image:
    """Return a copy that is small enough to keep hundreds of in memory."""
    copy = picture.copy()
    copy.thumbnail((2 * _SHEET_CELL_PX, 2 * _SHEET_CELL_PX))
    return copy


def _write_sheet(out_dir: Path, pictures: Sequence[PILImage.Image], result: GenerateResult, title: str) -> None:
    shown = list(zip(pictures, result.images, strict=True))[:_SHEET_PICTURES]
    captions = []
    for _, image in shown:
        facts = [f"seed {image.seed}"]
        if image.likeness is not None:
            facts.insert(0, f"likeness {image.likeness:.2f}")
        captions.append((image.shot.replace("_", " "), " · ".join(facts)))
    total = len(result.images)
    parts = [f"{total} pictures" if len(shown) == total else f"the first {len(shown)} of {total} pictures"]
    if result.likeness_mean is not None:
        parts += ["most alike first", f"mean likeness {result.likeness_mean:.2f}"]
    sheet = contact_sheet(
        [picture for picture, _ in shown],
        captions,
        columns=max(3, min(8, ceil(sqrt(len(shown) * 1.4)))),
        cell_px=_SHEET_CELL_PX,
        title=title,
        subtitle=" · ".join(parts),
    )
    part = out_dir / f".{SHEET_NAME}.part"
    sheet.save(part, format="PNG")
    os.replace(part, out_dir / SHEET_NAME)


def _write_archive(out_dir: Path, result: GenerateResult, subject: str) -> None:
    """Write all pictures and an index; the same pictures give the same bytes."""
    prefix = _slug(subject)
    rows = [{**asdict(image), "file": f"{prefix}_{image.file}"} for image in result.images]
    index = {
        "subject": subject,
        "likeness_engine": result.likeness_engine,
        "likeness_mean": result.likeness_mean,
        "images": rows,
    }
    part = out_dir / f".{ARCHIVE_NAME}.part"
    # Stored: PNGs do not shrink. One date for all: no clock in the bytes.
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for image in sorted(result.images, key=lambda image: image.file):
            archive.writestr(_zip_entry(f"{prefix}_{image.file}"), (out_dir / image.file).read_bytes())
        archive.writestr(_zip_entry(INDEX_NAME), json.dumps(index, indent=1) + "\n")
    os.replace(part, out_dir / ARCHIVE_NAME)


def _zip_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry
