from pathlib import Path

import numpy as np
from PIL import Image

from studio.checking.judge import PhotoFinding, read_candidate
from studio.checking.prepare import FOLDERS, SetWriter
from studio.core.config import CheckConfig


def test_used_and_left_out_photos_are_numbered_as_they_come(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    config = CheckConfig(class_noun="toy")
    writer = SetWriter(config, tmp_path, None)
    bad = writer.leave_out(read_candidate(config, tmp_path / "b.png", "b.png"))
    assert (bad.status, bad.preview, bad.original) == ("rejected", None, None)
    candidate = read_candidate(config, tmp_path / "a.png", "a.png")
    candidate.caption = "photo of {instance_token} {class_noun}, in the snow"
    photo, verdict = writer.use(candidate, is_forced=False)
    assert (photo.file, verdict.original, verdict.status) == ("photos/001.png", "originals/002.jpg", "good")
    assert (tmp_path / "originals" / "002.txt").read_text() == candidate.caption
    assert verdict.crop is not None and verdict.crop[1] >= 0 and verdict.crop[1] + verdict.crop[3] <= 1
    candidate.findings.append(PhotoFinding("blurred", "is blurred", "use a sharper photo", serious=True))
    left_out = writer.leave_out(candidate)
    assert (left_out.preview, left_out.original) == ("previews/left_out_003.webp", "originals/003.jpg")
    assert (tmp_path / str(left_out.preview)).is_file() and left_out.crop is None
