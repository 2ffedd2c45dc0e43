"""The settings of a training run."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from studio.core.errors import InputError, Problem
from studio.core.strict import (
    DEFAULT_SUBJECT,
    Dtype,
    LikenessName,
    NameOrEmpty,
    StrictModel,
    Text,
    Word,
    WordOrEmpty,
)

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
    """Learn magnitude and direction of each weight separately: closer to full training, slower (lora)."""
    factor: int | None = Field(default=None, ge=2, le=128)
    """Size of the smaller Kronecker factor (lokr); larger makes a smaller file. None balances both factors."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the update's inputs (lora) or rows (lokr) that are dropped while training."""
    target: Literal["attention", "attention+conv"] = "attention"
    """Layers of the denoiser that get an update (lora, lokr); full trains all."""
    text_encoder: bool = False
    """Train the text encoder too (lora, full)."""
    start_from: Text | None = Field(default=None, max_length=1000)
    """LoRA file (.safetensors, diffusers or kohya) or adapter folder to continue from (lora); None starts afresh."""

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

READ_WITH = {
    "lora": "load_lora_weights of diffusers",
    "lokr": "load_lora_adapter of each part in diffusers (not load_lora_weights), or this studio",
    "full": "this studio, which adds it to the base",
}
"""Name of a method -> what reads its adapter."""


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


STEPS = "Steps and learning rates"
ADAPTER = "Adapter"
LOSSES = "Losses and captions"
PRIOR = "Prior preservation"
MEMORY = "Memory and speed"
SAMPLES = "Checkpoints and samples"
GROUPS = (STEPS, ADAPTER, LOSSES, PRIOR, MEMORY, SAMPLES)
"""Titles of the groups of settings in a form, in order."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands beside a setting of a run for its other readers; every setting carries one."""

    group: str = ""
    """Its group in a form, with all that is nested in it; empty for settings that come first."""
    fit: bool = False
    """Whether memory or the time of a step depends on it: a measurement holds only for equal values."""
    card: bool = False
    """Whether the model card of a published run lists it."""
    published: bool = True
    """Whether it is published at all; not what names the subject, or is said elsewhere."""


