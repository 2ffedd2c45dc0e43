"""Exports of a tiny adapter, read back by plain diffusers; the process in between is stood in for, but in one test."""

import dataclasses
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from studio import export as exports
from studio.core.adapters import WEIGHTS_NAME, AdapterInfo, read_info, write_info
from studio.core.config import ExportConfig
from studio.core.errors import ConflictError, InputError, JobCancelled, NotFoundError, ResourceError, TrainingError
from studio.core.train_config import TrainConfig
from studio.export import export
from studio.exporting import certificate, reload
from studio.families.registry import family
from studio.methods.registry import method
from studio.pictures import render

FORMATS = ("diffusers", "kohya", "merged", "single_file")


def write_run(folder: Path, base: Path, *, speaks: str = "sd", token: bool = True, **lora: Any) -> Path:
    """Write the adapter folder of a run whose trainable numbers were all moved, as training would."""
    given = {"rank": 4, "alpha": 8, "text_encoder": True, **lora} if "name" not in lora else lora
    settings: dict[str, Any] = {"method": given, "class_noun": "woman"}
    config = TrainConfig.parse({**settings, "token_learning_rate": 1e-3 if token else None})
    sd, trained = family(speaks), method(config.method.name)
    parts = sd.load(base, dtype=torch.float32, device=torch.device("cpu"))
    trained.attach(parts, sd.spec, config)
    generator = torch.Generator().manual_seed(0)
    amount = {"full": 0.02, "lokr": 0.5}.get(config.method.name, 0.1)
    with torch.no_grad():
        for parameter in trained.trainable(parts).values():
            parameter.add_(amount * torch.randn(parameter.shape, generator=generator))
    (folder / "adapter").mkdir(parents=True)
    trained.write(parts, sd, folder / "adapter")
    info = AdapterInfo(
        base=str(base),
        revision=None,
        family=speaks,
        subject="Ada L",
        class_noun="woman",
        instance_token="sks",
        resolution_px=64,
        guidance_scale=3.0,
        num_inference_steps=2,
        likeness_engine=None,
        centroid=None,
        step=10,
    )
    write_info(folder / "adapter", info)
    return folder


@pytest.fixture(scope="module")
def run_dir(tiny_base_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), tiny_base_clip)


