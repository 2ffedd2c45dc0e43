"""Pictures that are harder to read than the renderer's, and pictures whose face nobody can read.

The measuring nets see both: what a small denoiser draws is soft, noisy and off in colour, and a face that is a mosaic,
a blur or a hole must count as none. All functions take pictures ``(B, 3, H, W)`` in [-1, 1] and return new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels."""


def disturb(pixels: Tensor, most_blur_px: float = 1.2) -> Tensor:
    """Blur, recolour slightly and add noise, each picture in its own way; every face stays readable.

    Args:
        pixels: ``(B, 3, H, W)`` in [-1, 1].
        most_blur_px: largest standard deviation of the blur.
    """
    batch, device = len(pixels), pixels.device
    pixels = pixels * (1 + 0.1 * torch.randn(batch, 1, 1, 1, device=device))
    pixels = pixels + 0.05 * torch.randn(batch, 3, 1, 1, device=device)
    soft = _some(batch, 0.5, device)
    if len(soft):
        # Between a picture and its blurred copy lie all smaller blurs, near enough, for one filter per batch.
        share = torch.rand(len(soft), 1, 1, 1, device=device)
        pixels[soft] = pixels[soft].lerp(blurred(pixels[soft], most_blur_px), share)
    for chance, coarse in ((0.4, 1), (0.2, 4)):
        noisy = _some(batch, chance, device)
        if not len(noisy):
            continue
        size = (pixels.shape[-2] // coarse, pixels.shape[-1] // coarse)
        noise = F.interpolate(torch.randn(len(noisy), 3, *size, device=device), pixels.shape[-2:])
        pixels[noisy] += 0.1 * torch.rand(len(noisy), 1, 1, 1, device=device) * noise
    return pixels


def _some(batch: int, share: float, device: torch.device) -> Tensor:
    """Choose about a share of the rows of a batch."""
    return torch.nonzero(torch.rand(batch, device=device) < share)[:, 0]


def blurred(pixels: Tensor, sigma_px: float) -> Tensor:
    """Blur with a Gaussian of standard deviation ``sigma_px``."""
    reach = max(1, math.ceil(3 * sigma_px))
    places = torch.arange(-reach, reach + 1, device=pixels.device, dtype=pixels.dtype)
    kernel = torch.exp(-0.5 * (places / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(pixels.shape[1], 1, -1)
    padded = F.pad(pixels, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, kernel[:, :, None, :], groups=pixels.shape[1])
    return F.conv2d(across, kernel[:, :, :, None], groups=pixels.shape[1])


def face_box(points: Tensor, size_px: int, grow: float) -> Box:
    """Return a box about the features of one face.

    Args:
        points: landmarks ``(4, 2)``, yx in [0, 1].
        size_px: side of the picture.
        grow: 0 touches the outer eyes and the mouth, 1 reaches about the outline of the face.
    """
    apart = float(points[1, 1] - points[0, 1])
    top, bottom = (
        float(points[:2, 0].min()) - (0.4 + 0.5 * grow) * apart,
        float(points[3, 0]) + (0.25 + 0.3 * grow) * apart,
    )
    left, right = float(points[0, 1]) - (0.45 + 0.3 * grow) * apart, float(points[1, 1]) + (0.45 + 0.3 * grow) * apart
    return _clipped(top, left, bottom, right, size_px)


def feature_box(points: Tensor, landmark: int, size_px: int) -> Box:
    """Return a box about one landmark (0 and 1 the eyes, 2 the nose, 3 the mouth) of one face."""
    apart = float(points[1, 1] - points[0, 1])
    high, wide = ((0.3, 0.42), (0.3, 0.42), (0.25, 0.28), (0.28, 0.5))[landmark]
    y, x = points[landmark].tolist()
    return _clipped(y - high * apart, x - wide * apart, y + high * apart, x + wide * apart, size_px)


def _clipped(top: float, left: float, bottom: float, right: float, size_px: int) -> Box:
    def pixel(share: float) -> int:
        return min(max(round(share * size_px), 0), size_px)

    y, x = pixel(top), pixel(left)
    return y, x, max(y + 2, pixel(bottom)), max(x + 2, pixel(right))


def _random(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _mosaic(part: Tensor) -> Tensor:
    high, wide = part.shape[-2:]
    # Cells of a ninth of the part or more: no feature of a face is left.
    cells = max(1, round(_random(3, 8)))
    small = F.adaptive_avg_pool2d(part, (min(high, cells + 1), min(wide, cells)))
    if torch.rand(()) < 0.3:
        return F.interpolate(small, (high, wide), mode="bilinear")
    return F.interpolate(small, (high, wide))


def _blur(part: Tensor) -> Tensor:
    return blurred(part, _random(0.05, 0.12) * part.shape[-1] + 0.6)


def _flat(part: Tensor) -> Tensor:
    colour = part.mean((2, 3), keepdim=True) if torch.rand(()) < 0.6 else torch.rand(1, 3, 1, 1) * 2 - 1
    return colour.to(part).expand_as(part)


def _noise(part: Tensor) -> Tensor:
    return part.mean((2, 3), keepdim=True) + _random(0.3, 1.0) * torch.randn_like(part)


def _jumbled(part: Tensor) -> Tensor:
    """Cut the part into cells and put them back in another order: the right colours, but nobody."""
    rows, columns = round(_random(3, 6)), round(_random(3, 6))
    high, wide = part.shape[-2] // rows, part.shape[-1] // columns
    if high < 1 or wide < 1:
        return _flat(part)
    cells = F.unfold(part[..., : high * rows, : wide * columns], (high, wide), stride=(high, wide))
    cells = cells[..., torch.randperm(cells.shape[-1], device=cells.device)]
    made = part.clone()
    made[..., : high * rows, : wide * columns] = F.fold(
        cells, (high * rows, wide * columns), (high, wide), stride=(high, wide)
    )
    return made


def _turned(part: Tensor) -> Tensor:
    return part.flip(-2)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "mosaic": _mosaic,
    "blur": _blur,
    "flat": _flat,
    "noise": _noise,
    "jumbled": _jumbled,
    "turned": _turned,
}
"""Name -> what is done to the part of a picture ``(1, 3, h, w)``; nothing in it can be read afterwards."""


def spoil_box(picture: Tensor, box: Box, way: str) -> Tensor:
    """Return a picture ``(3, H, W)`` with the box spoilt; its rim is hard or soft, by chance."""
    top, left, bottom, right = box
    made = picture.clone()
    part = WAYS[way](picture[None, :, top:bottom, left:right])[0]
    if torch.rand(()) < 0.4:  # an ellipse instead of a rectangle
        y = torch.linspace(-1, 1, bottom - top, device=picture.device)[:, None]
        x = torch.linspace(-1, 1, right - left, device=picture.device)[None]
        inside = ((1.25 - (y.square() + x.square())) * 4).clamp(0, 1)
        part = made[:, top:bottom, left:right].lerp(part, inside)
    made[:, top:bottom, left:right] = part
    return made


def without_face(picture: Tensor, points: Tensor) -> Tensor:
    """Return a picture ``(3, H, W)`` whose face is gone: spoilt, cut out of the frame, or blurred with all the rest."""
    size = picture.shape[-1]
    if torch.rand(()) < 0.75:
        ways = list(WAYS)
        way = ways[int(torch.randint(len(ways), ()))]
        return spoil_box(picture, face_box(points, size, _random(0.0, 1.6)), way)
    kind = int(torch.randint(4, ()))
    if kind == 0:  # clothes and background below the mouth
        top = min(size - 8, round((float(points[3, 0]) + 0.12) * size))
        return F.interpolate(picture[None, :, top:, : size - top], (size, size), mode="bilinear")[0]
    if kind == 1:  # background and hair beside the eyes
        side = max(8, round((float(points[0, 1]) - 0.14) * size))
        return F.interpolate(picture[None, :, :side, :side], (size, size), mode="bilinear")[0]
    if kind == 2:  # everything out of focus
        return blurred(picture[None], _random(3.2, 8.0))[0]
    noise = torch.randn(3, *(max(2, size // 2 ** int(torch.randint(0, 6, ()))),) * 2)
    return F.interpolate(noise[None], (size, size), mode="bilinear")[0].clamp(-1, 1).to(picture)
