"""Going on from somebody else's LoRA: a file of diffusers, kohya, peft or this studio becomes the start of a run.

``read_start`` checks the file against the base by the two files' headers, before any weight is loaded, and says
everything that is wrong at once; ``apply_start`` puts it into the attached adapter, so that the first step trains the
model that the file describes. Every layer of the file arrives, or is named in a refusal. Called by ``studio.train``.
diffusers' own readers translate the names.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from torch import Tensor

from studio.bases.resolve import Base
from studio.bases.tensorfile import Header, plain, read_header, read_tensors
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME
from studio.core.catalog import FamilySpec
from studio.core.errors import InputError, Problem
from studio.core.train_config import TrainConfig
from studio.families.base import Family, Parts
from studio.methods.base import Method
from studio.methods.formats import SCALE_SETTINGS, layer_scale, lora_settings, portable_name

_WHERE = "method.start_from"
_OTHER_KINDS = {"hada_": "a LoHa", "lokr_": "a LoKr", "oft_": "an OFT", "dora_scale": "a DoRA", "magnitude": "a DoRA"}
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_PAIRS = (
    (_DOWN, _UP),
    (".lora_down.weight", ".lora_up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
)
"""Names that programs use for the two halves of a layer."""
_PEFT_PREFIX = "base_model.model."
_PEFT_CONFIG = "adapter_config.json"
_MOST_ALPHA = 2.0**20
_NAMED = 3


@dataclass(frozen=True, slots=True)
class StartingLora:
    """A LoRA to go on from, in diffusers' names."""

    layers: Mapping[str, tuple[Tensor, Tensor]]
    """Module such as ``unet.mid_block.attentions.0.proj_in`` -> A ``(r, in, ...)`` and B ``(out, r, ...)``, float32.

    The file's own scale is inside B: the update is B @ A.
    """
    embeds: Mapping[str, Tensor]
    """Trained token -> ``(D,)``, or ``(n, D)`` where it stands for several vectors."""


def read_start(config: TrainConfig, base: Base, spec: FamilySpec) -> StartingLora | None:
    """Read and check what the run goes on from; None if it starts anew.

    Raises:
        InputError: no such file, damaged, no LoRA, of another family or larger than the run's settings; all reasons.
    """
    given = config.method.start_from
    if given is None:
        return None
    if config.method.name != "lora" or config.method.dora:
        problem = _problem("only a plain LoRA can continue a LoRA", "set method.name=lora without dora", "no_lora")
        raise InputError.of([problem])
    path = Path(given).expanduser()
    folder = path if path.is_dir() else None
    path = path / WEIGHTS_NAME if folder else path
    header = read_header(path, _WHERE)
    _require_lora(path, header)
    layers = _translated(path, read_tensors(path, _WHERE), header, base, spec)
    problems = _misfits(path, layers, header, base) or _beyond_settings(layers, config, spec)
    embeds = _embeds(folder)
    problems += _embeds_problems(embeds, folder or path, config, base)
    if problems:
        raise InputError.of(problems)
    return StartingLora(layers, embeds)


def apply_start(start: StartingLora, family: Family, method: Method, parts: Parts) -> None:
    """Put the start into the attached adapter.

    Where the run's rank is larger, the further rows of A stay as they were initialised and those of B are zero, so that
    the update is the file's own. Layers that the file does not have start anew, that is, without an update.

    Raises:
        InputError: a layer or a word of the start has no place in it.
    """
    state = dict(method.adapter_state(parts))
    left = {*start.layers, *start.embeds}
    for name in [name for name in state if name.endswith(_DOWN)]:
        up_name = name.removesuffix(_DOWN) + _UP
        exported = portable_name(next(iter(family.export({name: state[name]}))))
        layer = start.layers.get(exported.removesuffix(_DOWN))
        if layer is None:
            continue
        left.discard(exported.removesuffix(_DOWN))
        down, up = layer
        rank = down.shape[0]
        wider_down, wider_up = state[name].clone(), torch.zeros_like(state[up_name])
        wider_down[:rank] = down
        wider_up[:, :rank] = up / _scaling(parts, name.removesuffix(_DOWN))
        state[name], state[up_name] = wider_down, wider_up
    for token, vector in start.embeds.items():
        name = f"token_embedding.{token}"
        if name in state:
            left.discard(token)
            state[name] = vector.reshape(state[name].shape).to(state[name].dtype)
    if left:
        message = f"{len(left)} of the file's layers have no place in this run ({_named(sorted(left))})"
        raise InputError.of([_problem(message, "use a LoRA of fewer kinds of layers", "left_out")])
    method.load_adapter_state(parts, state)


