"""Words in tokenizers: a learned word is the word itself, in any letter case, and never a piece of another one.

diffusers' ``load_textual_inversion`` adds a token that is found inside other words ("sks" in "desks"), and its
``maybe_convert_prompt`` puts the further vectors of a token behind every place that holds its letters, in the letter
case of the token only. Both are done here instead. A prompt that is longer than an encoder reads is cut by diffusers
without a word; ``pieces_of`` divides it for families that read it piece by piece, ``cut_off`` says where others end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from studio.core.catalog import FamilySpec


def vector_names(word: str, count: int) -> list[str]:
    """Return what diffusers calls the ``count`` vectors of a word: ``sks``, ``sks_1`` ..."""
    return [word, *(f"{word}_{i}" for i in range(1, count))]


def add_whole_words(tokenizer: Any, words: Sequence[str]) -> None:
    """Teach a tokenizer words of its own, or make whole words of those that it was taught before.

    The flags go with the tokenizer into ``save_pretrained``.
    """
    # normalized: looked for after the tokenizer has made the prompt lower case.
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])


def spelled_out(prompts: Sequence[str], tokenizer: Any) -> list[str]:
    """Return prompts in which each learned word is followed by the names of its further vectors."""
    found = list(prompts)
    for word, names in _many_vectors(tokenizer).items():
        # Not where somebody has written the names already.
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w| {re.escape(word)}_1(?!\w))", re.IGNORECASE)
        found = [names.join(pattern.split(prompt)) for prompt in found]
    return found


MOST_PIECES = 8
"""Pieces of a prompt that are read: with CLIP some 600 tokens, which is more than anybody has written."""

_PAUSE = re.compile(r"[,.;:!?]\s*$")


def keep_together(tokenizers: Sequence[Any], phrase: str) -> None:
    """Let a phrase, such as the subject's, never be divided between two pieces of a prompt."""
    for tokenizer in tokenizers:
        tokenizer.kept_together = phrase


