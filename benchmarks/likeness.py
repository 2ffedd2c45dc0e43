"""Does training on the embedded base carry a person over, does it still obey, and does it leave other people alone?

For each held-out drawn identity: 8 photos -> check -> train -> generate, all through the studio's own verbs, then
likeness, attribute following and bleed against the untrained base with the same prompts and seeds. Run it with::

    python -m benchmarks.likeness --identities 10 --sheet /tmp/sheets

It goes on where it was stopped: every verb's folder and every finished identity is kept in ``--work``, below a name
that changes with the settings and the base. Results: ``benchmarks/results/likeness.json``.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from studio import __version__
from studio.bases.resolve import Base, resolve_base
from studio.check import check, load_dataset
from studio.compute.device import cpu_threads
from studio.core.adapters import read_info
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import Dataset, Event, TrainResult
from studio.core.packs import subject_phrase
from studio.core.presets import dump, load_preset, override, parse_assignments
from studio.core.settings import load_settings
from studio.core.train_config import TrainConfig
from studio.imaging.sheet import contact_sheet
from studio.infer import generate
from studio.likeness.base import Embeddings, LikenessEngine, likeness
from studio.likeness.base import centroid as centroid_of
from studio.likeness.registry import get_engine
from studio.pictures.render import load_pipeline, render_prompts
from studio.pocket.identity import AttributeClassifier, load_classifier
from studio.pocket.renderer.captions import prompt_for
from studio.pocket.renderer.people import Identity, Scene, sample_identity, sample_scene, twin
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import CLASS_NOUNS, HELD_OUT_SEED
from studio.train import train

FIRST_SEED = HELD_OUT_SEED + 5_000
"""Seed of the first identity; away from those that the demo and the recipe's own report draw."""
PHOTOS = 8
PHOTO_PX = 512
PICTURES_PER_PROMPT = 2
CLASS_PROMPTS = 4
"""The bare class prompt is asked for so many times, PICTURES_PER_PROMPT pictures each."""
SEED = 1_000

ASKED: tuple[dict[str, str], ...] = (
    {"background": "beach", "accessory": "glasses", "clothing_colour": "red"},
    {"background": "forest", "accessory": "scarf", "clothing_colour": "blue"},
    {"background": "city", "accessory": "headphones", "clothing_colour": "yellow"},
    {"background": "snow", "accessory": "hat", "clothing_colour": "green"},
    {"background": "library", "accessory": "crown", "clothing_colour": "purple"},
    {"background": "mountains", "accessory": "headband", "clothing_colour": "orange"},
    {"background": "office", "accessory": "earrings", "clothing_colour": "black"},
    {"background": "garden", "accessory": "flower", "clothing_colour": "white"},
    {"background": "brick wall", "accessory": "cap", "clothing_colour": "pink"},
    {"background": "night sky", "accessory": "party hat", "clothing_colour": "blue"},
    {"background": "desert", "accessory": "glasses", "clothing_colour": "brown"},
    {"background": "plain grey", "accessory": "scarf", "clothing_colour": "red"},
)
"""What the prompts ask for; never a trait of the person."""

LETTERS = "ABCDEF"
"""Names of the faces among which the person stands on the sheet of twins."""

