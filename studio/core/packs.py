"""Prompt packs: the format of ``presets/packs/*.yaml``, and how a pack becomes prompts.

A pack is a set of shots. It says which kinds of subject and which bases it is for; a shot may say a kind's own prompt,
its shape, what must not be in it, and how closely its prompt is followed. Words in braces are filled in: ``{subject}``,
``{class_noun}``, ``{instance_token}``, and the pack's own wildcards, which a seed chooses. The format is open and
described in docs/PACKS.md. Ground level: pydantic only; ``studio.core.presets`` finds and reads the files.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from studio.core.domain import PERSON_NOUNS
from studio.core.errors import InputError, Problem
from studio.core.strict import StrictModel, Text, Word

FORMAT = 2
"""The newest format that this studio reads."""

Kind = Literal["person", "animal", "thing"]
"""Kind of subject; the class noun decides."""

Aspect = Literal["1:1", "4:5", "5:4", "3:4", "4:3", "2:3", "3:2", "9:16", "16:9"]
"""Width to height."""

Prompt = Annotated[Text, Field(min_length=1, max_length=1000)]
Placeholder = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]

_BUILT_IN = ("subject", "class_noun", "instance_token")
_BRACES = re.compile(r"\{([^{}]*)\}")


class Shot(StrictModel):
    """One prompt template of a pack."""

    name: Word
    """Short name, used for files."""
    prompt: Prompt
    """Template with {subject} (instance token and class noun), {class_noun} or a wildcard of the pack."""
    variants: dict[Kind, Prompt] = Field(default_factory=dict)
    """Prompts for kinds of subject that need other words; the others take prompt."""
    negative_prompt: Text = Field(default="", max_length=1000)
    """What the picture must not show, beside what the pack says; sent only to bases that know negative prompts."""
    aspect: Aspect = "1:1"
    """Width to height; a base that draws fewer shapes takes the nearest."""
    guidance_factor: float = Field(default=1.0, ge=0.25, le=2.0)
    """Multiplies the base's own guidance, whatever its scale; above 1 follows the prompt more closely."""

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ").replace("-", " ")

    def prompt_for(self, kind: Kind) -> str:
        """Return the template for a kind of subject."""
        return self.variants.get(kind, self.prompt)


