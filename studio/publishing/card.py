"""The model card of what is published: facts in, README.md out; every word of the user's escaped.

The front matter is ``huggingface_hub``'s own ModelCardData; its tags and its gallery are what makes the Hub show a
repository as a LoRA. Called by ``studio.publish``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from yaml import YAMLError

from studio import __version__
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME, AdapterInfo
from studio.core.catalog import FAMILIES, LicenceSpec
from studio.core.packs import subject_phrase
from studio.core.units import likeness_sentence, likeness_text

_MARKDOWN = re.compile(r"([\\`*_{}\[\]>|~$])|^([#+\-]|\d+(?=[.)](?:\s|$)))")
_ENGINES = {
    "pocket": "the embedded encoder for drawn portraits",
    "face": "dlib's face embedding",
    "sface": "SFace (OpenCV's model zoo, Apache-2.0)",
    "subject": "DINOv2",
}


@dataclass(frozen=True, slots=True)
class GalleryPicture:
    """One picture of the gallery."""

    file: str
    """Path in the repository."""
    prompt: str


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a card says."""

    repo: str
    title: str
    about: str
    form: str
    """adapter, merged or single_file."""
    info: AdapterInfo
    base_title: str
    base_on_hub: str | None
    """The base's id on the Hub; None for others."""
    base_words: str
    """Title of the base for sentences, where it is not on the Hub."""
    licence_id: str
    licence: LicenceSpec
    pictures: tuple[GalleryPicture, ...]
    files: tuple[str, ...]
    """Other files in the repository."""
    is_dora: bool = False
    """Whether the adapter has magnitudes of its own."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """step, likeness_before, likeness, bleed, engine, pictures; missing or None where not measured."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Words -> value, for a table."""


