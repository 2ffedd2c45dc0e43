import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from studio import check
from studio.core.config import CheckConfig
from studio.imaging.bucket import buckets
from studio.pocket.samples import sample_photos
from studio.remote import run as remote
from studio.remote import shrink
from studio.remote.shrink import PreparedUpload, ShrunkPhoto
from studio.web import guard

SECRET_PLACE = "Whistler's Lane 7"


def trained_on(dataset_dir: Path, resolution_px: int) -> list[np.ndarray]:
    """Return what training makes of a dataset's photos."""
    dataset = check.load_dataset(dataset_dir)
    sizes = buckets(resolution_px, 8)
    seen = []
    for photo in dataset.photos:
        height, width = sizes[photo.bucket]
        with Image.open(dataset_dir / photo.file) as opened:
            fitted = ImageOps.fit(opened.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
        seen.append(np.asarray(fitted).astype(np.float32))
    return seen


def received(prepared: PreparedUpload, folder: Path) -> Path:
    """Write the upload as the server gets it."""
    folder.mkdir(parents=True)
    for name, sha256, data in prepared.files:
        assert hashlib.sha256(data).hexdigest() == sha256
        (folder / name).write_bytes(data)
    return folder


def assert_sent_without_loss(folder: Path, tmp_path: Path, class_noun: str, resolution_px: int) -> PreparedUpload:
    """Compare what the server trains on with what it would have made of the originals."""
    there = {"subject": "Ada", "class_noun": class_noun, "likeness": "none", "keep_rejected": True}
    check.check(CheckConfig.parse(there), folder, tmp_path / "whole")
    prepared = shrink.pack(tmp_path / "whole", folder, resolution_px)
    sent = received(prepared, tmp_path / f"sent-{resolution_px}")
    kept = {**there, **remote.CHECK_THERE}
    dataset = check.check(CheckConfig.parse(kept), sent, tmp_path / f"there-{resolution_px}")
    originals = trained_on(tmp_path / "whole", resolution_px)
    arrived = trained_on(tmp_path / f"there-{resolution_px}", resolution_px)
    assert len(originals) == len(arrived) == len(prepared.photos)
    assert [row.caption for row in dataset.photos] == [
        row.caption for row in check.load_dataset(tmp_path / "whole").photos
    ]
    for one, other, packed in zip(originals, arrived, prepared.photos, strict=True):
        assert one.shape == other.shape
        difference = np.abs(one - other)
        assert difference.mean() <= shrink.MEAN_LEVELS == 1.5
        assert packed.difference == pytest.approx(difference.mean(), abs=0.01)
        assert (packed.difference == 0) == (not difference.any())
        assert 10 * np.log10(255**2 / max(1e-9, np.square(one - other).mean())) > 40, "PSNR, dB"
    assert SECRET_PLACE.encode() not in b"".join(data for _, _, data in prepared.files)
    assert not any(path.stem.encode() in data for path in folder.iterdir() for _, _, data in prepared.files)
    return prepared


@pytest.mark.whole
def test_phone_photos_travel_small_and_train_the_same(tmp_path: Path, phone_photo: Callable[..., Path]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    phone_photo(folder / "IMG_0001.jpg", "astronaut", 1)
    phone_photo(folder / "IMG_0002.heic", "astronaut", 9)
    (folder / "IMG_0001.txt").write_text("Ada in an orange suit")
    sent = assert_sent_without_loss(folder, tmp_path, "woman", 512)
    assert sent.original_bytes > 4e6
    assert sent.sent_bytes <= 0.15 * sent.original_bytes
    assert sent.exact == 2 and sent.difference == 0, "no pixel that training sees differs"
    assert b"{instance_token} {class_noun} in an orange suit" in [data for _, _, data in sent.files]
    largest = shrink.pack(tmp_path / "whole", folder, 1024)
    assert largest.sent_bytes <= 0.15 * sent.original_bytes and 0 < largest.difference <= shrink.MEAN_LEVELS


def test_small_drawn_photos_are_sent_without_loss_too(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    sample_photos(folder, count=3, size_px=128)
    assert_sent_without_loss(folder, tmp_path, "woman", 64)


def test_a_photo_that_compression_would_hurt_is_sent_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "MEAN_LEVELS", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    packed = shrink._packed("001", Image.fromarray(noise), (256, 256), original_bytes=1000)
    assert (packed.name, packed.quality, packed.difference) == ("001.webp", None, 0.0)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(packed.data)).convert("RGB")), noise)


