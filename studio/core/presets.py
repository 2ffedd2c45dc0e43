"""Presets and packs: find, load, override, dump.

A training preset is ``presets/train/<name>.yaml``: a header (title, description, base, hardware) and a
``config`` that TrainConfig validates. A pack is ``presets/packs/<name>.yaml`` (its format is in ``studio.core.packs``),
a chain of finish steps ``presets/finish/<name>.yaml``. Ground level: pydantic, PyYAML.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, model_validator

from studio.core.errors import InputError, Problem
from studio.core.finish_config import STEPS, FinishConfig, FinishStep, check_steps
from studio.core.names import unknown_name
from studio.core.packs import Pack
from studio.core.settings import SHIPPED_ROOT
from studio.core.strict import StrictModel, Text, Word
from studio.core.text import decode_text
from studio.core.train_config import TrainConfig

PRESETS_DIR = SHIPPED_ROOT / "presets"


class TrainPreset(StrictModel):
    """One file of presets/train."""

    name: Word
    """The file's name without its ending."""
    title: Text
    """What the user sees."""
    description: Text
    """One sentence: for whom, and what it costs."""
    base: Text
    """Base model that the numbers are made for."""
    hardware: Literal["cpu", "6gb", "8gb", "12gb", "16gb", "24gb", "40gb", "80gb"]
    """Least hardware: cpu, or the memory that a GPU is sold with."""
    variant: Literal["usual", "quick", "best"] = "usual"
    """quick and best are taken only by name: less time, or more time and space, than usual."""
    config: TrainConfig
    """The numbers."""

    @property
    def memory_gb(self) -> int:
        """Gigabytes of the least GPU; 0 where none is needed."""
        return int(self.hardware.removesuffix("gb")) if self.hardware != "cpu" else 0

    @model_validator(mode="after")
    def _same_base(self) -> "TrainPreset":
        if self.config.base != self.base:
            raise ValueError(f"config.base is {self.config.base!r} but base is {self.base!r}; make them equal")
        return self


class Chain(StrictModel):
    """One file of presets/finish."""

    version: Literal[1] = 1
    """Version of the format."""
    name: Word
    """The file's name without its ending."""
    title: Text
    """What the user sees."""
    description: Text
    """One sentence: what comes out."""
    steps: tuple[FinishStep, ...] = Field(min_length=1, max_length=len(STEPS))
    """The steps, in order."""

    @model_validator(mode="after")
    def _sound_chain(self) -> "Chain":
        check_steps(self.steps)
        return self


_Model = TypeVar("_Model", TrainPreset, Pack, Chain)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(decode_text(path.read_bytes()))
    except (yaml.YAMLError, ValueError) as error:
        raise InputError.of(
            [Problem(path.name, f"is not readable YAML ({str(error).splitlines()[0]})", "mend the file", "bad_yaml")]
        ) from None


def _load(model: type[_Model], folder: Path, name: str, what: str) -> _Model:
    known = _names(folder)
    if name not in known:
        raise unknown_name(what, name, known)
    data = _read_yaml(folder / f"{name}.yaml")
    if not isinstance(data, dict):
        raise InputError.of([Problem(f"{name}.yaml", "is not a mapping", "write keys and values", "bad_yaml")])
    if "name" in data:
        raise InputError.of(
            [Problem(f"{name}.yaml", "has a name inside", "remove it; the file's name is the name", "bad_yaml")]
        )
    return model.parse({"name": name, **data})


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def list_presets(presets_dir: Path = PRESETS_DIR) -> list[TrainPreset]:
    """Return all training presets by name; raises InputError on the first malformed file."""
    return [load_preset(name, presets_dir) for name in _names(presets_dir / "train")]


def load_preset(name: str, presets_dir: Path = PRESETS_DIR) -> TrainPreset:
    """Return one training preset.

    Raises:
        NotFoundError: no such file. InputError: the file breaks the schema (all problems listed).
    """
    return _load(TrainPreset, presets_dir / "train", name, "preset")


