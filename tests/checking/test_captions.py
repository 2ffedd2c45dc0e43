from pathlib import Path

import pytest
from PIL import Image

from studio.checking import captions
from studio.checking.captions import clean_caption
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Six scenes of one drawn person, 320 px."""
    identity = sample_identity(HELD_OUT_SEED + 1, "woman")
    scenes = [sample_scene(HELD_OUT_SEED + n, style="photo") for n in range(6)]
    return [Image.fromarray(render(identity, scene, 320)) for scene in scenes]


@pytest.mark.parametrize(
    ("raw", "caption"),
    [
        ("photo of {subject} at home", "photo of {instance_token} {class_noun} at home"),
        ("{instance_token} in snow", "{instance_token} in snow"),
        ("Adam and ada's dog", "Adam and {instance_token} {class_noun}'s dog"),
        ("{{instance_token}} {0.__class__}", "{instance_token} 0.__class__"),
        ("\u202e\x00", None),
    ],
)
def test_caption_keeps_known_placeholders_only(raw: str, caption: str | None) -> None:
    assert clean_caption(raw, "Ada") == caption


@pytest.mark.parametrize(
    ("subject", "raw"),
    [
        ("O'Neil", "portrait of o\u2019neil in snow"),
        ("J. R.", "portrait of J. R. in snow"),
        ("Ben & Jo", "portrait of Ben  &  Jo in snow"),
        ("Zoe\u0308", "portrait of Zoë in snow"),
    ],
)
def test_a_name_with_signs_in_it_never_reaches_a_model(subject: str, raw: str) -> None:
    assert clean_caption(raw, subject) == "portrait of {instance_token} {class_noun} in snow"


def test_caption_has_a_limit() -> None:
    caption = clean_caption("word " * 5000, "Ada")
    assert caption is not None
    assert len(caption) < 600


def test_caption_of_a_drawn_portrait_names_the_scene_and_never_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: list[Image.Image]
) -> None:
    import torch

    from studio.pocket.identity import AttributeClassifier, save

    heads = {
        "background": ("beach", "forest"),
        "accessory": ("none", "crown"),
        "hair_colour": ("black", "red"),
        "clothing_colour": ("red", "blue"),
        "style": ("photo", "comic"),
    }
    classifier = AttributeClassifier(heads, 64, (8, 16, 16, 16), 16)
    with torch.no_grad():
        for name, head in classifier.heads.items():
            head.weight.zero_()
            # The clothing's colour stays a guess (even odds); everything else is certain of its second value.
            head.bias.copy_(torch.tensor([0.0, 0.0 if name == "clothing_colour" else 9.0]))
    save(classifier, tmp_path / "attributes")
    monkeypatch.setattr(captions, "POCKET_FOLDER", tmp_path)
    caption = captions.DrawnCaptions().describe(pictures[0])
    assert caption == "comic portrait of {instance_token} {class_noun}, wearing a crown, in a forest"
