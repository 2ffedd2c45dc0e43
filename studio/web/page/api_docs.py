"""Writes the generated parts of docs/API.md: ``python -m studio.web.page.api_docs``.

Each part stands between two marks. A test compares the file with what this module would write.
"""

import json
import re
import types
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin

import gradio as gr
from pydantic import BaseModel

from studio.core.config import CONFIGS
from studio.core.domain import (
    Dataset,
    ExportResult,
    FinishedPicture,
    FinishResult,
    GenerateResult,
    Image,
    PublishResult,
    TrainResult,
)
from studio.core.finish_config import STEPS
from studio.core.settings import PROJECT_ROOT
from studio.web.page import widgets
from studio.web.page.endpoint_spec import REQUIRED, Parameter
from studio.web.page.endpoints import ENDPOINTS

API_DOCS = PROJECT_ROOT / "docs" / "API.md"
_TYPES = {str: "str", int: "int", float: "float", bool: "bool", dict: "dict"}


def write(path: Path = API_DOCS) -> None:
    """Bring the generated parts of the file up to date."""
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")


def updated(text: str) -> str:
    """Return the document with every generated part written anew.

    Raises:
        ValueError: a part has no place in the document.
    """
    for name, lines in _parts().items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        pattern = re.compile(rf"{begin}\n.*?{end}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"docs/API.md has no part between {begin!r} and {end!r}")
        before, after = pattern.split(text)
        text = "".join((before, begin, "\n\n", "\n".join(lines).strip(), "\n\n", end, after))
    return text


def _parts() -> dict[str, list[str]]:
    return {
        "endpoints": list(_endpoints()),
        "parameters": list(_parameters()),
        "settings": list(_settings()),
        "results": list(_results()),
    }


def _row(*cells: str) -> str:
    # A bar would end the cell.
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _endpoints() -> Iterator[str]:
    yield from (_row("endpoint", "parameters", "answer"), "|---|---|---|")
    for endpoint in ENDPOINTS:
        signature = ", ".join(f"`{_declaration(row)}`" for row in endpoint.parameters)
        yield _row(f"`/{endpoint.name}`", signature, endpoint.returns)


def _declaration(parameter: Parameter) -> str:
    kind = _type_name(parameter.type)
    if parameter.default is REQUIRED:
        return f"{parameter.name}: {kind}"
    if parameter.default is None:
        return f"{parameter.name}: {kind} = None"
    if isinstance(parameter.default, str):
        return f"{parameter.name}={json.dumps(parameter.default)}"
    return f"{parameter.name}={parameter.default}"


def _type_name(kind: Any) -> str:
    kinds = [row for row in get_args(kind) if row is not type(None)] if isinstance(kind, types.UnionType) else [kind]
    if get_origin(kinds[0]) is list:
        (item,) = get_args(kinds[0])
        return f"list[{'file' if item is gr.FileData else _type_name(item)}]"
    return _TYPES[kinds[0]]


def _parameters() -> Iterator[str]:
    for endpoint in ENDPOINTS:
        if not endpoint.parameters:
            continue
        yield from (f"### /{endpoint.name}", "", endpoint.summary, "", _row("parameter", "meaning"), "|---|---|")
        yield from (_row(f"`{row.name}`", row.sentence) for row in endpoint.parameters)
        yield ""


def _settings() -> Iterator[str]:
    for verb, model in CONFIGS.items():
        models = {f"{kind}.": step for kind, step in STEPS.items()} if verb == "finish" else {"": model}
        yield from (f"### Settings of {verb}", "", _row("setting", "values", "default", "meaning"), "|---|---|---|---|")
        for prefix, config in models.items():
            for field in widgets.describe(config):
                values = ", ".join(f"`{choice}`" for choice in field.choices) or field.range or field.kind
                sentence = (_field(config, field.path).description or "").replace("\n", " ")
                yield _row(f"`{prefix}{field.path}`", values, _default(config, field.path), sentence)
        yield ""


def _field(model: type[BaseModel], path: str) -> Any:
    *parents, name = path.split(".")
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return model.model_fields[name]


def _default(model: type[BaseModel], path: str) -> str:
    info = _field(model, path)
    if info.is_required():
        return "required"
    if isinstance(info.default, BaseModel):
        return ", ".join(f"{name}={value}" for name, value in info.default)
    return f"`{json.dumps(info.default)}`" if info.default is not None else "None"


_RESULTS: dict[str, tuple[type, str]] = {
    "check": (Dataset, "`dataset.json`"),
    "train": (
        TrainResult,
        "`adapter/pytorch_lora_weights.safetensors` (`adapter/full_weights.safetensors` of a full fine-tuning), "
        "`adapter/learned_embeds.safetensors` where the token was trained, `adapter/adapter.json`, "
        "`adapter/certificate.json` of a LoRA, `report.json`, `curve.png`",
    ),
    "generate": (
        GenerateResult,
        "`pictures.zip`, `contact_sheet.png`, one more sheet for each shot with several pictures, "
        "and every picture that was kept",
    ),
    "export": (ExportResult, "those of `files`, `certificate.json` among them"),
    "publish": (PublishResult, "those of `files`, below `repo/`"),
    "finish": (FinishResult, "`pictures.zip`, `contact_sheet.png`, every picture"),
}
_ITEMS = {"generate": ("an image", Image), "finish": ("a picture", FinishedPicture)}


def _results() -> Iterator[str]:
    yield from (_row("kind of job", "`result`", "`files`"), "|---|---|---|")
    for kind, (result, offered) in _RESULTS.items():
        items = f"; {_ITEMS[kind][0]} has {_names(_ITEMS[kind][1])}" if kind in _ITEMS else ""
        yield _row(kind, _names(result) + items, offered)


def _names(record: type) -> str:
    return f"`{' '.join(field.name for field in fields(record))}`"


if __name__ == "__main__":
    write()
