"""Photos as a phone takes them, for the tests of what is sent to another machine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

SECRET_PLACE = "Whistler's Lane 7"


def write_phone_photo(path: Path, picture: str, seed: int) -> Path:
    """Write 12 megapixels with a sensor's noise, held sideways, with a place in their metadata: 2 to 3 MB."""
    from pillow_heif import register_heif_opener
    from skimage import data

    register_heif_opener()
    whole = Image.fromarray(getattr(data, picture)()).convert("RGB")
    left = seed * 7 % 40
    height = min(whole.height, (whole.width - 40) * 3 // 4)
    whole = whole.crop((left, 0, left + height * 4 // 3, height))
    large = np.asarray(whole.resize((4000, 3000), Image.Resampling.BICUBIC)).astype(np.int16)
    noise = np.random.default_rng(seed).normal(0, 5, (750, 1000, 3)).round().astype(np.int16)
    noisy = (large + np.tile(noise, (4, 4, 1))).clip(0, 255).astype(np.uint8)
    made = Image.fromarray(noisy)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = SECRET_PLACE
    if path.suffix == ".heic":
        made.save(path, "HEIF", quality=60, exif=exif, enc_params={"preset": "ultrafast"})
    else:
        exif[ExifTags.Base.Orientation] = 6
        made.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", quality=92, exif=exif)
    return path


@pytest.fixture
def phone_photo() -> Callable[[Path, str, int], Path]:
    """Return a function that writes one photo."""
    return write_phone_photo


@pytest.fixture(scope="session")
def phone_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of a phone, half of them HEIC."""
    folder = tmp_path_factory.mktemp("phone")
    for number in range(12):
        picture = ("astronaut", "chelsea", "coffee", "rocket")[number % 4]
        write_phone_photo(folder / f"IMG_{number:04}.{('jpg', 'heic')[number % 2]}", picture, 1 + number)
    return folder
