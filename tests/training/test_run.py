import pytest
from PIL import Image

from studio.core.packs import token_as_placeholder
from studio.training.run import PreparedPhoto, class_caption


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("photo of {instance_token} {class_noun}", "photo of a woman"),
        ("photo of a {instance_token} {class_noun} at the beach", "photo of a woman at the beach"),
        ("{subject}, {instance_token}", "a woman,"),
        ("a drawing", "a drawing"),
    ],
)
def test_a_class_caption_speaks_of_the_class_only(template: str, expected: str) -> None:
    assert class_caption(template, "woman") == expected
    assert class_caption("photo of {subject}", "old man") == "photo of an old man"


@pytest.mark.parametrize("caption", ["photo of sks woman, many tasks", "photo of SKS {class_noun}, many tasks"])
def test_a_token_that_somebody_wrote_into_a_caption_is_not_in_the_captions_of_the_class(caption: str) -> None:
    template = token_as_placeholder(caption, "sks")
    assert class_caption(template, "woman") == "photo of a woman, many tasks"
    assert token_as_placeholder("a {instance_token} and {class_noun}", "instance_token") == (
        "a {instance_token} and {class_noun}"
    )


def test_the_net_hears_of_the_photos_size_and_of_what_was_cut_off() -> None:
    picture = Image.new("RGB", (64, 96))  # width, height

    def framing(source_hw: tuple[int, int] | None) -> tuple[int, ...]:
        return PreparedPhoto(picture, picture, "2:3", "a", "b", source_hw).framing

    assert framing(None) == (96, 64, 0, 0, 96, 64)
    assert framing((960, 640)) == (960, 640, 0, 0, 96, 64)
    assert framing((960, 700)) == (960, 700, 0, 3, 96, 64), (
        "70 px wide after resizing, of which 3 are cut off each side"
    )
