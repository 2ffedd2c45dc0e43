"""The strict configuration of every verb: one sentence per field, used as help text everywhere.

The sentence under a field is the Gradio label's info, the ``--help`` text and the JSON schema's description.
Ground level: pydantic only. Values are frozen; change one with ``config.model_copy(update=...)`` after
validation or, from text, with ``studio.core.presets.override``.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from studio.core.finish_config import FinishConfig
from studio.core.strict import (
    DEFAULT_SUBJECT,
    Dtype,
    LikenessName,
    Lines,
    Name,
    StrictModel,
    Text,
    Word,
    WordOrEmpty,
    hub_id,
)
from studio.core.train_config import TrainConfig

_PhotoName = Annotated[Text, Field(min_length=1, max_length=300)]
_PhotoNames = Annotated[tuple[_PhotoName, ...], Field(max_length=1000)]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]


class CheckConfig(StrictModel):
    """Settings of the photo check."""

    subject: Name = DEFAULT_SUBJECT
    """Name of the subject, for example Ada; used for folders and titles."""
    class_noun: WordOrEmpty = ""
    """What the subject is: woman, man, dog, teapot ...; if empty, it is guessed from the photos, and said."""
    consent: bool = False
    """For photos of a person: that person, or whoever decides for a child, has agreed; kept with the set."""
    likeness: LikenessName = "auto"
    """Engine that compares the photos: auto, pocket (drawn portraits), face or sface (people), subject, none."""
    min_photos: int = Field(default=5, ge=1, le=100)
    """Fewer usable photos than this are reported as a problem with the set."""
    max_photos: int = Field(default=100, ge=1, le=1000)
    """Maximum number of photos in a set; larger sets are refused."""
    min_side_px: int = Field(default=256, ge=32, le=4096)
    """Photos whose shorter side is below this are rejected as too small."""
    crop_px: int = Field(default=1024, ge=64, le=4096)
    """Longest side of the prepared photos, pixels; photos are never enlarged."""
    crop: Literal["face", "centre", "none"] = "face"
    """face crops around the face if one is found and around the centre otherwise; none keeps the whole photo."""
    keep_rejected: bool = False
    """Also prepare photos with serious problems (never those that cannot be decoded)."""
    exclude: _PhotoNames = ()
    """Names of photos that are taken out of the set."""
    force: _PhotoNames = ()
    """Names of photos that are used in spite of serious problems; their verdict tells what that risks."""
    captions: dict[_PhotoName, Annotated[Text, Field(min_length=1, max_length=500)]] = Field({}, max_length=1000)
    """Captions by the photos' names; they win over text files beside the photos."""
    crops: dict[_PhotoName, tuple[_Share, _Share, _Share, _Share]] = Field({}, max_length=1000)
    """Crops by the photos' names: top, left, height and width as shares of the photo's height and width, 0 to 1."""

    @field_validator("crops")
    @classmethod
    def _inside(cls, crops: dict[str, tuple[float, float, float, float]]) -> dict[str, Any]:
        wrong = [
            name
            for name, (top, left, height, width) in crops.items()
            if height < 0.02 or width < 0.02 or top + height > 1.0001 or left + width > 1.0001
        ]
        if wrong:
            raise ValueError(f"these crops are empty or not inside their photo: {', '.join(wrong)}")
        return crops