def pieces_of(prompt: str, tokenizers: Sequence[Any]) -> list[str]:
    """Divide a prompt into pieces that each of the tokenizers reads in full; joined they are the prompt.

    A prompt that fits is one piece. Others are divided between words, where the last quarter of a piece holds a comma
    or another pause there, and never inside a phrase that is to be kept together.

    Source: reading in pieces of the encoder's length, each with its own start and end, as in
    AUTOMATIC1111/stable-diffusion-webui@82a973c0 modules/sd_hijack_clip.py (tokenize_line).
    """
    room = min(tokenizer.model_max_length - tokenizer.num_special_tokens_to_add() for tokenizer in tokenizers)
    if _lengths([prompt], tokenizers)[0] <= room:
        return [prompt]
    units = _units(prompt, getattr(tokenizers[0], "kept_together", ""))
    pieces: list[list[tuple[str, int]]] = [[]]
    for unit, length in zip(units, _lengths(units, tokenizers), strict=True):
        if length > room:  # a token has a character at least, and a character four bytes at most
            step = max(1, room // 4)
            small = [unit[start : start + step] for start in range(0, len(unit), step)]
        else:
            small = [unit]
        for part, size in zip(small, [length] if len(small) == 1 else _lengths(small, tokenizers), strict=True):
            if pieces[-1] and _size(pieces[-1]) + size > room:
                pieces.append(_after_the_last_pause(pieces[-1], most=min(room // 4, room - size)))
            pieces[-1].append((part, size))
    return ["".join(text for text, _ in piece) for piece in pieces]


def in_pieces(prompts: Sequence[str], tokenizers: Sequence[Any], count: int) -> list[str]:
    """Return ``count`` texts for each prompt: its pieces, then empty ones."""
    texts = []
    for prompt in prompts:
        pieces = [prompt] if count == 1 else pieces_of(prompt, tokenizers)[:count]
        texts += pieces + [""] * (count - len(pieces))
    return texts


def _after_the_last_pause(piece: list[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """Take what follows the last pause out of a piece, if that has at most so many tokens, and return it."""
    for start in range(len(piece), 0, -1):
        if _size(piece[start:]) > most:
            break
        if _PAUSE.search(piece[start - 1][0]):
            rest = piece[start:]
            del piece[start:]
            return rest
    return []


def _size(piece: Sequence[tuple[str, int]]) -> int:
    return sum(length for _, length in piece)


def _units(prompt: str, phrase: str) -> list[str]:
    """Return the words of a prompt, each with the space behind it, and a phrase as if it were one word."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    kept = rf"\S*?(?<!\w){words}(?!\w)\S*|" if words else ""
    found = re.findall(rf"(?:{kept}\S+)\s*", prompt, re.IGNORECASE)
    head = prompt[: len(prompt) - len(prompt.lstrip())]
    return [head + found[0], *found[1:]]


def _lengths(texts: Sequence[str], tokenizers: Sequence[Any]) -> list[int]:
    """Return how many tokens each text has, in the tokenizer that makes the most of it."""
    rows = [
        [len(ids) for ids in tokenizer(spelled_out(texts, tokenizer), add_special_tokens=False).input_ids]
        for tokenizer in tokenizers
    ]
    return [max(row) for row in zip(*rows, strict=True)]


def _many_vectors(tokenizer: Any) -> dict[str, str]:
    """Return each learned word of several vectors -> the names of all of them."""
    added = tokenizer.added_tokens_encoder
    found = {}
    for word in (word for word in added if f"{word}_1" in added):
        count = 1
        while f"{word}_{count}" in added:
            count += 1
        found[word] = " ".join(vector_names(word, count))
    return found


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a prompt is cut."""

    read: str
    """The beginning that at least one text encoder reads."""
    nowhere: str
    """The end that every text encoder cuts off; empty if none is lost."""
    somewhere: str
    """The end that at least one text encoder cuts off; empty if none does."""

    def words(self) -> str:
        """Return what is cut off, as a sentence without its subject; empty if nothing is."""
        if self.nowhere:
            return f"is too long for the base: {self.nowhere!r} is cut off"
        if self.somewhere:
            return f"is too long for some text encoders of the base: they do not see {self.somewhere!r}"
        return ""

    def loses(self, word: str) -> bool:
        """Return True if ``word`` stands in the part that is left out and nowhere else."""
        return _holds(self.nowhere, word) and not _holds(self.read, word)


def cut_off(prompt: str, spec: FamilySpec, tokenizers: Sequence[Any]) -> Cut:
    """Return what of a prompt the text encoders of a base do not read, in whole words."""
    if spec.in_pieces:
        pieces = pieces_of(prompt, tokenizers)
        left = "".join(pieces[MOST_PIECES:])
        return Cut("".join(pieces[:MOST_PIECES]), left, left)
    ends = []
    for tokenizer, most in zip(tokenizers, spec.prompt_tokens, strict=True):
        (spelled,) = spelled_out([prompt], tokenizer)
        room = (most or tokenizer.model_max_length) - tokenizer.num_special_tokens_to_add()
        if spec.chats:
            room -= _frame_tokens(tokenizer)
        spans = tokenizer(spelled, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        # Not from the middle of a word.
        start = len(spelled) if len(spans) <= room else spelled.rfind(" ", 0, spans[room][0] + 1) + 1
        ends.append((_said(spelled[:start], tokenizer), _said(spelled[start:], tokenizer)))
    ends.sort(key=lambda parts: len(parts[1]))
    return Cut(*ends[0], ends[-1][1])


def _said(text: str, tokenizer: Any) -> str:
    """Return a text as somebody wrote it, without the names of further vectors."""
    for word, names in _many_vectors(tokenizer).items():
        text = text.replace(names, word)
    return text


def _holds(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _frame_tokens(tokenizer: Any) -> int:
    """Return how many tokens stand before a message in a chat."""
    mark = "message"
    text = tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False)
    return len(tokenizer(text.partition(mark)[0], add_special_tokens=False).input_ids)
