"""Every pack that is shipped: its schema, its words, and a run to the end on a tiny base."""

import itertools
import json
import re
from pathlib import Path

import pytest

from studio.adapters import WEIGHTS_NAME, AdapterInfo, write_info
from studio.config import GenerateConfig
from studio.domain import Event
from studio.infer import generate
from studio.pocket.portraits import ATTRIBUTE_PHRASES, CLOTHING_COLOURS, prompt_for
from studio.presets import Pack, fill, list_packs

PACKS = {pack.name: pack for pack in list_packs()}
POCKET_SHOTS = [(pack.name, shot.name) for pack in PACKS.values() if pack.bases == ("pocket",) for shot in pack.shots]
NOUNS = {"person": "woman", "animal": "dog", "thing": "teapot"}


def test_the_promised_packs_are_there_with_enough_shots() -> None:
    expected = {"pocket_scenes", "pocket_styles", "pocket_wardrobe", "studio_headshot", "pets", "product"}
    assert set(PACKS) >= expected
    assert all(8 <= len(PACKS[name].shots) <= 12 for name in expected)


def test_every_kind_of_subject_has_a_pack_for_any_base() -> None:
    kinds = {kind for pack in PACKS.values() if not pack.bases for kind in pack.subjects}
    assert kinds == set(NOUNS)


@pytest.mark.parametrize("pack", PACKS.values(), ids=list(PACKS))
def test_every_shot_is_filled_for_its_kinds_of_subject(pack: Pack) -> None:
    for kind, shot in itertools.product(pack.subjects, pack.shots):
        for template in (shot.prompt, shot.negative_prompt):
            assert not re.search(r"[{}]", fill(template, instance_token="sks", class_noun=NOUNS[kind]))
        assert f"sks {NOUNS[kind]}" in fill(shot.prompt, instance_token="sks", class_noun=NOUNS[kind])


@pytest.mark.parametrize("pack", PACKS.values(), ids=list(PACKS))
def test_no_two_shots_of_a_pack_say_the_same(pack: Pack) -> None:
    assert len({shot.prompt for shot in pack.shots}) == len(pack.shots)


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
    template = next(item for item in PACKS[pack].shots if item.name == shot)
    prompt = fill(template.prompt, instance_token="sks", class_noun="woman")
    assert rewritten(prompt) == prompt
    assert template.aspect == "1:1"  # pocket never saw another shape
    assert template.negative_prompt == ""


def test_foreign_words_would_be_noticed() -> None:
    assert rewritten("photo of sks woman, wearing a red hoodie, at the beach") is not None
    assert rewritten("photo of sks woman, wearing a red kimono, at the beach") is None
    assert rewritten("photo of sks woman, wearing a red hoodie, at the seaside") is None


@pytest.mark.parametrize("pack", PACKS.values(), ids=list(PACKS))
def test_every_pack_runs_to_its_end(pack: Pack, tiny_base: Path, tmp_path: Path) -> None:
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
    assert not any("not for" in text for text in told)