@pytest.mark.slow
def test_twelve_phone_photos_travel_in_a_seventh(phone_photos: Path, tmp_path: Path) -> None:
    checking = CheckConfig(class_noun="thing", likeness="none", keep_rejected=True)
    assert len(check.check(checking, phone_photos, tmp_path / "whole").photos) == 12
    for resolution_px in (512, 768, 1024):
        prepared = shrink.pack(tmp_path / "whole", phone_photos, resolution_px)
        share = prepared.sent_bytes / prepared.original_bytes
        worst = max(packed.difference for packed in prepared.photos)
        print(
            f"{resolution_px} px: {prepared.sent_bytes:,} of {prepared.original_bytes:,} bytes ({share:.1%}), "
            f"{worst:.2f}"
        )
        assert share <= 0.15 and worst <= shrink.MEAN_LEVELS
        assert prepared.exact == (12 if resolution_px == 512 else 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sample_photos(tmp_path / "photos", count=3, size_px=256)
    return tmp_path / "photos"


def test_a_packed_photo_says_how_it_was_made() -> None:
    packed = shrink._packed("001", Image.new("RGB", (900, 700), "teal"), (512, 512), original_bytes=10**6)
    assert isinstance(packed, ShrunkPhoto) and packed.quality is None and packed.size_hw == (512, 512)


@pytest.mark.parametrize(
    ("size_hw", "training_hw", "at_size", "sent_hw"),
    [
        ((1024, 768), (576, 448), True, (576, 448)),  # the training size itself
        ((1024, 768), (576, 448), False, (864, 648)),  # a bucket that the check there would name otherwise
        ((500, 400), (576, 448), True, (500, 400)),  # smaller than training wants: as it is
        ((1024, 768), (64, 64), True, (512, 384)),  # faces are judged there, too
    ],
)
def test_a_photo_is_sent_as_small_as_training_allows(
    size_hw: tuple[int, int], training_hw: tuple[int, int], at_size: bool, sent_hw: tuple[int, int]
) -> None:
    crop = Image.new("RGB", size_hw[::-1])
    assert shrink._small(crop, training_hw, at_size).size == sent_hw[::-1]


def test_the_more_bytes_a_photo_may_take_the_less_it_differs() -> None:
    picture = Image.radial_gradient("L").resize((512, 512))
    noise = np.random.default_rng(0).normal(0, 4, (512, 512, 1)).repeat(3, axis=2)
    crop = Image.fromarray((np.asarray(picture)[..., None] + noise).clip(0, 255).astype(np.uint8))
    whole = shrink._packed("001", crop, (512, 512), original_bytes=10**8)
    rows = [shrink._packed("001", crop, (512, 512), int(len(whole.data) * part / 0.15)) for part in (1.01, 0.9, 0.8, 0)]
    assert [row.quality is None for row in rows] == [True, False, False, False]
    assert 0 == rows[0].difference < rows[1].difference < rows[2].difference <= shrink.MEAN_LEVELS
    assert len(rows[1].data) <= 0.9 * len(whole.data) and rows[3].difference <= shrink.MEAN_LEVELS


def test_the_largest_photo_is_one_that_a_server_takes() -> None:
    assert shrink.MOST_BYTES == guard.MAX_JSON_BYTES
    noise = np.random.default_rng(0).integers(0, 256, (1536, 1536, 3), dtype=np.uint8)
    packed = shrink._packed("001", Image.fromarray(noise), (1536, 1536), original_bytes=10**9)
    assert len(packed.data) <= shrink.MOST_BYTES
