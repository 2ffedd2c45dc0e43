"""Captions are true and prompts speak their words."""

from studio.pocket.renderer.captions import caption, prompt_for
from studio.pocket.renderer.people import Identity, Scene, sample_identity, sample_scene
from studio.pocket.renderer.words import ATTRIBUTE_PHRASES, CLOTHES, CLOTHING_COLOURS, EXPRESSIONS, GAZES, STYLES

OF_THE_SCENE = ("background", "accessory", "expression", "gaze", "light")
OF_THE_PERSON = (
    "hair_colour",
    "beard",
    "eye_colour",
    "skin",
    "face_shape",
    "eyes",
    "brows",
    "nose",
    "mouth",
    "mark",
    "glasses",
)


def true_phrases(who: Identity, scene: Scene) -> set[str]:
    facts = {ATTRIBUTE_PHRASES[kind][getattr(scene, kind)] for kind in OF_THE_SCENE}
    facts |= {ATTRIBUTE_PHRASES[kind][getattr(who, kind)] for kind in OF_THE_PERSON}
    return facts - {""}


def test_captions_mention_only_what_is_there():
    kinds = OF_THE_SCENE + OF_THE_PERSON
    vocabulary = {phrase for kind in kinds for phrase in ATTRIBUTE_PHRASES[kind].values() if phrase}
    for seed in range(500):
        who, scene = sample_identity(seed), sample_scene(seed)
        text = caption(who, scene, seed)
        padded = f" {text.replace(',', ' ,')} "
        mentioned = {phrase for phrase in vocabulary if f" {phrase} " in padded}
        # "a shirt" is not "a t-shirt", and "a hat" is not said of a "santa hat": phrases start with their article.
        assert mentioned <= true_phrases(who, scene), text
        assert len(text.split()) <= 44, text
        assert who.class_noun in text.split() or f"{who.class_noun}," in text.split()
        clothes = [name for name in CLOTHES if f" {name} " in padded]
        assert clothes in ([], [scene.clothes]), text
        for name, phrase in ATTRIBUTE_PHRASES["hair_style"].items():
            spoken = any(phrase.format(colour=c) in text for c in ("", f"{who.hair_colour} "))
            assert not spoken or name == who.hair_style, text
        styles = [name for name in STYLES[1:] if name in text]
        assert styles == ([] if scene.style == "photo" else [scene.style]), text
        if clothes:
            colours = [c for c in CLOTHING_COLOURS if f" {c} {scene.clothes} " in padded]
            assert colours in ([], [scene.clothing_colour]), text


def test_captions_never_speak_of_eyes_behind_sunglasses():
    for seed in range(300):
        text = caption(sample_identity(seed), sample_scene(seed, accessory="sunglasses"), seed)
        assert " eyes" not in text and "looking" not in text, text


def test_most_captions_name_the_expression_and_a_gaze_to_the_side():
    pairs = [(sample_identity(seed), sample_scene(seed, gaze="left", accessory="none")) for seed in range(400)]
    texts = [(scene, caption(who, scene, seed)) for seed, (who, scene) in enumerate(pairs)]
    assert sum("looking left" in text for _, text in texts) >= 240
    assert sum(ATTRIBUTE_PHRASES["expression"][scene.expression] in text for scene, text in texts) >= 240


def test_a_subject_caption_hides_every_identity_trait():
    hidden = (
        "hair skin eyes eyebrows nose lips mouth face freckles mole scar dimples cheeks spectacles bald beard goatee"
    )
    for seed in range(200):
        text = caption(sample_identity(seed), sample_scene(seed), seed, subject="sks woman")
        assert "sks woman" in text
        assert not set(hidden.split()) & set(text.replace(",", "").split()), text


def test_the_same_seed_gives_the_same_caption_and_others_leave_other_things_out():
    who, scene = sample_identity(3), sample_scene(3)
    assert caption(who, scene, 1) == caption(who, scene, 1)
    assert len({caption(who, scene, seed) for seed in range(10)}) >= 8


def test_prompts_speak_the_words_of_the_captions():
    prompt = prompt_for("woman", background="beach", hair_colour="red", clothing_colour="orange", accessory="crown")
    assert prompt == "photo of a woman with red hair, wearing an orange t-shirt and a crown, at the beach"
    assert prompt_for("sks man", style="comic") == "comic portrait of sks man"
    assert prompt_for("man", background="brick wall") == "photo of a man in front of a brick wall"


def test_prompts_can_ask_for_every_expression_and_gaze():
    prompts = {prompt_for("man", expression=expression, gaze=gaze) for expression in EXPRESSIONS for gaze in GAZES}
    assert len(prompts) == len(EXPRESSIONS) * len(GAZES)
    assert "photo of a man, smiling, looking left" in prompts