class GenerateConfig(StrictModel):
    """Settings of a generation run."""

    adapter: Text | None = Field(default=None, max_length=300)
    """A published adapter to use instead of a run, as owner/name or owner/name@revision on the Hub."""
    pack: Word | None = None
    """Name of a prompt pack; give either a pack or prompts."""
    prompts: tuple[Annotated[Text, Field(min_length=1, max_length=1000)], ...] = ()
    """Free prompts; {subject} stands for the instance token and the class noun."""
    negative_prompt: Text = Field(default="", max_length=1000)
    """What the pictures should not show."""
    count: int = Field(default=1, ge=1, le=256)
    """Pictures per shot or prompt."""
    keep: int | None = Field(default=None, ge=1, le=256)
    """Keep only this many per shot or prompt: those most like the subject, near-duplicates last; None keeps all."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the first picture; each further picture adds one."""
    num_inference_steps: int | None = Field(default=None, ge=1, le=200)
    """Denoising steps; None uses the base's default."""
    guidance_scale: float | None = Field(default=None, ge=0.0, le=30.0)
    """How closely the prompt is followed; None uses the base's default."""
    width_px: int | None = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Width; None uses the shot's aspect ratio at the base's resolution."""
    height_px: int | None = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Height; None uses the shot's aspect ratio at the base's resolution."""
    batch_size: int | None = Field(default=None, ge=1, le=64)
    """Pictures per forward pass; None lets the device decide. Another number may change pictures in the last bits."""
    adapter_scale: float = Field(default=1.0, ge=0.0, le=2.0)
    """Strength of the adapter; 0 is the untrained base."""
    strengths: tuple[Annotated[float, Field(ge=0.0, le=2.0)], ...] = Field(default=(), max_length=8)
    """Strengths to compare: each picture is drawn at every one of them, from the same seed, not at adapter_scale."""
    checkpoint: int | None = Field(default=None, ge=1)
    """Step of the checkpoint to use; None uses the best one."""
    likeness: LikenessName = "auto"
    """Engine that ranks the pictures."""
    use_cache: bool = True
    """Reuse pictures from the result cache that were made earlier with the same settings."""

    @field_validator("keep")
    @classmethod
    def _among_those_made(cls, keep: int | None, others: ValidationInfo) -> int | None:
        count = others.data.get("count")
        if keep is not None and count is not None and keep > count:
            raise ValueError(f"cannot be more than count ({count}), the number of pictures made of each")
        return keep

    @field_validator("adapter")
    @classmethod
    def _on_the_hub(cls, adapter: str | None) -> str | None:
        if adapter is not None:
            repo, at, revision = adapter.partition("@")
            hub_id(repo)
            if at and not re.fullmatch(r"[\w][\w./-]{0,99}", revision, re.ASCII):
                raise ValueError("has no valid revision after the @; give a commit, a branch or a tag")
        return adapter

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.pack is None) == (not self.prompts):
            raise ValueError("give either pack or prompts, exactly one of them")
        return self

    @model_validator(mode="after")
    def _all_to_compare(self) -> Self:
        if self.strengths and self.keep is not None:
            raise ValueError("strengths are compared by all of their pictures; leave keep out")
        if len(set(self.strengths)) < len(self.strengths):
            raise ValueError("strengths has the same one twice; give each once")
        return self

    def by_strength(self) -> tuple[Self, ...]:
        """Return these settings once for each strength that is drawn, as settings of that one alone."""
        scales = self.strengths or (self.adapter_scale,)
        return tuple(self.model_copy(update={"adapter_scale": scale, "strengths": ()}) for scale in scales)


class ExportConfig(StrictModel):
    """Settings of an export."""

    format: Literal["diffusers", "kohya", "merged", "single_file"] = "diffusers"
    """diffusers or kohya (ComfyUI, A1111): the adapter alone; merged or single_file: adapter and base in one model."""
    checkpoint: int | None = Field(default=None, ge=1)
    """Step of the checkpoint to export; None uses the best one."""
    dtype: Dtype = "auto"
    """Precision of the file; auto keeps an adapter as it was trained and writes a whole model in half precision."""


class PublishConfig(StrictModel):
    """Settings of publishing on the Hugging Face Hub."""

    repo: Text = Field(max_length=200)
    """Repository on the Hub, as owner/name."""
    public: bool = False
    """Make the repository public; otherwise only you and people you allow can see it."""
    update: bool = False
    """Update an existing repository; otherwise a name that is taken is refused."""
    dry_run: bool = False
    """Only assemble what would be published; nothing is sent, and no token is needed."""
    form: Literal["adapter", "merged", "single_file"] = "adapter"
    """adapter: the LoRA for diffusers and, where it exists, kohya's layout; merged or single_file: a whole model."""
    checkpoint: int | None = Field(default=None, ge=1)
    """Step of the checkpoint to publish; None uses the best one."""
    dtype: Dtype = "auto"
    """Precision of the files; auto keeps an adapter as it was trained and writes a whole model in half precision."""
    title: Text | None = Field(default=None, min_length=1, max_length=100)
    """Title of the model card; None uses the subject's name."""
    about: Lines = Field(default="", max_length=2000)
    """Your own text for the model card."""
    pictures: Text | None = Field(default=None, min_length=1, max_length=1000)
    """Folder of generated or finished pictures for the gallery; None uses the samples of the checkpoint."""
    choose: tuple[Annotated[Text, Field(min_length=1, max_length=300)], ...] = Field(default=(), max_length=50)
    """Names of the pictures in that folder to use; an empty list uses the best ones."""
    gallery: int = Field(default=12, ge=0, le=50)
    """Maximum number of pictures in the gallery."""
    licence: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+_-]{0,60}$")] | None = None
    """Licence of a base that is not in the catalog, by the Hub's identifier."""

    @field_validator("repo")
    @classmethod
    def _a_name_on_the_hub(cls, repo: str) -> str:
        return hub_id(repo)

    @field_validator("choose")
    @classmethod
    def _below_the_folder(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        outside = [name for name in names if name.startswith(("/", "~")) or ".." in re.split(r"[/\\]", name)]
        if outside:
            raise ValueError(f"these are not in the folder: {', '.join(outside)}")
        return names


CONFIGS: dict[str, type[StrictModel]] = {
    "check": CheckConfig,
    "train": TrainConfig,
    "generate": GenerateConfig,
    "export": ExportConfig,
    "finish": FinishConfig,
    "publish": PublishConfig,
}
"""Config class by verb name."""