class Preview(StrictModel):
    """How a pack is shown before anything is made with it."""

    shots: tuple[Word, ...] = Field(default=(), max_length=4)
    """Shots that show best what the pack is about; empty means the first ones."""
    colours: tuple[Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")], ...] = Field(default=(), max_length=3)
    """Colours of the pack's card, as #rrggbb."""


class Pack(StrictModel):
    """One file of presets/packs."""

    format: Literal[2] = 2
    """Version of the format."""
    name: Word
    """The file's name without its ending."""
    title: Text = Field(min_length=1, max_length=80)
    """What the user sees."""
    description: Text = Field(min_length=1, max_length=300)
    """One sentence about the pack."""
    licence: Text = "apache-2.0"
    """Licence of the pack's texts, an SPDX id."""
    author: Text = ""
    """Who wrote it."""
    bases: tuple[Text, ...] = ()
    """Bases that it is written for; empty = any."""
    subjects: tuple[Kind, ...] = Field(default=("person",), min_length=1)
    """Kinds of subject that it is written for; others are refused."""
    negative_prompt: Text = Field(default="", max_length=1000)
    """What no picture of the pack must show."""
    wildcards: dict[Placeholder, Annotated[tuple[Prompt, ...], Field(min_length=2, max_length=64)]] = Field(
        default_factory=dict
    )
    """Name of a placeholder -> the words that a seed chooses from."""
    preview: Preview = Preview()
    """How the pack is shown."""
    shots: tuple[Shot, ...] = Field(min_length=1, max_length=64)
    """The shots, in order."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_known_format(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        # Format 1 called itself version and held a part of what format 2 holds.
        number = data.pop("version", data.get("format", FORMAT))
        if number not in (1, FORMAT):
            raise ValueError(
                f"is of format {number}, and this studio reads formats 1 and {FORMAT}; update it, or write {FORMAT}"
            )
        return {**data, "format": FORMAT}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        wrong = [*self._twice(), *self._strange_words(), *self._strange_names()]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _twice(self) -> Iterable[str]:
        names = [shot.name for shot in self.shots]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            yield f"shot names must differ; these do not: {', '.join(twice)}"

    def _strange_words(self) -> Iterable[str]:
        taken = sorted(set(self.wildcards) & set(_BUILT_IN))
        if taken:
            yield f"wildcards cannot be called {', '.join(taken)}; choose other names"
        known = (*_BUILT_IN, *self.wildcards)
        for name, words in self.wildcards.items():
            for word in words:
                yield from _unknown(f"wildcard {name}", word, _BUILT_IN)
        yield from _unknown("the pack's negative_prompt", self.negative_prompt, known)
        for shot in self.shots:
            yield from _unknown(f"shot {shot.name}", shot.negative_prompt, known)
            for template in (shot.prompt, *shot.variants.values()):
                yield from _unknown(f"shot {shot.name}", template, known)
                if "{subject}" not in template and "{instance_token}" not in template:
                    yield f"shot {shot.name}: the prompt {template!r} does not name {{subject}}; add it"

    def _strange_names(self) -> Iterable[str]:
        for shot in self.shots:
            foreign = sorted(set(shot.variants) - set(self.subjects))
            if foreign:
                kinds = " and ".join(foreign)
                yield f"shot {shot.name} has variants for {kinds}; add that to subjects, or leave the variants out"
        names = {shot.name for shot in self.shots}
        missing = [name for name in self.preview.shots if name not in names]
        if missing:
            yield f"preview.shots names {', '.join(missing)}, which is no shot of the pack; use names of its shots"
        used = " ".join(
            text for shot in self.shots for text in (shot.prompt, shot.negative_prompt, *shot.variants.values())
        )
        idle = [name for name in self.wildcards if f"{{{name}}}" not in used + self.negative_prompt]
        if idle:
            yield f"no shot uses the wildcards {', '.join(idle)}; leave them out"

    def previewed(self) -> tuple[Shot, ...]:
        """Return the shots that show what the pack is about, at most four."""
        if not self.preview.shots:
            return self.shots[:4]
        by_name = {shot.name: shot for shot in self.shots}
        return tuple(by_name[name] for name in self.preview.shots)


def _unknown(where: str, template: str, known: Sequence[str]) -> Iterable[str]:
    """Yield what is wrong with a template's braces."""
    names = _BRACES.findall(template)
    for name in names:
        if name not in known:
            yield f"{where}: placeholder {{{name}}} is unknown; use {', '.join(f'{{{k}}}' for k in known)}"
    if re.search(r"[{}]", _BRACES.sub("", template)):
        yield f"{where}: a brace is open in {template!r}; close it"


# ------------------------------------------------------------------------------------------------- a pack at work


@dataclass(frozen=True, slots=True)
class ShotPrompt:
    """One picture of a shot, in words."""

    prompt: str
    negative_prompt: str


def require_kind(pack: Pack, class_noun: str) -> Kind:
    """Return the kind of subject that the pack is used for.

    Raises:
        InputError: it is not written for this kind.
    """
    kind = subject_kind(class_noun)
    if kind not in pack.subjects:
        kinds = " and ".join(_PLURALS[name] for name in pack.subjects)
        problem = Problem(
            "pack",
            f"{pack.name} is written for {kinds}, and a {class_noun} is {_ARTICLES[kind]}",
            "choose a pack for its kind, or write prompts of your own",
            "other_kind",
        )
        raise InputError.of([problem])
    return kind


_PLURALS = {"person": "people", "animal": "animals", "thing": "things"}
_ARTICLES = {"person": "a person", "animal": "an animal", "thing": "a thing"}


def takes(pack: Pack, shot: Shot, *, instance_token: str, class_noun: str, seed: int, count: int) -> list[ShotPrompt]:
    """Fill a shot in for several pictures.

    Wildcards: each goes through its words in an order that the seed shuffles, so that no word comes twice before every
    one was there. What a picture gets depends on the seed, the names and its own number only, not on other shots or on
    how many pictures there are.

    Args:
        pack: that the shot is of.
        shot: the template.
        instance_token: the word that means the subject.
        class_noun: what the subject is; chooses the variant.
        seed: in [0, 2**32).
        count: number of pictures.
    """
    template = shot.prompt_for(subject_kind(class_noun))
    orders: dict[str, list[str]] = {}
    for name, words in pack.wildcards.items():
        # A text as the seed: Python's hash of a tuple differs between processes.
        orders[name] = random.Random(f"{seed}/{pack.name}/{shot.name}/{name}").sample(words, len(words))
    found = []
    for number in range(count):
        chosen = {name: order[number % len(order)] for name, order in orders.items()}

        def filled(text: str, chosen: Mapping[str, str] = chosen) -> str:
            return fill(_replaced(text, chosen), instance_token=instance_token, class_noun=class_noun)

        negative = ", ".join(text for text in (pack.negative_prompt, shot.negative_prompt) if text)
        found.append(ShotPrompt(filled(template), filled(negative)))
    return found


def guidance_of(shot: Shot, base_guidance: float) -> float:
    """Return the guidance of a shot; a base that is drawn without guidance (up to 1) stays without."""
    return base_guidance if base_guidance <= 1 else round(base_guidance * shot.guidance_factor, 3)


def subject_phrase(instance_token: str, class_noun: str) -> str:
    """Return the words that stand for {subject} in prompts."""
    return f"{instance_token} {class_noun}"


def token_as_placeholder(text: str, instance_token: str) -> str:
    """Return a caption in which the instance token, written out by somebody, is the placeholder that it stands for.

    Otherwise the captions of the class would name the subject, too.
    """
    word = rf"(?<![\w{{]){re.escape(instance_token)}(?![\w}}])"
    return re.sub(word, lambda _: "{instance_token}", text, flags=re.IGNORECASE)


def fill(template: str, *, instance_token: str, class_noun: str) -> str:
    """Fill a shot's or caption's placeholders.

    Only the known placeholders are replaced, so that braces in free prompts stay as they are.
    """
    subject = subject_phrase(instance_token, class_noun)
    return _replaced(template, {"subject": subject, "class_noun": class_noun, "instance_token": instance_token})


def _replaced(template: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template


def subject_kind(class_noun: str) -> Kind:
    """Return the kind of subject that a class noun names."""
    words = class_noun.lower().split()
    if words[-1] in PERSON_NOUNS:
        return "person"
    # A teddy bear and a rubber duck are things.
    return "animal" if words[-1] in _ANIMALS and not _MADE.intersection(words) else "thing"


_ANIMALS = frozenset(
    (
        "animal", "pet", "dog", "puppy", "cat", "kitten", "horse", "pony", "foal", "donkey", "bird", "parrot", "budgie",
        "canary", "chicken", "duck", "goose", "owl", "rabbit", "bunny", "hamster", "rat", "ferret", "hedgehog", "pig",
        "piglet", "cow", "calf", "sheep", "lamb", "goat", "fox", "wolf", "bear", "lion", "tiger", "monkey", "turtle",
        "tortoise", "lizard", "gecko", "snake", "frog", "fish", "goldfish", "terrier", "poodle", "retriever",
        "labrador", "spaniel", "dachshund", "corgi", "husky", "shepherd", "bulldog", "pug", "beagle", "collie",
        "chihuahua", "tabby",
    )
)  # fmt: skip
_MADE = frozenset(("toy", "plush", "stuffed", "teddy", "rubber", "wooden", "ceramic", "porcelain", "knitted", "robot"))
