import numpy as np
import pytest
from PIL import Image

from studio.checking import seen as module
from studio.checking.judge import CandidatePhoto
from studio.checking.seen import Seen, consent_missing, contradiction, guess, guessed_finding, sum_up
from studio.core.config import CheckConfig
from studio.imaging.faces import Face


@pytest.mark.parametrize(
    ("seen", "noun"),
    [
        (Seen(5, 5, drawn=False), "person"),
        (Seen(4, 2, drawn=False), "person"),
        (Seen(5, 2, drawn=False), "thing"),
        (Seen(0, 0, drawn=False), "thing"),
        (Seen(5, 0, drawn=True, drawn_noun="man"), "man"),
        (Seen(5, 0, drawn=True), "person"),
    ],
)
def test_the_class_noun_is_guessed_from_faces_and_the_guess_is_said(seen: Seen, noun: str) -> None:
    assert guess(seen) == noun
    found = guessed_finding(seen, noun)
    assert found.message.endswith(f"so they are taken as photos of a {noun}") and "woman, man, dog" in found.cure


@pytest.mark.parametrize(
    ("noun", "seen", "message"),
    [
        ("woman", Seen(5, 0, drawn=False), "no face was found in any of 5 photos of a woman"),
        ("young man", Seen(5, 2, drawn=False), "no face was found in more than 2 of 5 photos of a young man"),
        ("boy", Seen(1, 0, drawn=False), "no face was found in the photo of a boy"),
        ("dog", Seen(5, 4, drawn=False), "a face of a person was found in 4 of 5 photos of a dog"),
    ],
)
def test_a_class_noun_that_does_not_fit_what_was_seen_is_told(noun: str, seen: Seen, message: str) -> None:
    found = contradiction(seen, noun)
    assert found is not None and found.message == message


@pytest.mark.parametrize(
    ("noun", "seen"),
    [
        ("woman", Seen(5, 5, drawn=False)),
        ("woman", Seen(5, 3, drawn=False)),
        ("woman", Seen(5, 0, drawn=True)),
        ("dog", Seen(5, 1, drawn=False)),
        ("woman", Seen(0, 0, drawn=False)),
    ],
)
def test_a_class_noun_that_fits_is_no_word_worth(noun: str, seen: Seen) -> None:
    assert contradiction(seen, noun) is None


def test_the_nets_of_drawings_are_asked_about_people_only(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(name: str) -> None:
        raise AssertionError("a dog needs no net of drawn faces")

    monkeypatch.setattr(module, "get_engine", asked)
    smooth = Image.fromarray(np.full((300, 300, 3), 90, np.uint8))
    candidate = CandidatePhoto(tmp_path / "1.jpg", "1.jpg", look=smooth, faces=(Face((1, 1, 9, 9), 2.0),))
    assert sum_up(CheckConfig(class_noun="dog"), [candidate]) == Seen(1, 1, drawn=False)
    with pytest.raises(AssertionError):
        sum_up(CheckConfig(likeness="pocket"), [candidate])


def test_photographed_people_need_a_word_that_they_agree() -> None:
    seen = Seen(5, 5, drawn=False)
    found = consent_missing(CheckConfig(class_noun="woman"), seen)
    assert found is not None and found.code == "no_consent" and not found.serious
    assert consent_missing(CheckConfig(class_noun="woman", consent=True), seen) is None
    assert consent_missing(CheckConfig(class_noun="dog"), seen) is None
    assert consent_missing(CheckConfig(class_noun="woman"), Seen(5, 0, drawn=True)) is None
    assert consent_missing(CheckConfig(class_noun="woman"), Seen(5, 0, drawn=False)) is None
