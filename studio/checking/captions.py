"""Captions of training photos: from a text file beside the photo, or of drawn portraits from their attributes."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio.core.catalog import POCKET_FOLDER

ATTRIBUTE_MIN_PROBABILITY = 0.8
"""What the attribute classifier is less sure of is left out of captions."""


_SCENE_ATTRIBUTES = ("background", "accessory", "clothing_colour", "clothes", "style", "expression", "light")
"""Never identity: what a caption names, the instance token does not have to learn."""


_SIDECAR_BYTES = 8192


_CAPTION_CHARACTERS = 500


PLAIN_CAPTION = "photo of {instance_token} {class_noun}"


def sidecar_caption(path: Path, subject: str) -> str | None:
    """Return the caption that lies beside a photo, cleaned; None if there is none.

    The subject's name becomes the instance token, so that it never reaches a model; the three placeholders may be used
    and one of them is put in front where none is.
    """
    try:
        with path.with_suffix(".txt").open("rb") as file:
            raw = file.read(_SIDECAR_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return None
    return clean_caption(raw, subject)


def clean_caption(raw: str, subject: str) -> str | None:
    """Return a user's caption as one line with placeholders; None if nothing is left of it."""
    text = unicodedata.normalize("NFC", raw)
    text = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).split())
    text = text.replace("\ufffd", "")
    slot = "{instance_token} {class_noun}"
    text = text.replace("{subject}", slot)
    text = re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", slot, text, flags=re.IGNORECASE)
    text = re.sub(r"\{(?!(?:instance_token|class_noun)\})|(?<!\{instance_token)(?<!\{class_noun)\}", "", text)
    text = text[:_CAPTION_CHARACTERS].strip()
    if not text:
        return None
    if "{instance_token}" not in text:
        text = f"{PLAIN_CAPTION}, {text}"
    return text


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
        from studio.pocket import portraits

        if self._classifier is None:
            return PLAIN_CAPTION
        return portraits.prompt_for("{instance_token} {class_noun}", **self._scene(picture))

    def _scene(self, picture: Image.Image) -> dict[str, str]:
        import torch

        pixels = torch.from_numpy(np.array(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = self._classifier(pixels)
        names: Mapping[str, Sequence[str]] = self._classifier.config["heads"]
        seen = {}
        for head in _SCENE_ATTRIBUTES:
            if head in logits:
                probability, index = logits[head][0].softmax(-1).max(-1)
                if float(probability) >= ATTRIBUTE_MIN_PROBABILITY:
                    seen[head] = names[head][int(index)]
        return seen