TARGETS = {
    "likeness_after": (">=", 0.7),
    "twin_margin": (">=", 0.3),
    "following_ratio": (">=", 0.85),
    "bleed": ("<=", 0.15),
}
"""What the project promises of the means."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that is the same for all identities."""

    config: TrainConfig
    base: Base
    work: Path
    engine: LikenessEngine
    classifier: AttributeClassifier
    guidance_scale: float
    num_inference_steps: int
    photos: int = PHOTOS
    """Photos of each person that the run learns from."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    # The photos are drawn; whether the studio sees that by itself is another test's matter.
    changes = {"likeness": "pocket", "certify": False, **parse_assignments(options.set)}
    config = override(load_preset(options.preset).config, changes)
    base = resolve_base(config.base, config.revision)
    bench = opened_bench(config, base, options.work)
    with cpu_threads(load_settings().threads):
        rows: list[dict[str, Any]] = []
        untrained = {
            noun: untrained_pictures(bench, noun)
            for noun in dict.fromkeys(noun_of(number) for number in range(options.identities))
        }
        for number in range(options.identities):
            rows.append(row_of(bench, number, untrained[noun_of(number)]))
            say(f"{number + 1}/{options.identities} {json.dumps(summary(rows[-1]))}")
            report = report_of(bench, options, rows)
            write(options.out, json.dumps(report, indent=1) + "\n")
    say(json.dumps(report["mean"], indent=1))
    if options.sheet is not None:
        options.sheet.mkdir(parents=True, exist_ok=True)
        for name, sheet in (("likeness", sheet_of(bench, rows, untrained)), ("twins", twin_sheet_of(bench, rows))):
            path = options.sheet / f"{name}.png"
            sheet.save(path)
            say(f"sheet: {path}")
    return 0 if all(entry["met"] for entry in report["targets"].values()) else 1


def opened_bench(config: TrainConfig, base: Base, work: Path, *, photos: int = PHOTOS) -> Bench:
    """Return the bench of these settings, with a folder of its own below ``work``."""
    return Bench(
        config=config,
        base=base,
        work=work / settings_digest(config, base, photos)[:12],
        engine=get_engine("pocket", base.folder),
        classifier=load_classifier(base.folder / "attributes"),
        guidance_scale=base.spec.guidance_scale if config.guidance_scale is None else config.guidance_scale,
        num_inference_steps=base.spec.num_inference_steps,
        photos=photos,
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--identities", type=int, default=10, help="number of held-out people")
    parser.add_argument("--preset", default="pocket_lora_cpu", help="training preset")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a training setting")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "likeness.json")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "likeness-benchmark")
    parser.add_argument("--sheet", type=Path, default=None, help="folder that receives likeness.png and twins.png")
    options = parser.parse_args(arguments)
    if options.identities < 1:
        parser.error("--identities must be at least 1")
    return options


# ------------------------------------------------------------------------------------------------- what is asked for


def noun_of(number: int) -> str:
    return CLASS_NOUNS[number % len(CLASS_NOUNS)]


def prompts_for(subject: str, class_noun: str) -> list[str]:
    """Return the prompts about the subject, then the bare class prompt several times."""
    return [*(prompt_for(subject, **asked) for asked in ASKED), *[prompt_for(class_noun)] * CLASS_PROMPTS]


def seeds() -> list[int]:
    """Return one seed per picture, counted on as ``generate`` does."""
    return [SEED + index for index in range((len(ASKED) + CLASS_PROMPTS) * PICTURES_PER_PROMPT)]


def of_subject(values: Any) -> Any:
    """Return the part of one value per picture that belongs to the prompts about the subject."""
    return values[: len(ASKED) * PICTURES_PER_PROMPT]


def of_class(values: Any) -> Any:
    """Return the part of one value per picture that belongs to the bare class prompt."""
    return values[len(ASKED) * PICTURES_PER_PROMPT :]


# ---------------------------------------------------------------------------------------------------------- measuring


def untrained_pictures(bench: Bench, class_noun: str) -> list[Image.Image]:
    """Return what the base alone makes of all prompts; the same for every identity of the class."""
    path = bench.work / f"untrained_{class_noun}.npz"
    if not path.exists():
        say(f"pictures of the untrained base: {class_noun}")
        subject = subject_phrase(bench.config.instance_token, class_noun)
        pictures = render_prompts(
            load_pipeline(bench.config.base, bench.base.revision),
            [prompt for prompt in prompts_for(subject, class_noun) for _ in range(PICTURES_PER_PROMPT)],
            seeds(),
            size_hw=(bench.base.spec.resolution_px,) * 2,
            num_inference_steps=bench.num_inference_steps,
            guidance_scale=bench.guidance_scale,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}")
        with part.open("wb") as file:
            np.savez(file, pictures=np.stack([np.asarray(picture) for picture in pictures]))
        os.replace(part, path)
    with np.load(path) as data:
        return [Image.fromarray(picture) for picture in data["pictures"]]


def row_of(bench: Bench, number: int, before: Sequence[Image.Image]) -> dict[str, Any]:
    """Return the finished row of one identity, made now or in an earlier run."""
    folder = folder_of(bench, number)
    path = folder / "row.json"
    if path.exists():
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return row
    identity = sample_identity(FIRST_SEED + number, noun_of(number))
    config = bench.config.model_copy(
        update={"subject": subject_of(number), "class_noun": identity.class_noun, "seed": number}
    )
    draw_photos(folder / "photos", identity, bench.photos)
    timer = Timer()
    dataset = checked(folder, config)
    timer.lap("check_s")
    trained = train(config, folder / "dataset", folder / "run", on_event=teller(f"identity {number}"))
    timer.lap("train_s")
    made = generate(
        GenerateConfig(
            prompts=tuple(prompts_for(subject_phrase(config.instance_token, identity.class_noun), identity.class_noun)),
            count=PICTURES_PER_PROMPT,
            seed=SEED,
            num_inference_steps=bench.num_inference_steps,
            guidance_scale=bench.guidance_scale,
            likeness="none",
        ),
        folder / "run",
        folder / "pictures",
    )
    timer.lap("generate_s")
    after = [opened(folder / "pictures" / image.file) for image in sorted(made.images, key=lambda image: image.seed)]
    row = {
        "identity_seed": identity.seed,
        "class_noun": identity.class_noun,
        "photos": len(dataset.photos),
        **asdict_of(trained),
        **timer.laps,
        **measured(bench, identity, folder / "run", before, after),
    }
    write(path, json.dumps(row, indent=1) + "\n")
    return row


def photo_scene(identity: Identity, index: int) -> Scene:
    seed = HELD_OUT_SEED + 10_000 + (identity.seed - FIRST_SEED) * PHOTOS + index
    return sample_scene(seed, style="photo", accessory="none")


def draw_photos(folder: Path, identity: Identity, count: int) -> None:
    """Draw what a user would bring: one person in different scenes, nothing on the head."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"photo_{index + 1}.jpg"
        if not path.exists():
            picture = Image.fromarray(render(identity, photo_scene(identity, index), PHOTO_PX))
            part = path.with_suffix(".part")
            picture.save(part, format="JPEG", quality=92)
            os.replace(part, path)