@pytest.fixture(autouse=True)
def same_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back in this process: starting another costs more than all else in these tests."""
    if request.node.name.startswith("test_the_process_"):
        return

    def run(command: Sequence[str], *_: Any) -> tuple[int, str]:
        try:
            reload.main(Path(command[-1]))
        except Exception as error:
            return 1, f"Traceback ...\n{type(error).__name__}: {error}"
        return 0, ""

    monkeypatch.setattr(certificate, "_run", run)


def config(**changes: Any) -> ExportConfig:
    return ExportConfig.parse(changes)


def strings(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_draws_what_the_trained_model_draws(run_dir: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    stages: list[str] = []
    result = export(config(format=name), run_dir, out, on_event=lambda event: stages.append(event.data["name"]))
    assert stages == ["loading", "exporting", "certifying"]
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["tensors_matched"] == certificate["tensors_in_file"] > 0
    assert (certificate["unexpected"], certificate["missing"], certificate["pictures"]) == ([], 0, 2)
    assert certificate["adapter_effect_mean"] > 10 * max(0.1, certificate["difference_mean"]), "the adapter shows"
    assert result.difference_max == certificate["difference_max"] <= (1 if name in ("diffusers", "kohya") else 12)
    assert {path.name for path in out.iterdir()} >= {"DONE", "certificate.json", "export.json", "request.json"}
    assert not (out / ".export.part").exists()
    assert all((out / file).is_file() for file in result.files) and "certificate.json" in result.files
    wanted = {
        "diffusers": {WEIGHTS_NAME, "learned_embeds.safetensors"},
        "kohya": {"Ada_L.safetensors", "embeddings/sks.safetensors"},
        "merged": {"pipeline/model_index.json", "pipeline/unet/diffusion_pytorch_model.safetensors"},
        "single_file": {"Ada_L.safetensors", "embeddings/sks.safetensors"},
    }
    assert wanted[name] <= set(result.files)
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() and path.name != "request.json" else b""
        assert str(run_dir).encode() not in content and b"/bases" not in content and b"photo of" not in content, path


def test_an_export_is_drawn_where_the_gpu_has_no_room_for_all(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", tiny_base, token=False)
    monkeypatch.setattr(render, "choose_placement", lambda *_: "group_offload")
    result = export(config(), run, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert result.difference_max <= 1 and found["adapter_effect_mean"] > 0.2, "drawn with the adapter, and without"
    assert found["likeness"].keys() == {"engine", "version"}


@pytest.mark.whole
def test_the_process_reads_sdxl_back_from_one_checkpoint_of_the_original_layout(
    tiny_base_xl_clip: Path, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", tiny_base_xl_clip, speaks="sdxl", token=False)
    result = export(config(format="single_file"), run, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert (found["loader"], found["pipeline"]) == ("single_file", "StableDiffusionXLPipeline")
    assert found["tensors_matched"] == found["tensors_in_file"] > 0 == found["missing"]
    assert found["adapter_effect_mean"] > 10 * max(0.1, result.difference_mean or 0), "the adapter shows"
    tensors = load_file(tmp_path / "out" / "Ada_L.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    for name in (
        "diffusion_model.label_emb.0.0.weight",
        "conditioner.embedders.0.transformer",
        "embedders.1.model.ln_",
    ):
        assert any(name in key for key in tensors), name


def test_a_single_file_of_v_prediction_says_so_as_other_programs_read_it(tiny_base_clip: Path, tmp_path: Path) -> None:
    base = copytree(tiny_base_clip, tmp_path / "base")
    path = base / "scheduler" / "scheduler_config.json"
    said = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    run = write_run(tmp_path / "run", base, token=False)
    export(config(format="single_file"), run, tmp_path / "out")
    with safe_open(tmp_path / "out" / "Ada_L.safetensors", "pt") as file:
        assert {"v_pred", "ztsnr"} <= set(file.keys())
        assert file.get_tensor("v_pred").numel() == 0
        assert file.metadata()["modelspec.prediction_type"] == "v"
    assert exports._ARCHITECTURES[2048]["v_prediction"][0] == "stable-diffusion-xl-v1-base"


@pytest.mark.parametrize("trained", [{"name": "lokr"}, {"name": "full"}, {"name": "lora", "dora": True}])
def test_other_methods_go_out_merged_into_their_base(tiny_base: Path, tmp_path: Path, trained: dict[str, Any]) -> None:
    run = write_run(tmp_path / "run", tiny_base, **trained)
    if "dora" in trained:
        assert export(config(format="diffusers"), run, tmp_path / "alone").difference_max <= 3
    else:
        with pytest.raises(InputError, match="use format merged"):
            export(config(format="diffusers"), run, tmp_path / "alone")
    export(config(format="merged", dtype="float32"), run, tmp_path / "merged")
    found = json.loads((tmp_path / "merged" / "certificate.json").read_text())
    assert found["tensors_matched"] == found["tensors_in_file"] > 0 and found["difference_max"] <= 3
    assert found["adapter_effect_mean"] > 0.2 > 20 * found["difference_mean"], "the adapter shows"


@pytest.mark.parametrize("rslora", [False, True])
def test_alpha_is_right_in_both_adapter_formats(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rslora: bool
) -> None:
    run = write_run(tmp_path / "run", tiny_base, token=False)
    path = run / "adapter" / WEIGHTS_NAME
    settings = json.loads(strings(path)["lora_adapter_metadata"])
    settings |= {key: rslora for key in settings if key.endswith("use_rslora")}
    save_file(load_file(path), path, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(settings)})
    for name in ("diffusers", "kohya"):
        assert export(config(format=name), run, tmp_path / name).difference_max <= 1
    kohya = load_file(tmp_path / "kohya" / "Ada_L.safetensors")
    assert {float(tensor) for key, tensor in kohya.items() if key.endswith(".alpha")} == {16.0 if rslora else 8.0}

    # The same files with alpha = rank, which is what diffusers' own conversion writes, must not pass.
    monkeypatch.setattr(exports, "to_kohya", lambda *given: without_alpha(*given))
    with pytest.raises(TrainingError, match="pictures differ"):
        export(config(format="kohya"), run, tmp_path / "wrong")
    assert not (tmp_path / "wrong" / "DONE").exists()
    assert not (tmp_path / "wrong" / "Ada_L.safetensors").exists()


def without_alpha(tensors: dict, settings: dict, family_name: str) -> dict:
    from studio.methods.formats import to_kohya

    return to_kohya(tensors, {}, family_name)


def test_a_lost_layer_does_not_pass(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(source: Any) -> dict:
        tensors = whole(source)
        name = next(name for name in tensors if "attn1.to_q.lora_B" in name)
        return {**tensors, name.replace("attn1", "attn7"): tensors[name] + 1}

    whole = exports._lora_tensors
    monkeypatch.setattr(exports, "_lora_tensors", lossy)
    with pytest.raises(TrainingError, match=r"not unet.*attn7|cannot read"):
        export(config(format="diffusers"), run_dir, tmp_path / "out")
    assert not (tmp_path / "out" / "DONE").exists()


def test_the_metadata_is_modelspec_and_names_no_photo(run_dir: Path, tmp_path: Path) -> None:
    export(config(format="kohya", dtype="float16"), run_dir, tmp_path / "out")
    found = strings(tmp_path / "out" / "Ada_L.safetensors")
    assert found["modelspec.sai_model_spec"] == "1.0.1"
    assert found["modelspec.architecture"] == "likeness-studio-sd/lora"  # the tiny base is no Stable Diffusion 1
    assert found["modelspec.title"] == "Ada L" and found["modelspec.trigger_phrase"] == "sks woman"
    assert found["modelspec.hash_sha256"].startswith("0x")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("4", "8")
    assert {name for name in found if name.startswith("ss_")} <= {
        "ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args",
        "ss_output_name", "ss_sd_model_name", "ss_steps",
    }  # fmt: skip
    assert load_file(tmp_path / "out" / "Ada_L.safetensors").popitem()[1].dtype == torch.float16


def test_a_merged_folder_is_a_whole_pipeline_that_knows_the_token(run_dir: Path, tmp_path: Path) -> None:
    export(config(format="merged"), run_dir, tmp_path / "out")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out" / "pipeline", use_safetensors=True)
    assert "sks" in pipeline.tokenizer.get_vocab()
    unet = load_file(tmp_path / "out" / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in unet.values()} == {torch.float16}
    assert not any("lora" in name for name, _ in pipeline.unet.named_parameters())


def test_pocket_has_no_single_file_and_says_every_reason_before_any_work(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", tiny_base, token=False)
    monkeypatch.setattr(exports.registry.family("sd").__class__, "load", None)
    with pytest.raises(InputError) as caught:
        export(config(format="single_file"), run, tmp_path / "out")
    assert [problem.code for problem in caught.value.problems] == ["no_format", "no_format"]
    assert "AutoencoderTiny" in str(caught.value) and "tokenizer" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_adapter_without_kohya_names_is_refused_before_any_work(run_dir: Path, tmp_path: Path) -> None:
    info = dataclasses.replace(read_info(run_dir / "adapter"), family="flux")
    source = exports._ExportSource(config(format="kohya"), info, Any, Any, run_dir, {}, ())  # type: ignore[arg-type]
    assert "not flux" in str(exports._kohya_problems(source)[0])
    changed = dataclasses.replace(source, info=read_info(run_dir / "adapter"), tensor_names=("unet.a.lokr_w1",))
    assert "trained no LoRA" in str(exports._kohya_problems(changed)[0])


def test_a_finished_export_answers_at_once_and_a_damaged_one_is_made_again(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = export(config(), run_dir, out)
    with monkeypatch.context() as patch:
        patch.setattr(exports, "certify", None)
        assert export(config(), run_dir, out) == first
    (out / WEIGHTS_NAME).unlink()
    assert export(config(), run_dir, out).files == first.files
    with pytest.raises(ConflictError, match="an export made with other settings"):
        export(config(format="kohya"), run_dir, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(ConflictError, match="other files"):
        export(config(), run_dir, tmp_path / "full")


def test_a_run_without_an_adapter_or_with_a_damaged_one_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="finish the training"):
        export(config(), tmp_path, tmp_path / "out")
    with pytest.raises(NotFoundError, match="checkpoint 7"):
        export(config(checkpoint=7), run_dir, tmp_path / "out")
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    for path in (run_dir / "adapter").iterdir():
        (tmp_path / "run" / "adapter" / path.name).write_bytes(path.read_bytes()[:-100])
    write_info(tmp_path / "run" / "adapter", read_info(run_dir / "adapter"))
    with pytest.raises(InputError, match="damaged header"):
        export(config(), tmp_path / "run", tmp_path / "out")


def test_stopping_leaves_nothing_that_looks_finished(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(JobCancelled):
        export(config(), run_dir, tmp_path / "out", should_stop=lambda: True)
    assert not (tmp_path / "out" / "DONE").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("I/O error: No space left on device")]
)
def test_a_full_disk_leaves_nothing_behind(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(exports, "write_safetensors", full)
    with pytest.raises(ResourceError, match="disk is full"):
        export(config(), run_dir, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["request.json"]


def test_a_process_that_dies_is_reported_in_its_own_last_words(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Path] = []

    def killed(command: Sequence[str], *_: Any) -> tuple[int, str]:
        requests.append(Path(command[-1]))
        return -9, ""

    monkeypatch.setattr(certificate, "_run", killed)
    with pytest.raises(TrainingError, match="exit status -9"):
        export(config(), run_dir, tmp_path / "out")
    assert requests[0].is_relative_to(tmp_path / "out"), "what a kill leaves of pictures goes with the job's folder"


@pytest.mark.whole
def test_the_process_is_fresh_and_knows_nothing_of_the_studio(run_dir: Path, tmp_path: Path) -> None:
    export(config(format="kohya"), run_dir, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert found["versions"].keys() == {"diffusers", "transformers", "torch"}
    source = Path(reload.__file__).read_text()
    assert "import studio" not in source and "from studio" not in source


def comfyui(weight: torch.Tensor, file: dict[str, torch.Tensor], stem: str) -> torch.Tensor:
    """Return a layer's weight as ComfyUI computes it: comfy/weight_adapter/base.py at 9c0cf36c, strength 1."""
    up, down = file[f"{stem}.lora_up.weight"], file[f"{stem}.lora_down.weight"]
    update = torch.mm(up.flatten(start_dim=1), down.flatten(start_dim=1)).reshape(weight.shape)
    adapted = weight + update * (file[f"{stem}.alpha"] / down.shape[0])
    scale = file[f"{stem}.dora_scale"]
    if scale.shape[0] == weight.shape[0]:
        norm = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    else:
        norm = torch.linalg.vector_norm(adapted, dim=(0, *range(2, weight.ndim)), keepdim=True)
    return adapted * (scale / (norm + torch.finfo(weight.dtype).eps))


