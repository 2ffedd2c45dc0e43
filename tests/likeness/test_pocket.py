from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio.catalog import POCKET_FOLDER
from studio.errors import MissingExtraError
from studio.imaging.decode import decode
from studio.likeness import pocket
from studio.likeness.base import Scale, centroid, likeness
from studio.likeness.pocket import PocketEngine, redrawn_share
from studio.pocket import portraits

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dreambooth"
embedded = pytest.mark.skipif(not (POCKET_FOLDER / "identity").is_dir(), reason="the embedded base is not built")


def drawn(person: int, scene: int, size_px: int = 64, **fixed: object) -> Image.Image:
    identity = portraits.sample_identity(portraits.HELD_OUT_SEED + person, "woman")
    style = portraits.sample_scene(portraits.HELD_OUT_SEED + scene, **{"style": "photo", **fixed})
    return Image.fromarray(portraits.render(identity, style, size_px))


class _Halving(torch.nn.Module):
    """An autoencoder that keeps every second pixel in each direction: perfect for flat pictures, bad for detail."""

    def encode(self, pixels: torch.Tensor) -> object:
        return type("Encoded", (), {"latents": pixels[..., ::2, ::2]})

    def decode(self, latents: torch.Tensor) -> object:
        return type("Decoded", (), {"sample": latents.repeat_interleave(2, -1).repeat_interleave(2, -2)})


def test_share_is_one_for_a_copy_and_negative_for_worse_than_blurred() -> None:
    checks = torch.ones(1, 3, 64, 64)
    checks[..., ::4] = checks[..., 1::4] = -1.0
    assert redrawn_share(_Halving(), checks) == pytest.approx(1)
    stripes = torch.ones(1, 3, 64, 64)
    stripes[..., 1::2] = -1.0  # every second column misses by the whole range
    assert redrawn_share(_Halving(), stripes) < -0.5


def test_picture_without_detail_is_no_drawing() -> None:
    assert redrawn_share(_Halving(), torch.full((1, 3, 64, 64), 0.5)) == 0.0


def test_only_what_the_autoencoder_redraws_well_gets_an_embedding(drawn_base: Path) -> None:
    engine = PocketEngine(drawn_base)
    engine._vae = _Halving()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    blocks = noise.resize((32, 32)).resize((64, 64), Image.Resampling.NEAREST)
    rows = engine.embed([blocks, noise])
    assert np.linalg.norm(rows[0]) == pytest.approx(1, abs=1e-5)
    assert np.isnan(rows[1]).all()
    assert engine.drawn([blocks, noise]).tolist() == [True, False]


def test_scale_of_a_noun_is_what_was_measured_and_the_mean_for_others(drawn_base: Path) -> None:
    engine = PocketEngine(drawn_base)
    assert engine.scale("woman") == Scale(other=0.1, same=0.8)
    general = engine.scale("pirate")
    assert (general.other, general.same) == (pytest.approx(0.2), pytest.approx(0.85))


def test_base_with_a_continuous_autoencoder_is_read_too(drawn_base: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    (drawn_base / "vae").unlink()
    AutoencoderKL(block_out_channels=(8,), latent_channels=4, norm_num_groups=4).save_pretrained(drawn_base / "vae")
    assert np.isnan(PocketEngine(drawn_base).embed([drawn(0, 0)])).all()  # random weights redraw nothing


def test_base_without_an_identity_encoder_is_a_missing_extra(tiny_base: Path) -> None:
    with pytest.raises(MissingExtraError, match="identity encoder"):
        PocketEngine(tiny_base)


def test_foreign_autoencoder_class_is_never_constructed(drawn_base: Path) -> None:
    (drawn_base / "vae").unlink()
    (drawn_base / "vae").mkdir()
    (drawn_base / "vae" / "config.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(MissingExtraError):
        PocketEngine(drawn_base)


def test_tall_picture_is_judged_by_its_middle_square(drawn_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "DRAWN_MIN_SHARE", -1e9)
    engine = PocketEngine(drawn_base)
    square = drawn(1, 1, 64)
    tall = Image.new("RGB", (64, 96), "red")
    tall.paste(square, (0, 16))
    assert engine.embed([tall])[0] == pytest.approx(engine.embed([square])[0], abs=1e-6)


@embedded
def test_embedded_encoder_tells_people_apart_on_the_calibrated_scale() -> None:
    engine = PocketEngine(POCKET_FOLDER)
    same, other = [], []
    for person in range(6):
        reference = centroid(engine.embed([drawn(person, 10 * person + scene) for scene in range(5)]))
        probes = engine.embed([drawn(person, 500 + person), drawn(person + 50, 600 + person)])
        scores = likeness(probes, reference, engine.scale("woman"))
        same.append(scores[0])
        other.append(scores[1])
    assert np.mean(same) > 0.7
    assert np.mean(other) < 0.3


@embedded
def test_drawn_portraits_of_every_style_and_size_are_recognised_as_drawn() -> None:
    engine = PocketEngine(POCKET_FOLDER)
    pictures = [drawn(n, n, 256, style=style) for n, style in enumerate(portraits.STYLES)]
    pictures += [drawn(n, 40 + n, 512) for n in range(8)]
    assert engine.drawn(pictures).all()


@embedded
@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
def test_hardly_any_real_photo_passes_for_a_drawing() -> None:
    engine = PocketEngine(POCKET_FOLDER)
    for folder in sorted(path for path in REAL.iterdir() if path.is_dir()):
        pictures = [decode(path, at_least_px=400).picture for path in sorted(folder.glob("*.jpg"))]
        assert engine.drawn(pictures).mean() < 0.5
