"""Going on from a LoRA: what it was is what the first step trains, and what cannot be is refused in words."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from studio.bases.resolve import resolve_base
from studio.bases.tensorfile import write_safetensors
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME
from studio.core.errors import InputError
from studio.core.train_config import TrainConfig
from studio.families.base import Parts
from studio.families.registry import family
from studio.methods.formats import to_kohya
from studio.methods.registry import method
from studio.training.start_from import apply_start, read_start

SD, LORA = family("sd"), method("lora")
RANK_4: dict[str, Any] = {"rank": 4, "alpha": 8, "text_encoder": True}


def config(**lora: Any) -> TrainConfig:
    return TrainConfig.parse({"method": {**RANK_4, **lora}, "class_noun": "woman"})


def attached(base: Path, wanted: TrainConfig) -> Parts:
    parts = SD.load(base, dtype=torch.float32, device=torch.device("cpu"))
    LORA.attach(parts, SD.spec, wanted)
    return parts


def predict(parts: Parts) -> torch.Tensor:
    with torch.no_grad():
        conditioning = SD.encode_prompts(parts, ["photo of a woman"])
        return SD.predict(parts, torch.ones(1, 4, 8, 8), torch.tensor([500]), conditioning)


def settings_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["lora_adapter_metadata"])


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A LoRA of rank 4, alpha 8, in diffusers' names, and what the model with it predicts."""
    parts = attached(tiny_base, config())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in LORA.trainable(parts).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("lora")
    LORA.write(parts, SD, folder)
    return folder / WEIGHTS_NAME, predict(parts)


