"""The instance token as a word of its own, whose embedding learns (pivotal tuning); shared by the methods.

Only CLIP text encoders take a new word: diffusers reads its embedding back with ``load_textual_inversion``. A token may
stand for several vectors, as diffusers writes them: ``sks``, ``sks_1`` ... In the file the first text encoder's vectors
lie under the token itself, ``(D,)`` or ``(n, D)``, those of further ones under ``text_encoder_2.<token>``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from studio.bases.tensorfile import write_safetensors
from studio.core.adapters import EMBEDS_NAME
from studio.core.catalog import FamilySpec
from studio.core.errors import InputError, Problem
from studio.core.train_config import TrainConfig
from studio.families.base import Parts
from studio.methods.groups import TOKEN_PART, encoder_names

_EXTRA = "token"


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
            "token_learning_rate", f"bases of the family {spec.name} take no new words", "leave it out", "no_tokens"
        )
    found: dict[str, TokenEmbedding] = {}
    words = [token, *(f"{token}_{i}" for i in range(1, count))]
    for name, tokenizer, encoder in pairs:
        if token.lower() in tokenizer.get_vocab():
            raise _problem(
                "instance_token",
                f"{token!r} is a piece of words that the base already knows",
                "choose a rarer word, such as ohwx, or leave token_learning_rate out",
                "token_taken",
            )
        noun = tokenizer(config.class_noun, add_special_tokens=False, return_tensors="pt").input_ids.to(parts.device)
        table: Any = encoder.get_input_embeddings()
        start = table(noun)[0].float().mean(0)  # (D,)
        tokenizer.add_tokens(words)
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
        ValueError: the pipeline already knows that word.
    """
    path = folder / EMBEDS_NAME
    if not path.is_file():
        return
    for key, vectors in load_file(path).items():
        name, _, token = key.rpartition(".")
        suffix = (name or "text_encoder").removeprefix("text_encoder")
        pipeline.load_textual_inversion(
            {token: vectors},
            tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
            text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
        )


def _key(name: str, token: str) -> str:
    return token if name == "text_encoder" else f"{name}.{token}"


def _problem(where: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(where, message, cure, code)])
