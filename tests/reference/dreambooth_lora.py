"""Make the goldens of tests/families/test_parity.py: what the official DreamBooth LoRA examples compute.

One function per family walks through the training step of diffusers' example script, with the same calls in the same
order, on the tiny bases, for two optimizer steps of two photos each. Nothing of the studio is imported. Written after

https://github.com/huggingface/diffusers/tree/58eb52c0803ea9af3abec60841c2a093bdf1f951/examples/dreambooth

train_dreambooth_lora.py (lines 1245-1336), _sdxl (1657-1860), _sd3 (1722-1849), _flux (1689-1848),
_flux2_klein (1778-1910), _z_image (1705-1796) and _qwen_image (1690-1817), with these arguments of the scripts:
``--cache_latents`` is off but latents are the mean of the autoencoder's distribution instead of a draw from it, so that
the numbers compare; ``--max_grad_norm 1000``; sd3 ``--max_sequence_length 256``; flux ``--guidance_scale 1``; flux2
``--text_encoder_out_layers 9 18 27``. All else is the scripts' default. To write dreambooth_lora.json again:

    python tests/reference/dreambooth_lora.py
"""

import importlib.util
import json
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3
from peft import LoraConfig

HERE = Path(__file__).parent
GOLDENS = HERE / "dreambooth_lora.json"
RANK = 2
LEARNING_RATE = 1e-3
MAX_GRAD_NORM = 1000.0
CAPTIONS = ("photo of sks woman", "photo of sks woman at the beach")
DRAWS = ((0.137, 0.804), (0.5504, 0.3121))
"""u of each photo at each step: the share of the way through the schedule's timesteps."""
SIDE_PX = 64

_spec = importlib.util.spec_from_file_location("tiny_bases", HERE / "tiny_bases.py")
assert _spec and _spec.loader
tiny_bases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_bases)