@pytest.fixture(scope="module")
def kohya(trained: tuple[Path, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kohya") / "ada.safetensors"
    save_file(to_kohya(load_file(trained[0]), settings_of(trained[0]), "sd"), path, {"ss_base_model_version": "sd_v1"})
    return path


def start(base: Path, path: Path, **lora: Any) -> Any:
    return read_start(config(start_from=str(path), **lora), resolve_base(str(base)), SD.spec)


@pytest.mark.parametrize("made_by", ["diffusers", "kohya", "folder"])
@pytest.mark.parametrize("lora", [{}, {"rank": 6, "alpha": 3}])
def test_the_first_step_trains_the_model_that_the_file_describes(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], kohya: Path, made_by: str, lora: dict[str, Any]
) -> None:
    path = {"diffusers": trained[0], "kohya": kohya, "folder": trained[0].parent}[made_by]
    parts = attached(tiny_base, config(**lora))
    untrained = predict(parts)
    found = start(tiny_base, path, **lora)
    assert found is not None
    apply_start(found, SD, LORA, parts)
    assert torch.allclose(predict(parts), trained[1], atol=1e-5)
    assert not torch.allclose(untrained, trained[1], atol=1e-2)


def test_a_larger_target_keeps_the_file_and_starts_the_other_layers_anew(
    tiny_base: Path, trained: tuple[Path, torch.Tensor]
) -> None:
    parts = attached(tiny_base, config(target="attention+conv"))
    apply_start(start(tiny_base, trained[0], target="attention+conv"), SD, LORA, parts)
    assert torch.allclose(predict(parts), trained[1], atol=1e-5)


def test_without_the_setting_there_is_no_start(tiny_base: Path) -> None:
    assert read_start(config(), resolve_base(str(tiny_base)), SD.spec) is None


def test_a_file_without_alpha_has_the_scale_one(tiny_base: Path, kohya: Path, tmp_path: Path) -> None:
    bare = {name: tensor for name, tensor in load_file(kohya).items() if not name.endswith(".alpha")}
    save_file(bare, tmp_path / "bare.safetensors")
    without, with_alpha = start(tiny_base, tmp_path / "bare.safetensors"), start(tiny_base, kohya)
    for name, (_, up) in without.layers.items():
        assert torch.allclose(2 * up, with_alpha.layers[name][1])


def refused(base: Path, path: Path, **lora: Any) -> str:
    with pytest.raises(InputError) as caught:
        start(base, path, **lora)
    assert str(path.parent) not in str(caught.value)
    return str(caught.value)


def test_everything_that_the_settings_would_leave_out_is_said_at_once(
    tiny_base: Path, trained: tuple[Path, torch.Tensor]
) -> None:
    said = refused(tiny_base, trained[0], rank=2, text_encoder=False)
    assert "set method.rank=4" in said and "set method.text_encoder=true" in said


def test_a_lora_of_another_model_is_named_as_such(tiny_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "xl.safetensors"
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{key}.lora_down.weight": torch.zeros(4, 2048), f"{key}.lora_up.weight": torch.zeros(32, 4)}
    save_file(tensors, path, {"ss_base_model_version": "sdxl_base_v1-0<b>"})
    said = refused(tiny_base, path)
    assert "LoRA for another model (it says sdxl_base_v1-0b): 1 of its 1 layers" in said

    flux = {f"transformer.single_transformer_blocks.0.attn.to_q.lora_{x}.weight": torch.zeros(4, 4) for x in "AB"}
    save_file(flux, path)
    assert "for another model" in refused(tiny_base, path)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"unet.conv_in.weight": torch.zeros(2, 2)}, "is not a LoRA"),
        ({"lora_unet_conv_in.hada_w1_a": torch.zeros(2, 2)}, "is a LoHa"),
        ({"lora_unet_conv_in.dora_scale": torch.zeros(2)}, "is a DoRA"),
        ({"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 2)}, "cannot be read"),
        ({"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 2), "extra": torch.zeros(1)}, "cannot be read"),
        ({"unet.conv_in.lora_A.weight": torch.zeros(2, 4)}, "a layer is incomplete"),
        (
            {"unet.conv_in.lora_A.weight": torch.zeros(2, 4), "unet.conv_in.lora_B.weight": torch.zeros(4, 3)},
            "different ranks",
        ),
    ],
)
def test_what_is_no_whole_lora_is_refused(
    tiny_base: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], words: str
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    assert words in refused(tiny_base, tmp_path / "x.safetensors")


def test_numbers_that_are_none_are_refused(tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    tensors = load_file(trained[0])
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", {"lora_adapter_metadata": json.dumps(settings_of(trained[0]))})
    assert "contains NaN or infinity" in refused(tiny_base, tmp_path / "nan.safetensors")


def test_damaged_files_and_pickles_are_refused(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    whole = trained[0].read_bytes()
    for content in (b"", whole[:-4], b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}", b"\x02\0\0\0\0\0\0\0{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        assert "download it again" in refused(tiny_base, tmp_path / "x.safetensors")
    assert "is a pickle" in refused(tiny_base, tmp_path / "x.ckpt")
    assert "does not exist" in refused(tiny_base, tmp_path / "nothing.safetensors")


def test_a_trained_token_goes_on_with_as_many_vectors_as_it_has(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder = copytree(trained[0].parent, tmp_path / "adapter")
    save_file({"sks": torch.ones(2, 32)}, folder / EMBEDS_NAME)
    settings = {"method": {**RANK_4, "start_from": str(folder)}, "class_noun": "woman"}
    base = resolve_base(str(tiny_base))
    with pytest.raises(InputError) as caught:
        read_start(TrainConfig.parse(settings), base, SD.spec)
    assert {problem.where for problem in caught.value.problems} == {"token_vectors", "token_learning_rate"}
    wanted = TrainConfig.parse({**settings, "token_learning_rate": 1e-3, "token_vectors": 2})
    found = read_start(wanted, base, SD.spec)
    assert found is not None
    parts = attached(tiny_base, wanted)
    apply_start(found, SD, LORA, parts)
    assert torch.equal(LORA.adapter_state(parts)["token_embedding.sks"], torch.ones(2, 32))


def test_a_trained_word_of_another_name_or_width_is_refused(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder = copytree(trained[0].parent, tmp_path / "adapter")
    settings = {"method": {**RANK_4, "start_from": str(folder)}, "class_noun": "woman", "token_learning_rate": 1e-3}
    for tensors, words in (
        ({"ohwx": torch.ones(32)}, "set instance_token=ohwx"),
        ({"sks": torch.ones(7)}, "is not made for the base"),
        ({"sks": torch.ones(1, 1, 32)}, "is not made for the base"),
        ({"sks": torch.full((32,), math.nan)}, "NaN"),
    ):
        save_file(tensors, folder / EMBEDS_NAME)
        with pytest.raises(InputError, match=words):
            read_start(TrainConfig.parse(settings), resolve_base(str(tiny_base)), SD.spec)


# ------------------------------------------------------------------------------ every layer arrives, or is named


def kohya_name(name: str) -> str:
    return name.removeprefix("text_encoder.").replace(".", "_")


@pytest.fixture(scope="module")
def with_feed_forward(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A LoRA as kohya's trainer makes it, the feed-forward layers of CLIP included, and what the model predicts."""
    parts = attached(tiny_base, config(target="attention+conv"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in LORA.trainable(parts).items():
            if "attn" in name or ".mlp." in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("feed_forward")
    LORA.write(parts, SD, folder)
    kept = {n: t for n, t in load_file(folder / WEIGHTS_NAME).items() if "attn" in n or ".mlp." in n}
    assert sum(".mlp.fc" in name for name in kept) == 8
    path = folder / "kohya.safetensors"
    save_file(to_kohya(kept, settings_of(folder / WEIGHTS_NAME), "sd"), path)
    return path, predict(parts)


def test_the_feed_forward_layers_of_a_text_encoder_are_trained_or_named(
    tiny_base: Path, with_feed_forward: tuple[Path, torch.Tensor]
) -> None:
    path, wanted = with_feed_forward
    said = refused(tiny_base, path)
    assert "4 layers outside attention" in said and "mlp.fc1" in said and "set method.target=attention+conv" in said
    parts = attached(tiny_base, config(target="attention+conv"))
    found = start(tiny_base, path, target="attention+conv")
    apply_start(found, SD, LORA, parts)
    assert torch.allclose(predict(parts), wanted, atol=1e-5)
    assert len(found.layers) == sum(name.endswith(".lora_down.weight") for name in load_file(path))


def test_a_layer_that_has_no_place_is_named_before_the_first_step(
    tiny_base: Path, with_feed_forward: tuple[Path, torch.Tensor]
) -> None:
    found = start(tiny_base, with_feed_forward[0], target="attention+conv")
    with pytest.raises(InputError, match=r"4 of the file's layers .*mlp\.fc1"):
        apply_start(found, SD, LORA, attached(tiny_base, config()))


def test_a_layer_that_diffusers_would_leave_out_is_named(
    tiny_base: Path, kohya: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import StableDiffusionPipeline

    whole = StableDiffusionPipeline.lora_state_dict

    def drops_one(*given: Any, **more: Any) -> Any:
        state, alphas = whole(*given, **more)
        return {name: tensor for name, tensor in state.items() if "attn1.processor.to_k" not in name}, alphas

    monkeypatch.setattr(StableDiffusionPipeline, "lora_state_dict", drops_one)
    said = refused(tiny_base, kohya)
    assert "ignores 4 of its 40 layers" in said and "attn1_to_k" in said


def test_a_lora_of_peft_is_read_with_the_settings_beside_it(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "adapter_model.safetensors"
    named = load_file(trained[0])
    save_file({f"base_model.model.{name.removeprefix('unet.')}": tensor for name, tensor in named.items()}, path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "target_modules": "to_.*"}))
    parts = attached(tiny_base, config())
    apply_start(start(tiny_base, path), SD, LORA, parts)
    assert torch.allclose(predict(parts), trained[1], atol=1e-5)
    (tmp_path / "adapter_config.json").unlink()
    halves = start(tiny_base, path).layers
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "use_dora": True}))
    assert "is a DoRA" in refused(tiny_base, path)
    for name, (_, up) in start(tiny_base, trained[0]).layers.items():
        assert torch.allclose(up, 2 * halves[name][1])


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux", "flux2", "zimage", "qwen_image"])
def test_every_family_reads_alphas_and_the_names_of_peft(
    name: str, tiny_bases: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, adapter = tiny_bases(name), family(name)
    text = adapter.spec.learning_text_encoders > 0
    wanted = TrainConfig.parse({"method": {"rank": 2, "text_encoder": text}, "class_noun": "woman"})
    parts = adapter.load(folder, dtype=torch.float32, device=torch.device("cpu"))
    LORA.attach(parts, adapter.spec, wanted)
    LORA.write(parts, adapter, tmp_path)
    plain = load_file(tmp_path / WEIGHTS_NAME)
    denoiser = adapter.spec.denoiser
    alphas = {n.removesuffix("lora_A.weight") + "alpha": torch.tensor(4.0) for n in plain if "lora_A" in n}
    peft = {f"base_model.model.{n.removeprefix(f'{denoiser}.')}": t for n, t in plain.items() if denoiser in n}

    def read(tensors: dict[str, torch.Tensor]) -> Any:
        save_file(tensors, tmp_path / "x.safetensors")
        changed = wanted.model_copy(
            update={"method": wanted.method.model_copy(update={"start_from": str(tmp_path / "x.safetensors")})}
        )
        return read_start(changed, resolve_base(str(folder)), adapter.spec)

    once, twice, of_denoiser = read(plain), read({**plain, **alphas}), read(peft)
    assert len(once.layers) == len(twice.layers) == len(plain) / 2
    for layer, (down, up) in once.layers.items():
        assert torch.equal(twice.layers[layer][0], down) and torch.equal(twice.layers[layer][1], 2 * up)
    assert of_denoiser.layers.keys() == {layer for layer in once.layers if layer.startswith(denoiser)}


def test_a_file_of_flux_2_on_a_base_of_flux_1_is_refused_in_words(
    tiny_bases: Callable[[str], Path], tmp_path: Path
) -> None:
    wide = {"double_stream_modulation_img_lin": 36, "double_blocks_0_img_attn_qkv": 24, "single_blocks_0_linear1": 216}
    tensors = {f"lora_unet_{n}.lora_down.weight": torch.zeros(2, 8) for n in wide}
    tensors |= {f"lora_unet_{n}.lora_up.weight": torch.zeros(rows, 2) for n, rows in wide.items()}
    tensors |= {f"lora_unet_{n}.alpha": torch.tensor(2.0) for n in wide}
    save_file(tensors, tmp_path / "flux2.safetensors", {"modelspec.architecture": "flux-2-dev/lora"})
    wanted = TrainConfig.parse(
        {"method": {"rank": 2, "start_from": str(tmp_path / "flux2.safetensors")}, "class_noun": "woman"}
    )
    with pytest.raises(InputError, match=r"LoRA for FluxPipeline .it says flux-2-dev/lora.*made for the base"):
        read_start(wanted, resolve_base(str(tiny_bases("flux"))), family("flux").spec)


# ------------------------------------------------------------------------------------- files from the internet


def malformed(path: Path, whole: dict[str, torch.Tensor], metadata: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield files that are nearly a LoRA of the base: (what is wrong, content)."""
    odd_numbers = [math.nan, math.inf, -math.inf, 1e30, 0.0]
    names = [name for name in whole if name.endswith(".lora_down.weight")]
    stem = names[0].removesuffix(".lora_down.weight")
    down, up = whole[names[0]], whole[f"{stem}.lora_up.weight"]

    def saved(changes: dict[str, torch.Tensor | None], said: dict[str, str] | None = None) -> bytes:
        tensors = {name: tensor for name, tensor in {**whole, **changes}.items() if tensor is not None}
        write_safetensors(path, tensors, metadata if said is None else said)
        return path.read_bytes()

    for number in odd_numbers:
        yield f"alpha {number}", saved({f"{stem}.alpha": torch.tensor(number)})
        if number and not math.isfinite(number):
            yield f"weight {number}", saved({names[0]: torch.full_like(down, number)})
    for alpha in (torch.zeros(2), torch.zeros(0), torch.ones(1, 2), torch.tensor(1e300, dtype=torch.float64)):
        yield f"alpha {tuple(alpha.shape)}", saved({f"{stem}.alpha": alpha})
    shapes = [(), (1,), (0, 4), (4, 0), (4, 4, 4), (1, 1, 1, 1, 1), (3, 5), (*down.shape, 1), (*down.shape, 3, 3)]
    for shape in shapes:
        for half in ("lora_down", "lora_up"):
            yield f"{half} {shape}", saved({f"{stem}.{half}.weight": torch.zeros(shape)})
    for dtype in (torch.int64, torch.bool, torch.uint8, torch.int8):
        for half, tensor in (("lora_down", down), ("lora_up", up)):
            yield f"{half} {dtype}", saved({f"{stem}.{half}.weight": tensor.to(dtype)})
    for gone in ("lora_down.weight", "lora_up.weight"):
        yield f"without {gone}", saved({f"{stem}.{gone}": None})
    for extra in (
        "x", "", "lora_unet_", "lora_unet_.alpha", "lora_te_.lora_down.weight", ".lora_down.weight", "unet.", "a" * 500,
        "lora_unet_conv_in.lora_mid.weight", "lora_unet_\u0000.alpha", "\ud7ff.lora_up.weight", "lora_unet_x.diff_b",
        "unet.conv_in.lora_B.bias", "lora_te9_text_model.lora_down.weight", "text_encoder_7.x.lora_A.weight",
        "base_model.model.", "base_model.model.conv_in.lora_A.weight", "transformer.x.lora_A.weight", "conv_in.alpha",
    ):  # fmt: skip
        yield f"extra {extra[:40]!r}", saved({extra: torch.zeros(4, 4)})
        yield f"only {extra[:40]!r}", saved({**dict.fromkeys(whole), extra: torch.zeros(4, 4)})  # type: ignore[dict-item]
    settings: list[Any] = [[], 1, "x", None, True, {"unet": 1}, {"lora_alpha": 1}]
    for value in (math.nan, 1e300, -math.inf, "1", [], {}, True, 0, "x" * 10_000):
        settings.append({"unet.lora_alpha": value})
    for value in ([], 1, "x", {"(a+)+$": 1}, {"to_q": math.nan}, {"to_q": 1e300}, {"to_q": "x"}, {"": 1}, {"a b": 1}):
        settings.append({"unet.alpha_pattern": value})
    settings += [{"unet.use_rslora": value} for value in (1, "yes", [], 0.5)]
    settings += [{"unet.use_dora": value} for value in (True, 1, "no")]
    settings += [{"": 1, "unet.lora_alpha": "x"}, {"\u0000.lora_alpha": 1}, {"__class__.lora_alpha": [1]}]
    for value in settings:
        text = json.dumps(value)
        if value not in (None, True, {"unet": 1}):
            yield f"settings {text[:40]}", saved({}, {"lora_adapter_metadata": text})
    for text in ("{", "[" * 100_000, "\x00", "NaN", "{'a': 1}", "1e999"):
        yield f"settings {text[:10]!r}", saved({}, {"lora_adapter_metadata": text})
    content = saved({})
    length = int.from_bytes(content[:8], "little")
    for count in (0, 1, 7, 8, 9, 8 + length // 2, 8 + length - 1, 8 + length, len(content) // 2, len(content) - 1):
        yield f"cut at {count}", content[:count]
    yield "longer", content + b"\0"
    for claimed in (0, 1, length - 1, length + 1, 2**32, 2**63, 2**64 - 1):
        yield f"header {claimed}", claimed.to_bytes(8, "little") + content[8:]
    table = json.loads(content[8 : 8 + length])
    rows: list[Any] = [None, [], {}, "x", 1, {"dtype": "F32"}]
    for key, values in (
        ("dtype", [None, "F33", [], 1, "U8", "F4"]),
        ("shape", [None, [-1], ["4"], [2**62, 4], [[]], "44", [1.0], [True]]),
        ("data_offsets", [None, [], [0], [0, -1], [5, 1], [0, 2**70], ["0", "4"], [0, 0.5], [0, 4, 8]]),
    ):
        rows += [{**table[names[0]], key: value} for value in values]
    for row in rows:
        text = json.dumps({**table, names[0]: row}).encode()
        yield f"row {json.dumps(row)[:60]}", len(text).to_bytes(8, "little") + text + content[8 + length :]
    second = {**table, names[1]: table[names[0]]}
    text = json.dumps(second).encode()
    yield "two tensors in one place", len(text).to_bytes(8, "little") + text + content[8 + length :]
    for said in ([], 1, {"a": 1}, {"a": None}, "x"):
        text = json.dumps({**table, "__metadata__": said}).encode()
        yield f"metadata {said}", len(text).to_bytes(8, "little") + text + content[8 + length :]


def test_a_malformed_file_is_refused_in_words_whatever_is_wrong_with_it(
    tiny_base: Path, kohya: Path, tmp_path: Path
) -> None:
    wrong = []
    path, count = tmp_path / "x.safetensors", 0
    for name, content in malformed(tmp_path / "made.safetensors", load_file(kohya), {}):
        path.write_bytes(content)
        count += 1
        try:
            start(tiny_base, path)
        except InputError as error:
            if any(ord(letter) < 32 for problem in error.problems for letter in problem.message):
                wrong.append(f"{name}: shows what the file says as it is")
        except BaseException as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}"[:150])
        else:
            wrong.append(f"{name}: taken")
    assert count > 160
    assert not wrong, "\n".join(wrong)
