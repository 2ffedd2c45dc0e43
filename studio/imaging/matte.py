"""Mattes: refining the edge of an alpha, and the subject's own colour where it shines through.

A matte is float32 ``(H, W)`` in [0, 1]; 1 is subject. Called by ``studio.postprocess``.
"""

import numpy as np
from numpy.typing import NDArray

Matte = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]

_FULL = np.float32(255)
_GUIDE_EPSILON = 1e-4
"""Variance of a guide in [0, 1] below which it counts as flat: (0.01)^2, a step of 2.5 levels."""
_GUIDE_PX = 1024
"""Longer side at which the guided filter's slopes are computed; they are smooth, so nothing is lost above it."""
_HALO = 0.08
"""What the filter leaves of the old softness on both sides of an edge; stretched away."""
_CLOSED_FORM_PX = 640
"""Longer side at which closed-form matting is solved; its memory and time grow with the pixels."""
_SURE_SUBJECT, _SURE_BACKGROUND = 0.95, 0.05
_FUSION_RADII = (90, 6)
_STRIP_PX = 512


def guided(matte: Matte, picture: Pixels, *, radius_px: int | None = None) -> Matte:
    """Let a soft matte follow the edges of its picture.

    Args:
        matte: ``(H, W)`` in [0, 1], as networks give it: enlarged, with edges many pixels wide.
        picture: ``(H, W, 3)`` sRGB levels.
        radius_px: of the window; None takes 1/100 of the longer side, at least 2.

    Returns:
        ``(H, W)`` in [0, 1]; parts that are surely subject or background stay what they are.

    Source: He, Sun, Tang 2013, "Guided Image Filtering", eq. 19-21 (colour guide); He, Sun 2015, "Fast Guided Filter",
    arXiv:1505.00996: slopes are computed on a smaller picture and enlarged.
    """
    import cv2

    height, width = matte.shape
    radius = radius_px or max(2, round(max(matte.shape) / 100))
    scale = min(1.0, _GUIDE_PX / max(matte.shape))
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    guide = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32) / _FULL
    soft = cv2.resize(matte, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
    reach = max(1, round(radius * scale))
    # One pass puts the edge in its place but leaves half of the softness beside it; the second takes most of the rest.
    slope, offset = _slopes(guide, soft, reach)
    slope, offset = _slopes(guide, ((slope * guide).sum(axis=2) + offset).clip(0, 1), reach)

    refined = cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    for channel, values in enumerate(cv2.split(slope)):
        full = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        refined += full * (picture[..., channel].astype(np.float32) / _FULL)
    refined = (refined - _HALO) / (1 - 2 * _HALO)
    # The filter may carry texture into the flat parts, where the network was sure: only the band between is its own.
    unsure = ((matte > _SURE_BACKGROUND) & (matte < _SURE_SUBJECT)).astype(np.float32)
    return np.where(_mean(unsure, radius) > 0, np.clip(refined, 0, 1), matte).astype(np.float32)


def _slopes(guide: Values, soft: Values, reach: int) -> tuple[Values, Values]:
    """Return slope ``(h, w, 3)`` and offset ``(h, w)`` of the local linear model matte = slope . guide + offset."""
    mean_guide, mean_matte = _mean(guide, reach), _mean(soft, reach)  # (h, w, 3), (h, w)
    covariance = _mean(guide * soft[..., None], reach) - mean_guide * mean_matte[..., None]
    products = guide[..., :, None] * guide[..., None, :]  # (h, w, 3, 3)
    variance = _mean(products.reshape(*soft.shape, 9), reach).reshape(products.shape)
    variance -= mean_guide[..., :, None] * mean_guide[..., None, :]
    variance += _GUIDE_EPSILON * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(variance, covariance[..., None])[..., 0].astype(np.float32)
    return _mean(slope, reach), _mean(mean_matte - (slope * mean_guide).sum(axis=2), reach)


def _mean(values: Values, reach: int) -> Values:
    import cv2

    # (cv2's types promise less than it does: float32 stays float32)
    blurred: Values = cv2.blur(values, (2 * reach + 1, 2 * reach + 1), borderType=cv2.BORDER_REFLECT)  # type: ignore[assignment]
    return blurred


def closed_form(matte: Matte, picture: Pixels) -> Matte:
    """Solve for the alpha of every pixel that is neither surely subject nor surely background.

    Args:
        matte: ``(H, W)`` in [0, 1].
        picture: ``(H, W, 3)`` sRGB levels.

    Returns:
        ``(H, W)`` in [0, 1]; ``matte`` itself where it leaves nothing to solve.

    Source: Levin, Lischinski, Weiss 2008, "A Closed-Form Solution to Natural Image Matting", as in pymatting.
    """
    import cv2
    from pymatting.alpha.estimate_alpha_cf import estimate_alpha_cf

    scale = min(1.0, _CLOSED_FORM_PX / max(matte.shape))
    size_wh = max(1, round(matte.shape[1] * scale)), max(1, round(matte.shape[0] * scale))
    small = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
    known = cv2.resize(matte, size_wh, interpolation=cv2.INTER_AREA)
    reach = np.ones((7, 7), np.uint8)
    subject = cv2.erode((known > _SURE_SUBJECT).astype(np.uint8), reach)
    background = cv2.erode((known < _SURE_BACKGROUND).astype(np.uint8), reach)
    if not subject.any() or not background.any():
        return matte
    trimap = np.full(known.shape, 0.5, np.float64)
    trimap[subject == 1], trimap[background == 1] = 1.0, 0.0
    solved = np.clip(estimate_alpha_cf(small / 255.0, trimap), 0, 1).astype(np.float32)
    if scale == 1:
        return solved
    full = cv2.resize(solved, (matte.shape[1], matte.shape[0]), interpolation=cv2.INTER_LINEAR)
    return guided(full, picture, radius_px=max(2, round(1 / scale)))


def foreground(picture: Pixels, matte: Matte) -> Pixels:
    """Estimate the subject's own colour where the picture mixes it with the background.

    Args:
        picture: ``(H, W, 3)`` sRGB levels.
        matte: ``(H, W)`` in [0, 1].

    Returns:
        ``(H, W, 3)`` sRGB levels; equal to ``picture`` where the matte is 0 or 1.

    Source: Forte 2021, "Approximate Fast Foreground Colour Estimation", arXiv:2006.14970v2, algorithm 1 twice, with
    its radii 90 and 6.
    """
    estimated = picture.copy()
    height = matte.shape[0]
    for top in range(0, height, _STRIP_PX):  # in strips, because it needs a dozen floats per pixel
        bottom = min(height, top + _STRIP_PX)
        if not _mixed(matte[top:bottom]).any():
            continue
        y0, y1 = max(0, top - sum(_FUSION_RADII)), min(height, bottom + sum(_FUSION_RADII))
        levels = _fused(picture[y0:y1], matte[y0:y1])[top - y0 : bottom - y0]
        mixed = _mixed(matte[top:bottom])
        estimated[top:bottom][mixed] = levels[mixed]
    return estimated


def _mixed(matte: Matte) -> NDArray[np.bool_]:
    return (matte > 0) & (matte < 1)


def _fused(picture: Pixels, matte: Matte) -> Pixels:
    import cv2

    image = picture.astype(np.float32) / _FULL
    alpha = matte[..., None]
    front, back = image, image
    for radius in _FUSION_RADII:
        window = (2 * radius + 1, 2 * radius + 1)
        subject = cv2.blur(matte, window)[..., None]
        near_front = cv2.blur(front * alpha, window) / (subject + 1e-5)
        back = cv2.blur(back * (1 - alpha), window) / (1 - subject + 1e-5)
        front = np.clip(near_front + alpha * (image - alpha * near_front - (1 - alpha) * back), 0, 1)
    return (front * 255).round().astype(np.uint8)


def bled(picture: Pixels, matte: Matte) -> Pixels:
    """Return a picture whose invisible pixels have the colour of the nearest visible one.

    What lies below a transparent part is anybody's guess: black, or the background that was cut out. Whatever looks at
    neighbours, a network or a resampling, would mix it into the rim.

    Args:
        picture: ``(H, W, 3)`` sRGB levels.
        matte: ``(H, W)`` in [0, 1].

    Returns:
        ``(H, W, 3)``; ``picture`` itself where all or nothing is visible.
    """
    import cv2

    hidden = (matte * 255).round() == 0
    if not hidden.any() or hidden.all():
        return picture
    _, nearest = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Each visible pixel has a label of its own, counted from 1; which one, the visible pixels say themselves.
    colours = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    visible = ~hidden
    colours[nearest[visible]] = picture[visible]
    filled = picture.copy()
    filled[hidden] = colours[nearest[hidden]]
    return filled
