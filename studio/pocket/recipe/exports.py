"""The way of a base out of a work folder, and back into an empty one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer

from studio.pocket.faces import load_detector, save_detector
from studio.pocket.identity import AttributeClassifier, load_classifier, load_encoder, save
from studio.pocket.recipe.data import HEADS
from studio.pocket.recipe.denoiser import new_scheduler, new_text_encoder, new_unet
from studio.pocket.recipe.files import (
    Checkpoint,
    fitting,
    load_averaged,
    newest_checkpoint,
    read_json,
    save_checkpoint,
)
from studio.pocket.recipe.identity_nets import IdentityNets
from studio.pocket.recipe.loop import TrainingContext
from studio.pocket.recipe.sampling import assemble
from studio.pocket.recipe.settings import Recipe

TRAINED = ("autoencoder", "faces", "identity", "denoiser", "decoder")
"""The stages that learn; each has a folder of checkpoints."""


def export_stage(recipe: Recipe, context: TrainingContext, out: Path) -> None:
    """Write the newest averaged weights to ``out`` as fp16 safetensors in diffusers' layout, with the measuring nets.

    Raises:
        FileNotFoundError: the denoiser has no checkpoint yet.
    """
    tokenizer = CLIPTokenizer.from_pretrained(context.work / "tokenizer")
    unet, text_encoder = new_unet(recipe), new_text_encoder(recipe, len(tokenizer))
    load_averaged(context.work / "denoiser", nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}))
    vae = AutoencoderTiny.from_pretrained(context.work / "vae")
    assert isinstance(vae, AutoencoderTiny)
    pipeline = assemble(vae, text_encoder, tokenizer, unet, new_scheduler())
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(out)
    # transformers reads weights in the dtype that config.json names, diffusers in float32: name what diffusers does,
    # or the text encoder comes back as fp16 beside a float32 UNet.
    _edit_json(out / "text_encoder" / "config.json", lambda config: config | {"dtype": "float32"})
    # AutoencoderTiny registers the first itself and would warn about finding it; the other is a folder of this machine.
    dropped = ("block_out_channels", "_name_or_path")
    _edit_json(out / "vae" / "config.json", lambda config: {k: config[k] for k in config if k not in dropped})
    export_nets(context, out)


def export_nets(context: TrainingContext, out: Path) -> None:
    """Write the measuring nets to ``out``, those that are there."""
    nets = context.work / "nets"
    if (nets / "faces").exists():
        save_detector(load_detector(nets / "faces"), out / "faces")
    if (nets / "identity").exists():
        save(load_encoder(nets / "identity"), out / "identity")
    if (nets / "attributes").exists():
        save(load_classifier(nets / "attributes"), out / "attributes")


def _edit_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Rewrite a JSON object, indented for readers."""
    path.write_text(json.dumps(change(read_json(path)), indent=2) + "\n", encoding="utf-8")


def adopt(recipe: Recipe, context: TrainingContext, base: Path) -> None:
    """Fill an empty work folder with an exported model's weights, as checkpoints from which the stages go on.

    The weights are the averaged ones in fp16, the optimizers begin anew. Steps and minutes come from the report.

    Args:
        recipe: must be the one that the model was trained with.
        context: its work folder must hold no checkpoint.
        base: folder that :func:`export_stage` and the report stage wrote.

    Raises:
        FileExistsError: the work folder holds checkpoints already.
    """
    taken = [stage for stage in TRAINED if newest_checkpoint(context.work / stage) is not None]
    if taken:
        raise FileExistsError(f"{context.work} holds checkpoints of {', '.join(taken)}; adopt into an empty folder")
    training = read_json(base / "report.json")["training"]
    for name in ("tokenizer", "vae"):
        shutil.copytree(base / name, context.work / name, dirs_exist_ok=True)
    for name in ("faces", "identity", "attributes"):
        shutil.copytree(base / name, context.work / "nets" / name, dirs_exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    unet, text_encoder = new_unet(recipe), new_text_encoder(recipe, len(tokenizer))
    unet.load_state_dict(pipeline.unet.float().state_dict())
    text_encoder.load_state_dict(pipeline.text_encoder.float().state_dict())
    # The classifier's heads may have changed since: only what fits is taken over.
    classifier = AttributeClassifier(HEADS, recipe.size_px)
    classifier.load_state_dict(fitting(load_classifier(base / "attributes").state_dict(), classifier))
    nets: dict[str, nn.Module] = {
        "autoencoder": pipeline.vae.decoder.float(),
        "faces": load_detector(base / "faces"),
        "identity": IdentityNets(load_encoder(base / "identity"), classifier),
        "denoiser": nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}),
    }
    for stage, net in nets.items():
        done = training.get(stage, {"steps": 0, "minutes": 0.0})
        weights = net.state_dict()
        save_checkpoint(context.work / stage, Checkpoint(done["steps"], 60 * done["minutes"], weights, weights))
