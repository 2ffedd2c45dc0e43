"""Fixtures that every room shares: no network, no home of the user's, and tiny bases with random weights.

Tests that need a base take ``tiny_base`` (a Stable Diffusion folder of 0.3 million parameters, made once per session);
tests that need a dataset without running the photo check take ``make_dataset``.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Read by huggingface_hub and torch when they are imported, so it must come before anything else.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
_KEPT = {"STUDIO_REQUIRE_BROWSER", "STUDIO_SCREENSHOTS"}
for _name in [name for name in os.environ if name.startswith("STUDIO_") and name not in _KEPT]:
    del os.environ[_name]

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

PROMPT_WORDS = ("a", "photo", "of", "woman", "man", "dog", "portrait", "at", "the", "beach", "in", "forest")


@pytest.fixture(autouse=True)
def studio_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point STUDIO_HOME at a fresh folder, and compute on the CPU."""
    home = tmp_path / "home"
    monkeypatch.setenv("STUDIO_HOME", str(home))
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    return home


def write_tiny_base(
    folder: Path,
    *,
    vae: str = "AutoencoderTiny",
    prediction_type: str = "v_prediction",
    words: int = 0,
    hidden_act: str = "quick_gelu",
) -> Path:
    """Write a complete diffusers folder with random weights: 64 px pictures, 8 x 8 x 4 latents.

    Args:
        folder: created when missing.
        vae: AutoencoderTiny or AutoencoderKL.
        prediction_type: v_prediction or epsilon.
        words: size of the vocabulary, filled up with words that mean nothing; 0 keeps it small.
        hidden_act: quick_gelu as in Stable Diffusion 1, gelu as in 2.
    """
    import torch
    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in PROMPT_WORDS:
        left = word[0] + ("</w>" if len(word) == 1 else "")
        for letter in [*word[1:-1], *([word[-1] + "</w>"] if len(word) > 1 else [])]:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
            vocabulary.append(left)
    vocabulary = list(dict.fromkeys(vocabulary))
    vocabulary += [f"filler{number}</w>" for number in range(words - len(vocabulary))]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=merges,
        model_max_length=32,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=32,
                hidden_act=hidden_act,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=32,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        if vae == "AutoencoderTiny":
            autoencoder: object = AutoencoderTiny(
                encoder_block_out_channels=(8, 8, 8, 8),
                decoder_block_out_channels=(8, 8, 8, 8),
                num_encoder_blocks=(1, 1, 1, 1),
                num_decoder_blocks=(1, 1, 1, 1),
                latent_channels=4,
            )
        else:
            autoencoder = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(8, 8, 8, 8),
                latent_channels=4,
                norm_num_groups=4,
                sample_size=64,
            )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base like pocket: AutoencoderTiny and v-prediction."""
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def tiny_base_kl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base like Stable Diffusion 1.5: AutoencoderKL and epsilon."""
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny_kl", vae="AutoencoderKL", prediction_type="epsilon")


@pytest.fixture(scope="session")
def tiny_base_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose single-file checkpoint other programs could read: AutoencoderKL and as many words as CLIP has."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_clip"
    return write_tiny_base(folder, vae="AutoencoderKL", prediction_type="epsilon", words=49408)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a dataset folder as ``check`` does: ``make_dataset(photos=4)``."""

    def make(photos: int = 4, *, name: str = "dataset", buckets: tuple[str, ...] = ("1:1",)) -> Path:
        from studio.domain import Dataset, Photo
        from studio.imaging.bucket import aspect

        folder = tmp_path / name
        (folder / "photos").mkdir(parents=True)
        random = np.random.default_rng(0)
        rows = []
        for index in range(photos):
            bucket = buckets[index % len(buckets)]
            height, width = 64, round(64 * aspect(bucket))
            coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            path = folder / "photos" / f"{index:03}.png"
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
            rows.append(
                Photo(
                    file=f"photos/{index:03}.png",
                    name=f"IMG_{index}.jpg",
                    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    size_hw=(height, width),
                    caption="photo of {instance_token} {class_noun}",
                    bucket=bucket,
                    crop_yxhw=(0, 0, height, width),
                )
            )
        dataset = Dataset("Ada", "woman", tuple(rows), (), (), None)
        (folder / "dataset.json").write_text(json.dumps(dataset.to_json()), encoding="utf-8")
        (folder / "DONE").touch()
        return folder

    return make


@pytest.fixture
def events() -> Iterator[list]:
    """A list to collect events in: ``on_event=events.append``."""
    yield []


def tiny_rrdb(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the tensors of a Real-ESRGAN network of one block with random weights; it enlarges four times."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, int]] = {"conv_first": (8, 3)}
    for dense in (1, 2, 3):
        for conv in (1, 2, 3, 4):
            shapes[f"body.0.rdb{dense}.conv{conv}"] = (32, 8 + 32 * (conv - 1))
        shapes[f"body.0.rdb{dense}.conv5"] = (8, 136)
    shapes |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (8, 8)) | {"conv_last": (3, 8)}
    tensors = {}
    for name, (out, into) in shapes.items():
        tensors[f"{name}.weight"] = random.normal(0, 0.5 / into**0.5, (out, into, 3, 3)).astype(np.float32)
        tensors[f"{name}.bias"] = np.full(out, 0.4 if name == "conv_last" else 0.0, np.float32)
    return tensors


@pytest.fixture(scope="session")
def tiny_upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a tiny network that enlarges four times."""
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("networks") / "tiny_x4.safetensors"
    save_file(tiny_rrdb(), path)
    return path
