"""The settings of a finish run: the steps of a chain."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from studio.core.strict import StrictModel, Text, Word

MattingModel = Literal[
    "u2netp",
    "u2net",
    "u2net_human_seg",
    "u2net_cloth_seg",
    "silueta",
    "isnet-general-use",
    "birefnet-portrait",
]
"""Only models with a free licence that run on this machine; rembg's own default is neither."""


Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
"""A colour as #rrggbb."""


HUB_FILE = re.compile(
    r"hf:([a-z0-9][\w.-]*/[a-z0-9][\w.-]*)/((?:\w[\w. -]*/)*\w[\w. -]*\.(?:pth|safetensors))", re.ASCII | re.IGNORECASE
)
"""A network's file on the Hub: its repository and its name there."""


class CutoutStep(StrictModel):
    """Cut the subject out."""

    do: Literal["cutout"] = "cutout"
    """Kind of step."""
    model: MattingModel = "u2netp"
    """Matting model: u2netp is small and quick, isnet-general-use and birefnet-portrait are better and larger."""
    refine: Literal["none", "guided", "closed_form"] = "guided"
    """How edges are refined: guided follows the picture's own edges, closed_form also finds single hairs (slow)."""
    clean_edges: bool = True
    """Estimate the subject's own colour at its edges, so that nothing of the old background shines through."""


class BackgroundStep(StrictModel):
    """Put something behind the subject; needs a cutout step before it, or pictures with transparent parts."""

    do: Literal["background"] = "background"
    """Kind of step."""
    fill: Literal["transparent", "white", "colour", "gradient", "blur", "picture"] = "white"
    """What to put there; blur is the original background out of focus."""
    colour: Colour = "#e8e6e1"
    """Colour of fill colour, and the upper colour of fill gradient."""
    colour_below: Colour = "#b9b4ab"
    """Lower colour of fill gradient."""
    blur_percent: float = Field(default=3.0, gt=0.0, le=20.0)
    """Radius of fill blur, percent of the picture's longer side."""
    picture: Text | None = Field(default=None, min_length=1, max_length=300)
    """File of fill picture: a name among the given pictures, or a path on the command line."""

    @model_validator(mode="after")
    def _has_its_picture(self) -> Self:
        if (self.fill == "picture") != (self.picture is not None):
            raise ValueError("fill picture and a picture belong together; give both or neither")
        return self


class UpscaleStep(StrictModel):
    """Enlarge with a network that adds detail."""

    do: Literal["upscale"] = "upscale"
    """Kind of step."""
    model: Text = Field(default="x4plus", min_length=1, max_length=300)
    """x4plus, x4plus-anime, animevideov3 (quick), general-x4v3, sd-x4 (with a prompt), a file, hf:owner/name/file."""
    factor: float | None = Field(default=None, gt=1.0, le=16.0)
    """Enlarge by this factor; give either factor or long_side_px, or neither for the network's own factor."""
    long_side_px: int | None = Field(default=None, ge=64, le=8192)
    """Longer side of the result, for example 1024 to 8192; larger pictures stay as they are."""
    denoise: float | None = Field(default=None, ge=0.0, le=1.0)
    """1 removes all noise, 0 keeps it; only for general-x4v3, which exists in two versions to mix. None is 1."""
    tile_px: int | None = Field(default=None, ge=32, le=2048)
    """Side of the tiles that the network sees at once; smaller needs less memory. None suits the network."""
    prompt: Text = Field(default="", max_length=1000)
    """What the picture shows; only for sd-x4."""
    num_inference_steps: int = Field(default=50, ge=1, le=200)
    """Denoising steps; only for sd-x4."""
    guidance_scale: float = Field(default=9.0, ge=0.0, le=30.0)
    """How closely the prompt is followed; only for sd-x4."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.factor is not None and self.long_side_px is not None:
            raise ValueError("give either factor or long_side_px, not both")
        if self.prompt and self.model != "sd-x4":
            raise ValueError("a prompt is only for model sd-x4; remove it or change the model")
        return self


class FaceStep(StrictModel):
    """Restore faces with a network of the user's."""

    do: Literal["face"] = "face"
    """Kind of step."""
    model: Text = Field(min_length=1, max_length=300)
    """A face-restoration network (GFPGAN or RestoreFormer): a .pth or .safetensors file, or hf:owner/name/file."""
    strength: float = Field(default=0.8, ge=0.0, le=1.0)
    """0 keeps the face as it is, 1 takes the restored one."""


