from pathlib import Path

import pytest


@pytest.fixture
def drawn_base(tmp_path: Path) -> Path:
    """A base folder of which only the identity encoder, with random weights, is there."""
    import torch

    from studio.pocket.identity import IdentityEncoder, save

    folder = tmp_path / "drawn_base"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        calibration = {"woman": {"other": 0.1, "same": 0.8}, "man": {"other": 0.3, "same": 0.9}}
        save(IdentityEncoder(64, (8, 16, 16, 16), 16, calibration), folder / "identity")
    return folder