def checked(folder: Path, config: TrainConfig) -> Dataset:
    if (folder / "dataset" / "DONE").exists():
        return load_dataset(folder / "dataset")
    checking = CheckConfig(subject=config.subject, class_noun=config.class_noun, likeness="pocket")
    return check(checking, folder / "photos", folder / "dataset")


def asdict_of(trained: TrainResult) -> dict[str, Any]:
    kept = ("steps", "best_step", "best_reason", "checkpoints")
    return {key: value for key, value in asdict(trained).items() if key in kept}


def measured(
    bench: Bench, identity: Identity, run_dir: Path, before: Sequence[Image.Image], after: Sequence[Image.Image]
) -> dict[str, Any]:
    """Return likeness, following and bleed of one identity, and what drawings of the person themselves score."""
    reference = read_info(run_dir / "adapter").centroid
    if reference is None:
        raise SystemExit("the run holds no likeness reference; train with likeness=auto or pocket")
    centroid = np.asarray(reference, dtype=np.float32)
    drawn = [
        Image.fromarray(
            render(identity, sample_scene(HELD_OUT_SEED + 90_000 + index, style="photo", **asked), PHOTO_PX)
        )
        for index, asked in enumerate(ASKED)
        for _ in range(PICTURES_PER_PROMPT)
    ]
    unseen = bench.engine.embed(drawn)
    another_face = twin(identity, identity.seed)
    twin_photos = [
        Image.fromarray(render(another_face, photo_scene(identity, index), PHOTO_PX)) for index in range(PHOTOS)
    ]
    twin_centroid = centroid_of(bench.engine.embed(twin_photos))
    embeddings = {name: bench.engine.embed(pictures) for name, pictures in (("before", before), ("after", after))}
    scores = {name: scored(bench, rows, centroid, identity.class_noun) for name, rows in embeddings.items()}
    np.savez(run_dir.parent / "embeddings.npz", after=of_subject(embeddings["after"]), centroid=centroid)
    return {
        "likeness_before": mean(of_subject(scores["before"])),
        "likeness_after": mean(of_subject(scores["after"])),
        "likeness_drawn": mean(scored(bench, unseen, centroid, identity.class_noun)),
        "likeness_to_drawn": mean(
            of_subject(scored(bench, embeddings["after"], centroid_of(unseen), identity.class_noun))
        ),
        "likeness_to_twin": mean(of_subject(scored(bench, embeddings["after"], twin_centroid, identity.class_noun))),
        "not_measured": int(np.isnan(of_subject(embeddings["after"])).any(axis=1).sum()),
        "likeness_after_per_prompt": [mean(part) for part in np.split(of_subject(scores["after"]), len(ASKED))],
        "following_before": following(bench.classifier, of_subject(before)),
        "following_after": following(bench.classifier, of_subject(after)),
        "following_drawn": following(bench.classifier, drawn),
        "class_likeness_before": mean(of_class(scores["before"])),
        "class_likeness_after": mean(of_class(scores["after"])),
        "bleed": round(mean(of_class(scores["after"])) - mean(of_class(scores["before"])), 4),
    }


