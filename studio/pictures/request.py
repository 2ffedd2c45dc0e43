"""From a config to the list of pictures to make: prompts, seeds, sizes, file names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from pathlib import Path
from typing import Any

from studio import __version__
from studio.core.adapters import AdapterInfo, adapter_folder, adapter_sha256, read_info
from studio.core.catalog import BASES, FamilySpec
from studio.core.config import GenerateConfig
from studio.core.domain import Image
from studio.core.errors import InputError, Problem
from studio.core.packs import Pack, Shot, guidance_of, require_kind, takes
from studio.core.presets import load_pack
from studio.core.settings import load_settings
from studio.families import registry
from studio.imaging.bucket import aspect, buckets
from studio.imaging.png import parameters_text
from studio.pictures.render import PictureRequest


def planned(config: GenerateConfig, run_dir: Path) -> list["PictureRequest"]:
    """Return every picture that ``generate`` would make, in order, without making any.

    Raises:
        NotFoundError, InputError: as ``generate``, of everything that is known before a base is loaded.
    """
    weights_dir = adapter_folder(run_dir, config.checkpoint)
    info = read_info(run_dir / "adapter")
    require_reference(config, info)
    sha256 = adapter_sha256(weights_dir)
    return [item.picture_request for item in plan_pictures(config, info, registry.family(info.family).spec, sha256)[0]]


@dataclass(frozen=True, slots=True)
class PlannedPicture:
    """One picture of the plan."""

    file: str
    shot: str
    picture_request: PictureRequest
    record: Mapping[str, Any]
    """Content of the picture's ``likeness_studio`` chunk; a file with another record is not this picture."""

    def texts(self) -> tuple[tuple[str, str], ...]:
        """Return what is read, with its name."""
        return ("prompt", self.picture_request.prompt), ("negative prompt", self.picture_request.negative_prompt)

    def image(self, score: float | None, rank: int, ruler: tuple[str | None, str | None]) -> Image:
        """Return the record of the finished picture; ``ruler`` is name and version of what gave the score."""
        picture_request = self.picture_request
        rounded = None if score is None else round(score, 4)
        return Image(
            self.file,
            self.shot,
            picture_request.prompt,
            picture_request.negative_prompt,
            picture_request.seed,
            rounded,
            rank,
            likeness_engine=ruler[0],
            likeness_version=ruler[1],
            adapter_scale=self.record["adapter_scale"],
        )

    def parameters(self, sampler: str) -> str:
        """Return the settings in the text format that other programs read from a PNG."""
        picture_request = self.picture_request
        return parameters_text(
            prompt=picture_request.prompt,
            negative_prompt=picture_request.negative_prompt,
            seed=picture_request.seed,
            num_inference_steps=picture_request.num_inference_steps,
            guidance_scale=picture_request.guidance_scale,
            sampler=sampler,
            size_hw=picture_request.size_hw,
            model=self.record["base"],
            adapter_sha256=self.record["adapter_sha256"],
            version=__version__,
        )


def plan_pictures(
    config: GenerateConfig, info: AdapterInfo, spec: FamilySpec, sha256: str
) -> tuple[list[PlannedPicture], list[str]]:
    """Return every picture to make, in order, strength by strength, and what the user should know beforehand.

    Args:
        config: what is asked for.
        info: of the adapter.
        spec: of the base's family.
        sha256: of the adapter's weights.
    """
    items: list[PlannedPicture] = []
    remarks: list[str] = []
    for of_one in config.by_strength():
        found, remarks = _plan_one(of_one, info, spec, sha256 if of_one.adapter_scale > 0 else None)
        mark = f"_at_{of_one.adapter_scale:g}" if config.strengths else ""
        items += [replace(item, file=item.file.replace(".png", f"{mark}.png")) for item in found]
    return items, remarks


def _plan_one(
    config: GenerateConfig, info: AdapterInfo, spec: FamilySpec, sha256: str | None
) -> tuple[list[PlannedPicture], list[str]]:
    """Return the pictures of one strength, and what the user should know beforehand."""
    pack, remarks = _pack(config, info)
    if config.negative_prompt and not spec.negative_prompt:
        remarks.append("the negative prompt is ignored: this base does not support one")
    steps = config.num_inference_steps or info.num_inference_steps
    items: list[PlannedPicture] = []
    folders = _folder_names([f"{info.subject}_{shot.name}" for shot in pack.shots])
    for shot, folder in zip(pack.shots, folders, strict=True):
        words = {"instance_token": info.instance_token, "class_noun": info.class_noun}
        found = takes(pack, shot, **words, seed=config.seed, count=config.count)
        size_hw = _size_hw(config, _drawable(shot.aspect, info.base), info.resolution_px, spec.bucket_multiple_px)
        own_guidance = guidance_of(shot, info.guidance_scale)
        for number, take in enumerate(found):
            negative = ", ".join(text for text in (take.negative_prompt, config.negative_prompt) if text)
            picture_request = PictureRequest(
                prompt=take.prompt,
                negative_prompt=negative if spec.negative_prompt else "",
                seed=(config.seed + len(items)) % 2**32,
                size_hw=size_hw,
                num_inference_steps=steps,
                guidance_scale=own_guidance if config.guidance_scale is None else config.guidance_scale,
            )
            record = {
                **asdict(picture_request),
                "size_hw": list(size_hw),
                "shot": shot.name,
                "base": public_name(info.base),
                "revision": info.revision,
                "adapter_sha256": sha256,
                "adapter_scale": config.adapter_scale,
            }
            items.append(PlannedPicture(f"{folder}/{number + 1:03d}.png", shot.name, picture_request, record))
    return items, remarks


def _pack(config: GenerateConfig, info: AdapterInfo) -> tuple[Pack, list[str]]:
    """Return the pack, or one made of the free prompts, and what the user should know of it."""
    remarks: list[str] = []
    if config.pack is None:
        for prompt in config.prompts:
            if "{subject}" not in prompt and not _names_token(prompt, info.instance_token):
                remarks.append(
                    f'the prompt "{prompt}" names neither {{subject}} nor {info.instance_token}: '
                    "its pictures may not show the subject"
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
            f"{public_name(info.base)} may not understand its prompts"
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


def require_reference(config: GenerateConfig, info: AdapterInfo) -> None:
    """Refuse a likeness engine for which the run holds no reference."""
    if info.centroid is None or config.likeness in ("auto", "none", info.likeness_engine):
        return
    problem = Problem(
        "likeness",
        f"the run has a likeness reference for {info.likeness_engine}, not for {config.likeness}",
        f"choose auto, {info.likeness_engine} or none",
        "no_reference",
    )
    raise InputError.of([problem])
