"""What this machine can do for photos of real people, pets and things, said before anybody waits for it.

Page, command line and endpoints take their sentences from here. Ground level: no torch.
"""

import os

from studio.core.catalog import BASES, BaseSpec
from studio.core.errors import InputError, Problem
from studio.core.language import say, spoken
from studio.core.machine import Machine, default_base, has_room
from studio.core.units import gigabytes_text

CARTOONS = "Pocket draws cartoon portraits of 128 pixels; it cannot show what is on real photos."
"""What the embedded base cannot do."""

CPU_BASE = "sd15"
"""The base that a processor can train on in a night."""

_CPU_CORE_HOURS = 18.0
"""Hours that ``sd15_lora_6gb`` takes on one CPU core for eight photos. Counted, not run: a step of its U-Net in its
true shape took 22.6 s per picture on one core, a forward pass 7.5 s; 640 steps, and 48 sample pictures of 25 steps."""

_ELSEWHERE = (
    "on another machine of yours with a GPU: start the studio there, and here run "
    "`python -m studio remote --server ADDRESS train PHOTOS --subject NAME --class-noun NOUN --out RUN`",
    "on a rented GPU, as a Space of yours: `python -m studio space push gpu --repo YOUR-NAME/likeness-studio`",
)

_PATIENT = "on this machine's processor with {base}: roughly {hours} on {cores} for 8 photos, and 8 GB of memory"


def lacks(base: BaseSpec, here: Machine) -> str:
    """Return what this machine lacks for a base, for example "needs a GPU with 6 GB"; empty if nothing.

    A GPU whose memory is not known lacks nothing.
    """
    if not base.vram_gb:
        return ""
    needs = say("needs a GPU with {memory}").format(memory=gigabytes_text(base.vram_gb))
    if here.kind == "cpu":
        return needs
    small = here.memory_bytes is not None and not has_room(here.memory_bytes, base.vram_gb)
    return say("{needs}; this one has less").format(needs=needs) if small else ""


def draws_cartoons(base: str) -> bool:
    """Return whether a base draws nothing but cartoons."""
    spec = BASES.get(base)
    return spec is not None and spec.likeness == "pocket"


def has_photo_base(here: Machine) -> bool:
    """Return whether this machine has a GPU that trains on real photos."""
    return not draws_cartoons(default_base(here))


def ways(cores: int | None = None) -> tuple[str, ...]:
    """Return what can be done with real photos where there is no GPU, each way as the end of "train them ...".

    Args:
        cores: CPU cores of this machine; None counts them.
    """
    count = cores or os.cpu_count() or 1
    hours = max(1, round(_CPU_CORE_HOURS / count))
    spans = {
        "hours": say("{count} hour" if hours == 1 else "{count} hours").format(count=hours),
        "cores": say("{count} core" if count == 1 else "{count} cores").format(count=count),
    }
    return (*spoken(_ELSEWHERE), say(_PATIENT).format(base=BASES[CPU_BASE].title, **spans))


def require_photo_base(*, is_named: bool, drawn: bool | None, here: Machine) -> None:
    """Refuse to train real photos on a base that draws cartoons because nobody named a better one.

    Args:
        is_named: whether a base or a preset was chosen; then it is what is wanted.
        drawn: whether the photos are drawings, as the check saw; None if it did not say.
        here: this machine.

    Raises:
        InputError: with the ways that lead to pictures like the photos.
    """
    if is_named or drawn is not False or has_photo_base(here):
        return
    message = say("these are real photos, and this machine has no GPU for a base that knows real pictures. {cartoons}")
    message = message.format(cartoons=say(CARTOONS).removesuffix("."))
    cure = say("train them {ways}; or name the base pocket for a cartoon").format(ways=say("; or ").join(ways()))
    raise InputError.of([Problem("base", message, cure, "real_photos")])