def scored(bench: Bench, embeddings: Embeddings, centroid: NDArray[np.float32], class_noun: str) -> NDArray[np.float32]:
    return likeness(embeddings, centroid, bench.engine.scale(class_noun))


def following(classifier: AttributeClassifier, pictures: Sequence[Image.Image]) -> dict[str, float]:
    """Return for each attribute the share of pictures in which the classifier finds what was asked for."""
    side = classifier.config["size_px"]
    resized = [picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS) for picture in pictures]
    pixels = torch.from_numpy(np.stack([np.asarray(picture, np.float32) for picture in resized]) / 127.5 - 1)
    found = classifier.classify(pixels.permute(0, 3, 1, 2))
    asked = [entry for entry in ASKED for _ in range(PICTURES_PER_PROMPT)]
    return {
        head: float(np.mean([entry[head] == name for entry, name in zip(asked, found[head], strict=True)]))
        for head in ASKED[0]
    }


# ---------------------------------------------------------------------------------------------------------- reporting


def summary(row: Mapping[str, Any]) -> dict[str, Any]:
    before, after = (mean(list(row[f"following_{when}"].values())) for when in ("before", "after"))
    return {
        "likeness_before": row["likeness_before"],
        "likeness_after": row["likeness_after"],
        "likeness_drawn": row["likeness_drawn"],
        "likeness_to_twin": row["likeness_to_twin"],
        "twin_margin": round(row["likeness_after"] - row["likeness_to_twin"], 4),
        "following_before": before,
        "following_after": after,
        "bleed": row["bleed"],
        "train_s": row["train_s"],
    }


def report_of(bench: Bench, options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    summaries = [summary(row) for row in rows]
    means: dict[str, Any] = {key: mean([entry[key] for entry in summaries]) for key in summaries[0]}
    means["following_ratio"] = round(means["following_after"] / max(means["following_before"], 1e-9), 4)
    for when in ("before", "after", "drawn"):
        heads = rows[0][f"following_{when}"]
        means[f"following_{when}_by_attribute"] = {
            head: mean([row[f"following_{when}"][head] for row in rows]) for head in heads
        }
    means["likeness_after_lowest"] = min(entry["likeness_after"] for entry in summaries)
    means["bleed_highest"] = max(entry["bleed"] for entry in summaries)
    means["likeness_to_others"] = likeness_to_others(bench, rows)
    compared = {">=": lambda value, target: value >= target, "<=": lambda value, target: value <= target}
    return {
        "benchmark": "likeness",
        "finished": len(rows) == options.identities,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "mean": means,
        "targets": {
            key: {"value": means[key], "target": f"{sign} {target}", "met": bool(compared[sign](means[key], target))}
            for key, (sign, target) in TARGETS.items()
        },
        "machine": machine(),
        "versions": {
            "likeness-studio": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "diffusers", "transformers", "peft", "numpy", "pillow")},
        },
        "preset": options.preset,
        "overrides": parse_assignments(options.set),
        "train_config": bench.config.model_dump(mode="json"),
        "base": {"name": bench.base.spec.title, "sha256": base_digest(bench.base)},
        "generate": {
            "guidance_scale": bench.guidance_scale,
            "num_inference_steps": bench.num_inference_steps,
            "first_seed": SEED,
            "pictures_per_prompt": PICTURES_PER_PROMPT,
            "prompts": prompts_for(subject_phrase(bench.config.instance_token, "woman"), "woman"),
        },
        "identities": list(rows),
    }


