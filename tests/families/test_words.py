"""A learned word is the word itself: never a piece of another one, however it is written, wherever it is read back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from studio import export
from studio.core.adapters import EMBEDS_NAME, AdapterInfo, write_info
from studio.core.config import ExportConfig
from studio.core.errors import InputError
from studio.core.train_config import TrainConfig
from studio.exporting import reload
from studio.families.base import Parts
from studio.families.registry import family
from studio.families.words import Cut, cut_off, keep_together, pieces_of, spelled_out, vector_names
from studio.methods.registry import method
from studio.pictures.render import load_adapter, render_prompts
from studio.training.run import PromptEncodings

CPU = torch.device("cpu")
SD, LORA = family("sd"), method("lora")
OTHERS = ("many tasks", "in front of desks", "TASKS", "masks_1", "sksa", "asks", "sks1")
"""Hold the letters of the word and not the word."""
WORDS = ("photo of sks woman", "SKS woman", "(Sks), a woman", "sks-woman", "sks")


def config(vectors: int) -> TrainConfig:
    given = {"method": {"rank": 2}, "class_noun": "woman", "token_learning_rate": 1e-2, "token_vectors": vectors}
    return TrainConfig.parse(given)


def trained(base: Path, vectors: int) -> Parts:
    """A base whose word has moved far away from its class noun, and nothing else."""
    parts = SD.load(base, dtype=torch.float32, device=CPU)
    LORA.attach(parts, SD.spec, config(vectors))
    with torch.no_grad():
        LORA.trainable(parts)["token_embedding.sks"].copy_(5.0 + torch.arange(vectors * 32.0).reshape(vectors, 32))
    return parts


def encoded(parts: Parts, prompt: str) -> torch.Tensor:
    with torch.no_grad():
        return SD.encode_prompts(parts, [prompt])["prompt_embeds"]


@pytest.mark.parametrize("vectors", [1, 3])
def test_only_the_word_itself_means_the_subject_in_training_and_generation(
    tiny_base: Path, tmp_path: Path, vectors: int
) -> None:
    plain, parts = SD.load(tiny_base, dtype=torch.float32, device=CPU), trained(tiny_base, vectors)
    LORA.write(parts, SD, tmp_path)
    pipeline: Any = SD.pipeline(SD.load(tiny_base, dtype=torch.float32, device=CPU))
    load_adapter(pipeline, tmp_path)
    read = SD.load(tiny_base, dtype=torch.float32, device=CPU)
    read.tokenizers, read.text_encoders = [pipeline.tokenizer], [pipeline.text_encoder]
    for prompt in OTHERS:
        assert torch.equal(encoded(parts, prompt), encoded(plain, prompt)), prompt
        assert torch.equal(encoded(read, prompt), encoded(plain, prompt)), prompt
        assert not LORA.learns_from(parts, prompt)
    for prompt in WORDS:
        assert not torch.allclose(encoded(parts, prompt), encoded(plain, prompt), atol=1e-2), prompt
        torch.testing.assert_close(encoded(read, prompt), encoded(parts, prompt))
        assert LORA.learns_from(parts, prompt)


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_word_in_other_letter_case_has_all_its_vectors_and_another_word_gets_none(
    tiny_base: Path, vectors: int
) -> None:
    parts = trained(tiny_base, vectors)
    torch.testing.assert_close(encoded(parts, "photo of SKS woman"), encoded(parts, "photo of sks woman"))
    first = parts.tokenizers[0].convert_tokens_to_ids("sks")
    for prompt in ("SKS woman with many tasks", " ".join(vector_names("sks", vectors))):
        ids = parts.tokenizers[0](spelled_out([prompt], parts.tokenizers[0])[0]).input_ids
        assert [i for i in ids if i >= first] == list(range(first, first + vectors)), prompt


def test_plain_diffusers_reads_it_back_as_a_word_of_its_own(tiny_base: Path, tmp_path: Path) -> None:
    parts = trained(tiny_base, 2)
    LORA.write(parts, SD, tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base, use_safetensors=True)
    reload.load_word(pipeline, tmp_path / EMBEDS_NAME, "sks")
    plain = CLIPTokenizer.from_pretrained(tiny_base / "tokenizer")
    for prompt in OTHERS:
        assert pipeline.tokenizer.tokenize(pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer)) == (
            plain.tokenize(prompt)
        )
    converted = pipeline.maybe_convert_prompt("photo of sks woman", pipeline.tokenizer)
    assert pipeline.tokenizer.tokenize(converted)[2:4] == ["sks", "sks_1"]
    assert set(load_file(tmp_path / EMBEDS_NAME)) == {"sks"}


def test_a_merged_export_opens_with_the_word_as_one_of_its_own(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    LORA.write(trained(tiny_base, 2), SD, run / "adapter")
    info = AdapterInfo(
        base=str(tiny_base), revision=None, family="sd", subject="Ada", class_noun="woman", instance_token="sks",
        resolution_px=64, guidance_scale=2.0, num_inference_steps=2, likeness_engine=None, centroid=None, step=1,
    )  # fmt: skip
    write_info(run / "adapter", info)
    # Another process would only cost time.
    monkeypatch.setattr(export, "certify", lambda *_, **__: {"difference_max": 0, "difference_mean": 0.0})
    export.export(ExportConfig(format="merged"), run, tmp_path / "out")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "out" / "pipeline" / "tokenizer")
    plain = CLIPTokenizer.from_pretrained(tiny_base / "tokenizer")
    assert [tokenizer.tokenize(prompt) for prompt in OTHERS] == [plain.tokenize(prompt) for prompt in OTHERS]
    assert "sks" in tokenizer.tokenize("photo of SKS woman")


@pytest.mark.parametrize("token", ["woman", "Woman", "young woman"])
def test_a_token_that_is_the_class_noun_is_refused(token: str) -> None:
    with pytest.raises(InputError, match=r"instance_token.*rare word"):
        TrainConfig.parse({"class_noun": "young woman", "instance_token": token})


# ------------------------------------------------------------------------------------ what is longer than is read

READ = {"sd": 30, "sdxl": 75, "sd3": 255, "flux": 511, "flux2": 512, "zimage": 512, "qwen_image": 512}
"""Tokens of a prompt that the most patient encoder of each tiny base reads; of a chat without its frame."""


@pytest.mark.parametrize("name", READ)
def test_what_no_encoder_reads_is_exactly_what_makes_no_difference(
    name: str, tiny_bases: Callable[[str], Path]
) -> None:
    adapter = family(name)
    parts = adapter.load(tiny_bases(name), dtype=torch.float32, device=CPU)
    assert cut_off("photo of a woman", adapter.spec, parts.tokenizers) == Cut("photo of a woman", "", "")
    prompt = "photo of a woman " + "a " * 600 + "dog"
    cut = cut_off(prompt, adapter.spec, parts.tokenizers)
    assert cut.read + cut.nowhere == prompt and cut.nowhere.endswith("dog") and cut.loses("dog")
    assert not cut.loses("woman") and not cut.loses("a")
    assert len(cut.somewhere) >= len(cut.nowhere)

    def embeds(text: str) -> torch.Tensor:
        with torch.no_grad():
            return adapter.encode_prompts(parts, [text])["prompt_embeds"]

    whole = embeds(prompt)
    assert torch.equal(embeds(cut.read + cut.nowhere.replace("a", "man")), whole), "what is left out is not read"
    last = cut.read.rstrip().rpartition(" ")[0]
    if name != "qwen_image":  # whose frame has 34 tokens with the real tokenizer and many more with this one
        assert not torch.equal(embeds(f"{last} forest {cut.nowhere}"), whole), "the last word before it is read"


def test_a_family_whose_encoders_read_differently_much_says_which_words_reach_some_only(
    tiny_bases: Callable[[str], Path],
) -> None:
    adapter = family("flux")
    parts = adapter.load(tiny_bases("flux"), dtype=torch.float32, device=CPU)
    cut = cut_off("photo of a woman " + "a " * 100 + "dog", adapter.spec, parts.tokenizers)
    assert not cut.nowhere and cut.somewhere.endswith("dog") and "too long for some text encoders" in cut.words()
    assert not cut.loses("dog")


def test_every_vector_of_a_learned_word_counts(tiny_base: Path) -> None:
    prompt = "sks woman " + "a " * 237 + "dog"
    one, three = trained(tiny_base, 1), trained(tiny_base, 3)
    assert cut_off(prompt, SD.spec, one.tokenizers).nowhere == ""
    assert cut_off(prompt, SD.spec, three.tokenizers).nowhere == "a dog"


# ------------------------------------------------------------------------------------- what is read piece by piece


@pytest.mark.parametrize("vectors", [1, 3])
def test_pieces_are_the_prompt_each_is_read_in_full_and_none_divides_a_word_or_the_subject(
    tiny_base: Path, vectors: int
) -> None:
    tokenizers = trained(tiny_base, vectors).tokenizers
    keep_together(tokenizers, "sks woman")
    for before in range(20, 40):
        prompt = " " + "a " * before + "(sks  Woman), red hair, " + "dogs " * 40
        pieces = pieces_of(prompt, tokenizers)
        assert "".join(pieces) == prompt and len(pieces) > 1
        assert sum("sks  Woman" in piece for piece in pieces) == 1
        for piece in pieces:
            assert len(tokenizers[0](spelled_out([piece], tokenizers[0])[0], add_special_tokens=False).input_ids) <= 30
            assert piece.endswith(" ")


def test_a_prompt_is_divided_after_a_comma_where_one_is_near(tiny_base: Path) -> None:
    tokenizers = trained(tiny_base, 1).tokenizers
    near = pieces_of("a " * 24 + "dog, a red cat and a dog", tokenizers)
    assert near[0].endswith("dog, ") and near[1] == "a red cat and a dog"
    far = pieces_of("dog, " + "a " * 40, tokenizers)
    assert far[0].endswith("a ") and len(far) == 2


def test_a_word_longer_than_the_encoder_is_read_too(tiny_base: Path) -> None:
    tokenizers = trained(tiny_base, 1).tokenizers
    prompt = "photo " + "xqz" * 40 + " dog"
    pieces = pieces_of(prompt, tokenizers)
    assert "".join(pieces) == prompt
    lengths = [len(tokenizers[0](piece, add_special_tokens=False).input_ids) for piece in pieces]
    assert max(lengths) <= 30


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_long_prompt_is_its_pieces_one_after_the_other_and_a_short_one_stays_what_it_was(
    name: str, tiny_bases: Callable[[str], Path]
) -> None:
    adapter = family(name)
    parts = adapter.load(tiny_bases(name), dtype=torch.float32, device=CPU)
    prompt = "photo of a woman, " + "a dog and a cat, " * 12 + "forest"
    pieces = pieces_of(prompt, parts.tokenizers)
    assert 1 < len(pieces) == adapter.pieces(parts, prompt)
    with torch.no_grad():
        whole = adapter.encode_prompts(parts, [prompt])
        alone = [adapter.encode_prompts(parts, [piece]) for piece in pieces]
        torch.testing.assert_close(whole["prompt_embeds"], torch.cat([one["prompt_embeds"] for one in alone], dim=1))
        both = adapter.encode_prompts(parts, ["photo of a dog", prompt])
        short = adapter.encode_prompts(parts, ["photo of a dog"])
        length = short["prompt_embeds"].shape[1]
        torch.testing.assert_close(both["prompt_embeds"][:1, :length], short["prompt_embeds"])
        assert both["prompt_embeds"].shape[1] == len(pieces) * length
        assert not torch.equal(adapter.encode_prompts(parts, [prompt.replace("forest", "beach")])["prompt_embeds"],
                               whole["prompt_embeds"]), "the last word is read"  # fmt: skip
        if name == "sdxl":
            torch.testing.assert_close(whole["pooled_prompt_embeds"], alone[0]["pooled_prompt_embeds"])
            torch.testing.assert_close(both["pooled_prompt_embeds"][:1], short["pooled_prompt_embeds"])
            assert not adapter.encode_in_pieces(parts, [""], 2)["prompt_embeds"].any(), "zeros, as it was trained"


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_picture_follows_all_of_a_long_prompt_and_not_the_length_of_others(
    name: str, tiny_bases: Callable[[str], Path]
) -> None:
    adapter = family(name)
    pipeline: Any = adapter.pipeline(adapter.load(tiny_bases(name), dtype=torch.float32, device=CPU))
    long = "photo of a woman, " + "a dog and a cat, " * 12

    def drawn(*prompts: str, negative: str = "") -> list[Any]:
        return render_prompts(
            pipeline, prompts, [1] * len(prompts), size_hw=(64, 64), num_inference_steps=2, guidance_scale=3.0,
            negative_prompt=negative, batch_size=1,
        )  # fmt: skip

    short, forest, beach = drawn("photo of a dog", long + "forest", long + "beach")
    assert drawn("photo of a dog")[0].tobytes() == short.tobytes(), "as alone"
    assert forest.tobytes() != beach.tobytes(), "the last word is read"
    assert drawn("photo of a dog", negative=long + "forest")[0].tobytes() != short.tobytes()


def test_training_reads_long_captions_in_pieces_and_learns_from_all_of_them(tiny_base: Path) -> None:
    parts = trained(tiny_base, 1)
    long = "photo of a woman, " + "a dog and a cat, " * 12 + "sks"
    prompts = PromptEncodings(SD, LORA, parts, ["", "photo of a dog", long])
    length = parts.tokenizers[0].model_max_length
    assert prompts.encode(["photo of a dog", ""])["prompt_embeds"].shape[1] == length
    both = prompts.encode(["photo of a dog", long])["prompt_embeds"]
    assert both.shape[1] == SD.pieces(parts, long) * length > length
    both.square().mean().backward()
    assert LORA.trainable(parts)["token_embedding.sks"].grad.abs().sum() > 0, "the last word learns"
    assert prompts.encode_base([long, ""])["prompt_embeds"].shape == both.shape
