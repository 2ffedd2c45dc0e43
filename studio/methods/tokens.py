"""The instance token as a word of its own, whose embedding learns (pivotal tuning); shared by the methods.

Only CLIP text encoders take a new word: diffusers reads its embedding back with ``load_textual_inversion``. A token may
stand for several vectors, as diffusers writes them: ``sks``, ``sks_1`` ... It means the subject as a word of its own,
never inside another one. In the file the first text encoder's vectors
lie under the token itself, ``(D,)`` or ``(n, D)``, those of further ones under ``text_encoder_2.<token>``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from torch import Tensor, nn
from transformers import CLIPTokenizer

from studio.bases.tensorfile import plain, read_tensors, write_safetensors
from studio.core.adapters import EMBEDS_NAME
from studio.core.catalog import FamilySpec
from studio.core.errors import InputError, Problem
from studio.core.train_config import TrainConfig
from studio.families.base import Parts
from studio.families.words import add_whole_words, vector_names
from studio.methods.groups import TOKEN_PART, encoder_names

_EXTRA = "token"
_MOST_VECTORS = 75  # as many as CLIP reads


class TokenEmbedding(nn.Module):
    """A text encoder's embedding table plus trainable rows for a new token.

    Args:
        table: the base's own rows, left as they are.
        first_id: id of the token's first vector, past the table's end; the others follow.
        vectors: start values, ``(n, D)``.
    """

    def __init__(self, table: nn.Embedding, first_id: int, vectors: Tensor) -> None:
        super().__init__()
        self.table = table
        self.first_id = first_id
        self.vectors = nn.Parameter(vectors.detach().clone().float())

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return embeddings ``(B, L, D)`` of ``input_ids`` ``(B, L)``."""
        is_token = input_ids >= self.first_id
        embeds = self.table(input_ids.masked_fill(is_token, 0))
        rows = self.vectors.to(embeds.dtype)[(input_ids - self.first_id).clamp(min=0)]
        return torch.where(is_token[..., None], rows, embeds)


def add_token(parts: Parts, spec: FamilySpec, config: TrainConfig) -> None:
    """Teach every CLIP text encoder the instance token, starting as the class noun means.

    Raises:
        InputError: the token is a piece of the base's own vocabulary, or the family takes no new words.
    """
    token, count = config.instance_token, config.token_vectors
    pairs = [
        (name, tokenizer, encoder)
        for (name, encoder), tokenizer in zip(encoder_names(parts).items(), parts.tokenizers, strict=False)
        if isinstance(tokenizer, CLIPTokenizer)
    ]
    if not pairs or not issubclass(getattr(diffusers, spec.pipeline), TextualInversionLoaderMixin):
        raise _problem(
            "token_learning_rate", f"bases of the family {spec.name} learn no new words", "leave it out", "no_tokens"
        )
    found: dict[str, TokenEmbedding] = {}
    for name, tokenizer, encoder in pairs:
        if token.lower() in tokenizer.get_vocab():
            raise _problem(
                "instance_token",
                f"{token!r} is part of words that the base already knows",
                "choose a rarer word, such as ohwx, or leave token_learning_rate out",
                "token_taken",
            )
        noun = tokenizer(config.class_noun, add_special_tokens=False, return_tensors="pt").input_ids.to(parts.device)
        table: Any = encoder.get_input_embeddings()
        start = table(noun)[0].float().mean(0)  # (D,)
        add_whole_words(tokenizer, vector_names(token, count))
        first_id: Any = tokenizer.convert_tokens_to_ids(token)
        found[name] = TokenEmbedding(table, first_id, start.repeat(count, 1))
        encoder.set_input_embeddings(found[name])
    parts.extra[_EXTRA] = (token, found)


def parameters(parts: Parts) -> dict[str, nn.Parameter]:
    """Return the token's trainable vectors, ``(n, D)``, by name; empty where it does not learn."""
    token, found = parts.extra.get(_EXTRA, ("", {}))
    return {f"{TOKEN_PART}.{_key(name, token)}": embedding.vectors for name, embedding in found.items()}


def is_in(parts: Parts, prompt: str) -> bool:
    """Return True if the token learns and ``prompt`` holds it."""
    _, found = parts.extra.get(_EXTRA, ("", {}))
    first = next(iter(found.values()), None)
    return first is not None and max(parts.tokenizers[0](prompt).input_ids) >= first.first_id


def load_state(parts: Parts, state: Mapping[str, Tensor]) -> None:
    """Put the vectors of ``parameters`` back."""
    with torch.no_grad():
        for name, vectors in parameters(parts).items():
            vectors.copy_(state[name])


def write(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write the token's tensors of an adapter state, if there are any."""
    embeds = {
        name.removeprefix(f"{TOKEN_PART}."): (vectors[0] if len(vectors) == 1 else vectors).contiguous()
        for name, vectors in state.items()
        if name.startswith(f"{TOKEN_PART}.")
    }
    if embeds:
        write_safetensors(folder / EMBEDS_NAME, embeds, {"format": "pt"})


def read(pipeline: Any, folder: Path) -> None:
    """Give a pipeline the token of an adapter folder, if it has one.

    Raises:
        InputError: the file is damaged or holds NaN. ValueError: it is for other text encoders, or its word is known.
    """
    path = folder / EMBEDS_NAME
    if not path.is_file():
        return
    for (name, token), vectors in _vectors(pipeline, path).items():
        suffix = name.removeprefix("text_encoder")
        tokenizer = getattr(pipeline, f"tokenizer{suffix}")
        pipeline.load_textual_inversion(
            {token: vectors}, tokenizer=tokenizer, text_encoder=getattr(pipeline, f"text_encoder{suffix}")
        )
        add_whole_words(tokenizer, vector_names(token, 1 if vectors.ndim == 1 else len(vectors)))


def encoders(pipeline: Any, folder: Path) -> set[str]:
    """Return the names of the text encoders that learn the word of an adapter folder.

    Raises: as ``read``.
    """
    path = folder / EMBEDS_NAME
    return {name for name, _ in _vectors(pipeline, path)} if path.is_file() else set()


def _vectors(pipeline: Any, path: Path) -> dict[tuple[str, str], Tensor]:
    """Return (text encoder, word) -> its vectors, looked over."""
    found = {}
    for key, vectors in read_tensors(path, "adapter").items():
        name, _, token = key.rpartition(".")
        name = name or "text_encoder"
        if not re.fullmatch(r"text_encoder(_\d)?", name) or not token or getattr(pipeline, name, None) is None:
            raise ValueError(f"its word {plain(key)} is for a text encoder that this base does not have")
        width = getattr(pipeline, name).get_input_embeddings().embedding_dim
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != width or vectors.numel() > _MOST_VECTORS * width:
            raise ValueError(f"its word {plain(key)} does not have vectors of {width} numbers: it is for another base")
        found[name, token] = vectors
    return found


def _key(name: str, token: str) -> str:
    return token if name == "text_encoder" else f"{name}.{token}"


def _problem(where: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(where, message, cure, code)])