class TrainConfig(StrictModel):
    """Settings of a training run."""

    subject: Annotated[NameOrEmpty, Mark(published=False)] = ""
    """Name of the subject; used for folders and titles, not for prompts. Empty takes the dataset's."""
    class_noun: Annotated[WordOrEmpty, Mark()] = ""
    """What the subject is: woman, man, dog, teapot ... Empty takes the dataset's."""
    instance_token: Annotated[Word, Mark()] = "sks"
    """The rare word that will stand for the subject in prompts."""
    base: Annotated[Text, Mark(fit=True)] = Field(default="pocket", min_length=1, max_length=300)
    """Base model: a name from the catalog, a diffusers folder, a .safetensors checkpoint, a Hub id, or civitai:ID."""
    revision: Annotated[Text | None, Mark(fit=True, published=False)] = Field(default=None, max_length=100)
    """Revision of a base from the Hub or Civitai; None pins the newest at the start of the run."""
    method: Annotated[MethodConfig, Mark(ADAPTER, fit=True, card=True)] = MethodConfig()
    """What is trained."""
    resolution_px: Annotated[int | None, Mark(fit=True, card=True)] = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Training resolution (side of a square of the same area); None uses the base's default."""
    steps: Annotated[int | StepsRule, Mark(STEPS)] = StepsRule(per_photo=100, minimum=200, maximum=1500)
    """Optimizer steps, or a rule that computes them from the number of photos."""
    batch_size: Annotated[int, Mark(STEPS, fit=True, card=True)] = Field(default=1, ge=1, le=64)
    """Photos per optimizer step."""
    micro_batch_size: Annotated[int | None, Mark(STEPS, fit=True)] = Field(default=None, ge=1, le=64)
    """Photos per forward pass; None means batch_size (no accumulation)."""
    optimizer: Annotated[
        Literal["adamw", "adamw8bit", "adafactor", "prodigy", "schedule_free"], Mark(STEPS, fit=True, card=True)
    ] = "adamw"
    """adamw; adamw8bit, adafactor: less memory; prodigy: finds its own rate; schedule_free: averages as it goes."""
    learning_rate: Annotated[float, Mark(STEPS, card=True)] = Field(default=1e-4, gt=0.0, le=1.0)
    """Learning rate of what the method trains; 1 for prodigy."""
    token_learning_rate: Annotated[float | None, Mark(STEPS)] = Field(default=None, gt=0.0, le=1.0)
    """Learning rate of the instance token's embedding (pivotal tuning); None leaves the token as it is."""
    token_vectors: Annotated[int, Mark(STEPS)] = Field(default=1, ge=1, le=8)
    """Embedding vectors that the instance token stands for; more hold more of the subject."""
    token_share: Annotated[float, Mark(STEPS)] = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the steps in which the token learns; afterwards it stays while the rest goes on."""
    lr_scheduler: Annotated[Literal["constant", "constant_with_warmup", "cosine", "linear"], Mark(STEPS, card=True)] = (
        "constant"
    )
    """Learning-rate schedule."""
    lr_warmup_steps: Annotated[int, Mark(STEPS)] = Field(default=0, ge=0, le=10_000)
    """Steps over which the learning rate rises from zero."""
    weight_decay: Annotated[float, Mark(STEPS)] = Field(default=1e-2, ge=0.0, le=1.0)
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Mark(STEPS)] = Field(default=1.0, gt=0.0, le=1000.0)
    """Gradients are clipped to this norm."""
    min_snr_gamma: Annotated[float | None, Mark(LOSSES)] = Field(default=None, gt=0.0, le=100.0)
    """Min-SNR cap (5 is the paper's value); None weighs all timesteps alike."""
    noise_offset: Annotated[float, Mark(LOSSES)] = Field(default=0.0, ge=0.0, le=1.0)
    """Adds this much per-channel constant noise; helps very dark and very bright pictures."""
    caption_dropout: Annotated[float, Mark(LOSSES)] = Field(default=0.0, ge=0.0, le=1.0)
    """Share of captions that are left empty while training."""
    ema_decay: Annotated[float | None, Mark(STEPS, fit=True)] = Field(default=None, gt=0.0, lt=1.0)
    """Sample and export a running average of the weights (0.99: about 100 steps); None uses the newest weights."""
    background_weight: Annotated[float | None, Mark(LOSSES)] = Field(default=None, ge=0.0, lt=1.0)
    """Weight of what lies outside the subject's masks (masks/NNN.png of the dataset); None ignores masks."""
    flip: Annotated[bool, Mark(LOSSES)] = False
    """Mirror photos at random; off by default because faces are not symmetric."""
    prior: Annotated[PriorConfig, Mark(PRIOR)] = PriorConfig()
    """Prior preservation."""
    gradient_checkpointing: Annotated[bool, Mark(MEMORY, fit=True)] = False
    """Recompute activations: less memory, slower."""
    quantization: Annotated[Quantization, Mark(MEMORY, fit=True)] = "none"
    """Hold the frozen base in fewer bits (lora, transformers): 8bit in half the memory, 4bit in less than a third."""
    block_offload: Annotated[bool, Mark(MEMORY, fit=True)] = False
    """Keep the denoiser in main memory and bring one block at a time to the GPU: least memory, slow."""
    attention: Annotated[Literal["torch", "xformers"], Mark(MEMORY, fit=True)] = "torch"
    """Attention implementation of the denoiser: torch, or xformers, which may be faster on older GPUs."""
    compile_blocks: Annotated[bool, Mark(MEMORY, fit=True)] = False
    """Compile the denoiser's blocks: faster steps after some minutes of compiling."""
    certify: Annotated[bool, Mark()] = True
    """Read the finished adapter back in a fresh process and compare its pictures; if they differ the run fails."""
    checkpoint_every_steps: Annotated[int | None, Mark(SAMPLES)] = Field(default=None, ge=1, le=100_000)
    """Steps between checkpoints; None makes about five per run."""
    keep_checkpoints: Annotated[int, Mark(SAMPLES)] = Field(default=2, ge=2, le=100)
    """Resume checkpoints that are kept (adapters of all checkpoints stay for the choice of the best)."""
    samples_per_checkpoint: Annotated[int, Mark(SAMPLES)] = Field(default=4, ge=0, le=64)
    """Pictures generated and scored at each checkpoint."""
    sample_steps: Annotated[int, Mark(SAMPLES, fit=True)] = Field(default=20, ge=1, le=200)
    """Inference steps of these pictures."""
    guidance_scale: Annotated[float | None, Mark(SAMPLES)] = Field(default=None, ge=0.0, le=30.0)
    """Guidance scale of these pictures; None uses the base's default."""
    likeness: Annotated[LikenessName, Mark(SAMPLES, published=False)] = "auto"
    """Engine that scores checkpoints; auto chooses by base and class noun."""
    seed: Annotated[int, Mark(card=True)] = Field(default=0, ge=0, lt=2**32)
    """Seed for everything random in the run."""
    dtype: Annotated[Dtype, Mark(MEMORY, fit=True, published=False)] = "auto"
    """Precision of the frozen base; auto is float32 on the CPU and bfloat16 on a GPU that has it."""

    @field_validator("steps")
    @classmethod
    def _some_steps(cls, steps: int | StepsRule) -> int | StepsRule:
        if isinstance(steps, int) and not 1 <= steps <= 100_000:
            raise ValueError("must be between 1 and 100000 steps")
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

    def for_subject(self, subject: str, class_noun: str, *, is_guessed: bool = False) -> Self:
        """Return these settings with the subject and the class noun of a dataset filled in.

        Args:
            subject: of the dataset.
            class_noun: of the dataset.
            is_guessed: whether nobody told the check the class noun: another one is no contradiction then, but wins.

        Raises:
            InputError: the settings give others; both values are named.
        """
        given = (
            ("subject", self.subject, subject, subject == DEFAULT_SUBJECT),
            ("class_noun", self.class_noun, class_noun, is_guessed),
        )
        problems = [
            Problem(
                name,
                f"is {mine!r} here and {checked!r} in the checked photos",
                f"leave {name} out, or check the photos again with {name} {mine!r}",
                "other_subject",
            )
            for name, mine, checked, unsaid in given
            if mine and checked != mine and not unsaid
        ]
        if problems:
            raise InputError.of(problems)
        filled = {name: mine if mine and unsaid else checked for name, mine, checked, unsaid in given}
        return self.model_copy(update=filled)

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
            config.instance_token.lower() in (config.class_noun.lower(), *config.class_noun.lower().split()),
            f"instance_token {config.instance_token!r} is a word of class_noun, and every other one would become the "
            "subject: choose a rare word, such as sks",
        ),
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
            config.method.dora and config.method.text_encoder,
            # transformers writes a text encoder's magnitudes under names that it does not read back.
            "nothing reads a DoRA of a text encoder back: set method.text_encoder=false or method.dora=false",
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


def mark_of(setting: str) -> Mark:
    """Return the mark of a setting, or of the one that it is nested in (``method.rank`` in ``method``)."""
    field = TrainConfig.model_fields[setting.partition(".")[0]]
    return next(mark for mark in field.metadata if isinstance(mark, Mark))
