"""``render`` paints a person in a scene, ``landmarks`` says where the features are.

    picture = render(sample_identity(7), sample_scene(3, background="beach"), size_px=128)

Layers are laid back to front on a canvas of at least 384 pixels, which is reduced once at the end.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from studio.pocket.renderer import accessories, backgrounds, clothes, eyes, features, hair, head, palette, styles
from studio.pocket.renderer.canvas import Canvas, Frame
from studio.pocket.renderer.people import Identity, Scene
from studio.pocket.renderer.shapes import Point

MIN_SIZE_PX = 16
_DRAWN_PX = 384
_UNIT = 0.300  # of the frame, at zoom 1
_CENTRE_YX = (0.463, 0.5)  # of the point between the eyes
_TURN = 0.11  # head units that the middle of the face moves at yaw 1

YX = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Where the features of a face lie; all positions in shares of the frame, y before x, both in [0, 1]."""

    left_eye: YX
    """Middle of the eye on the left of the picture."""
    right_eye: YX
    nose: YX
    mouth: YX
    face_box_yxyx: tuple[float, float, float, float]
    """Top, left, bottom and right of the face from the crown to the chin, without ears and hair."""
    hidden: frozenset[str]
    """Names of what something covers: left_eye and right_eye."""


def _frames(scene: Scene, size_px: float) -> tuple[Frame, Frame]:
    """The frames of the head and of the shoulders."""
    unit = _UNIT * scene.zoom * size_px
    # A closer look moves the head down a little, so that tall hair and hats stay in the frame.
    cy = (_CENTRE_YX[0] + 0.25 * (scene.zoom - 1) + scene.shift_yx[0]) * size_px
    cx = (_CENTRE_YX[1] + scene.shift_yx[1]) * size_px
    turn = _TURN * scene.yaw
    return Frame(cx, cy, unit, scene.roll, turn), Frame(cx, cy, unit, scene.roll * 0.25, 0.0)


def render(identity: Identity, scene: Scene, size_px: int = 128) -> npt.NDArray[np.uint8]:
    """Paint one portrait; the same arguments give the same bytes.

    Args:
        identity: who.
        scene: how.
        size_px: side of the square picture in pixels, >= 16.

    Returns:
        The picture, ``(size_px, size_px, 3)``, uint8, RGB in [0, 255].

    Raises:
        ValueError: ``size_px`` is below 16.
    """
    if size_px < MIN_SIZE_PX:
        raise ValueError(f"size_px {size_px}: a portrait needs at least {MIN_SIZE_PX} pixels")
    drawn_px = size_px * max(2, -(-_DRAWN_PX // size_px))
    rgb = backgrounds.draw_background(scene.background, drawn_px, scene.jitter)
    at_head, at_body = _frames(scene, drawn_px)
    _draw_person(Canvas(rgb, at_head), Canvas(rgb, at_body), identity, scene)
    reduced = np.asarray(cv2.resize(rgb, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)
    if scene.light == "neutral" and scene.style == "photo":
        return reduced
    lit = styles.lit(reduced.astype(np.float32) * np.float32(1 / 255), scene.light)
    shown = styles.styled(lit.astype(np.float32), scene.style, scene.jitter)
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def _draw_person(canvas: Canvas, body: Canvas, identity: Identity, scene: Scene) -> None:
    skin, locks = palette.SKIN_RGB[identity.skin], palette.HAIR_RGB[identity.hair_colour]
    brows = palette.brow_colour(locks, skin)
    hair.draw_back_hair(canvas, identity, locks, scene.accessory)
    head.draw_neck(body, identity, skin)
    clothes.draw_clothes(body, identity, scene, skin)
    head.draw_chin_shadow(body, identity)
    if identity.hair_style not in hair.COVERS_EARS:
        head.draw_ears(canvas, identity, skin)
    head.draw_face(canvas, identity, skin, 1 if scene.light == "right" else -1)
    head.draw_marks(canvas, identity, skin)
    features.draw_beard(canvas, identity, scene, brows, skin)
    features.draw_nose(canvas, identity, skin)
    features.draw_mouth(canvas, identity, scene, skin)
    eyes.draw_eyes(canvas, identity, scene, skin)
    hair.draw_front_hair(canvas, identity, locks, skin, scene.accessory)
    # Brows lie over the hair, as in comics: a fringe never takes them away.
    eyes.draw_brows(canvas, identity, scene, brows)
    if scene.accessory not in accessories.COVERS_EYES:
        accessories.own_glasses(canvas, identity)
    accessories.draw_accessory(canvas, body, identity, scene.accessory)


def landmarks(identity: Identity, scene: Scene) -> Landmarks:
    """Say where the features lie in the picture that :func:`render` paints.

    Args:
        identity: who.
        scene: how.

    Returns:
        Positions in shares of the frame, and what is covered.
    """
    frame, _ = _frames(scene, 1.0)

    def at(point: Point) -> YX:
        x, y = frame.map([point])[0]
        return float(y), float(x)

    mouth = features.lips(identity, scene)
    rim_up, rim_low = mouth[0], mouth[3]
    box = frame.map(head.outline(identity.face_shape))
    (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
    hidden: frozenset[str] = frozenset()
    if scene.accessory == "sunglasses":
        hidden = frozenset({"left_eye", "right_eye"})
    elif scene.accessory == "eye patch":
        hidden = frozenset({"left_eye"})
    return Landmarks(
        left_eye=at((-eyes.EYE_X, 0.0)),
        right_eye=at((eyes.EYE_X, 0.0)),
        nose=at((0.0, features.NOSE_Y)),
        mouth=at((0.0, float(rim_up[10, 1] + rim_low[10, 1]) / 2)),
        face_box_yxyx=(float(top), float(left), float(bottom), float(right)),
        hidden=hidden,
    )
