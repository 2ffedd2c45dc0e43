"""The strict configuration of every verb: one sentence per field, used as help text everywhere.

The sentence under a field is the Gradio label's info, the ``--help`` text and the JSON schema's description.
Ground level: pydantic only. Values are frozen; change one with ``config.model_copy(update=...)`` after
validation or, from text, with ``studio.presets.override``.
"""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from studio.errors import InputError, Problem

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _clean_text(value: Any) -> Any:
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise ValueError("holds control characters; use plain text")
        return " ".join(value.split())
    return value


Text = Annotated[str, BeforeValidator(_clean_text)]
"""One line of plain text, white space collapsed."""

Word = Annotated[str, BeforeValidator(_clean_text), Field(min_length=1, max_length=40, pattern=r"^[\w][\w \-]*$")]
"""A noun or a token: letters, digits, spaces, hyphens."""

LikenessName = Literal["auto", "pocket", "face", "subject", "none"]

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

Quantization = Literal["none", "8bit", "4bit"]

OPTIONAL_PACKAGES: dict[str, str] = {
    "optimizer=adamw8bit": "bitsandbytes",
    "optimizer=prodigy": "prodigyopt",
    "optimizer=schedule_free": "schedulefree",
    "quantization=8bit": "bitsandbytes",
    "quantization=4bit": "bitsandbytes",
    "attention=xformers": "xformers",
}
"""Setting of a training run -> the package beyond requirements.txt that it needs."""


class StrictModel(BaseModel):
    """Frozen, no unknown keys, attribute docstrings as descriptions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, protected_namespaces=()
    )

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Validate ``data``; raises InputError that lists every wrong setting with its cure."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InputError.of(problems_of(error, cls)) from None


def _variant(union: Any, name: str) -> Any:
    """Return the member of a discriminated union that a literal field calls ``name``; None if there is none."""
    for kind in get_args(next(iter(get_args(union)), None)):
        if any(name in get_args(field.annotation) for field in getattr(kind, "model_fields", {}).values()):
            return kind
    return None


def _fields_below(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            current = next(iter(get_args(current)), current)  # an item; where kinds differ, its kind comes next
            continue
        field = getattr(current, "model_fields", {}).get(part)
        current = getattr(field, "annotation", None) if field else _variant(current, str(part))
        current = next((kind for kind in get_args(current) if hasattr(kind, "model_fields")), current)
    return sorted(getattr(current, "model_fields", {}))


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Translate pydantic's findings into problems that name the setting and the cure."""
    found = []
    items = error.errors(include_url=False)
    for item in items:
        if item["loc"][-1:] == ("int",) and isinstance(item.get("input"), dict):
            continue  # a mapping was meant as the other kind of value, which tells its own problems
        # Pydantic names the tried kinds of a union in between; nobody wrote these.
        location = tuple(p for p in item["loc"] if p != "int" and not str(p).startswith("function-"))
        # Where items are wrong, pydantic also misses them.
        below = [other for other in items if other["loc"][: len(location)] == location and other["loc"] != location]
        if item["type"] == "too_short" and below:
            continue
        where = ".".join(str(part) for part in location) or "settings"
        message = str(item["msg"])
        if item["type"] == "extra_forbidden":
            names = _fields_below(model, location[:-1])
            cure = f"remove it or use one of: {', '.join(names)}" if names else "remove it"
            found.append(Problem(where, "there is no such setting", cure, "unknown_setting"))
            continue
        given = item.get("input")
        shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
        message = message[:1].lower() + message[1:].removeprefix("value error, ")
        message = message.removeprefix("value error, ")
        found.append(Problem(where, message + shown, _cure(item), "invalid_setting"))
    return found


_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "multiple_of": "a multiple of"}


def _cure(item: Any) -> str:
    """Return what to do about one of pydantic's findings, from the limit that it broke."""
    context = item.get("ctx") or {}
    for name, words in _LIMITS.items():
        if name in context:
            return f"use {words} {context[name]}"
    if item["type"] == "literal_error":
        return f"use one of: {str(context.get('expected', '')).replace(' or ', ', ')}"
    return (
        "change one of these settings" if item["type"] == "value_error" and not item["loc"] else "change this setting"
    )