SIZES: dict[str, tuple[int, int]] = {
    "passport": (413, 531),
    "passport_us": (600, 600),
    "4x5": (1080, 1350),
    "16:9": (1920, 1080),
    "square": (1080, 1080),
    "avatar": (512, 512),
    "banner": (1584, 396),
}
"""Named sizes of the fit step: width and height in pixels (passport is 35 x 45 mm at 300 dpi)."""


class FitStep(StrictModel):
    """Bring the picture to a size and a format; always the last step."""

    do: Literal["fit"] = "fit"
    """Kind of step."""
    size: Literal["passport", "passport_us", "4x5", "16:9", "square", "avatar", "banner"] | None = None
    """A named size; or give width_px and height_px, or aspect."""
    width_px: int | None = Field(default=None, ge=1, le=16384)
    """Exact width; together with height_px."""
    height_px: int | None = Field(default=None, ge=1, le=16384)
    """Exact height; together with width_px."""
    aspect: Annotated[str, Field(pattern=r"^[1-9]\d{0,3}:[1-9]\d{0,3}$")] | None = None
    """Width to height, for example 4:5, without a change of scale."""
    how: Literal["cover", "contain"] = "cover"
    """cover cuts off what is too much, around face or subject; contain keeps all and fills up with fill."""
    fill: Colour = "#ffffff"
    """Colour of what contain fills up, and of transparent parts in JPEG."""
    format: Literal["png", "jpeg", "webp"] = "png"
    """File format; JPEG has no transparent parts."""
    quality: int = Field(default=92, ge=1, le=100)
    """Highest quality of JPEG and WebP."""
    max_bytes: int | None = Field(default=None, ge=512)
    """Largest file, bytes (5000000 is 5 MB): quality is lowered until it fits, the size in pixels never."""
    min_quality: int = Field(default=30, ge=1, le=100)
    """Quality below which max_bytes is given up and the picture is named as not done."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.width_px is None) != (self.height_px is None):
            raise ValueError("width_px and height_px belong together; give both or neither")
        if sum(given is not None for given in (self.size, self.width_px, self.aspect)) > 1:
            raise ValueError("give one of size, width_px with height_px, and aspect")
        if self.min_quality > self.quality:
            raise ValueError(f"min_quality ({self.min_quality}) is above quality ({self.quality}); swap them")
        return self

    def target_wh(self) -> tuple[int, int] | None:
        """Return the asked width and height in pixels; None if the scale is left as it is."""
        if self.size is not None:
            return SIZES[self.size]
        return None if self.width_px is None or self.height_px is None else (self.width_px, self.height_px)


FinishStep = Annotated[CutoutStep | BackgroundStep | UpscaleStep | FaceStep | FitStep, Field(discriminator="do")]


STEPS: dict[str, type[StrictModel]] = {
    "cutout": CutoutStep,
    "background": BackgroundStep,
    "upscale": UpscaleStep,
    "face": FaceStep,
    "fit": FitStep,
}
"""Step class by kind."""


def check_steps(steps: tuple[FinishStep, ...]) -> None:
    """Raise ValueError for a chain in which a kind of step stands twice, or anything after fit."""
    kinds = [step.do for step in steps]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ValueError(f"each kind of step may stand in a chain once; these do not: {', '.join(twice)}")
    if "fit" in kinds[:-1]:
        raise ValueError("fit must be the last step, because it decides size and format")


class FinishConfig(StrictModel):
    """Settings of a finish run."""

    chain: Word | None = None
    """Name of the chain that the steps came from; for titles."""
    steps: tuple[FinishStep, ...] = Field(default=(), max_length=len(STEPS))
    """The steps, in order; none makes a contact sheet only."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of everything random: sd-x4, and the noise in GFPGAN."""
    only: tuple[Annotated[Text, Field(min_length=1, max_length=300)], ...] = Field(default=(), max_length=1000)
    """Pictures of the folder or series to finish, by their files in it; none finishes all of them."""
    sheet_columns: int = Field(default=4, ge=1, le=20)
    """Columns of the contact sheet."""
    sheet_title: Text = Field(default="", max_length=100)
    """Title of the contact sheet."""

    @model_validator(mode="after")
    def _sound_chain(self) -> Self:
        check_steps(self.steps)
        return self
