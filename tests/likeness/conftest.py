from pathlib import Path

import pytest


@pytest.fixture
def drawn_base(tmp_path: Path) -> Path:
    """A base folder of which only the measuring nets of likeness, with random weights, are there."""
    import torch

    from studio.pocket.faces import FaceDetector, save_detector
    from studio.pocket.identity import IdentityEncoder, save

    folder = tmp_path / "drawn_base"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        calibration = {
            "woman": {"other": 0.1, "same": 0.8, "borders": [0.2, 0.4, 0.9]},
            "man": {"other": 0.3, "same": 0.9, "borders": [0.1, 0.5, 0.8]},
        }
        encoder = IdentityEncoder(32, 32, 11.0, (8, 16, 16), 16, calibration=calibration, version="7")
        save(encoder, folder / "identity")
        save_detector(FaceDetector(32, (8, 8, 16, 16)), folder / "faces")
    return folder
