"""The pack format; and every pack that is shipped: its schema, its words, and a run to the end on a tiny base."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from studio import infer
from studio.core.adapters import WEIGHTS_NAME, AdapterInfo, write_info
from studio.core.config import GenerateConfig
from studio.core.domain import Event
from studio.core.errors import InputError
from studio.core.packs import Kind, Pack, Shot, ShotPrompt, fill, guidance_of, require_kind, subject_kind, takes
from studio.core.presets import PRESETS_DIR, list_packs
from studio.core.train_config import TrainConfig
from studio.families.words import Cut
from studio.infer import generate
from studio.pocket.renderer.captions import prompt_for
from studio.pocket.renderer.words import ATTRIBUTE_PHRASES, CLOTHING_COLOURS

PACKS = {pack.name: pack for pack in list_packs()}
POCKET_SHOTS = [(pack.name, shot.name) for pack in PACKS.values() if pack.bases == ("pocket",) for shot in pack.shots]
NOUNS: dict[Kind, str] = {"person": "woman", "animal": "dog", "thing": "teapot"}
TOKENS = {"instance_token": "sks", "class_noun": "woman"}


def pack(**changes: Any) -> Pack:
    """Return a small pack of format 2."""
    data = {
        "name": "small",
        "title": "Small",
        "description": "Two shots.",
        "subjects": ["person", "animal"],
        "negative_prompt": "text",
        "wildcards": {"place": ["at sea", "in town", "at home"], "mood": ["glad", "calm"]},
        "shots": [
            {"name": "one", "prompt": "photo of {subject} {place}", "variants": {"animal": "{mood} {subject}"}},
            {"name": "two", "prompt": "a {class_noun}: {subject}, {mood}", "negative_prompt": "no {class_noun}"},
        ],
    }
    return Pack.parse({**data, **changes})


# -------------------------------------------------------------------------------------------------------- the format


def test_a_shot_takes_its_kinds_own_prompt_and_both_negative_prompts() -> None:
    made = pack(wildcards={"place": ["at sea", "x"], "mood": ["glad", "x"]})
    person, animal = (
        [takes(made, shot, instance_token="sks", class_noun=noun, seed=1, count=1)[0] for shot in made.shots]
        for noun in ("woman", "dog")
    )
    assert person[0].prompt in ("photo of sks woman at sea", "photo of sks woman x")
    assert animal[0].prompt in ("glad sks dog", "x sks dog")
    assert (person[0].negative_prompt, person[1].negative_prompt) == ("text", "text, no woman")


def test_wildcards_are_chosen_by_the_seed_and_all_come_before_one_comes_twice() -> None:
    made = pack()
    shot = made.shots[0]

    def prompts(seed: int, count: int = 6) -> list[str]:
        return [take.prompt for take in takes(made, shot, **TOKENS, seed=seed, count=count)]

    assert prompts(4) == prompts(4)
    assert prompts(4, 2) == prompts(4)[:2]  # how many there are changes none
    assert len(set(prompts(4, 3))) == 3 and prompts(4)[:3] == prompts(4)[3:]
    assert len({prompts(seed)[0] for seed in range(20)}) == 3


def test_wildcards_do_not_depend_on_the_process() -> None:
    made = pack()
    assert takes(made, made.shots[0], **TOKENS, seed=0, count=3) == [
        ShotPrompt(f"photo of sks woman {place}", "text") for place in ("at home", "in town", "at sea")
    ]


def test_guidance_follows_the_base_and_stays_off_where_it_is_off() -> None:
    shot = pack().shots[0].model_copy(update={"guidance_factor": 1.2})
    assert [guidance_of(shot, base) for base in (7.5, 3.5, 1.0, 0.0)] == [9.0, 4.2, 1.0, 0.0]


def test_a_pack_refuses_other_kinds_kindly() -> None:
    assert require_kind(pack(), "young woman") == "person"
    with pytest.raises(InputError, match="small is written for people and animals, and a teapot is a thing; choose"):
        require_kind(pack(), "teapot")


def test_a_pack_of_format_1_is_still_read_and_a_later_one_is_refused() -> None:
    shots = [{"name": "one", "prompt": "photo of {subject}", "aspect": "3:4"}]
    old = Pack.parse({"version": 1, "name": "old", "title": "T", "description": "D", "shots": shots})
    assert (old.format, old.shots[0].aspect) == (2, "3:4")
    with pytest.raises(InputError, match="is of format 3, and this studio reads formats 1 and 2; update it"):
        Pack.parse({"format": 3, "name": "new", "title": "T", "description": "D", "shots": shots})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wildcards": {"place": ["a", "b"]}}, "placeholder {mood} is unknown; use {subject}"),
        ({"wildcards": {"place": ["a", "{mood}"], "mood": ["a", "b"]}}, "wildcard place: placeholder {mood}"),
        ({"wildcards": {"subject": ["a", "b"]}}, "wildcards cannot be called subject"),
        ({"wildcards": {"place": ["a"], "mood": ["a", "b"]}}, "at least 2"),
        ({"subjects": ["person"]}, "shot one has variants for animal"),
        ({"preview": {"shots": ["three"]}}, "preview.shots names three, which is no shot"),
        ({"preview": {"colours": ["red"]}}, "colours"),
        ({"shots": [{"name": "one", "prompt": "a {place} {mood}"}]}, "does not name {subject}; add it"),
        ({"shots": [{"name": "one", "prompt": "{subject} {place} {mood"}]}, "a brace is open"),
        ({"shots": [{"name": "one", "prompt": "{subject} {place}"}]}, "no shot uses the wildcards mood"),
        ({"shots": [{"name": "one", "prompt": "{subject}", "guidance": 3}]}, "use one of: aspect"),
        ({"shots": [{"name": "one", "prompt": "{subject}"}] * 2, "wildcards": {}}, "names must differ"),
    ],
)
def test_what_is_wrong_with_a_pack_is_said_with_its_cure(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        pack(**changes)


def test_all_that_is_wrong_with_a_pack_is_said_at_once() -> None:
    shots = [{"name": "one", "prompt": "a {hat}"}, {"name": "one", "prompt": "{subject}"}]
    with pytest.raises(InputError) as caught:
        pack(shots=shots)
    for words in ("{hat} is unknown", "does not name {subject}", "names must differ", "wildcards place, mood"):
        assert words in str(caught.value)


def test_only_known_placeholders_are_filled() -> None:
    assert fill("{subject} in {place}", instance_token="sks", class_noun="dog") == "sks dog in {place}"


@pytest.mark.parametrize(
    ("noun", "kind"),
    [
        ("young woman", "person"),
        ("Dog", "animal"),
        ("corgi dog", "animal"),
        ("teapot", "thing"),
        ("teddy bear", "thing"),
        ("rubber duck", "thing"),
    ],
)
def test_a_class_noun_names_a_kind_of_subject(noun: str, kind: str) -> None:
    assert subject_kind(noun) == kind


# ------------------------------------------------------------------------------------------------- the shipped packs


def test_the_promised_packs_are_there_with_enough_shots() -> None:
    expected = {
        "business", "classical_painting", "editorial_black_and_white", "fantasy", "four_seasons", "holiday_cards",
        "pencil_and_ink", "pets", "pocket_adventure", "pocket_holidays", "pocket_scenes", "pocket_styles",
        "pocket_wardrobe", "pop_art_and_comic", "product", "science_fiction", "studio_headshot", "travel",
    }  # fmt: skip
    assert set(PACKS) == expected
    assert all(8 <= len(found.shots) <= 16 for found in PACKS.values())


def test_every_kind_of_subject_has_packs_for_any_base() -> None:
    for kind in NOUNS:
        assert sum(kind in found.subjects for found in PACKS.values() if not found.bases) >= 4


@pytest.mark.parametrize("name", PACKS)
def test_a_shipped_pack_says_its_format_licence_author_and_preview(name: str) -> None:
    data = yaml.safe_load((PRESETS_DIR / "packs" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert (data["format"], data["licence"], data["author"]) == (2, "apache-2.0", "Likeness Studio")
    assert len(data["preview"]["shots"]) == 4 and data["preview"]["colours"]


@pytest.mark.parametrize("pack", PACKS.values(), ids=list(PACKS))
def test_every_shot_is_filled_for_its_kinds_of_subject(pack: Pack) -> None:
    for kind, shot in itertools.product(pack.subjects, pack.shots):
        for take in takes(pack, shot, instance_token="sks", class_noun=NOUNS[kind], seed=3, count=5):
            assert not re.search(r"[{}]", take.prompt + take.negative_prompt)
            assert f"sks {NOUNS[kind]}" in take.prompt


@pytest.mark.parametrize("pack", PACKS.values(), ids=list(PACKS))
def test_no_two_shots_of_a_pack_say_the_same(pack: Pack) -> None:
    for kind in pack.subjects:
        assert len({shot.prompt_for(kind) for shot in pack.shots}) == len(pack.shots)


def rewritten(prompt: str) -> str | None:
    """Return ``prompt`` as ``prompt_for`` writes it; None if it does not consist of the renderer's words."""
    # Every phrase that occurs is a candidate ("a hat" also occurs in "a santa hat"), so all combinations are tried.
    candidates: dict[str, list[str | None]] = {}
    for attribute in ("style", "clothes", "accessory", "expression", "background", "light"):
        candidates[attribute] = [None]
        for value, phrase in ATTRIBUTE_PHRASES[attribute].items():
            words = phrase.replace("{colour}", "").removeprefix("a ")
            if words and re.search(rf"\b{re.escape(words)}\b", prompt):
                candidates[attribute].append(value)
    candidates["clothing_colour"] = [None, *(c for c in CLOTHING_COLOURS if re.search(rf"\b{c}\b", prompt))]
    for values in itertools.product(*candidates.values()):
        written = prompt_for("sks woman", **dict(zip(candidates, values, strict=True)))
        if written == prompt:
            return written
    return None


