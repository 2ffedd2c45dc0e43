"""What the photo check writes of one photo: the crop that is trained on, a preview, and the original without metadata.

The original is what a set is edited from later, when the user's own files are long gone: at most 2048 pixels, unless
its crop would lose pixels that way.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from studio.checking.captions import PLAIN_CAPTION, DrawnCaptions
from studio.checking.judge import CandidatePhoto, PhotoFinding, cropped, keep_at_most, without_bars
from studio.core.config import CheckConfig
from studio.core.domain import Photo, Verdict
from studio.core.files import sha256_of
from studio.imaging.apart import decode
from studio.imaging.bucket import nearest_bucket
from studio.imaging.crop import Box, box_of, centre_crop, cut, face_crop, shares_of, whole
from studio.imaging.decode import Decoded

PREVIEW_PX = 256
"""Longer side of the previews."""

ORIGINAL_PX = 2048
"""Longer side of the originals that are kept."""

FOLDERS = ("photos", "previews", "originals")
"""Folders of a dataset."""

TAKEN_OUT = PhotoFinding("excluded", "was taken out by you", "put it back to use it", serious=True)

BARS_CUT = "black bars were cut off"


@dataclass(slots=True)
class SetWriter:
    """Writes one photo after the other into the folders of a dataset, which are there."""

    config: CheckConfig
    folder: Path
    captions: DrawnCaptions | None
    """Names what drawn portraits show; None for everything else."""
    number: int = 0
    """Photos so far."""
    used: int = 0
    """Of these, prepared for training."""

    def use(self, candidate: CandidatePhoto, *, is_forced: bool) -> tuple[Photo, Verdict]:
        """Crop, shrink, caption and write a photo."""
        self.number += 1
        self.used += 1
        frame = self._frame(candidate)
        inner = _place(candidate, frame.size_hw)
        photo = cropped(candidate, frame)
        box = _crop_box(self.config, candidate, photo.size_hw)
        shown = cut(photo, box).picture
        if max(shown.size) < self.config.crop_px and frame.picture.height < frame.size_hw[0]:
            # The crop is so small that it deserves the photo's full resolution.
            frame = without_bars(candidate, decode(candidate.path))
            shown = cut(cropped(candidate, frame), box).picture
        prepared = keep_at_most(shown, self.config.crop_px)
        file = f"photos/{self.used:03d}.png"
        prepared.save(self.folder / file, compress_level=3)
        preview = f"previews/{self.used:03d}.webp"
        keep_at_most(prepared, PREVIEW_PX).save(self.folder / preview, quality=85)
        in_frame: Box = (inner[0] + box[0], inner[1] + box[1], box[2], box[3])
        at_least_px = round(max(frame.size_hw) * self.config.crop_px / max(box[2:]))
        original = self._keep(candidate, frame, max(ORIGINAL_PX, at_least_px))
        caption = candidate.caption
        if caption is None:
            caption = self.captions.describe(prepared) if self.captions else PLAIN_CAPTION
        top, left = _corner(candidate, frame.size_hw)
        made = Photo(
            file=file,
            name=candidate.name,
            sha256=sha256_of(self.folder / file),
            size_hw=(prepared.height, prepared.width),
            caption=caption,
            bucket=nearest_bucket((prepared.height, prepared.width)),
            crop_yxhw=(top + in_frame[0], left + in_frame[1], in_frame[2], in_frame[3]),
            problems=tuple(finding.code for finding in candidate.findings),
        )
        status = "usable" if candidate.findings else "good"
        verdict = _verdict(candidate, status, preview, original, is_forced=is_forced)
        return made, replace(verdict, crop=shares_of(in_frame, frame.size_hw))

    def leave_out(self, candidate: CandidatePhoto) -> Verdict:
        """Write what lets the user see, and take back, a photo that is not used."""
        self.number += 1
        if candidate.look is None:
            return _verdict(candidate, "rejected", None, None)
        preview = f"previews/left_out_{self.number:03d}.webp"
        keep_at_most(candidate.look, PREVIEW_PX).save(self.folder / preview, quality=85)
        original = self._keep(candidate, self._frame(candidate), ORIGINAL_PX)
        return _verdict(candidate, "rejected", preview, original)

    def _frame(self, candidate: CandidatePhoto) -> Decoded:
        at_least_px = None if candidate.crop else max(2 * self.config.crop_px, ORIGINAL_PX)
        return without_bars(candidate, decode(candidate.path, at_least_px=at_least_px))

    def _keep(self, candidate: CandidatePhoto, frame: Decoded, longest_px: int) -> str:
        file = f"originals/{self.number:03d}.jpg"
        keep_at_most(frame.picture, longest_px).save(self.folder / file, "JPEG", quality=95, subsampling=0)
        if candidate.caption is not None:
            (self.folder / file).with_suffix(".txt").write_text(candidate.caption, encoding="utf-8")
        return file


def _verdict(
    candidate: CandidatePhoto, status: str, preview: str | None, original: str | None, *, is_forced: bool = False
) -> Verdict:
    return Verdict(
        name=candidate.name,
        status=status,  # type: ignore[arg-type]
        problems=tuple(finding.to_json(is_forced=is_forced) for finding in candidate.findings),
        size_hw=candidate.size_hw,
        likeness=candidate.likeness,
        preview=preview,
        original=original,
        notes=(BARS_CUT,) if candidate.bars else (),
    )


def _place(candidate: CandidatePhoto, size_hw: tuple[int, int]) -> Box:
    """Return where the user's crop lies in the photo without bars, pixels."""
    return box_of(candidate.crop, size_hw) if candidate.crop else whole(size_hw)


def _corner(candidate: CandidatePhoto, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return where the photo without bars, of ``size_hw`` pixels, begins in the file's own picture."""
    if candidate.bars is None:
        return 0, 0
    top, left, height, width = candidate.bars
    return round(top / height * size_hw[0]), round(left / width * size_hw[1])


def _crop_box(config: CheckConfig, candidate: CandidatePhoto, size_hw: tuple[int, int]) -> Box:
    if config.crop == "none" or candidate.crop:
        return whole(size_hw)
    if config.crop == "face" and candidate.face is not None and candidate.look is not None:
        scale = size_hw[0] / candidate.look.height
        top, left, height, width = (round(value * scale) for value in candidate.face.box)
        return face_crop(size_hw, (top, left, height, width), at_least_px=config.min_side_px)
    return centre_crop(size_hw)
