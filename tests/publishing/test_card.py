"""Model cards: read back by the Hub's own classes, with hostile words of the user's, for every base of the catalog."""

import re
from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME, AdapterInfo
from studio.core.catalog import BASES, FAMILIES, LICENCES, licence_spec
from studio.core.config import PublishConfig
from studio.core.errors import InputError
from studio.publishing.card import CardFacts, GalleryPicture, check_card, escaped, escaped_lines, model_card

HOSTILE = '"]}: [x](javascript:alert(1)) <script>alert(1)</script> ![i](http://evil) `a` **b** | # &amp; --- $x$ {y}'
INFO = AdapterInfo(
    base="sdxl", revision="a" * 40, family="sdxl", subject="Ada", class_noun="woman", instance_token="sks",
    resolution_px=1024, guidance_scale=5.0, num_inference_steps=30, likeness_engine=None, centroid=None, step=400,
)  # fmt: skip
FACTS = CardFacts(
    repo="ada/portrait",
    title="Ada",
    about="",
    form="adapter",
    info=INFO,
    base_title="Stable Diffusion XL",
    base_on_hub="stabilityai/stable-diffusion-xl-base-1.0",
    base_words="sdxl",
    licence_id="openrail++",
    licence=licence_spec("openrail++"),
    pictures=(GalleryPicture("gallery/01.png", "photo of sks woman"),),
    files=(WEIGHTS_NAME, EMBEDS_NAME, "kohya/Ada.safetensors", "kohya/embeddings/sks.safetensors", "gallery/01.png"),
    measured={"step": 400, "likeness_before": 0.04, "likeness": 0.83, "bleed": 0.05, "engine": "face", "pictures": 4},
    training={"method": "lora, rank 16, attention", "learning rate": 1e-4},
)


def code_of(text: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(block, "card", "exec")
    return block


def test_a_card_says_what_the_hub_and_people_want_to_know() -> None:
    text = model_card(FACTS)
    data = ModelCard(text).data
    assert data.base_model == "stabilityai/stable-diffusion-xl-base-1.0" and data.license == "openrail++"
    assert data.instance_prompt == "photo of sks woman" and data.pipeline_tag == "text-to-image"
    assert {"lora", "diffusers", "text-to-image", "template:sd-lora", "stable-diffusion-xl"} <= set(data.tags)
    assert data.widget == [{"text": "photo of sks woman", "output": {"url": "gallery/01.png"}}]
    for words in (
        "<Gallery />",
        "`sks woman`",
        "0.83",
        "0.05",
        "dlib",
        "held-out",
        "models/loras",
        "--adapter",
        "consent",
    ):
        assert words in text
    code = code_of(text)
    assert "load_lora_weights('ada/portrait'" in code and "load_textual_inversion" in code and INFO.revision in code
    assert check_card(text, FACTS.files) == []


@pytest.mark.parametrize("form", ["adapter", "single_file"])
def test_the_code_of_a_card_makes_the_trained_word_a_word_of_its_own(form: str) -> None:
    files = (*FACTS.files, "Ada.safetensors", "embeddings/sks.safetensors")
    code = code_of(model_card(replace(FACTS, form=form, files=files)))
    said = code.index("load_textual_inversion"), code.index("AddedToken(word, single_word=True, normalized=True)")
    assert said == tuple(sorted(said)) and "from transformers import AddedToken" in code
    assert "AddedToken" not in code_of(model_card(replace(FACTS, files=(WEIGHTS_NAME,))))


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("form", ["adapter", "merged", "single_file"])
def test_every_base_has_a_card_that_the_hub_takes(hub: Any, name: str, form: str) -> None:
    row = BASES[name]
    info = replace(INFO, base=name, family=row.family)
    files = {"adapter": (WEIGHTS_NAME,), "merged": ("model_index.json",), "single_file": ("Ada.safetensors",)}[form]
    on_hub = None if name == "pocket" else row.source
    text = model_card(
        replace(FACTS, form=form, info=info, base_title=row.title, base_on_hub=on_hub, files=(*files, "gallery/01.png"),
                licence_id=row.licence, licence=licence_spec(row.licence))
    )  # fmt: skip
    ModelCard(text).validate()
    assert hub.asked("POST", "/api/validate-yaml") == [200]
    assert check_card(text, ("gallery/01.png",)) == []
    assert FAMILIES[row.family].pipeline in code_of(text) and escaped(LICENCES[row.licence].title) in text
    assert ("template:sd-lora" in text) == (form == "adapter")
    assert LICENCES[row.licence].commercial or "Not for commercial use." in text


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("flux", "IN NO EVENT SHALL BLACK FOREST LABS INC. BE LIABLE"),
        ("flux", "The model was modified by training"),
        ("sd35", "Powered by Stability AI."),
        ("sd35", "licensed under the Stability AI Community License, Copyright © Stability AI Ltd."),
        ("sdxl", "The use restrictions in its Attachment A go with every copy."),
    ],
)
def test_the_notice_that_a_licence_wants_beside_every_copy_is_there(base: str, words: str) -> None:
    row = BASES[base]
    info = replace(INFO, base=base, family=row.family)
    text = model_card(replace(FACTS, info=info, licence_id=row.licence, licence=licence_spec(row.licence)))
    assert escaped(words) in text


