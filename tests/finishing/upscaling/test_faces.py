"""Faces: restored where they are, softly, and nothing else is touched."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.RestoreFormer import RestoreFormer

from studio.finishing.upscaling.faces import FACE_PX, restore_faces
from studio.finishing.upscaling.registry import open_face_restorer
from studio.imaging.faces import Face

PICTURE = np.full((200, 300, 3), 100, np.uint8)


class Whitener:
    name = "whitener"

    def __init__(self):
        self.seen = []

    def restore(self, face):
        self.seen.append(face.shape)
        return np.full_like(face, 255)


def test_a_face_is_restored_in_its_place_with_a_soft_edge():
    restorer = Whitener()
    made = restore_faces(PICTURE, [Face((60, 100, 60, 60), 1.0)], restorer, strength=1.0, tick=lambda: None)
    assert restorer.seen == [(FACE_PX, FACE_PX, 3)]
    assert made[90, 130].min() >= 254, "the middle of the face"
    assert np.array_equal(made[:, :80], PICTURE[:, :80]) and np.array_equal(made[140:], PICTURE[140:])
    assert len(np.unique(made[90, 80:130, 0])) > 5, "no hard edge"
    assert np.array_equal(PICTURE, np.full_like(PICTURE, 100)), "the input stays as it was"


@pytest.mark.parametrize(("strength", "level"), [(0.0, 100), (0.5, 177)])
def test_strength_mixes(strength, level):
    made = restore_faces(PICTURE, [Face((60, 100, 60, 60), 1.0)], Whitener(), strength=strength, tick=lambda: None)
    assert abs(int(made[90, 130, 0]) - level) <= 1


def test_a_face_at_the_edge_and_no_face_at_all():
    ticks = []
    made = restore_faces(PICTURE, [Face((0, 280, 40, 20), 1.0)], Whitener(), strength=1.0, tick=lambda: ticks.append(1))
    assert made.shape == PICTURE.shape and made.max() > 200 and ticks == [1]
    assert np.array_equal(restore_faces(PICTURE, [], Whitener(), strength=1.0, tick=lambda: None), PICTURE)


# ------------------------------------------------------------------------------------------------------- the network


@pytest.fixture
def tiny_network(tmp_path):
    """Return the file of a RestoreFormer with random weights: the real layout of keys, as few channels as it allows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = RestoreFormer(
            n_embed=8, embed_dim=32, ch=32, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1, z_channels=32, resolution=512
        )
    path = tmp_path / "restoreformer.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return path, network.eval()


def test_a_restoreformer_file_is_told_by_its_keys_and_sees_levels_from_minus_one_to_one(tiny_network, tmp_path):
    path, network = tiny_network
    face = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    with torch.no_grad():
        answer = network(torch.from_numpy(face).permute(2, 0, 1)[None] / 127.5 - 1)[0][0]
    expected = (answer.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5
    made = open_face_restorer(str(path), tmp_path, device=torch.device("cpu")).restore(face)
    assert made.shape == (FACE_PX, FACE_PX, 3) and made.dtype == np.uint8
    assert expected.std() > 5, "a flat picture would prove nothing"
    assert np.abs(made - expected).max() <= 1


def test_a_network_that_adds_noise_adds_the_same_again_and_leaves_the_generator_alone(tiny_network, tmp_path):
    face = np.zeros((FACE_PX, FACE_PX, 3), np.uint8)
    made = []
    for seed in (1, 1, 2):
        restorer = open_face_restorer(str(tiny_network[0]), tmp_path, device=torch.device("cpu"), seed=seed)
        restorer._model.model.forward = lambda values: (torch.randn_like(values),)  # as GFPGAN does in each layer
        before = torch.get_rng_state()
        made.append(restorer.restore(face))
        assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