_REPO = re.compile(r"[A-Za-z0-9]([\w.-]{0,94}\w)?/[A-Za-z0-9_]([\w.-]{0,94}\w)?", re.ASCII)


def hub_id(text: str) -> str:
    """Return a repository's name as it is; raises ValueError where the Hub would refuse it.

    Source: the Hub's rules, as in huggingface_hub.utils.validate_repo_id; more than that, the owner is asked for.
    """
    if not _REPO.fullmatch(text) or "--" in text or ".." in text or text.endswith(".git"):
        raise ValueError(
            "is no name of a repository on the Hub; write owner/name with letters, digits, '-', '_' and '.', "
            "each at most 96 characters"
        )
    return text


class CheckConfig(StrictModel):
    """Settings of the photo check."""

    subject: Word = "subject"
    """Name of the subject, for example Ada; used for folders and titles."""
    class_noun: Word = "person"
    """What the subject is: woman, man, dog, teapot ..."""
    likeness: LikenessName = "auto"
    """Engine that decides whether the photos show one subject: auto, pocket (drawn portraits), face, subject, none."""
    min_photos: int = Field(default=5, ge=1, le=100)
    """Fewer usable photos than this is reported as a problem of the set."""
    max_photos: int = Field(default=100, ge=1, le=1000)
    """More photos than this are refused."""
    min_side_px: int = Field(default=256, ge=32, le=4096)
    """A photo whose shorter side is below this is too small."""
    crop_px: int = Field(default=1024, ge=64, le=4096)
    """Longest side of the prepared photos, pixels; photos are never enlarged."""
    crop: Literal["face", "centre", "none"] = "face"
    """face crops around the face where one is found, else around the centre; none keeps the whole photo."""
    keep_rejected: bool = False
    """Prepare photos with serious problems too (never those that cannot be decoded)."""


class StepsRule(StrictModel):
    """Steps computed from the number of photos: clamp(per_photo x photos, minimum, maximum)."""

    per_photo: int = Field(ge=1, le=2000)
    """Steps per photo."""
    minimum: int = Field(ge=1, le=100_000)
    """Never fewer steps than this."""
    maximum: int = Field(ge=1, le=100_000)
    """Never more steps than this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum ({self.minimum}) is above maximum ({self.maximum}); swap them")
        return self

    def steps(self, photos: int) -> int:
        """Return the number of steps for ``photos`` photos."""
        return max(self.minimum, min(self.maximum, self.per_photo * photos))


class MethodConfig(StrictModel):
    """What of the base learns, and in which form."""

    name: Literal["lora", "lokr", "full"] = "lora"
    """lora: small and read everywhere; lokr: smaller still, read here; full: every weight (DreamBooth)."""
    rank: int = Field(default=16, ge=1, le=512)
    """Rank of the update (lora, lokr); more holds more detail and makes a larger file."""
    alpha: int | None = Field(default=None, ge=1, le=1024)
    """Scale of the update is alpha / rank; None means alpha = rank, the value every program reads correctly."""
    rslora: bool = False
    """Scale the update by alpha / sqrt(rank) instead, which keeps large ranks steady (lora)."""
    dora: bool = False
    """Learn size and direction of each weight apart: closer to full training, slower (lora)."""
    factor: int | None = Field(default=None, ge=2, le=128)
    """Size of the smaller Kronecker factor (lokr); larger makes a smaller file. None balances both factors."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the update's inputs (lora) or rows (lokr) that are dropped while training."""
    target: Literal["attention", "attention+conv"] = "attention"
    """Layers of the denoiser that get an update (lora, lokr); full trains all."""
    text_encoder: bool = False
    """Train the text encoder too (lora, full)."""
    start_from: Text | None = Field(default=None, max_length=1000)
    """A LoRA file (.safetensors, of diffusers or kohya) or an adapter folder to go on from (lora); None starts anew."""

    @model_validator(mode="after")
    def _fits_its_name(self) -> Self:
        given = {
            "alpha": self.alpha is not None,
            "rslora": self.rslora,
            "dora": self.dora,
            "factor": self.factor is not None,
            "dropout": self.dropout > 0,
            "text_encoder": self.text_encoder,
            "start_from": self.start_from is not None,
        }
        strange = [name for name, is_given in given.items() if is_given and name not in _METHOD_SETTINGS[self.name]]
        if strange:
            raise ValueError(
                f"method {self.name} has no {' and no '.join(strange)}; leave that out or choose another method.name"
            )
        return self