def _scaling(parts: Parts, name: str) -> float:
    """Return what the attached layer multiplies its update by."""
    part, _, module = name.partition(".")
    encoders = {f"text_encoder{f'_{i + 1}' if i else ''}": encoder for i, encoder in enumerate(parts.text_encoders)}
    layer: Any = {"denoiser": parts.denoiser, **encoders}[part].get_submodule(module)
    (scaling,) = layer.scaling.values()
    return float(scaling)


# --------------------------------------------------------------------------------------------------- reading the file


def _require_lora(path: Path, header: Header) -> None:
    for mark, kind in _OTHER_KINDS.items():
        if any(mark in name for name in header.shapes):
            cure = "use a plain LoRA"
            raise InputError.of([_problem(f"{path.name} is {kind}, which cannot be continued here", cure, "no_lora")])
    if not any(mark in name for name in header.shapes for mark in ("lora_down", "lora_A", "lora.down", "layer.down")):
        cure = "use a LoRA file; use a whole model as a base instead"
        raise InputError.of([_problem(f"{path.name} is not a LoRA: it has no LoRA layer", cure, "no_lora")])


def _translated(
    path: Path, tensors: Mapping[str, Tensor], header: Header, base: Base, spec: FamilySpec
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the layers by diffusers' names, every scale inside B.

    Raises:
        InputError: diffusers does not understand the names or leaves some out, or a layer is not whole.
    """
    try:
        pairs = _pairs({_without_peft_prefix(name, spec): tensor for name, tensor in tensors.items()})
        settings = _settings(path, header, spec)
        named = _diffusers_names({name: tensor for pair in pairs for name, tensor in pair.tensors()}, base, spec)
        modules = sorted(name.removesuffix(_DOWN) for name in named if name.endswith(_DOWN))
        if len(named) != 2 * len(modules) or not modules:
            raise ValueError("a layer is incomplete")
        layers = {m: (named[m + _DOWN].float(), named[m + _UP].float()) for m in modules}
        if any(min(d.ndim, u.ndim) < 2 or d.shape[0] != u.shape[1] for d, u in layers.values()):
            raise ValueError("the halves of a layer have different ranks")
        lost = _lost(pairs, base, spec)
        layers = {name: (down, up * _scale(name, down.shape[0], settings)) for name, (down, up) in layers.items()}
        if not all(bool(torch.isfinite(up).all()) for _, up in layers.values()):
            raise ValueError("its scale produces NaN or infinity")
    except Exception as error:  # diffusers answers names that it does not know with many kinds of exception
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        message = f"{path.name} cannot be read as a LoRA for {spec.pipeline}{_made_for(header)} ({plain(reason)})"
        cure = f"use a LoRA made for the base {base.spec.name}"
        raise InputError.of([_problem(message, cure, "other_family")]) from None
    if lost:
        message = f"{path.name}: diffusers ignores {len(lost)} of its {len(pairs)} layers ({_named(lost)})"
        cure = f"use a LoRA made for the base {base.spec.name}, or of fewer kinds of layers"
        raise InputError.of([_problem(message, cure, "left_out")])
    return layers


@dataclass(frozen=True, slots=True)
class _Pair:
    """One layer as the file has it; kohya's alpha / rank is in ``up``."""

    stem: str
    ends: tuple[str, str]
    down: Tensor
    up: Tensor

    def tensors(self) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
        """Return the halves with their names."""
        return (self.stem + self.ends[0], self.down), (self.stem + self.ends[1], self.up)


def _pairs(tensors: Mapping[str, Tensor]) -> list[_Pair]:
    """Return the layers of a file.

    kohya's alpha goes into the upper matrices, where no reader can lose it; without alpha the scale is 1.

    Raises:
        ValueError: a tensor is no part of a whole layer, or an alpha is none.
    """
    left = dict(tensors)
    pairs = []
    for name, down in tensors.items():
        ends = next((ends for ends in _PAIRS if name.endswith(ends[0])), None)
        if ends is None:
            continue
        stem = name.removesuffix(ends[0])
        up = left.pop(stem + ends[1], None)
        if up is None or not down.is_floating_point() or not up.is_floating_point():
            raise ValueError(f"a layer is incomplete: {stem} has only one half")
        del left[name]
        alpha = left.pop(f"{stem}.alpha", None)
        if alpha is not None:
            value = float(alpha) if alpha.numel() == 1 else 0.0
            if not 0 < abs(value) <= _MOST_ALPHA:
                raise ValueError(f"the alpha of {stem} is invalid")
            up = up.float() * (value / down.shape[0])
        pairs.append(_Pair(stem, ends, down, up))
    if left:
        raise ValueError(f"{sorted(left)[0]} does not belong to a LoRA layer")
    return pairs


def _without_peft_prefix(name: str, spec: FamilySpec) -> str:
    """Return a name as diffusers has it, of one that peft gave to a model by itself."""
    if not name.startswith(_PEFT_PREFIX):
        return name
    rest = re.sub(r"\.lora_([AB])\.default\.weight$", r".lora_\1.weight", name.removeprefix(_PEFT_PREFIX))
    part = rest.partition(".")[0]
    if part == spec.denoiser or part.startswith("text_encoder"):
        return rest
    return f"{'text_encoder' if part in ('text_model', 'encoder') else spec.denoiser}.{rest}"


def _settings(path: Path, header: Header, spec: FamilySpec) -> dict[str, Any]:
    """Return the settings that scale the layers: the file's own, or those that peft wrote beside it.

    Raises:
        ValueError: they are not what they can be.
    """
    settings = lora_settings(header.metadata, SCALE_SETTINGS)
    beside = path.with_name(_PEFT_CONFIG)
    if not settings and any(name.startswith(_PEFT_PREFIX) for name in header.shapes) and beside.is_file():
        given = json.loads(beside.read_text(encoding="utf-8"))
        found = {f"{part}.{key}": value for part in (spec.denoiser, "text_encoder") for key, value in given.items()}
        settings = lora_settings({"lora_adapter_metadata": json.dumps(found)}, SCALE_SETTINGS)
    if any(value is True for key, value in settings.items() if key.endswith("use_dora")):
        raise ValueError("it is a DoRA without magnitudes")
    return settings


def _diffusers_names(tensors: Mapping[str, Tensor], base: Base, spec: FamilySpec) -> dict[str, Tensor]:
    """Return the halves of the layers by the names that every release of diffusers reads."""
    given: dict[str, Any] = {"return_alphas": True}
    unet = base.folder / "unet" / "config.json"
    if unet.is_file():  # kohya numbers XL's blocks through; the base's configuration says how to count them
        given["unet_config"] = SimpleNamespace(**json.loads(unet.read_text(encoding="utf-8")))
    read = getattr(diffusers, spec.pipeline).lora_state_dict(dict(tensors), **given)
    state: dict[str, Tensor] = read[0] if isinstance(read, tuple) else read
    named: dict[str, Tensor] = {}
    for component in sorted({name.partition(".")[0] for name in state}):
        prefix = f"{component}."
        inside = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
        named |= {portable_name(prefix + name): t for name, t in _peft_names(component, inside).items()}
    return named


def _lost(pairs: Sequence[_Pair], base: Base, spec: FamilySpec) -> list[str]:
    """Return the layers that diffusers' reader drops without a word.

    Names change on the way and layers are split, so the layers are followed by a number in the place of their values.
    """
    marked = {
        name: torch.full((), number + 1.0).expand(half.shape)
        for number, pair in enumerate(pairs)
        for name, half in pair.tensors()
    }
    arrived = {float(half.flatten()[0]) for half in _diffusers_names(marked, base, spec).values()}
    return [pair.stem for number, pair in enumerate(pairs) if number + 1.0 not in arrived]


def _peft_names(component: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    if any(".lora_A." in name for name in state):
        return state
    if component.startswith("text_encoder"):
        return convert_state_dict_to_peft(convert_state_dict_to_diffusers(state))
    return convert_unet_state_dict_to_peft(state)


def _scale(name: str, rank: int, settings: Mapping[str, Any]) -> float:
    component, _, module = name.partition(".")
    return layer_scale(settings, component, module, rank)


def _embeds(folder: Path | None) -> dict[str, Tensor]:
    """Return the trained word that lies beside a LoRA of the studio's.

    Raises:
        InputError: its file is damaged.
    """
    if folder is None or not (folder / EMBEDS_NAME).is_file():
        return {}
    return read_tensors(folder / EMBEDS_NAME, _WHERE)


# ----------------------------------------------------------------------------------------------- what does not fit


def _misfits(path: Path, layers: Mapping[str, tuple[Tensor, Tensor]], header: Header, base: Base) -> list[Problem]:
    """Compare every layer with the base's own, whose shapes stand in the headers of its files."""
    components = sorted({name.partition(".")[0] for name in layers})
    own = {name: shape for component in components for name, shape in _base_shapes(base, component)}
    wrong = []
    for name, (down, up) in layers.items():
        shape, rank = own.get(f"{name}.weight", ()), down.shape[0]
        # A convolution's kernel is in the lower half.
        if (down.shape, up.shape) != ((rank, *shape[1:]), (*shape[:1], rank, *[1] * len(shape[2:]))):
            wrong.append(name)
    if not wrong:
        return []
    message = (
        f"{path.name} is a LoRA for another model{_made_for(header)}: {len(wrong)} of its {len(layers)} layers do not "
        f"fit the base {base.spec.name} ({_named(wrong)})"
    )
    return [_problem(message, "choose the base it was made for, or another file", "other_family")]


def _base_shapes(base: Base, component: str) -> Iterable[tuple[str, tuple[int, ...]]]:
    for file in sorted((base.folder / component).glob("*.safetensors")):
        for name, shape in read_header(file, "base").shapes.items():
            yield portable_name(f"{component}.{name}"), shape


def _beyond_settings(
    layers: Mapping[str, tuple[Tensor, Tensor]], config: TrainConfig, spec: FamilySpec
) -> list[Problem]:
    """Return what the run's settings would leave out of the file."""
    problems = []
    rank = max(down.shape[0] for down, _ in layers.values())
    if rank > config.method.rank:
        message = f"{config.method.rank} is less than the rank {rank} of the LoRA to continue"
        problems.append(Problem("method.rank", message, f"set method.rank={rank}", "rank"))
    in_text = [name for name in layers if name.startswith("text_encoder")]
    if in_text and not config.method.text_encoder:
        message = "the LoRA to continue has layers in the text encoder, which this run would drop"
        problems.append(Problem("method.text_encoder", message, "set method.text_encoder=true", "text_encoder"))
    targets = dict(spec.lora_targets)
    outside = _outside(layers, spec, config.method.target)
    if outside:
        fitting = next((name for name in targets if not _outside(layers, spec, name)), None)
        message = (
            f"the LoRA to continue has {len(outside)} layers outside {config.method.target}, which this run would "
            f"drop ({_named(outside)})"
        )
        cure = f"set method.target={fitting}" if fitting else "use a LoRA of fewer kinds of layers"
        problems.append(Problem("method.target", message, cure, "target"))
    return problems


def _outside(layers: Iterable[str], spec: FamilySpec, target: str) -> list[str]:
    """Return the layers that a run with this target does not train."""
    denoiser, text = dict(spec.lora_targets)[target], dict(spec.text_encoder_targets).get(target, ())
    learning = {
        "text_encoder" + (f"_{number}" if number > 1 else "") for number in range(1, spec.learning_text_encoders + 1)
    }
    found = []
    for name in layers:
        component, _, module = name.partition(".")
        suffixes = denoiser if component == spec.denoiser else text if component in learning else ()
        if not any(f".{module}".endswith(f".{suffix}") for suffix in suffixes):
            found.append(name)
    return found


def _embeds_problems(embeds: Mapping[str, Tensor], where: Path, config: TrainConfig, base: Base) -> list[Problem]:
    """Return why the trained word of a start would not go on as it is."""
    if not embeds:
        return []
    problems = []
    words = {name.rpartition(".")[2] for name in embeds}
    if words != {config.instance_token}:
        found = ", ".join(sorted(map(plain, words)))
        cure = f"set instance_token={found}" if len(words) == 1 else "use an adapter with one trained word"
        message = f"{config.instance_token} is not the trained word of {where.name} ({found})"
        problems.append(Problem("instance_token", message, cure, "other_token"))
    widths = {shape[1] for name, shape in _base_shapes(base, "text_encoder") if name.endswith("token_embedding.weight")}
    if any(vectors.ndim not in (1, 2) or vectors.shape[-1] not in widths for vectors in embeds.values()):
        message = f"the trained word of {where.name} is not made for the base {base.spec.name}"
        return [*problems, _problem(message, "choose the base it was made for", "other_family")]
    rows = max(vectors.numel() // vectors.shape[-1] for vectors in embeds.values())
    if rows != config.token_vectors:
        message = f"{config.token_vectors} is not the number of the trained token's vectors ({rows})"
        problems.append(Problem("token_vectors", message, f"set token_vectors={rows}", "token_vectors"))
    if config.token_learning_rate is None:
        message = f"{where.name} contains a trained token, which this run would drop"
        problems.append(Problem("token_learning_rate", message, "set token_learning_rate", "token_left_out"))
    return problems


def _named(layers: Sequence[str]) -> str:
    """Return the first few of some layers in words; the names may be somebody else's."""
    return ", ".join(map(plain, layers[:_NAMED])) + (" ..." if len(layers) > _NAMED else "")


def _made_for(header: Header) -> str:
    """Return what the file says of its base, made printable: the words are somebody else's."""
    said = header.metadata.get("modelspec.architecture") or header.metadata.get("ss_base_model_version") or ""
    plain = re.sub(r"[^\w./ -]", "", said)[:40]
    return f" (it says {plain})" if plain else ""


def _problem(message: str, cure: str, code: str) -> Problem:
    return Problem(_WHERE, message, cure, code)