def likeness_to_others(bench: Bench, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean likeness of each identity's pictures to every other identity of its class; about 0 is right."""
    stored = []
    for number in range(len(rows)):
        with np.load(folder_of(bench, number) / "embeddings.npz") as data:
            stored.append((data["after"], data["centroid"]))
    values = [
        mean(scored(bench, stored[one][0], stored[other][1], rows[one]["class_noun"]))
        for one in range(len(rows))
        for other in range(len(rows))
        if one != other and rows[one]["class_noun"] == rows[other]["class_noun"]
    ]
    return mean(values) if values else None


def sheet_of(
    bench: Bench, rows: Sequence[Mapping[str, Any]], untrained: Mapping[str, Sequence[Image.Image]]
) -> Image.Image:
    """Return one line per identity: three photos, two pictures of the untrained base, six of the adapted one."""
    pictures: list[Image.Image] = []
    captions: list[Sequence[str]] = []
    shown = range(0, 6 * PICTURES_PER_PROMPT, PICTURES_PER_PROMPT)
    for number, row in enumerate(rows):
        folder = folder_of(bench, number)
        for index in range(1, 4):
            pictures.append(
                opened(folder / "photos" / f"photo_{index}.jpg").resize((256, 256), Image.Resampling.LANCZOS)
            )
            captions.append((f"{row['class_noun']} {row['identity_seed']}", "photo"))
        for index in shown[:2]:
            pictures.append(untrained[row["class_noun"]][index])
            captions.append(("before", f"mean {row['likeness_before']:.2f}"))
        for index in shown:
            shot = f"{subject_of(number)}_prompt_{index // PICTURES_PER_PROMPT + 1}"
            pictures.append(opened(folder / "pictures" / shot / "001.png"))
            asked = ASKED[index // PICTURES_PER_PROMPT]
            words = f"{asked['background']}, {asked['accessory']}, {asked['clothing_colour']}"
            captions.append((words, f"mean {row['likeness_after']:.2f}, bleed {row['bleed']:.2f}"))
    return contact_sheet(pictures, captions, columns=11, cell_px=128, title="Likeness of held-out identities")


def twin_sheet_of(bench: Bench, rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Return one line per identity: three pictures of the trained base, then the person among five twins.

    All six are drawn in one scene. Whoever looks says which of them the pictures show; the subtitle has the answers.
    """
    pictures: list[Image.Image] = []
    captions: list[Sequence[str]] = []
    answers: list[str] = []
    for number, row in enumerate(rows):
        identity = sample_identity(row["identity_seed"], row["class_noun"])
        for index in range(0, 3 * PICTURES_PER_PROMPT, PICTURES_PER_PROMPT):
            shot = f"{subject_of(number)}_prompt_{index // PICTURES_PER_PROMPT + 1}"
            pictures.append(opened(folder_of(bench, number) / "pictures" / shot / "001.png"))
            captions.append((f"{row['class_noun']} {row['identity_seed']}", "made"))
        place = number * 5 % len(LETTERS)
        people = [twin(identity, seed) for seed in range(len(LETTERS) - 1)]
        people.insert(place, identity)
        scene = sample_scene(HELD_OUT_SEED + 70_000 + number, style="photo", accessory="none", background="plain grey")
        for letter, person in zip(LETTERS, people, strict=True):
            pictures.append(Image.fromarray(render(person, scene, 128)))
            captions.append((f"drawn, {letter}", ""))
        answers.append(LETTERS[place])
    subtitle = (
        f"{len(LETTERS) - 1} of each line's six faces are twins under the same hair; answers: {' '.join(answers)}"
    )
    return contact_sheet(
        pictures, captions, columns=3 + len(LETTERS), cell_px=128, title="Who is it?", subtitle=subtitle
    )


# -------------------------------------------------------------------------------------------------------- small tools


class Timer:
    """Seconds between laps, by the clock and, as ``..._cpu_s``, of the processor: those bear company on the machine."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last_s, self._last_cpu_s = time.monotonic(), time.process_time()

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap."""
        now_s, now_cpu_s = time.monotonic(), time.process_time()
        self.laps[name] = round(now_s - self._last_s, 2)
        self.laps[name.replace("_s", "_cpu_s")] = round(now_cpu_s - self._last_cpu_s, 2)
        self._last_s, self._last_cpu_s = now_s, now_cpu_s


def teller(name: str) -> Any:
    """Return a listener that says each checkpoint's likeness."""

    def tell(event: Event) -> None:
        if event.kind == "metrics" and event.data.get("likeness") is not None:
            say(f"  {name}, step {event.data['step']}: likeness {event.data['likeness']:.2f}")

    return tell


def mean(values: Any) -> float:
    """Return the mean of what is measured; NaN stands for a picture without subject."""
    return round(float(np.nanmean(values)), 4)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def subject_of(number: int) -> str:
    return f"Id{number:02d}"


def folder_of(bench: Bench, number: int) -> Path:
    return bench.work / f"identity_{number:02d}"


def settings_digest(config: TrainConfig, base: Base, photos: int = PHOTOS) -> str:
    """Return a digest of everything that a row depends on."""
    facts = [
        dump(config),
        base_digest(base),
        ASKED,
        photos,
        PHOTO_PX,
        PICTURES_PER_PROMPT,
        CLASS_PROMPTS,
        SEED,
        FIRST_SEED,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def base_digest(base: Base) -> str:
    digest = hashlib.sha256()
    for path in sorted(base.folder.rglob("*.safetensors")):
        digest.update(path.relative_to(base.folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def machine() -> dict[str, Any]:
    names = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "system": platform.system(),
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