_METHOD_SETTINGS: dict[str, frozenset[str]] = {
    "lora": frozenset({"alpha", "rslora", "dora", "dropout", "text_encoder", "start_from"}),
    "lokr": frozenset({"alpha", "factor", "dropout"}),
    "full": frozenset({"text_encoder"}),
}
"""Settings beyond rank and target that each method knows."""


class PriorConfig(StrictModel):
    """Prior preservation: keeps the class (every other woman, dog ...) from turning into the subject."""

    mode: Literal["none", "images", "prediction"] = "none"
    """images: pictures of the class that the base makes once for all runs; prediction: the base's own prediction."""
    weight: float = Field(default=1.0, ge=0.0, le=10.0)
    """Weight of the prior loss against the photo loss."""
    class_images: int = Field(default=32, ge=1, le=1000)
    """Number of class pictures (mode images)."""
    batch_size: int | None = Field(default=None, ge=1, le=64)
    """Class samples per step; None means as many as photos per step."""


class TrainConfig(StrictModel):
    """Settings of a training run."""

    subject: Word = "subject"
    """Name of the subject; used for folders and titles, not for prompts."""
    class_noun: Word = "person"
    """What the subject is: woman, man, dog, teapot ..."""
    instance_token: Word = "sks"
    """The rare word that will mean the subject in prompts."""
    base: Text = Field(default="pocket", min_length=1, max_length=300)
    """Base model: a name from the catalog, a diffusers folder, a .safetensors checkpoint, a Hub id, or civitai:ID."""
    revision: Text | None = Field(default=None, max_length=100)
    """Revision of a base from the Hub or Civitai; None pins the newest at the start of the run."""
    method: MethodConfig = MethodConfig()
    """What is trained."""
    resolution_px: int | None = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Training resolution (side of a square of the same area); None takes the base's own."""
    steps: int | StepsRule = StepsRule(per_photo=100, minimum=200, maximum=1500)
    """Optimizer steps, or a rule that computes them from the number of photos."""
    batch_size: int = Field(default=1, ge=1, le=64)
    """Photos per optimizer step."""
    micro_batch_size: int | None = Field(default=None, ge=1, le=64)
    """Photos per forward pass; None means batch_size (no accumulation)."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "prodigy", "schedule_free"] = "adamw"
    """adamw; adamw8bit, adafactor: less memory; prodigy: finds its own rate; schedule_free: averages as it goes."""
    learning_rate: float = Field(default=1e-4, gt=0.0, le=1.0)
    """Learning rate of what the method trains; 1 for prodigy."""
    token_learning_rate: float | None = Field(default=None, gt=0.0, le=1.0)
    """Learning rate of the instance token's embedding (pivotal tuning); None leaves the token as it is."""
    token_vectors: int = Field(default=1, ge=1, le=8)
    """Embedding vectors that the instance token stands for; more hold more of the subject."""
    token_share: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the steps in which the token learns; afterwards it stays while the rest goes on."""
    lr_scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear"] = "constant"
    """Course of the learning rate."""
    lr_warmup_steps: int = Field(default=0, ge=0, le=10_000)
    """Steps over which the learning rate rises from zero."""
    weight_decay: float = Field(default=1e-2, ge=0.0, le=1.0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0.0, le=1000.0)
    """Gradients are clipped to this norm."""
    min_snr_gamma: float | None = Field(default=None, gt=0.0, le=100.0)
    """Min-SNR cap (5 is the paper's value); None weighs all timesteps alike."""
    noise_offset: float = Field(default=0.0, ge=0.0, le=1.0)
    """Adds this much per-channel constant noise; helps very dark and very bright pictures."""
    caption_dropout: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of captions that are left empty while training."""
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Samples and exports a running average of the weights (0.99: about 100 steps); None takes the newest ones."""
    background_weight: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Weight of what lies outside the subject's masks (masks/NNN.png of the dataset); None ignores masks."""
    flip: bool = False
    """Mirror photos at random; off by default because faces are not symmetric."""
    prior: PriorConfig = PriorConfig()
    """Prior preservation."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory, slower."""
    quantization: Quantization = "none"
    """Hold the frozen base in fewer bits (lora, transformers): 8bit in half the memory, 4bit in less than a third."""
    block_offload: bool = False
    """Keep the denoiser in main memory and bring one block at a time to the GPU: least memory, slow."""
    attention: Literal["torch", "xformers"] = "torch"
    """Whose attention the denoiser computes with: torch's own, or xformers', which may be faster on older GPUs."""
    compile_blocks: bool = False
    """Compile the denoiser's blocks: faster steps after some minutes of compiling."""
    certify: bool = True
    """Read the finished adapter back in a fresh process and compare its pictures; if they differ the run fails."""
    checkpoint_every_steps: int | None = Field(default=None, ge=1, le=100_000)
    """Steps between checkpoints; None makes about five per run."""
    keep_checkpoints: int = Field(default=2, ge=2, le=100)
    """Resume checkpoints that are kept (adapters of all checkpoints stay for the choice of the best)."""
    samples_per_checkpoint: int = Field(default=4, ge=0, le=64)
    """Pictures generated and scored at each checkpoint."""
    sample_steps: int = Field(default=20, ge=1, le=200)
    """Inference steps of these pictures."""
    guidance_scale: float | None = Field(default=None, ge=0.0, le=30.0)
    """Guidance of these pictures; None takes the base's own."""
    likeness: LikenessName = "auto"
    """Engine that scores checkpoints: auto takes the one that fits the base and the class noun."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of everything random in the run."""
    dtype: Dtype = "auto"
    """Precision of the frozen base; auto is float32 on the CPU and bfloat16 on a GPU that has it."""

    @field_validator("steps")
    @classmethod
    def _some_steps(cls, steps: int | StepsRule) -> int | StepsRule:
        if isinstance(steps, int) and not 1 <= steps <= 100_000:
            raise ValueError("there must be between 1 and 100000 steps")
        return steps

    @field_validator("micro_batch_size")
    @classmethod
    def _divides_the_batch(cls, micro: int | None, others: ValidationInfo) -> int | None:
        batch = others.data.get("batch_size")
        if micro is not None and batch is not None and (micro > batch or batch % micro):
            raise ValueError(f"must divide batch_size ({batch})")
        return micro

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse settings that contradict each other, with every one of them named."""
        wrong = [words for applies, words in _contradictions(self) if applies]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def total_steps(self, photos: int) -> int:
        """Return the number of optimizer steps for a set of ``photos`` photos."""
        return self.steps if isinstance(self.steps, int) else self.steps.steps(photos)

    def pictures_at_once(self) -> int:
        """Return the pictures in the largest forward pass that learns: photos, and what is there for the prior."""
        prior = 0 if self.prior.mode == "none" else self.prior.batch_size or self.batch_size
        return self.micro_batch_size or self.batch_size + prior


def _contradictions(config: TrainConfig) -> list[tuple[bool, str]]:
    """Return (does it apply, what contradicts what and how to end it)."""
    token, name = config.token_learning_rate, config.optimizer
    return [
        (
            token is None and config.token_vectors > 1,
            "token_vectors above 1 needs a token that learns: set token_learning_rate or token_vectors=1",
        ),
        (
            token is None and config.token_share < 1,
            "token_share needs a token that learns: set token_learning_rate or token_share=1",
        ),
        (
            token is not None and config.method.name == "full" and config.method.text_encoder,
            "a text encoder that is trained in full learns the token by itself: leave token_learning_rate out",
        ),
        (
            config.quantization != "none" and config.method.name != "lora",
            "only lora trains on a quantised base: set method.name=lora or quantization=none",
        ),
        (
            config.block_offload and not config.gradient_checkpointing,
            "block_offload needs recomputed activations: set gradient_checkpointing=true",
        ),
        (
            config.block_offload and config.method.name == "full",
            "weights that learn stay on the GPU: set method.name=lora or block_offload=false",
        ),
        (
            config.block_offload and config.quantization != "none",
            "a quantised base is not moved block by block: set block_offload=false or quantization=none",
        ),
        (
            config.block_offload and config.compile_blocks,
            "compiled blocks are not moved: set block_offload=false or compile_blocks=false",
        ),
        (
            name == "prodigy" and config.learning_rate < 0.1,
            f"prodigy multiplies the rate that it finds by learning_rate={config.learning_rate:g}: set learning_rate=1",
        ),
        (
            name == "prodigy" and token not in (None, config.learning_rate),
            "prodigy knows one rate: set token_learning_rate to learning_rate",
        ),
        (
            name == "schedule_free" and not config.lr_scheduler.startswith("constant"),
            f"schedule_free takes the place of a schedule: set lr_scheduler=constant, not {config.lr_scheduler}",
        ),
        (
            name == "schedule_free" and config.ema_decay is not None,
            "schedule_free averages the weights by itself: leave ema_decay out",
        ),
    ]


class GenerateConfig(StrictModel):
    """Settings of a generation run."""

    adapter: Text | None = Field(default=None, max_length=300)
    """A published adapter, as owner/name or owner/name@revision of the Hub, in the place of a run."""
    pack: Word | None = None
    """Name of a prompt pack; give either a pack or prompts."""
    prompts: tuple[Annotated[Text, Field(min_length=1, max_length=1000)], ...] = ()
    """Free prompts; {subject} stands for the instance token and the class noun."""
    negative_prompt: Text = Field(default="", max_length=1000)
    """What the pictures must not show."""
    count: int = Field(default=1, ge=1, le=256)
    """Pictures per shot or prompt."""
    keep: int | None = Field(default=None, ge=1, le=256)
    """Keep only so many of each, the most alike, and near-duplicates last; None keeps all."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the first picture; the others count on from it."""
    num_inference_steps: int | None = Field(default=None, ge=1, le=200)
    """Denoising steps; None takes the base's own."""
    guidance_scale: float | None = Field(default=None, ge=0.0, le=30.0)
    """How closely the prompt is followed; None takes the base's own."""
    width_px: int | None = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Width; None takes the shot's aspect at the base's resolution."""
    height_px: int | None = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Height; None takes the shot's aspect at the base's resolution."""
    batch_size: int | None = Field(default=None, ge=1, le=64)
    """Pictures per forward pass; None lets the device decide. Another number may round the last bits otherwise."""
    adapter_scale: float = Field(default=1.0, ge=0.0, le=2.0)
    """Strength of the adapter; 0 is the untrained base."""
    checkpoint: int | None = Field(default=None, ge=1)
    """Step of the checkpoint to use; None takes the best."""
    likeness: LikenessName = "auto"
    """Engine that ranks the pictures."""
    use_cache: bool = True
    """Take a picture that was made before with the same settings from the result cache."""

    @field_validator("keep")
    @classmethod
    def _among_those_made(cls, keep: int | None, others: ValidationInfo) -> int | None:
        count = others.data.get("count")
        if keep is not None and count is not None and keep > count:
            raise ValueError(f"cannot be more than count ({count}), the pictures that are made of each")
        return keep

    @field_validator("adapter")
    @classmethod
    def _on_the_hub(cls, adapter: str | None) -> str | None:
        if adapter is not None:
            repo, at, revision = adapter.partition("@")
            hub_id(repo)
            if at and not re.fullmatch(r"[\w][\w./-]{0,99}", revision, re.ASCII):
                raise ValueError("names no revision after the @; give a commit, a branch or a tag")
        return adapter

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.pack is None) == (not self.prompts):
            raise ValueError("give either pack or prompts, exactly one of them")
        return self


