"""Photos of a drawn sample person, so that the studio can be tried without photos of one's own.

Called by the edges; numpy, Pillow and OpenCV only. The people are held out: the embedded base has never seen them.
"""

from pathlib import Path

from PIL import Image

SAMPLE_NAME = "Ada"
"""Name that goes with the sample photos."""
SAMPLE_CLASS_NOUN = "woman"
"""Class noun that goes with the sample photos."""

_SCENES = (
    {"background": "studio", "expression": "smiling", "clothes": "turtleneck"},
    {"background": "garden", "expression": "neutral", "clothes": "dress"},
    {"background": "city", "expression": "smiling", "clothes": "suit"},
    {"background": "library", "expression": "laughing", "clothes": "shirt"},
    {"background": "beach", "expression": "neutral", "clothes": "t-shirt"},
    {"background": "brick wall", "expression": "smiling", "clothes": "hoodie"},
    {"background": "mountains", "expression": "surprised", "clothes": "striped sweater"},
    {"background": "office", "expression": "neutral", "clothes": "overalls"},
)


def sample_photos(
    folder: Path, *, seed: int = 0, count: int = 8, class_noun: str = SAMPLE_CLASS_NOUN, size_px: int = 512
) -> list[Path]:
    """Draw ``count`` photos of one person into ``folder``.

    Args:
        folder: created if it is not there.
        seed: chooses the person; 0 is Ada.
        count: number of photos, 1 to 64.
        class_noun: woman or man.
        size_px: side of the square photos, pixels.

    Returns:
        The JPEG files, ``sample-01.jpg`` and so on.
    """
    from studio.pocket.renderer.people import sample_identity, sample_scene
    from studio.pocket.renderer.portrait import render
    from studio.pocket.renderer.words import HELD_OUT_SEED

    folder.mkdir(parents=True, exist_ok=True)
    identity = sample_identity(HELD_OUT_SEED + 14 + seed, class_noun)
    files = []
    for index in range(count):
        fixed = {"style": "photo", "accessory": "none", "light": "neutral", **_SCENES[index % len(_SCENES)]}
        scene = sample_scene(HELD_OUT_SEED + 100 * (seed + 1) + index, **fixed)
        path = folder / f"sample-{index + 1:02d}.jpg"
        Image.fromarray(render(identity, scene, size_px)).save(path, quality=92)
        files.append(path)
    return files