@pytest.mark.whole
@pytest.mark.parametrize(
    ("speaks", "trained"),
    [
        ("sd", {"target": "attention+conv", "rslora": True}),
        ("sd", {}),
        ("sdxl", {"target": "attention+conv"}),
    ],
)
def test_comfyui_computes_from_the_file_of_a_dora_what_peft_merges(
    request: pytest.FixtureRequest, tmp_path: Path, speaks: str, trained: dict[str, Any]
) -> None:
    base = request.getfixturevalue("tiny_base_xl_clip" if speaks == "sdxl" else "tiny_base_clip")
    run = write_run(tmp_path / "run", base, speaks=speaks, token=False, text_encoder=False, dora=True, **trained)
    result = export(config(format="kohya"), run, tmp_path / "out")
    assert result.difference_max is not None and result.difference_max <= 3
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["loader"] == "dora_scale" and certificate["adapter_effect_mean"] > 1
    file = load_file(tmp_path / "out" / "Ada_L.safetensors")

    sd = family(speaks)

    def opened() -> Any:
        return sd.pipeline(sd.load(base, dtype=torch.float32, device=torch.device("cpu")))

    plain, merged = opened(), opened()
    merged.load_lora_weights(run / "adapter", weight_name=WEIGHTS_NAME)
    merged.fuse_lora()
    merged.unload_lora_weights()
    stems = {name.removesuffix(".dora_scale") for name in file if name.endswith(".dora_scale")}
    assert stems == {name.rpartition(".lora_up")[0] for name in file if ".lora_up" in name}
    wanted = merged.unet.state_dict()
    for name, weight in plain.unet.state_dict().items():
        stem = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
        if stem in stems and name.endswith(".weight"):
            stems.remove(stem)
            assert not torch.allclose(weight, wanted[name], atol=1e-3), "training moved it"
            torch.testing.assert_close(comfyui(weight, file, stem), wanted[name], atol=1e-4, rtol=1e-4)
    assert stems == set()


def test_a_dora_without_kohya_names_is_not_sent_to_a_file_that_comfyui_reads_in_part(run_dir: Path) -> None:
    info = dataclasses.replace(read_info(run_dir / "adapter"), family="flux")
    layers = ("transformer.a.lora_A.weight", "transformer.a.lora_B.weight", "transformer.a.lora_magnitude_vector")
    source = exports._ExportSource(config(format="kohya"), info, Any, Any, run_dir, {}, layers)  # type: ignore[arg-type]
    (problem,) = exports._kohya_problems(source)
    assert "use format merged" in problem.cure
