"""The measured fit plan: a few real steps and one real picture on this machine, before a run is started.

Loads the base as ``studio.train`` would, trains for three steps on weights that are thrown away, and takes the memory
fallback steps where memory runs out. Writes only ``fit.json``. Called as a string by the service.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import free_memory

from studio.bases.resolve import resolve_base
from studio.compute import quantization
from studio.compute.device import device_name, pick_device, require_compiler, require_xformers, room_bytes, used_bytes
from studio.core import fit
from studio.core.domain import OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.fit import FitPlan, MeasuredRun
from studio.core.progress import NOTHING_KEPT, TrainingReporter
from studio.core.settings import load_settings
from studio.core.train_config import TrainConfig
from studio.families import registry as families
from studio.methods import registry as methods
from studio.training import memory_fallback, optimizers
from studio.training.data import cache
from studio.training.evaluate import sample
from studio.training.photos import fallback_after, prepare, read_dataset, settle
from studio.training.run import AdaptedModel, TrainingRun
from studio.training.state import TrainingState
from studio.training.steps import exact_arithmetic, train_step

_STEPS = 3


def plan(
    config: TrainConfig,
    dataset_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> FitPlan:
    """Measure the time and memory a run with ``config`` on this dataset will need.

    Args:
        config: the settings.
        dataset_dir: what ``check`` wrote.
        on_event: receives stages, and settings changed to save memory.
        should_stop: polled between steps.

    Raises:
        InputError, NotFoundError, MissingExtraError: as ``train`` would.
        ResourceError: it does not fit even after the last fallback step.
        JobCancelled: ``should_stop`` returned True.
    """
    reporter = TrainingReporter(on_event, should_stop, kept=NOTHING_KEPT)
    reporter.stage("planning", f"Trying a few steps on {config.base}.")
    settings = load_settings()
    device = pick_device(settings.device)
    dataset = read_dataset(dataset_dir)
    config = config.for_subject(dataset.subject, dataset.class_noun, is_guessed=dataset.class_noun_guessed)
    optimizers.require(config.optimizer, device)
    quantization.require(config.quantization, device)
    require_compiler(config.compile_blocks, device)
    require_xformers(config.attention == "xformers", device)
    base = resolve_base(config.base, config.revision)
    changes: dict[str, Any] = {}
    while True:
        run = prepare(memory_fallback.with_changes(config, changes), dataset, dataset_dir, dataset_dir, base, device)
        try:
            with exact_arithmetic(device, settings.threads):
                measured = _measure(run, reporter)
            break
        except (RuntimeError, MemoryError) as error:
            fallback = fallback_after(error, run)
        free_memory()
        changes.update(fallback.changes)
        reporter.message(f"The device ran out of memory. Trying {fallback.words}.", level="warning")
    fit.remember(settings.home.expanduser(), config, measured)
    return fit.plan_of(config, len(run.photos), measured, room_bytes=room_bytes(device), changes=changes)


def _measure(run: TrainingRun, reporter: TrainingReporter) -> MeasuredRun:
    started_s = time.perf_counter()
    on_gpu = run.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(run.device)
    family, method = families.family(run.base.family), methods.method(run.config.method.name)
    parts = family.load(run.base.folder, dtype=run.dtype, device=run.device, quantization=run.config.quantization)
    groups: list[Any] = method.attach(parts, family.spec, run.config)
    if run.config.gradient_checkpointing:
        parts.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]  # diffusers' ModelMixin
    model = AdaptedModel(run, family, method, parts)
    if not model.prompts.learns:
        parts.text_encoders = []
    settle(run, parts)
    # A photo stands for the class pictures: drawing them would take minutes, and only their size counts.
    square = [run.photos[0].picture.resize((run.resolution_px, run.resolution_px))]
    data = cache(run, model, square if run.config.prior.mode == "images" else [])
    load_s = time.perf_counter() - started_s

    begun_s = time.perf_counter()
    sample(run, model, [run.photos[0].caption], [0], reporter)
    picture_s = time.perf_counter() - begun_s
    parts.vae = None
    training_state = TrainingState(run, groups, method.trainable(parts))
    free_memory()

    step_times_s = []
    for step in range(_STEPS):
        reporter.check_stop("while planning")
        begun_s = time.perf_counter()
        training_state.set_rates(step)
        train_step(model, data, training_state.optimizer, training_state.scaler, step)
        training_state.moved(step + 1)
        if on_gpu:
            torch.cuda.synchronize(run.device)
        step_times_s.append(time.perf_counter() - begun_s)

    with tempfile.TemporaryDirectory() as folder:
        method.write(parts, family, Path(folder))
        adapter_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
    tensors, _ = training_state.state()
    state_bytes = sum(tensor.nbytes for tensor in (*tensors.values(), *method.adapter_state(parts).values()))
    return MeasuredRun(
        device=device_name(run.device),
        load_s=round(load_s, 3),
        step_s=round(statistics.median(step_times_s), 4),  # the first step makes the optimizer's memory
        picture_s=round(picture_s, 3),
        peak_bytes=used_bytes(run.device),
        adapter_bytes=adapter_bytes,
        resume_bytes=state_bytes,
    )
