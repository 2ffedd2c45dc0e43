"""Captions of training photos: from a text file beside the photo, or of drawn portraits from their attributes."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio.core.catalog import POCKET_FOLDER
from studio.core.errors import InputError, Problem
from studio.core.text import decode_text
from studio.imaging.decode import display_name

ATTRIBUTE_MIN_PROBABILITY = 0.8
"""Confidence below which an attribute is left out of captions."""


_SCENE_ATTRIBUTES = ("background", "accessory", "clothing_colour", "clothes", "style", "expression", "light")
"""Never identity: the instance token does not learn what the caption already names."""


_SIDECAR_BYTES = 8192


_CAPTION_CHARACTERS = 500


PLAIN_CAPTION = "photo of {instance_token} {class_noun}"


_APOSTROPHES, _HYPHENS = "['`\u2018\u2019\u02bc\u00b4]", "[-\u2010\u2011]"


def captions_beside(photos: Sequence[Path], subject: str) -> dict[Path, str | None]:
    """Return the captions that lie beside photos, cleaned: ``1.txt`` or ``1.jpg.txt`` for ``1.jpg``, in any case.

    The subject's name becomes the instance token, so that it never reaches a model; the three placeholders may be used
    and one of them is put in front where none is.

    Raises:
        InputError: lists every caption whose encoding cannot be told.
    """
    folders = {photo.parent for photo in photos}
    texts = {_alike(path): path for folder in folders for path in folder.iterdir() if path.suffix.lower() == ".txt"}
    captions: dict[Path, str | None] = {}
    problems = []
    for photo in photos:
        names = (photo.with_suffix(".txt"), photo.with_name(f"{photo.name}.txt"))
        path = next((texts[_alike(name)] for name in names if _alike(name) in texts), None)
        if path is None:
            continue
        try:
            with path.open("rb") as file:
                data = file.read(_SIDECAR_BYTES)
                is_cut = bool(file.read(1))
            captions[photo] = clean_caption(decode_text(data, is_cut=is_cut), subject)
        except OSError as error:
            reason = error.strerror or "unknown reason"
            message = f"the caption cannot be read ({reason})"
            cure = "check the file and its permissions"
            problems.append(Problem(display_name(path.name), message, cure, "bad_caption"))
        except ValueError:
            message = "the encoding of the caption cannot be determined"
            problems.append(Problem(display_name(path.name), message, "save the file as UTF-8", "bad_caption"))
    if problems:
        raise InputError.of(problems)
    return captions


def _alike(path: Path) -> str:
    """Return what the spellings of a name on different systems have in common."""
    return str(path.parent / unicodedata.normalize("NFC", path.name).casefold())


def clean_caption(raw: str, subject: str) -> str | None:
    """Return a user's caption as one line with placeholders; None if nothing is left of it."""
    text = unicodedata.normalize("NFC", raw)
    text = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).split())
    text = text.replace("\ufffd", "")
    slot = "{instance_token} {class_noun}"
    text = text.replace("{subject}", slot)
    text = re.sub(_said_as(subject), slot, text, flags=re.IGNORECASE)
    text = re.sub(r"\{(?!(?:instance_token|class_noun)\})|(?<!\{instance_token)(?<!\{class_noun)\}", "", text)
    text = text[:_CAPTION_CHARACTERS].strip()
    if not text:
        return None
    if "{instance_token}" not in text:
        text = f"{PLAIN_CAPTION}, {text}"
    return text


def _said_as(subject: str) -> str:
    """Return a pattern that finds a name in a caption, whichever apostrophes and hyphens it is typed with."""
    letters = {"'": _APOSTROPHES, "\u2019": _APOSTROPHES, "-": _HYPHENS, "\u2010": _HYPHENS, " ": r"\s+"}
    name = "".join(letters.get(c, re.escape(c)) for c in unicodedata.normalize("NFC", subject))
    return rf"(?<!\w){name}(?!\w)"


class DrawnCaptions:
    """Captions of drawn portraits in the words that the pocket base was trained with."""

    def __init__(self) -> None:
        from studio.pocket.identity import load_classifier

        try:
            self._classifier: Any = load_classifier(POCKET_FOLDER / "attributes")
        except OSError:
            self._classifier = None

    def describe(self, picture: Image.Image) -> str:
        """Return a caption that names what is seen of the scene with confidence."""
        from studio.pocket.renderer.captions import prompt_for

        if self._classifier is None:
            return PLAIN_CAPTION
        return prompt_for("{instance_token} {class_noun}", **self._scene(picture))

    def noun(self, pictures: Sequence[Image.Image]) -> str | None:
        """Return what most of the portraits show, woman or man; None if that is not known."""
        if self._classifier is None or "class_noun" not in self._classifier.config["heads"]:
            return None
        named = [self._classifier.classify(_pixels(picture))["class_noun"][0] for picture in pictures]
        return max(sorted(set(named)), key=named.count, default=None)

    def _scene(self, picture: Image.Image) -> dict[str, str]:
        import torch

        with torch.no_grad():
            logits = self._classifier(_pixels(picture))
        names: Mapping[str, Sequence[str]] = self._classifier.config["heads"]
        seen = {}
        for head in _SCENE_ATTRIBUTES:
            if head in logits:
                probability, index = logits[head][0].softmax(-1).max(-1)
                if float(probability) >= ATTRIBUTE_MIN_PROBABILITY:
                    seen[head] = names[head][int(index)]
        return seen


def _pixels(picture: Image.Image) -> Any:
    """Return a picture as ``(1, 3, H, W)`` in [-1, 1]."""
    import torch

    return torch.from_numpy(np.array(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