class ExportConfig(StrictModel):
    """Settings of an export."""

    format: Literal["diffusers", "kohya", "merged", "single_file"] = "diffusers"
    """diffusers or kohya (ComfyUI, A1111): the adapter; merged or single_file: the whole model in one."""
    checkpoint: int | None = Field(default=None, ge=1)
    """Step of the checkpoint to export; None takes the best."""
    dtype: Dtype = "auto"
    """Precision of the file; auto keeps an adapter as it was trained and halves a whole model."""


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
}
"""Named sizes of the fit step: width and height in pixels (passport is 35 x 45 mm at 300 dpi)."""


class FitStep(StrictModel):
    """Bring the picture to a size and a format; always the last step."""

    do: Literal["fit"] = "fit"
    """Kind of step."""
    size: Literal["passport", "passport_us", "4x5", "16:9", "square", "avatar"] | None = None
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
    steps: tuple[FinishStep, ...] = Field(default=(), max_length=5)
    """The steps, in order; none makes a contact sheet only."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of everything random: sd-x4, and the noise in GFPGAN."""
    sheet_columns: int = Field(default=4, ge=1, le=20)
    """Columns of the contact sheet."""
    sheet_title: Text = Field(default="", max_length=100)
    """Title of the contact sheet."""

    @model_validator(mode="after")
    def _sound_chain(self) -> Self:
        check_steps(self.steps)
        return self


