"""What is asked of generated pictures, and how far they lie from drawn ones."""

import pytest
import torch

from studio.pocket.faces import FaceDetector, Faces
from studio.pocket.recipe.sampling import FOLLOWED, found_faces, frechet_distance, held_out_prompts


def test_prompts_name_every_attribute_that_is_measured() -> None:
    prompts, wanted = held_out_prompts(8)
    assert len(set(prompts)) == 8
    assert set(wanted) == set(FOLLOWED)
    assert all(len(values) == 8 for values in wanted.values())


def test_frechet_distance_of_shifted_normals_is_the_squared_shift() -> None:
    torch.manual_seed(0)
    features = torch.randn(500, 4)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features + 2, features) == pytest.approx(16, rel=1e-3)
    assert frechet_distance(3 * features, features) == pytest.approx(4 * features.var(0).sum().item(), rel=0.02)


class _Knows(FaceDetector):
    """Finds what it is told to find."""

    def __init__(self, confidence: list[list[float]]) -> None:
        super().__init__(32, (8, 8, 8, 8))
        self.confidence = torch.tensor(confidence)

    def find(self, pixels: torch.Tensor) -> Faces:
        count = len(pixels)
        return Faces(torch.zeros(count, 4, 2), self.confidence, torch.ones(count), torch.ones(count, dtype=torch.bool))


def test_eyes_under_sunglasses_do_not_count_as_missing() -> None:
    detector = _Knows([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0]])
    pictures = torch.zeros(3, 3, 8, 8)
    assert found_faces(detector, pictures)["complete"] == pytest.approx(1 / 3, abs=1e-3)
    asked = ["none", "sunglasses", "hat"]
    found = found_faces(detector, pictures, asked)
    assert found["complete"] == 0.5 and found["left_eye"] == 1.0 and found["mouth"] == 0.5
