"""What a training method has to say: which parameters learn, and how they are saved and read back."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from studio.catalog import FamilySpec
from studio.config import TrainConfig
from studio.families.base import Parts


class Method(Protocol):
    """How a base becomes trainable."""

    def attach(self, parts: Parts, spec: FamilySpec, config: TrainConfig) -> list[dict[str, object]]:
        """Make parameters trainable (float32) and return optimizer groups: params, lr, weight_decay."""

    def trainable(self, parts: Parts) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by a stable name, in a stable order."""

    def adapter_state(self, parts: Parts) -> dict[str, Tensor]:
        """Return the tensors that make up the adapter, on the CPU, with peft's names."""

    def load_adapter_state(self, parts: Parts, state: Mapping[str, Tensor]) -> None:
        """Put tensors of ``adapter_state`` back, bit for bit."""

    def without(self, parts: Parts):  # type: ignore[no-untyped-def]  # contextlib's type differs per method
        """Return a context manager inside which the base predicts as if nothing was attached."""