@pytest.mark.parametrize(("pack", "shot"), POCKET_SHOTS)
def test_pocket_shots_use_the_renderers_words_only(pack: str, shot: str) -> None:
    made = PACKS[pack]
    template = next(item for item in made.shots if item.name == shot)
    count = max((len(words) for words in made.wildcards.values()), default=1)  # so that every word comes up
    for take in takes(made, template, **TOKENS, seed=0, count=count):
        assert rewritten(take.prompt) == take.prompt
        assert take.negative_prompt == ""
    assert template.aspect == "1:1"  # pocket never saw another shape


def test_foreign_words_would_be_noticed() -> None:
    assert rewritten("photo of sks woman, wearing a red hoodie, at the beach") is not None
    assert rewritten("photo of sks woman, wearing a red kimono, at the beach") is None
    assert rewritten("photo of sks woman, wearing a red hoodie, at the seaside") is None


@pytest.mark.parametrize("pack", PACKS.values(), ids=list(PACKS))
def test_every_pack_runs_to_its_end(
    pack: Pack, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tiny base reads letter by letter: its 77 tokens are a few words, and a pack's subject may stand behind them.
    monkeypatch.setattr(infer, "cut_off", lambda *_: Cut("", "", ""))
    run, out, events = tmp_path / "run", tmp_path / "out", list[Event]()
    (run / "adapter").mkdir(parents=True)
    (run / "adapter" / WEIGHTS_NAME).touch()  # adapter_scale 0 never opens it
    info = AdapterInfo(
        base=str(tiny_base),
        revision=None,
        family="sd",
        subject="Ada",
        class_noun=NOUNS[pack.subjects[0]],
        instance_token="sks",
        resolution_px=64,
        guidance_scale=4.0,
        num_inference_steps=1,
        likeness_engine=None,
        centroid=None,
        step=1,
    )
    write_info(run / "adapter", info)
    result = generate(GenerateConfig(pack=pack.name, adapter_scale=0.0), run, out, on_event=events.append)
    assert [image.shot for image in result.images] == [shot.name for shot in pack.shots]
    assert len(json.loads((out / "index.json").read_text())["images"]) == len(pack.shots)
    assert (out / "DONE").is_file()
    told = [event.data["text"] for event in events if event.kind == "message"]
    assert not any("written for" in text for text in told if not pack.bases)


# ------------------------------------------------------------------------------------------------------ the document

DOCUMENT = (PRESETS_DIR.parent / "docs" / "PACKS.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """Return the rows of the document's table whose first heading is this."""
    rows = DOCUMENT.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_example_of_the_document_is_a_sound_pack() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    made = Pack.parse({"name": "example", **yaml.safe_load(example)})
    prompts = [take.prompt for take in takes(made, made.shots[0], **TOKENS, seed=0, count=3)]
    assert len(set(prompts)) == 3 and all(prompt.startswith("photo of sks woman on a mountain") for prompt in prompts)


def test_the_document_names_every_key_and_every_pack() -> None:
    keys = re.findall(r"`(\w+)`", " ".join(row[0] for row in table("key of the pack")))
    assert set(keys) == set(Pack.model_fields) - {"name"}
    assert [row[0].strip("`") for row in table("key of a shot")] == list(Shot.model_fields)
    listed = {row[0].strip("`"): int(row[1]) for row in table("shipped")}
    assert listed == {name: len(found.shots) for name, found in PACKS.items()}


def test_no_pack_holds_a_default_trigger_not_even_inside_a_word() -> None:
    """Other programs may look for a trained word inside words, and people read these packs there too."""
    trigger = TrainConfig.model_fields["instance_token"].default
    found = []
    for name, one in PACKS.items():
        texts = [one.negative_prompt, *(word for words in one.wildcards.values() for word in words)]
        for shot in one.shots:
            texts += [shot.prompt, shot.negative_prompt, *shot.variants.values()]
        found += [f"{name}: {text}" for text in texts if trigger in text.lower()]
    assert not found, "\n".join(found)
