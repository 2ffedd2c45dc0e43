"""Going on from somebody else's LoRA: a file of diffusers, kohya or this studio becomes the start of a training run.

``read_start`` checks the file against the base by the two files' headers, before any weight is loaded, and says
everything that is wrong at once; ``apply_start`` puts it into the attached adapter, so that the first step trains the
model that the file describes. Called by ``studio.train``. diffusers' own readers translate the names.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
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
from safetensors.torch import load_file
from torch import Tensor

from studio.bases.resolve import Base
from studio.bases.tensorfile import Header, read_header
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME
from studio.core.catalog import FamilySpec
from studio.core.errors import InputError, Problem
from studio.core.train_config import TrainConfig
from studio.families.base import Family, Parts
from studio.methods.base import Method
from studio.methods.formats import portable_name

_WHERE = "method.start_from"
_OTHER_KINDS = {"hada_": "a LoHa", "lokr_": "a LoKr", "oft_": "an OFT", "dora_scale": "a DoRA", "magnitude": "a DoRA"}
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
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
        problem = _problem("only a plain LoRA goes on from one", "set method.name=lora without dora", "no_lora")
        raise InputError.of([problem])
    path = Path(given).expanduser()
    folder = path if path.is_dir() else None
    path = path / WEIGHTS_NAME if folder else path
    header = read_header(path, _WHERE)
    _require_lora(path, header)
    tensors = load_file(path)
    problems = [
        _problem(f"{path.name}: the layer {name} holds NaN or infinity", "use another file", "not_finite")
        for name in [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor.float()).all())][:1]
    ]
    layers = _translated(path, tensors, header, base, spec)
    problems += _misfits(path, layers, header, base) or _beyond_settings(layers, config, spec)
    embeds = _embeds(folder)
    rows = max((vectors.numel() // vectors.shape[-1] for vectors in embeds.values()), default=config.token_vectors)
    if rows != config.token_vectors:
        message = f"{config.token_vectors} is not the number of the trained token's vectors ({rows})"
        problems.append(Problem("token_vectors", message, f"set token_vectors={rows}", "token_vectors"))
    if embeds and config.token_learning_rate is None:
        problems.append(
            Problem(
                "token_learning_rate",
                f"{folder.name if folder else path.name} holds a trained token, which this run would leave out",
                "set token_learning_rate",
                "token_left_out",
            )
        )
    if problems:
        raise InputError.of(problems)
    return StartingLora(layers, embeds)


def apply_start(start: StartingLora, family: Family, method: Method, parts: Parts) -> None:
    """Put the start into the attached adapter.

    Where the run's rank is larger, the further rows of A stay as they were initialised and those of B are zero, so that
    the update is the file's own. Layers that the file does not have start anew, that is, without an update.
    """
    state = dict(method.adapter_state(parts))
    for name in [name for name in state if name.endswith(_DOWN)]:
        up_name = name.removesuffix(_DOWN) + _UP
        exported = portable_name(next(iter(family.export({name: state[name]}))))
        layer = start.layers.get(exported.removesuffix(_DOWN))
        if layer is None:
            continue
        down, up = layer
        rank = down.shape[0]
        wider_down, wider_up = state[name].clone(), torch.zeros_like(state[up_name])
        wider_down[:rank] = down
        wider_up[:, :rank] = up / _scaling(parts, name.removesuffix(_DOWN))
        state[name], state[up_name] = wider_down, wider_up
    for token, vector in start.embeds.items():
        name = f"token_embedding.{token}"
        if name in state:
            state[name] = vector.reshape(state[name].shape).to(state[name].dtype)
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
        cure = "use a LoRA file; a whole model is a base"
        raise InputError.of([_problem(f"{path.name} is no LoRA: none of its tensors is a LoRA layer", cure, "no_lora")])


def _translated(
    path: Path, tensors: Mapping[str, Tensor], header: Header, base: Base, spec: FamilySpec
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the layers by diffusers' names, every scale inside B.

    Raises:
        InputError: diffusers does not understand the names, or a layer is not whole.
    """
    unet = base.folder / "unet" / "config.json"
    given: dict[str, Any] = {"return_alphas": True}
    if unet.is_file():  # kohya numbers XL's blocks through; the base's configuration says how to count them
        given["unet_config"] = SimpleNamespace(**json.loads(unet.read_text(encoding="utf-8")))
    try:
        read = getattr(diffusers, spec.pipeline).lora_state_dict(_without_alphas(tensors), **given)
        state: dict[str, Tensor] = read[0] if isinstance(read, tuple) else read
        named: dict[str, Tensor] = {}
        for component in sorted({name.partition(".")[0] for name in state}):
            prefix = f"{component}."
            inside = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            named |= {portable_name(prefix + name): t for name, t in _peft_names(component, inside).items()}
        modules = {name.removesuffix(_DOWN) for name in named if name.endswith(_DOWN)}
        if len(named) != 2 * len(modules) or not modules:
            raise ValueError("a layer is not whole")
        layers = {m: (named[m + _DOWN].float(), named[m + _UP].float()) for m in sorted(modules)}
        if any(down.shape[0] != up.shape[1] for down, up in layers.values()):
            raise ValueError("the halves of a layer have different ranks")
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        message = f"{path.name} cannot be understood as a LoRA for {spec.pipeline}{_made_for(header)} ({reason})"
        cure = f"use a LoRA that was made for the base {base.spec.name}"
        raise InputError.of([_problem(message, cure, "other_family")]) from None
    settings: Mapping[str, Any] = json.loads(header.metadata.get("lora_adapter_metadata") or "{}")
    return {name: (down, up * _file_scale(name, down.shape[0], settings)) for name, (down, up) in layers.items()}