def escaped(text: str) -> str:
    """Return text that Markdown and HTML show as it is: no emphasis, no links, no tags, no headings."""
    plain = " ".join(text.split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(lambda match: f"{match[2]}\\" if match[2] and match[2].isdecimal() else f"\\{match[0]}", plain)


def escaped_lines(text: str) -> str:
    """Return text as ``escaped`` does, with its line breaks and its paragraphs kept."""
    paragraphs = text.split("\n\n")
    # A line of = or - alone would make a heading of the one above it.
    lines = [[re.sub(r"^(?==+$)", r"\\", escaped(line)) for line in part.split("\n")] for part in paragraphs]
    return "\n\n".join("<br>\n".join(part) for part in lines)


def model_card(facts: CardFacts) -> str:
    """Return the text of README.md."""
    return f"---\n{_front_matter(facts).to_yaml()}\n---\n\n{_body(facts)}"


def _front_matter(facts: CardFacts) -> ModelCardData:
    tag = FAMILIES[facts.info.family].hub_tag
    tags = ["text-to-image", "diffusers", "diffusers-training", "likeness-studio", tag, f"{tag}-diffusers"]
    if facts.form == "adapter":
        tags += ["lora", "template:sd-lora"]  # these two make it a LoRA on the Hub, with a gallery
    elif facts.form == "merged":
        tags.append("dreambooth")
    named: dict[str, Any] = {}
    if facts.licence.on_hub == "other":
        named = {"license_name": facts.licence_id, "license_link": facts.licence.link}
    if facts.base_on_hub:
        named["base_model_relation"] = "adapter" if facts.form == "adapter" else "finetune"
    return ModelCardData(
        license=facts.licence.on_hub,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        base_model=facts.base_on_hub,
        tags=tags,
        instance_prompt=_instance_prompt(facts.info),
        widget=[{"text": picture.prompt, "output": {"url": picture.file}} for picture in facts.pictures] or None,
        **named,
    )


def _instance_prompt(info: AdapterInfo) -> str:
    return f"photo of {subject_phrase(info.instance_token, info.class_noun)}"


def _body(facts: CardFacts) -> str:
    info = facts.info
    phrase = subject_phrase(info.instance_token, info.class_noun)
    base = f"[{escaped(facts.base_title)}](https://huggingface.co/{facts.base_on_hub})" if facts.base_on_hub else ""
    base = base or escaped(facts.base_words)
    what = "A LoRA adapter" if facts.form == "adapter" else "A whole text-to-image model"
    parts = [f"# {escaped(facts.title)}"]
    if facts.pictures:
        parts.append("<Gallery />")
    parts.append(
        f"{what} that draws one {escaped(info.class_noun)}, trained with Likeness Studio {__version__} on {base}."
    )
    if facts.about:
        parts.append(escaped_lines(facts.about))
    parts += [
        "## Trigger words",
        f"Write `{phrase}` in the prompt, for example `{_instance_prompt(info)}`. "
        f"`{info.class_noun}` alone still means any {info.class_noun}.",
        "## How to use it",
        _diffusers_words(facts),
        _other_programs(facts),
        "## Likeness",
        _measured_words(facts),
    ]
    if facts.training:
        parts += ["## Training", _table(facts.training)]
    parts += ["## Licence", _licence_words(facts), "## Consent", _consent_words(info)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _diffusers_words(facts: CardFacts) -> str:
    info, family = facts.info, FAMILIES[facts.info.family]
    embeds = _embeds_file(facts)
    imports = [f"from diffusers import {family.pipeline}"]
    if embeds:
        imports.append("from transformers import AddedToken")
    if facts.form == "adapter":
        if facts.base_on_hub:
            revision = f", revision={info.revision!r}" if info.revision else ""
            opened = f"{facts.base_on_hub!r}{revision}"
        elif info.base == "pocket":
            imports.append("from studio.core.catalog import POCKET_FOLDER  # the base comes with Likeness Studio")
            opened = "POCKET_FOLDER"
        else:
            opened = f"{'path/to/' + info.base!r}"
        lines = [
            *imports,
            "",
            f"pipeline = {family.pipeline}.from_pretrained({opened})",
            f"pipeline.load_lora_weights({facts.repo!r}, weight_name={WEIGHTS_NAME!r})",
        ]
    elif facts.form == "merged":
        lines = [*imports, "", f"pipeline = {family.pipeline}.from_pretrained({facts.repo!r})"]
    else:
        file = next(name for name in facts.files if name.endswith(".safetensors") and "/" not in name)
        lines = [
            *imports,
            "from huggingface_hub import hf_hub_download",
            "",
            f"pipeline = {family.pipeline}.from_single_file(hf_hub_download({facts.repo!r}, {file!r}))",
        ]
    if embeds:
        token = info.instance_token
        lines += [
            f"pipeline.load_textual_inversion({facts.repo!r}, weight_name={embeds!r}, token={token!r})",
            "# Only as a word of its own: diffusers would find it inside other words, too.",
            f"words = [word for word in pipeline.tokenizer.get_added_vocab() if word.startswith({token!r})]",
            "pipeline.tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])",
        ]
    lines += [
        "picture = pipeline(",
        f"    {_instance_prompt(info)!r},",
        f"    num_inference_steps={info.num_inference_steps},",
        f"    {family.guidance}={info.guidance_scale:g},",
        f"    height={info.resolution_px},",
        f"    width={info.resolution_px},",
        *(['    negative_prompt="",'] if family.guidance == "true_cfg_scale" else []),  # needed for guidance
        ").images[0]",
    ]
    return "With [diffusers](https://github.com/huggingface/diffusers):\n\n```python\n" + "\n".join(lines) + "\n```"


def _embeds_file(facts: CardFacts) -> str | None:
    """Return the file with the trained word that diffusers reads; None without one or where the model holds it."""
    if facts.form == "adapter":
        return EMBEDS_NAME if EMBEDS_NAME in facts.files else None
    return next((name for name in facts.files if name.startswith("embeddings/")), None)


def _other_programs(facts: CardFacts) -> str:
    if facts.form == "adapter":
        kohya = next((name for name in facts.files if name.startswith("kohya/") and name.count("/") == 1
                      and name.endswith(".safetensors")), None)  # fmt: skip
        file = f"put `{kohya or WEIGHTS_NAME}` into `models/loras`{' (`models/Lora` of A1111)' if kohya else ''}"
        lines = [f"- ComfyUI, A1111, Forge: {file} and load it with the base at strength 1."]
        if facts.is_dora and kohya:
            lines = [
                f"- ComfyUI: put `{kohya}` into `models/loras` and load it with the base at strength 1. It is a DoRA "
                "(`dora_scale`), which A1111 computes in another way: export the run for it with Likeness Studio as "
                "one model (`export --format single_file`)."
            ]
        if not kohya and (facts.is_dora or FAMILIES[facts.info.family].denoiser == "unet"):
            # They know a UNet's layers by kohya's names, and no magnitudes of peft's: of this file they would load a
            # part, without a word.
            lines = [
                f"- ComfyUI, A1111 and Forge cannot read all of `{WEIGHTS_NAME}`: export the run with Likeness Studio "
                "as one model (`export --format single_file`, or `merged` where the base has no such file)."
            ]
        embeds = next((name for name in facts.files if name.startswith("kohya/embeddings/")), None)
        if embeds:
            word = embeds.rsplit("/", 1)[-1].removesuffix(".safetensors")
            lines.append(
                f"  The trigger word was trained too: put `{embeds}` into `models/embeddings` (`embeddings` of A1111) "
                f"and write `embedding:{word} {facts.info.class_noun}` in ComfyUI."
            )
        lines.append(
            "- Likeness Studio: "
            f'`python -m studio generate --adapter {facts.repo} --prompt "photo of {{subject}}" --out pictures`.'
        )
        return "\n".join(lines)
    if facts.form == "merged":
        return f"- Likeness Studio: use it as a base for training: `--base {facts.repo}`."
    return "- ComfyUI, A1111, Forge: put the `.safetensors` file into `models/checkpoints` (`models/Stable-diffusion`)."


def _measured_words(facts: CardFacts) -> str:
    measured = facts.measured
    summary, before = measured.get("summary") or {}, measured.get("summary_before") or {}
    if measured.get("likeness") is None:
        return "Likeness was not measured."
    engine = str(measured.get("engine"))
    version = f" (version {summary['version']})" if summary else ""
    caveat = f"{escaped(summary['caveat'])} " if summary.get("caveat") else ""
    rows: dict[str, Any] = {
        "Likeness before training": _likeness_words(before, measured.get("likeness_before")),
        f"Likeness at step {measured['step']}": _likeness_words(summary, measured["likeness"]),
        "Bleed": likeness_text(measured.get("bleed"), "not measured"),
    }
    return (
        f"{_table(rows)}\n\n"
        f"Measured with {_ENGINES.get(engine, engine)}{version} on {measured['pictures']} pictures of fixed prompts "
        "and seeds, against the mean embedding of the photos. A likeness of 0 is a random other subject of the class, "
        "1 is a held-out photo of the subject, and no more is shown. Bleed is how much likeness rose in pictures of "
        "the bare class noun, where it should not. "
        f"{caveat}This repository contains neither the embedding nor any photo."
    )


def _likeness_words(summary: Mapping[str, Any], mean: float | None) -> str:
    """Return a mean with its spread, its word and the number of measured pictures, as far as they are known."""
    return likeness_sentence(summary or {"mean": mean}).removeprefix("likeness ")


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {escaped(str(key))} | {escaped(str(value))} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _licence_words(facts: CardFacts) -> str:
    licence = facts.licence
    named = f"[{escaped(licence.title)}]({licence.link})" if licence.link else escaped(licence.title)
    words = [f"This model was trained from {escaped(facts.base_title)} and carries its licence: {named}."]
    if licence.notice:
        words.append(escaped(licence.notice))
    if not licence.commercial:
        words.append("Not for commercial use.")
    return " ".join(words)


def _consent_words(info: AdapterInfo) -> str:
    noun = escaped(info.class_noun)
    return (
        f"This model shows one particular {noun}. Use it only with the consent of the person shown, or of the owner of "
        "the animal or thing. Do not make pictures that deceive, degrade or harm anybody, and label every picture as "
        "AI-generated. If you are shown here and did not agree, ask for removal in the Community tab."
    )


def check_card(text: str, files: Sequence[str]) -> list[str]:
    """Return what is wrong with a finished card: front matter that cannot be read, a gallery without its files."""
    try:
        data = ModelCard(text).data.to_dict()
    except (ValueError, TypeError, AttributeError, YAMLError) as error:
        return [f"its front matter cannot be read ({' '.join(str(error).split())[:200]})"]
    wrong = [
        f"it has no {name}" for name in ("license", "tags", "instance_prompt", "pipeline_tag") if not data.get(name)
    ]
    shown = [row["output"]["url"] for row in data.get("widget") or ()]
    return wrong + [f"its gallery shows {name}, which does not exist" for name in shown if name not in files]
