"""What a training method has to say: which parameters learn, and how they are saved and read back."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from studio.core.catalog import FamilySpec
from studio.core.train_config import TrainConfig
from studio.families.base import Family, Parts


class Method(Protocol):
    """How a base becomes trainable."""

    def attach(self, parts: Parts, spec: FamilySpec, config: TrainConfig) -> list[dict[str, object]]:
        """Make parameters trainable (float32) and return optimizer groups: params, lr, weight_decay, part.

        The same seed makes the same parameters; the global random state stays as it was.
        """

    def trainable(self, parts: Parts) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by a stable name, in a stable order."""

    def learns_from(self, parts: Parts, prompt: str) -> bool:
        """Return True if the encoding of ``prompt`` depends on trainable parameters, so that it cannot be cached."""

    def adapter_state(self, parts: Parts) -> dict[str, Tensor]:
        """Return the tensors that make up the adapter, on the CPU, with peft's names behind the part's name."""

    def load_adapter_state(self, parts: Parts, state: Mapping[str, Tensor]) -> None:
        """Put tensors of ``adapter_state`` back, bit for bit."""

    def write(self, parts: Parts, family: Family, folder: Path) -> None:
        """Write the adapter into ``folder`` in safetensors; equal tensors make equal bytes."""

    def read(self, pipeline: Any, folder: Path, scale: float) -> None:
        """Put what ``write`` wrote into a fresh pipeline of the base, fused.

        ``scale`` > 0 is its strength, 1 as trained; the instance token has none.

        Raises:
            OSError, ValueError, KeyError, RuntimeError, SafetensorError: the files are damaged or of another family.
        """

    def touched(self, pipeline: Any, folder: Path) -> list[nn.Parameter]:
        """Return the base's parameters that ``read`` of this folder changes, the token's embedding aside.

        Raises: as ``read``.
        """

    def remove(self, pipeline: Any) -> None:
        """Take out what ``read`` added beside the base's parameters; these themselves stay changed."""

    def without(self, parts: Parts) -> AbstractContextManager[None]:
        """Return a context manager inside which the base predicts as if nothing was attached."""