class PublishConfig(StrictModel):
    """Settings of publishing on the Hugging Face Hub."""

    repo: Text = Field(max_length=200)
    """Repository on the Hub, as owner/name."""
    public: bool = False
    """Let everybody see it; otherwise only you and those you allow."""
    update: bool = False
    """Write into a repository that exists; otherwise a taken name is refused."""
    dry_run: bool = False
    """Only assemble what would be published; nothing is sent and no token is needed."""
    form: Literal["adapter", "merged", "single_file"] = "adapter"
    """adapter: the LoRA for diffusers and, where it exists, kohya's layout; merged or single_file: a whole model."""
    checkpoint: int | None = Field(default=None, ge=1)
    """Step of the checkpoint to publish; None takes the best."""
    dtype: Dtype = "auto"
    """Precision of the files; auto keeps an adapter as it was trained and halves a whole model."""
    title: Text | None = Field(default=None, min_length=1, max_length=100)
    """Title of the model card; None takes the subject's name."""
    about: Text = Field(default="", max_length=2000)
    """A few sentences of yours for the model card."""
    pictures: Text | None = Field(default=None, min_length=1, max_length=1000)
    """Folder of generated or finished pictures for the gallery; None takes the samples of the checkpoint."""
    choose: tuple[Annotated[Text, Field(min_length=1, max_length=300)], ...] = Field(default=(), max_length=50)
    """Pictures of that folder, by their names in it; none takes the best ones."""
    gallery: int = Field(default=12, ge=0, le=50)
    """Most pictures in the gallery."""
    licence: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+_-]{0,60}$")] | None = None
    """Licence of a base outside the catalog, as the Hub calls it; others come from the catalog."""

    @field_validator("repo")
    @classmethod
    def _a_name_on_the_hub(cls, repo: str) -> str:
        return hub_id(repo)

    @field_validator("choose")
    @classmethod
    def _below_the_folder(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        outside = [name for name in names if name.startswith(("/", "~")) or ".." in re.split(r"[/\\]", name)]
        if outside:
            raise ValueError(f"these do not lie in the folder: {', '.join(outside)}")
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