def _without_alphas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put kohya's alpha / rank into the upper matrices, where no reader can lose it; without alpha the scale is 1."""
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    for name, alpha in tensors.items():
        stem = name.removesuffix(".alpha")
        if stem != name:
            rank = found[f"{stem}.lora_down.weight"].shape[0]
            up = f"{stem}.lora_up.weight"
            found[up] = found[up].float() * (float(alpha) / rank)
    return found


def _peft_names(component: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    if any(".lora_A." in name for name in state):
        return state
    if component.startswith("text_encoder"):
        return convert_state_dict_to_peft(convert_state_dict_to_diffusers(state))
    return convert_unet_state_dict_to_peft(state)


def _file_scale(name: str, rank: int, settings: Mapping[str, Any]) -> float:
    """Return the scale that the file's own peft settings give a layer; 1 without them."""
    component, _, module = name.partition(".")
    alpha = settings.get(f"{component}.lora_alpha", rank)
    for key, special in (settings.get(f"{component}.alpha_pattern") or {}).items():
        if re.search(rf"(^|\.){key}$", module):
            alpha = special
    return alpha / (math.sqrt(rank) if settings.get(f"{component}.use_rslora") else rank)


def _embeds(folder: Path | None) -> dict[str, Tensor]:
    if folder is None or not (folder / EMBEDS_NAME).is_file():
        return {}
    read_header(folder / EMBEDS_NAME, _WHERE)
    return load_file(folder / EMBEDS_NAME)


# ----------------------------------------------------------------------------------------------- what does not fit


def _misfits(path: Path, layers: Mapping[str, tuple[Tensor, Tensor]], header: Header, base: Base) -> list[Problem]:
    """Compare every layer with the base's own, whose shapes stand in the headers of its files."""
    components = sorted({name.partition(".")[0] for name in layers})
    own = {name: shape for component in components for name, shape in _base_shapes(base, component)}
    wrong = []
    for name, (down, up) in layers.items():
        shape = own.get(f"{name}.weight")
        if shape is None or shape[0] != up.shape[0] or shape[1] != down.shape[1] or len(shape) != down.ndim:
            wrong.append(name)
    if not wrong:
        return []
    message = (
        f"{path.name} is a LoRA of another model{_made_for(header)}: {len(wrong)} of its {len(layers)} layers do not "
        f"fit the base {base.spec.name} ({', '.join(wrong[:_NAMED])}{' ...' if len(wrong) > _NAMED else ''})"
    )
    return [_problem(message, "choose the base that it was made for, or another file", "other_family")]


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
        message = f"{config.method.rank} is less than the rank {rank} of the LoRA to go on from"
        problems.append(Problem("method.rank", message, f"set method.rank={rank}", "rank"))
    if any(name.startswith("text_encoder") for name in layers) and not config.method.text_encoder:
        message = "the LoRA to go on from has layers in the text encoder, which this run would leave out"
        problems.append(Problem("method.text_encoder", message, "set method.text_encoder=true", "text_encoder"))
    targets = dict(spec.lora_targets)
    modules = [name.partition(".")[2] for name in layers if not name.startswith("text_encoder")]
    if _outside(modules, targets[config.method.target]):
        fitting = next((name for name, suffixes in targets.items() if not _outside(modules, suffixes)), None)
        message = f"the LoRA to go on from has layers outside {config.method.target}, which this run would leave out"
        cure = f"set method.target={fitting}" if fitting else "use a LoRA of fewer kinds of layers"
        problems.append(Problem("method.target", message, cure, "target"))
    return problems


def _outside(modules: Iterable[str], suffixes: tuple[str, ...]) -> bool:
    return not all(any(f".{module}".endswith(f".{suffix}") for suffix in suffixes) for module in modules)


def _made_for(header: Header) -> str:
    """Return what the file says of its base, made printable: the words are somebody else's."""
    said = header.metadata.get("modelspec.architecture") or header.metadata.get("ss_base_model_version") or ""
    plain = re.sub(r"[^\w./ -]", "", said)[:40]
    return f" (it says {plain})" if plain else ""


def _problem(message: str, cure: str, code: str) -> Problem:
    return Problem(_WHERE, message, cure, code)