def test_words_of_the_user_stay_words() -> None:
    text = model_card(
        replace(FACTS, title=HOSTILE, about=f"# {HOSTILE}", pictures=(GalleryPicture("gallery/01.png", HOSTILE),))
    )
    card = ModelCard(text)
    assert card.data.widget == [{"text": HOSTILE, "output": {"url": "gallery/01.png"}}]
    assert card.data.license == "openrail++" and card.data.tags == ModelCard(model_card(FACTS)).data.tags
    body = card.text
    assert "<script" not in body and "![i]" not in body and not re.search(r"(?<!\\)\]\(javascript", body)
    assert re.findall(r"^#+ .*", body, re.MULTILINE)[1:] == re.findall(r"^#+ .*", model_card(FACTS), re.MULTILINE)[1:]
    assert check_card(text, FACTS.files) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1. one", "1\\. one"), ("- a-b", "\\- a-b"), ("a_b *c*", "a\\_b \\*c\\*"), ("<b>&amp;", "&lt;b\\>&amp;amp;")],
)
def test_escaping_touches_only_what_markdown_would_take_for_its_own(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_card_whose_gallery_or_front_matter_is_broken_is_found() -> None:
    assert check_card(model_card(FACTS), ()) == ["its gallery shows gallery/01.png, which does not exist"]
    assert any("license" in line for line in check_card("---\ntags: [a]\n---\n", ()))
    assert check_card("---\n[\n---\n", ()) != []


def test_what_is_not_measured_is_not_made_up() -> None:
    text = model_card(replace(FACTS, measured={}, training={}))
    assert "Likeness was not measured." in text and "## Training" not in text


def test_licences_outside_the_table_are_read_by_their_names() -> None:
    assert not licence_spec("cc-by-nc-nd-4.0").derivatives and not licence_spec("cc-by-nc-4.0").commercial
    assert licence_spec("mit").derivatives and licence_spec("mit").commercial
    assert {row.licence for row in BASES.values()} <= set(LICENCES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_card_sends_nobody_to_a_file_that_other_programs_read_in_part(family: str) -> None:
    info = replace(INFO, family=family)
    without = model_card(replace(FACTS, info=info, files=(WEIGHTS_NAME,)))
    sent = f"put `{WEIGHTS_NAME}` into" in without
    assert sent == (FAMILIES[family].denoiser != "unet")
    assert ("cannot read all of" in without and "export --format single_file" in without) == (not sent)
    assert "put `kohya/Ada.safetensors` into" in model_card(replace(FACTS, info=info))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_card_sends_people_with_a_dora_to_what_reads_it(family: str) -> None:
    dora = replace(FACTS, info=replace(INFO, family=family), is_dora=True)
    words = model_card(dora)
    assert "- ComfyUI: put `kohya/Ada.safetensors` into" in words and "ComfyUI, A1111, Forge: put" not in words
    assert "A1111 computes in another way" in words
    without = model_card(replace(dora, files=(WEIGHTS_NAME,)))
    assert f"put `{WEIGHTS_NAME}` into" not in without and "cannot read all of" in without


def test_the_card_says_spread_word_version_and_how_many_were_measured() -> None:
    summary = {"mean": 0.83, "spread": 0.07, "word": "alike", "measured": 3, "pictures": 4, "version": "7"}
    measured = {"step": 400, "likeness_before": None, "likeness": 0.83, "bleed": None, "engine": "face", "pictures": 4}
    words = model_card(replace(FACTS, measured={**measured, "summary": summary}))
    assert "0.83 ± 0.07 (alike), 3 of 4 pictures measured" in words and "(version 7)" in words
    assert "Mind the gap" not in words
    cautious = model_card(replace(FACTS, measured={**measured, "summary": {**summary, "caveat": "Mind the gap."}}))
    assert "where it should not. Mind the gap. This repository" in cautious
    assert "| Likeness before training | not measured |" in words and "| Bleed | not measured |" in words


def test_about_keeps_its_lines_and_paragraphs_and_makes_no_headings() -> None:
    text = escaped_lines("One *line*.\nAnother.\n\n# Not a heading\n===\n---")
    assert text == "One \\*line\\*.<br>\nAnother.\n\n\\# Not a heading<br>\n\\===<br>\n\\---"
    about = PublishConfig.parse({"repo": "a/b", "about": "One.\r\n Two.\t\n\n\n\nThree.\n"}).about
    assert about == "One.\nTwo.\n\nThree."
    assert "One.<br>\nTwo.\n\nThree." in model_card(replace(FACTS, about=about))
    with pytest.raises(InputError, match="control characters"):
        PublishConfig.parse({"repo": "a/b", "about": "One.\x00"})
