"""Read an export back as any other program would: ``python studio/exporting/reload.py REQUEST.json``.

Plain diffusers in a process of its own; nothing of the studio is imported, so what this reads, every other program
reads. It compares each tensor of the file with what the loader put into the pipeline, draws the requested pictures, and
writes both to the request's ``result``. Started by ``studio.exporting.certificate`` only.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import safe_open
from torch import Tensor

_NAME = "certified"
_SHARE_OF_ROOM = 0.8  # the rest is for what drawing itself needs


def main(request_file: Path) -> None:
    """Load, compare, draw; an exception ends the process and is read from its standard error."""
    request: dict[str, Any] = json.loads(request_file.read_text(encoding="utf-8"))
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    dtype = getattr(torch, request["dtype"])
    path = Path(request["path"])
    pipeline = _opened(request, path, dtype)
    if request["loader"] == "lora":
        files = [path]
        pipeline.load_lora_weights(
            path.parent, weight_name=path.name, adapter_name=_NAME, use_safetensors=True, local_files_only=True
        )
        comparison = _compared(files, _adapter_tensors(pipeline), dtype)
    elif request["loader"] == "dora_scale":
        comparison = _decomposed(pipeline, path)
    else:
        files = [path] if path.is_file() else sorted(path.glob("*/*.safetensors"))
        comparison = _compared(files, _all_tensors(pipeline), dtype)
    if request["embeds"]:
        load_word(pipeline, Path(request["embeds"]), request["token"])
    _place(pipeline, torch.device(request["device"]), whole=not request["quantization"])
    pipeline.set_progress_bar_config(disable=True)
    for shot in request["shots"]:
        picture = pipeline(
            prompt=shot["prompt"],
            # On the CPU: a seed gives the same noise on every device.
            generator=[torch.Generator().manual_seed(shot["seed"])],
            height=shot["size_hw"][0],
            width=shot["size_hw"][1],
            num_inference_steps=shot["num_inference_steps"],
            **_guided(request["guidance"], shot["guidance_scale"]),
        ).images[0]
        picture.save(shot["file"])
    versions = {
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    Path(request["result"]).write_text(json.dumps({**comparison, "versions": versions}), encoding="utf-8")


def load_word(pipeline: Any, path: Path, word: str) -> None:
    """Give a pipeline the trained word of a file, as the model card says it."""
    pipeline.load_textual_inversion(str(path), token=word, use_safetensors=True, local_files_only=True)
    # diffusers finds its words inside others, too: "sks" in "desks".
    names = [name for name in pipeline.tokenizer.get_added_vocab() if name == word or name.startswith(f"{word}_")]
    pipeline.tokenizer.add_tokens([transformers.AddedToken(name, single_word=True, normalized=True) for name in names])


def _opened(request: dict[str, Any], path: Path, dtype: torch.dtype) -> Any:
    given: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    pipeline_class = getattr(diffusers, request["pipeline"])
    folder = request["base"] if request["loader"] != "pipeline" else str(path)
    index = json.loads((Path(folder) / "model_index.json").read_text(encoding="utf-8"))
    # Bases are kept without their safety checkers; diffusers wants to be told.
    given |= {
        name: None for name, kind in index.items() if isinstance(kind, list) and not (Path(folder) / name).is_dir()
    }
    if request["quantization"]:
        # As in training: an adapter is certified on the base that it was made for.
        denoiser = request["denoiser"]
        given[denoiser] = getattr(diffusers, index[denoiser][1]).from_pretrained(
            Path(folder) / denoiser,
            quantization_config=diffusers.BitsAndBytesConfig(**request["quantization"]),
            device_map=torch.device("cpu"),
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
        )
    if request["loader"] == "single_file":
        return pipeline_class.from_single_file(str(path), config=request["base"], **given)
    return pipeline_class.from_pretrained(folder, use_safetensors=True, **given)


def _place(pipeline: Any, device: torch.device, *, whole: bool = True) -> None:
    """Move the pipeline to the device; part by part or layer by layer where a GPU has no room for more at once.

    A quantised part (not ``whole``) is small and cannot be moved by layers.
    """
    sizes = [sum(tensor.nbytes for tensor in module.state_dict().values()) for module in _modules(pipeline)]
    room = _SHARE_OF_ROOM * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else sum(sizes)
    if sum(sizes) <= room:
        pipeline.to(device)
    elif max(sizes) <= room or not whole:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(
            onload_device=device, offload_type="leaf_level", use_stream=True, low_cpu_mem_usage=True
        )


def _guided(argument: str, scale: float) -> dict[str, Any]:
    # With true_cfg_scale a pipeline guides only where it is given a negative prompt, be it empty.
    return {argument: scale, "negative_prompt": ""} if argument == "true_cfg_scale" else {argument: scale}


def _modules(pipeline: Any) -> Iterator[torch.nn.Module]:
    return (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))


def _all_tensors(pipeline: Any) -> Iterator[Tensor]:
    return (tensor for module in _modules(pipeline) for tensor in module.state_dict().values())


def _decomposed(pipeline: Any, path: Path) -> dict[str, Any]:
    """Change a pipeline's weights by a DoRA in kohya's layout as ComfyUI does it, at strength 1.

    diffusers reads ``dora_scale`` otherwise, and ComfyUI is no package that could be started here.

    Source: Comfy-Org/ComfyUI@9c0cf36c comfy/weight_adapter/base.py (weight_decompose), lora.py (calculate_weight).
    """
    layers = {}
    prefixes = {
        "lora_unet": "unet",
        "lora_te": "text_encoder",
        "lora_te1": "text_encoder",
        "lora_te2": "text_encoder_2",
    }
    for prefix, component in prefixes.items():
        part = getattr(pipeline, component, None)
        for name, layer in part.named_modules() if part is not None else ():
            layers[f"{prefix}_{name.replace('.', '_')}"] = layer
            # Newer releases of transformers have one level less than the files.
            layers[f"{prefix}_text_model_{name.replace('.', '_')}"] = layer
    with safe_open(path, framework="pt") as file:
        left = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  a safe_open is no dict
    total = len(left)
    for stem in sorted({name.rpartition(".lora_up.")[0] for name in left if ".lora_up." in name} & layers.keys()):
        up, down = (left.pop(f"{stem}.lora_{half}.weight").float().flatten(1) for half in ("up", "down"))
        alpha, scale = float(left.pop(f"{stem}.alpha")), left.pop(f"{stem}.dora_scale").float()
        weight = layers[stem].weight.data
        before = weight.float()
        changed = before + (alpha / down.shape[0] * (up @ down)).reshape(before.shape)
        length = before.flatten(1).norm(dim=1).reshape(scale.shape) + torch.finfo(torch.float32).eps
        weight.copy_(changed * (scale / length))
    return {"tensors_in_file": total, "tensors_matched": total - len(left), "unexpected": sorted(left), "missing": 0}


def _adapter_tensors(pipeline: Any) -> Iterator[Tensor]:
    for module in _modules(pipeline):
        for name, parameter in module.named_parameters():
            if _NAME in name.split("."):
                yield parameter


def _pieces(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of the files that is to be found in the pipeline, under its own name."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  a safe_open is no dict
                tensor = file.get_tensor(name)
                if name.endswith((".in_proj_weight", ".in_proj_bias")):  # OpenCLIP: query, key and value in one
                    yield from ((f"{name}[{part}]", third) for part, third in enumerate(tensor.chunk(3)))
                # A scale, and what the net predicts, are no layers: the pictures prove them.
                elif not name.endswith(".alpha") and name not in ("v_pred", "ztsnr"):
                    yield name, tensor.T if name.endswith(".text_projection") else tensor


def _compared(files: Iterable[Path], loaded: Iterable[Tensor], dtype: torch.dtype) -> dict[str, Any]:
    """Match tensors by their content, because names are what a loader may change."""
    there = Counter(_digest(tensor, dtype) for tensor in loaded)
    total, unexpected = 0, []
    found: Counter[str] = Counter()
    for name, tensor in _pieces(files):
        total += 1
        digest = _digest(tensor, dtype)
        found[digest] += 1
        if digest not in there:
            unexpected.append(name)
    return {
        "tensors_in_file": total,
        "tensors_matched": total - len(unexpected),
        "unexpected": unexpected,  # in the file, not in the pipeline
        "missing": sum(count for digest, count in there.items() if digest not in found),  # the other way round
    }


def _digest(tensor: Tensor, dtype: torch.dtype) -> str:
    values = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    values = values.float() if values.is_floating_point() else values
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