_SD_TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
_JOINT_TARGETS = [
    *("attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out"),
    *("attn.to_k", "attn.to_out.0", "attn.to_q", "attn.to_v"),
]
_FLUX_TARGETS = [*_JOINT_TARGETS, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"]
_FLUX2_TARGETS = [*_SD_TARGETS, "to_qkv_mlp_proj", *(f"single_transformer_blocks.{i}.attn.to_out" for i in range(24))]


def photos() -> np.ndarray:
    """Return two pictures, ``(2, 64, 64, 3)`` uint8."""
    return np.random.RandomState(7).randint(0, 256, (2, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


def indices_of(step: int) -> torch.Tensor:
    """Return the two photos' indices into the schedule at a step, ``(2,)`` int64."""
    return (torch.tensor(DRAWS[step]) * 1000).long()


def noise_of(shape: Sequence[int], step: int) -> torch.Tensor:
    """Return the noise of a step."""
    return tiny_bases.normal(tuple(shape), f"noise {step}")


class Loop:
    """What all scripts have in common: frozen base, LoRA layers, AdamW."""

    def __init__(self, name: str, targets: list[str]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        tiny_bases.write(name, Path(self.folder.name))
        self.pipe: Any = DiffusionPipeline.from_pretrained(self.folder.name)
        self.model: Any = getattr(self.pipe, "unet", None) or self.pipe.transformer
        for module in self.pipe.components.values():
            if isinstance(module, torch.nn.Module):
                module.requires_grad_(False).eval()
        self.model.add_adapter(
            LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets)
        )
        tiny_bases.fill(self.model, "adapter", only="lora_")
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=LEARNING_RATE, weight_decay=1e-2)
        self.steps: list[dict[str, Any]] = []
        pixels = torch.from_numpy(photos()).permute(0, 3, 1, 2).float() / 255.0
        self.pixel_values = (pixels - 0.5) / 0.5  # transforms.Normalize([0.5], [0.5])
        self.model.train()

    def finish_step(self, loss: torch.Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), MAX_GRAD_NORM)
        gradients = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        self.steps.append(
            {"loss": float(loss.detach()), "gradients": {n: summary(n, g) for n, g in sorted(gradients.items())}}
        )
        self.optimizer.step()
        self.optimizer.zero_grad()


def summary(name: str, gradient: torch.Tensor) -> list[float]:
    """Return the norm of a gradient and its projections on two fixed random directions."""
    flat = gradient.double().flatten()
    probes = [tiny_bases.normal(tuple(flat.shape), f"{name} {number}").double() for number in range(2)]
    return [float(flat.norm()), *(float(flat @ probe / probe.norm()) for probe in probes)]


def _clip(tokenizer: Any, prompts: Sequence[str], max_length: int) -> torch.Tensor:
    return tokenizer(
        list(prompts), padding="max_length", max_length=max_length, truncation=True, return_tensors="pt"
    ).input_ids


def _flow_noise(scheduler: Any, model_input: torch.Tensor, step: int, scheme: str) -> tuple[torch.Tensor, ...]:
    """Return timesteps, sigmas, noise and the noisy input as all flow scripts make them."""
    # The draw itself is random; DRAWS stand in for it, after the density of the scheme was asked for.
    compute_density_for_timestep_sampling(weighting_scheme=scheme, batch_size=2, logit_mean=0.0, logit_std=1.0)
    timesteps = scheduler.timesteps[indices_of(step)]
    step_indices = [(scheduler.timesteps == t).nonzero().item() for t in timesteps]
    sigmas = scheduler.sigmas[step_indices].flatten()
    while sigmas.ndim < model_input.ndim:
        sigmas = sigmas.unsqueeze(-1)
    noise = noise_of(model_input.shape, step)
    return timesteps, sigmas, noise, (1.0 - sigmas) * model_input + sigmas * noise


def _flow_loss(
    model_pred: torch.Tensor, model_input: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor, scheme: str
) -> torch.Tensor:
    weighting = compute_loss_weighting_for_sd3(weighting_scheme=scheme, sigmas=sigmas)
    target = noise - model_input
    loss = torch.mean(
        (weighting.float() * (model_pred.float() - target.float()) ** 2).reshape(target.shape[0], -1),
        1,
    )
    return loss.mean()


def sd(loop: Loop) -> None:
    pipe = loop.pipe
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    input_ids = _clip(pipe.tokenizer, CAPTIONS, pipe.tokenizer.model_max_length)
    with torch.no_grad():
        encoder_hidden_states = pipe.text_encoder(input_ids)[0]
        model_input = pipe.vae.encode(loop.pixel_values).latent_dist.mode() * pipe.vae.config.scaling_factor
    for step in range(len(DRAWS)):
        noise = noise_of(model_input.shape, step)
        timesteps = indices_of(step)
        noisy_model_input = scheduler.add_noise(model_input, noise, timesteps)
        model_pred = loop.model(noisy_model_input, timesteps, encoder_hidden_states, return_dict=False)[0]
        target = {
            "epsilon": noise,
            "v_prediction": scheduler.get_velocity(model_input, noise, timesteps),
        }[scheduler.config.prediction_type]
        loop.finish_step(F.mse_loss(model_pred.float(), target.float(), reduction="mean"))


def sdxl(loop: Loop) -> None:
    pipe = loop.pipe
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    with torch.no_grad():
        embeds_list = []
        for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
            prompt_embeds = encoder(
                _clip(tokenizer, CAPTIONS, tokenizer.model_max_length), output_hidden_states=True, return_dict=False
            )
            pooled_prompt_embeds = prompt_embeds[0]  # of the last encoder
            prompt_embeds = prompt_embeds[-1][-2]
            embeds_list.append(prompt_embeds)
        prompt_embeds = torch.concat(embeds_list, dim=-1)
        model_input = pipe.vae.encode(loop.pixel_values).latent_dist.mode() * pipe.vae.config.scaling_factor
    # Photos of 64 px trained at 64 px: original size, top left of the crop, target size.
    add_time_ids = torch.tensor([[SIDE_PX, SIDE_PX, 0, 0, SIDE_PX, SIDE_PX]] * 2).to(model_input.dtype)
    for step in range(len(DRAWS)):
        noise = noise_of(model_input.shape, step)
        timesteps = indices_of(step)
        noisy_model_input = scheduler.add_noise(model_input, noise, timesteps)
        model_pred = loop.model(
            noisy_model_input,
            timesteps,
            prompt_embeds,
            added_cond_kwargs={"time_ids": add_time_ids, "text_embeds": pooled_prompt_embeds},
            return_dict=False,
        )[0]
        loop.finish_step(F.mse_loss(model_pred.float(), noise.float(), reduction="mean"))


def sd3(loop: Loop) -> None:
    pipe, scheme = loop.pipe, "logit_normal"
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with torch.no_grad():
        clip_embeds, clip_pooled = [], []
        for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
            output = encoder(_clip(tokenizer, CAPTIONS, 77), output_hidden_states=True)
            clip_pooled.append(output[0])
            clip_embeds.append(output.hidden_states[-2])
        clip_prompt_embeds = torch.cat(clip_embeds, dim=-1)
        pooled_prompt_embeds = torch.cat(clip_pooled, dim=-1)
        t5_prompt_embed = pipe.text_encoder_3(_clip(pipe.tokenizer_3, CAPTIONS, 256))[0]
        clip_prompt_embeds = F.pad(clip_prompt_embeds, (0, t5_prompt_embed.shape[-1] - clip_prompt_embeds.shape[-1]))
        prompt_embeds = torch.cat([clip_prompt_embeds, t5_prompt_embed], dim=-2)
        model_input = pipe.vae.encode(loop.pixel_values).latent_dist.mode()
        model_input = (model_input - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    for step in range(len(DRAWS)):
        timesteps, sigmas, noise, noisy_model_input = _flow_noise(scheduler, model_input, step, scheme)
        model_pred = loop.model(
            hidden_states=noisy_model_input,
            timestep=timesteps,
            encoder_hidden_states=prompt_embeds,
            pooled_projections=pooled_prompt_embeds,
            return_dict=False,
        )[0]
        loop.finish_step(_flow_loss(model_pred, model_input, noise, sigmas, scheme))


def flux(loop: Loop) -> None:
    pipe, scheme = loop.pipe, "none"
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with torch.no_grad():
        pooled_prompt_embeds = pipe.text_encoder(
            _clip(pipe.tokenizer, CAPTIONS, 77), output_hidden_states=False
        ).pooler_output
        prompt_embeds = pipe.text_encoder_2(_clip(pipe.tokenizer_2, CAPTIONS, 512))[0]
        text_ids = torch.zeros(prompt_embeds.shape[1], 3)
        model_input = pipe.vae.encode(loop.pixel_values).latent_dist.mode()
        model_input = (model_input - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    batch, channels, height, width = model_input.shape
    latent_image_ids = pipe._prepare_latent_image_ids(batch, height // 2, width // 2, "cpu", torch.float32)
    for step in range(len(DRAWS)):
        timesteps, sigmas, noise, noisy_model_input = _flow_noise(scheduler, model_input, step, scheme)
        packed_noisy_model_input = pipe._pack_latents(noisy_model_input, batch, channels, height, width)
        assert loop.model.config.guidance_embeds
        guidance = torch.tensor([1.0]).expand(batch)
        model_pred = loop.model(
            hidden_states=packed_noisy_model_input,
            timestep=timesteps / 1000,
            guidance=guidance,
            pooled_projections=pooled_prompt_embeds,
            encoder_hidden_states=prompt_embeds,
            txt_ids=text_ids,
            img_ids=latent_image_ids,
            return_dict=False,
        )[0]
        model_pred = pipe._unpack_latents(model_pred, height * 8, width * 8, 8)
        loop.finish_step(_flow_loss(model_pred, model_input, noise, sigmas, scheme))


def flux2(loop: Loop) -> None:
    pipe, scheme = loop.pipe, "none"
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    vae = pipe.vae
    with torch.no_grad():
        prompt_embeds, text_ids = pipe.encode_prompt(
            prompt=list(CAPTIONS), max_sequence_length=512, text_encoder_out_layers=(9, 18, 27)
        )
        latents_bn_mean = vae.bn.running_mean.view(1, -1, 1, 1)
        latents_bn_std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
        model_input = pipe._patchify_latents(vae.encode(loop.pixel_values).latent_dist.mode())
        model_input = (model_input - latents_bn_mean) / latents_bn_std
    model_input_ids = pipe._prepare_latent_ids(model_input)
    for step in range(len(DRAWS)):
        timesteps, sigmas, noise, noisy_model_input = _flow_noise(scheduler, model_input, step, scheme)
        packed_noisy_model_input = pipe._pack_latents(noisy_model_input)
        assert not loop.model.config.guidance_embeds
        model_pred = loop.model(
            hidden_states=packed_noisy_model_input,
            timestep=timesteps / 1000,
            guidance=None,
            encoder_hidden_states=prompt_embeds,
            txt_ids=text_ids,
            img_ids=model_input_ids,
            return_dict=False,
        )[0]
        model_pred = model_pred[:, : packed_noisy_model_input.size(1) :]
        model_pred = pipe._unpack_latents_with_ids(model_pred, model_input_ids)
        loop.finish_step(_flow_loss(model_pred, model_input, noise, sigmas, scheme))


def zimage(loop: Loop) -> None:
    pipe, scheme = loop.pipe, "none"
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with torch.no_grad():
        prompt_embeds, _ = pipe.encode_prompt(
            prompt=list(CAPTIONS), do_classifier_free_guidance=False, max_sequence_length=512
        )
        model_input = pipe.vae.encode(loop.pixel_values).latent_dist.mode()
        model_input = (model_input - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    for step in range(len(DRAWS)):
        timesteps, sigmas, noise, noisy_model_input = _flow_noise(scheduler, model_input, step, scheme)
        timestep_normalized = (1000 - timesteps) / 1000
        noisy_model_input_5d = noisy_model_input.unsqueeze(2)
        noisy_model_input_list = list(noisy_model_input_5d.unbind(dim=0))
        model_pred_list = loop.model(noisy_model_input_list, timestep_normalized, prompt_embeds, return_dict=False)[0]
        model_pred = -torch.stack(model_pred_list, dim=0).squeeze(2)
        loop.finish_step(_flow_loss(model_pred, model_input, noise, sigmas, scheme))


def qwen_image(loop: Loop) -> None:
    pipe, scheme = loop.pipe, "none"
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    vae = pipe.vae
    with torch.no_grad():
        prompt_embeds, prompt_embeds_mask = pipe.encode_prompt(prompt=list(CAPTIONS), max_sequence_length=512)
        latents_mean = torch.tensor(vae.config.latents_mean).view(1, vae.config.z_dim, 1, 1, 1)
        latents_std = 1.0 / torch.tensor(vae.config.latents_std).view(1, vae.config.z_dim, 1, 1, 1)
        model_input = vae.encode(loop.pixel_values.unsqueeze(2)).latent_dist.mode()
        model_input = (model_input - latents_mean) * latents_std
    batch, channels, _, height, width = model_input.shape
    for step in range(len(DRAWS)):
        timesteps, sigmas, noise, noisy_model_input = _flow_noise(scheduler, model_input, step, scheme)
        img_shapes = [(1, height // 2, width // 2)] * batch
        noisy_model_input = noisy_model_input.permute(0, 2, 1, 3, 4)
        packed_noisy_model_input = pipe._pack_latents(noisy_model_input, batch, channels, height, width)
        model_pred = loop.model(
            hidden_states=packed_noisy_model_input,
            encoder_hidden_states=prompt_embeds,
            encoder_hidden_states_mask=prompt_embeds_mask,
            timestep=timesteps / 1000,
            img_shapes=img_shapes,
            return_dict=False,
        )[0]
        model_pred = pipe._unpack_latents(model_pred, height * 8, width * 8, 8)
        loop.finish_step(_flow_loss(model_pred, model_input, noise, sigmas, scheme))


SCRIPTS: dict[str, tuple[Callable[[Loop], None], list[str]]] = {
    "sd": (sd, _SD_TARGETS),
    "sdxl": (sdxl, _SD_TARGETS),
    "sd3": (sd3, _JOINT_TARGETS),
    "flux": (flux, _FLUX_TARGETS),
    "flux2": (flux2, _FLUX2_TARGETS),
    "zimage": (zimage, _SD_TARGETS),
    "qwen_image": (qwen_image, _SD_TARGETS),
}


def main() -> None:
    torch.set_num_threads(1)
    goldens: dict[str, Any] = {
        "source": "https://github.com/huggingface/diffusers/tree/58eb52c0803ea9af3abec60841c2a093bdf1f951",
        "versions": {"diffusers": diffusers.__version__} | {n: version(n) for n in ("torch", "transformers", "peft")},
        "families": {},
    }
    for name, (script, targets) in SCRIPTS.items():
        loop = Loop(name, targets)
        script(loop)
        loop.folder.cleanup()
        goldens["families"][name] = loop.steps
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in goldens.pop("families").items()]
    head = json.dumps(goldens).removesuffix("}")
    GOLDENS.write_text(head + ', "families": {\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