def list_packs(presets_dir: Path = PRESETS_DIR) -> list[Pack]:
    """Return all packs by name."""
    return [load_pack(name, presets_dir) for name in _names(presets_dir / "packs")]


def load_pack(name: str, presets_dir: Path = PRESETS_DIR) -> Pack:
    """Return one pack; raises as ``load_preset``."""
    return _load(Pack, presets_dir / "packs", name, "pack")


def list_chains(presets_dir: Path = PRESETS_DIR) -> list[Chain]:
    """Return all finish chains by name."""
    return [load_chain(name, presets_dir) for name in _names(presets_dir / "finish")]


def load_chain(name: str, presets_dir: Path = PRESETS_DIR) -> Chain:
    """Return one finish chain; raises as ``load_preset``."""
    return _load(Chain, presets_dir / "finish", name, "chain")


def finish_config(chain: Chain, changes: Mapping[str, Any] | None = None) -> FinishConfig:
    """Return a chain's settings with changes: ``{"fit.max_bytes": 5000000, "cutout.model": "u2net", "seed": 3}``.

    A setting of a step is called by the step's kind and its own name.

    Raises:
        InputError: unknown steps or settings, or values out of range, all at once.
    """
    steps = {step.do: step.model_dump(mode="json") for step in chain.steps}
    data: dict[str, Any] = {"chain": chain.name}
    problems = []
    for dotted, value in (changes or {}).items():
        kind, dot, setting = dotted.partition(".")
        if not dot:
            data[dotted] = value
        elif kind in steps:
            steps[kind][setting] = value
        else:
            cure = f"use a setting of its steps: {', '.join(steps)}"
            problems.append(Problem(dotted, f"chain {chain.name} has no step {kind!r}", cure, "unknown_setting"))
    try:
        config = FinishConfig.parse({"steps": list(steps.values()), **data})
    except InputError as error:
        # Numbers of steps mean nothing to somebody who gave their kinds.
        named = [replace(problem, where=re.sub(r"^steps\.\d+\.", "", problem.where)) for problem in error.problems]
        raise InputError.of([*problems, *named]) from None
    if problems:
        raise InputError.of(problems)
    return config


def override(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """Return ``config`` with dotted settings replaced: ``{"method.rank": 8, "seed": 3}``.

    Raises:
        InputError: unknown settings or values out of range, all at once.
    """
    data = config.model_dump(mode="json")
    for dotted, value in changes.items():
        *parents, leaf = dotted.split(".")
        node = data
        for parent in parents:
            child = node.get(parent)
            if not isinstance(child, dict):
                child = {}
                node[parent] = child
            node = child
        node[leaf] = value
    return TrainConfig.parse(data)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse ``["method.rank=8", "seed=3", "keep=None"]`` as YAML values, or None.

    Raises:
        InputError: an item without ``=``.
    """
    changes, problems = {}, []
    for item in assignments:
        key, equals, value = item.partition("=")
        if not equals or not key:
            problems.append(Problem(item, "is not of the form key=value", "write it like seed=3", "bad_assignment"))
            continue
        changes[key.strip()] = _parse_value(value.strip())
    if problems:
        raise InputError.of(problems)
    return changes


def _parse_value(text: str) -> Any:
    if text == "None":  # as the sentences of the settings call it; YAML's word is null
        return None
    if text.startswith("#"):  # a colour; to YAML it would be a comment, and so nothing
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def train_config(preset: str, *, presets_dir: Path = PRESETS_DIR, **changes: Any) -> TrainConfig:
    """Return a preset's config with top-level ``changes`` (None values are skipped)."""
    given = {key: value for key, value in changes.items() if value is not None}
    return override(load_preset(preset, presets_dir).config, given)


def dump(config: StrictModel) -> str:
    """Return ``config`` as YAML that ``yaml.safe_load`` and ``parse`` read back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
