"""A CLIPTokenizer with a small vocabulary of our own.

The pocket model is trained from scratch, so it needs no 49 000 tokens: about two thousand cover every word of its
captions, the ordinary words of portrait prompts, and (byte by byte) everything else. ``build.py`` calls
:func:`train_tokenizer` once; afterwards the files are read by plain transformers.

The pairs are merged by a plain byte-pair encoding of unique words, ties broken alphabetically, so the same captions
always give the same vocabulary.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"

# Same words as CLIP's own pre-tokenizer would cut, for the ASCII text that we count.
_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+")

# Words that users write in portrait prompts although our captions may not: one token each keeps prompts short.
_WORD_LIST = """
a about above after all also an and any are around as at away back be because been before behind below beside between
big both but by can close closer come could day did do does down each early end even every face far few first for
from front full gave get give go good great had half has have he head her here high him his how i if in inside into is
it its just know large last late left less light like little long look looks lot low made make many may me mid middle
more most much my near new next night no not now of off on one only open or other our out outside over own part people
place put quite right same see seen set she short show side simple small so some soft still such take than that the
their them then there these they thing this those three through time to together too top toward two under until up upon
us use very view was way we wear wearing wears well went were what when where which while who why will with within
without work would year yet you young your old older younger adult elderly teenage
photo photograph picture portrait image shot headshot selfie closeup upper body bust profile framed centered cinematic
studio professional corporate business casual formal elegant vintage modern classic retro dramatic natural warm cool
bright dark sunny cloudy golden hour sunset sunrise morning evening daylight moonlight neon rim backlit shadow shadows
bokeh blurred blurry sharp focus detailed highly quality best masterpiece beautiful handsome pretty cute friendly
confident serious calm happy sad angry surprised laughing smiling smile neutral thoughtful relaxed wink grin
drawing sketch pencil ink oil watercolor watercolour painting pastel comic cartoon anime pixel art illustration poster
flat render style sculpture mosaic film grain black white grey gray red green blue yellow orange purple violet pink
brown beige teal cyan navy gold silver blond blonde auburn ginger dyed colored coloured colorful colourful pattern
woman man girl boy person child baby lady gentleman dog cat pet animal toy robot hair hairs hairstyle bald ponytail bun
braid braids curly wavy straight shoulder length fringe bangs bob afro mohawk buzz cut beard moustache mustache stubble
freckles glasses sunglasses hat cap beanie scarf headphones earrings necklace crown helmet mask tie bow flower ribbon
shirt t-shirt sweater hoodie jacket coat suit dress blouse turtleneck vest uniform jeans collar tank striped plain
skin eyes eye nose mouth lips ears cheeks chin brows eyebrows round oval square heart narrow wide pale tan olive deep
background backdrop beach forest mountain mountains city street office library kitchen garden park snow desert space sea
lake river sky clouds stars field flowers brick wall room window bookshelf cafe stage castle bridge road tree trees rain
winter spring summer autumn sand ocean waves grass skyline lights fireplace gradient plain doctor chef pilot astronaut
knight wizard king queen superhero detective pirate artist scientist teacher firefighter vampire zombie elf fairy ninja
low poor bad ugly deformed worst text watermark signature nude naked extra missing cropped duplicate jpeg artifacts
"""
ORDINARY_WORDS = tuple(_WORD_LIST.split())


def byte_alphabet() -> list[str]:
    """Return the 256 printable characters that stand for the bytes 0..255 in byte-level BPE, in sorted order."""
    return sorted(ByteLevel.alphabet())


def _encode_word(word: str) -> str:
    """Write a word in the byte alphabet."""
    return "".join(piece for piece, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word))


def learn_merges(counts: Counter[str], limit: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from word counts.

    Args:
        counts: how often each word (ordinary text, lower case) occurs.
        limit: learn at most so many merges.

    Returns:
        The merges in the order in which they apply.
    """
    words: list[tuple[list[str], int]] = []
    for word, count in sorted(counts.items()):
        symbols = list(_encode_word(word))
        if symbols:
            symbols[-1] += END_OF_WORD
            words.append((symbols, count))
    merges: list[tuple[str, str]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in words:
            for pair in itertools.pairwise(symbols):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = best[0] + best[1]
        for symbols, _ in words:
            place = 0
            while place < len(symbols) - 1:
                if symbols[place] == best[0] and symbols[place + 1] == best[1]:
                    symbols[place : place + 2] = [joined]
                place += 1
    return merges


def train_tokenizer(captions: Iterable[str], vocabulary: int = 2048, max_length: int = 40) -> CLIPTokenizer:
    """Train a CLIP tokenizer on captions and on :data:`ORDINARY_WORDS`.

    Args:
        captions: the texts whose words should become single tokens.
        vocabulary: number of tokens at most, >= 514 (two special tokens and every byte twice).
        max_length: tokens per prompt, the start and end tokens included.

    Returns:
        A tokenizer with ``bos`` = 0 and ``eos`` = ``pad`` = ``unk`` = 1 that pads like Stable Diffusion's.
    """
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(_WORDS.findall(caption.lower()))
    # Above any ordinary word, below nothing: a caption word is worth a token however rare the attribute is.
    weighted = Counter({word: 1000 + count for word, count in counts.items()})
    for word in ORDINARY_WORDS:
        for piece in _WORDS.findall(word):
            weighted[piece] += 10
    alphabet = byte_alphabet()
    tokens = [BOS, EOS, *alphabet, *(letter + END_OF_WORD for letter in alphabet)]
    ids = {token: index for index, token in enumerate(tokens)}
    kept: list[tuple[str, str]] = []
    for left, right in learn_merges(weighted, max(0, vocabulary - len(tokens))):
        kept.append((left, right))
        ids.setdefault(left + right, len(ids))
    return CLIPTokenizer(
        vocab=ids,
        merges=kept,  # type: ignore[arg-type]  # pairs are what it takes; the annotation is too narrow
        model_max_length=max_length,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=EOS,
    )
