"""The colours behind the names of ``words``: skin, hair, eyes and cloth, as RGB in [0, 255]."""

from studio.pocket.renderer.canvas import Rgb, darker, lighter, luminance, mix

SKIN_RGB: dict[str, Rgb] = {
    "pale": (255, 226, 208),
    "light": (247, 200, 165),
    "tan": (222, 164, 118),
    "brown": (176, 118, 80),
    "dark": (124, 80, 58),
}
HAIR_RGB: dict[str, Rgb] = {
    "black": (44, 38, 50),
    "brown": (116, 68, 40),
    "blonde": (244, 200, 96),
    "red": (214, 84, 32),
    "grey": (150, 152, 164),
    "white": (242, 240, 238),
    "blue": (54, 110, 226),
    "pink": (250, 128, 184),
    "green": (58, 170, 88),
    "purple": (142, 72, 200),
}
EYE_RGB: dict[str, Rgb] = {
    "brown": (122, 70, 30),
    "blue": (48, 132, 232),
    "green": (52, 160, 78),
    "grey": (136, 148, 160),
}
CLOTH_RGB: dict[str, Rgb] = {
    "red": (218, 52, 50),
    "orange": (246, 140, 40),
    "yellow": (250, 212, 56),
    "green": (50, 152, 80),
    "blue": (46, 96, 214),
    "purple": (130, 62, 184),
    "pink": (248, 142, 188),
    "white": (244, 244, 242),
    "black": (42, 42, 52),
    "grey": (136, 140, 148),
    "brown": (122, 78, 48),
}
INK: Rgb = (46, 30, 40)
"""The darkest line: lashes, pupils, the line between the lips."""


def skin_shade(skin: Rgb) -> Rgb:
    """The second tone of a skin: noses, ears, the far side of the face."""
    if luminance(skin) < 110:  # a dark skin needs a deeper second tone to show a nose
        return (skin[0] * 0.78, skin[1] * 0.70, skin[2] * 0.68)
    return (skin[0] * 0.88, skin[1] * 0.79, skin[2] * 0.75)


def skin_light(skin: Rgb) -> Rgb:
    """The light on a nose or a bald head."""
    return lighter(skin, 0.35)


def hair_shade(hair: Rgb) -> Rgb:
    """The second tone of a hair colour: behind the head and in the folds."""
    return darker(hair, 0.28)


def hair_light(hair: Rgb) -> Rgb:
    """The gleam on hair; black hair needs a stronger one than blonde hair."""
    return lighter(hair, 0.24 if luminance(hair) < 120 else 0.42)


def brow_colour(hair: Rgb, skin: Rgb) -> Rgb:
    """Brows and beards follow the hair, and stay apart from the skin."""
    shades = (darker(hair, 0.30), darker(hair, 0.12), hair, darker(hair, 0.60), mix(hair, (16, 12, 18), 0.85))
    apart = [abs(luminance(shade) - luminance(skin)) for shade in shades]
    return next((shade for shade, gap in zip(shades, apart, strict=True) if gap >= 34), shades[apart.index(max(apart))])


def lip_colour(skin: Rgb, woman: bool) -> Rgb:
    """Lips: a red on women, a deeper skin tone on men."""
    return mix(skin, (206, 48, 72), 0.70) if woman else mix(skin_shade(skin), (176, 70, 70), 0.58)
