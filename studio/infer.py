"""The verb ``generate``: makes the pictures of a prompt pack with an adapter, ranked by likeness, with a contact sheet.

The steps: plan the pictures -> open the folder (go on, or refuse) -> load base and adapter -> render in batches,
writing each picture as soon as it is there -> rank -> contact sheet, zip, index, DONE. Runs in a worker's child process
or from a notebook. ``load_pipeline``, ``load_adapter`` and ``render_prompts`` are the lower calls for pictures without
a run folder: the untrained base, class pictures, benchmarks.

Every picture has its own seed and its own generator on the CPU, prompts are encoded one by one, and ``generate`` gives
every forward pass of a request the same number of rows: the same request gives the same pictures, whatever was missing.
Only another number of rows (``batch_size``) or of threads may round the last bits otherwise.
"""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from studio.bases.resolve import resolve_adapter
from studio.compute.device import cpu_threads
from studio.core import folder as output
from studio.core import records
from studio.core.adapters import AdapterInfo, adapter_folder, adapter_sha256, read_info
from studio.core.config import GenerateConfig
from studio.core.domain import Event, GenerateResult, Image, OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.errors import InputError, Problem
from studio.core.files import full_disk_in_words, read_json
from studio.core.packs import subject_phrase
from studio.core.progress import PICTURES_KEPT, ProgressReporter
from studio.core.settings import load_settings
from studio.families import registry
from studio.families.words import cut_off, keep_together
from studio.imaging.nudity import CODE, open_check
from studio.imaging.png import LIKENESS_KEY, read_png, score_again, write_png
from studio.pictures.render import Opener, Shape, open_base, render_batches, rows_per_pass
from studio.pictures.request import PlannedPicture, plan_pictures, public_name, require_reference
from studio.pictures.results import RunResults, open_results
from studio.pictures.scorer import LikenessScorer, measured_otherwise, open_scorer
from studio.pictures.selection import choose
from studio.pictures.sheets import (
    ARCHIVE_NAME,
    INDEX_NAME,
    SHEET_NAME,
    MadePictures,
    mean_likeness,
    write_archive,
    write_sheets,
)
from studio.pictures.warm import WarmBases

LEFT_OUT_NAME = "left_out"


_SCORED_AT_ONCE = 16


_MAKING = "Making pictures"


@full_disk_in_words()
def generate(
    config: GenerateConfig,
    run_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
    opener: "Opener | None" = None,
) -> GenerateResult:
    """Make the pictures of a pack or of free prompts with a trained adapter.

    Writes ``<subject>_<shot>/NNN.png``, a ``contact_sheet.png`` beside them where there are several, one for all,
    ``pictures.zip``, ``index.json`` and, last, ``DONE``. With ``keep``, what is not kept goes to ``left_out/``. Called
    again with the same config on the same folder, it keeps the pictures that are there and makes the missing ones.
    Pictures of the result cache are not made again.

    Args:
        config: what to make.
        run_dir: a folder that ``train`` wrote; not looked at where the config names a published adapter.
        out_dir: created if missing; empty, or left by a cancelled call with the same config.
        on_event: receives stages, progress and each picture.
        should_stop: polled at each denoising step.
        opener: gives the base with the adapter in it, where one stays loaded (``studio.pictures.swapper``); None loads
            it.

    Returns:
        All pictures that are kept, best first (in the order of shots and seeds where likeness could not be measured).

    Raises:
        NotFoundError: the run is not finished; no such checkpoint, pack, base or published adapter.
        InputError: the adapter is damaged or of another family; the run holds no reference for the likeness engine; the
            pack is for other kinds of subject; the operator's check withholds every picture.
        MissingExtraError: the base or the result cache's client is not on this machine.
        ConflictError: ``out_dir`` holds other things.
        ResourceError: one picture alone does not fit into the device's memory, or the disk is full.
        JobCancelled: ``should_stop`` returned True; finished pictures stay.
    """
    started_s = time.monotonic()
    reporter = ProgressReporter(on_event, should_stop, kept=PICTURES_KEPT)
    pulled = resolve_adapter(config.adapter) if config.adapter else None  # lives, and keeps the files, to the end
    run_dir = pulled.folder if pulled else run_dir
    weights_dir = adapter_folder(run_dir, config.checkpoint)
    info = read_info(run_dir / "adapter")
    require_reference(config, info)
    family = registry.family(info.family)
    sha256 = adapter_sha256(weights_dir)
    plan, remarks = plan_pictures(config, info, family.spec, sha256)

    draws_with_it = any(one.adapter_scale > 0 for one in config.by_strength())
    finished = _open_folder(out_dir, config, info, sha256 if draws_with_it else None)
    if finished is not None:
        if config.likeness == "none" or not measured_otherwise(finished, info, reporter):
            return finished
        output.reopen(out_dir)
    for remark in remarks:
        reporter.warn(remark)
    scorer = open_scorer(config, info, reporter)
    made = MadePictures(config.keep is not None, open_check("pictures"))

    for index, item in enumerate(plan):
        if (picture := _kept(out_dir, item)) is not None:
            if not made.admits(index, picture):  # it was made before the operator set the check
                (out_dir / item.file).unlink()
                continue
            made.add(index, picture, scorer.score([picture])[0])
            _write_likeness(out_dir / item.file, scorer, made.scores[index])
    if made.scores:
        reporter.message(f"{len(made.scores)} of {len(plan)} pictures already exist")
    from_cache = 0
    for one in config.by_strength():
        of_one = [index for index, item in enumerate(plan) if item.record["adapter_scale"] == one.adapter_scale]
        from_cache += _draw(one, info, weights_dir, plan, of_one, out_dir, scorer, made, opener or open_base, reporter)

    reporter.stage("ranking", "Ranking and packing the pictures")
    withheld = len(made.withheld)
    plan, made = _passed(plan, made, reporter)
    _warn_unmeasured(config, made, scorer, reporter)
    seconds = round(time.monotonic() - started_s, 3)
    result = replace(_ranked(config, plan, made, scorer), seconds=seconds, from_cache=from_cache, withheld=withheld)
    _sort_out(out_dir, result)
    result = write_sheets(out_dir, plan, made, result, info.subject, config.pack or "prompts", scorer.summary)
    write_archive(out_dir, result, info.subject)
    records.write(out_dir / INDEX_NAME, result)
    output.finish(out_dir)
    return result


def generate_warm(
    config: GenerateConfig,
    run_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> GenerateResult:
    """Do the same in a process that makes the pictures of one job after another: their bases stay loaded.

    Args and Raises: as ``generate``.
    """
    bases = _warm_bases()
    try:
        return generate(config, run_dir, out_dir, on_event=on_event, should_stop=should_stop, opener=bases.open)
    finally:
        bases.rest()


@functools.cache
def _warm_bases() -> WarmBases:
    return WarmBases()


def _draw(
    config: GenerateConfig,
    info: AdapterInfo,
    weights_dir: Path,
    plan: Sequence["PlannedPicture"],
    wanted: Sequence[int],
    out_dir: Path,
    scorer: "LikenessScorer",
    made: MadePictures,
    opener: "Opener",
    reporter: ProgressReporter,
) -> int:
    """Make what is missing of the pictures of one strength; return how many of them the result cache held."""
    missing = [index for index in wanted if index not in made]
    rows = rows_per_pass([plan[index].picture_request for index in wanted], config.batch_size)
    sha256 = adapter_sha256(weights_dir) if config.adapter_scale > 0 else None
    from_cache = 0
    with open_results(config, info, sha256, bool(missing), reporter) as result_cache:
        for index in missing:
            reporter.check_stop()
            if (found := result_cache.get(plan[index])) is not None:
                picture, sampler = found
                from_cache += 1
                if not made.admits(index, picture):
                    continue
                made.add(index, picture, scorer.score([picture])[0])
                _write_picture(out_dir, plan[index], picture, sampler, scorer, made.scores[index], reporter.on_event)
        if from_cache:
            reporter.message(f"{from_cache} of {len(wanted)} pictures come from the cache")
        missing = [index for index in missing if index not in made]
        if missing:
            pipeline = _opened(config, info, weights_dir, opener, reporter)
            _warn_cut_prompts(pipeline, [plan[index] for index in missing], info.instance_token, reporter)
            _make(pipeline, plan, missing, rows, out_dir, scorer, made, result_cache, reporter)
    return from_cache


def _opened(
    config: GenerateConfig, info: AdapterInfo, weights_dir: Path, opener: "Opener", reporter: ProgressReporter
) -> Any:
    reporter.stage("loading", f"Loading {public_name(info.base)}")
    pipeline, placement = opener(info, weights_dir if config.adapter_scale > 0 else None, config.adapter_scale)
    _, parts = registry.opened(pipeline)
    keep_together(parts.tokenizers, subject_phrase(info.instance_token, info.class_noun))
    if placement != "device":
        reporter.message(
            f"{public_name(info.base)} does not fit on the GPU at once: its parts are loaded in turn, which is slower"
        )
    return pipeline


def _warn_cut_prompts(pipeline: Any, items: Sequence["PlannedPicture"], token: str, reporter: ProgressReporter) -> None:
    """Warn about words of the prompts that the base cuts off, before anything is drawn.

    Raises:
        InputError: in some prompts the subject itself is cut off.
    """
    family, parts = registry.opened(pipeline)
    problems = []
    prompts: dict[tuple[str, str], str] = {}
    for item in items:
        for named in item.texts():
            prompts.setdefault(named, item.shot)
    for (what, text), shot in prompts.items():
        cut = cut_off(text, family.spec, parts.tokenizers)
        if cut.loses(token):
            cure = "name the subject earlier, or shorten the prompt"
            problems.append(Problem(shot, f"the {what} {cut.words()}, which includes the subject", cure, "subject_cut"))
        elif words := cut.words():
            reporter.warn(f"the {what} of {shot} {words}")
    if problems:
        raise InputError.of(problems)


def _make(
    pipeline: Any,
    plan: Sequence["PlannedPicture"],
    missing: Sequence[int],
    rows: Mapping["Shape", int],
    out_dir: Path,
    scorer: "LikenessScorer",
    made: MadePictures,
    result_cache: "RunResults",
    reporter: ProgressReporter,
) -> None:
    """Render what is missing, writing each picture as soon as it is there."""
    reporter.stage("generating", f"Making {len(missing)} pictures")
    sampler = type(pipeline.scheduler).__name__.removesuffix("Scheduler")
    reporter.start(len(plan), len(made.scores))
    reporter.tick(_MAKING)
    picture_requests = [plan[index].picture_request for index in missing]
    with cpu_threads(load_settings().threads):
        for batch in render_batches(
            pipeline,
            picture_requests,
            rows=rows,
            should_stop=reporter.should_stop,
            on_step=lambda: reporter.tick(_MAKING),
        ):
            for position, picture in batch:
                index = missing[position]
                if not made.admits(index, picture):
                    continue
                score = scorer.score([picture])[0]  # alone: its file holds the score, which must not depend on others
                made.add(index, picture, score)
                _write_picture(out_dir, plan[index], picture, sampler, scorer, score, reporter.on_event)
                result_cache.put(plan[index], picture, sampler)
            reporter.advance(_MAKING, len(batch))


def _write_picture(
    out_dir: Path,
    item: "PlannedPicture",
    picture: PILImage.Image,
    sampler: str,
    scorer: "LikenessScorer",
    score: float | None,
    on_event: OnEvent,
) -> None:
    path = out_dir / item.file
    path.parent.mkdir(exist_ok=True)
    parameters = item.parameters(sampler)
    write_png(path, picture, parameters=parameters, record=item.record, likeness=scorer.written(score))
    on_event(Event("image", records.to_dict(item.image(score, 0, (scorer.name, scorer.version)))))


def _write_likeness(path: Path, scorer: "LikenessScorer", score: float | None) -> None:
    """Put the likeness into a picture that is there already, unless it is from this version of the engine."""
    found = read_png(path)
    if found is not None and scorer.engine is not None and not scorer.wrote(found[1].get(LIKENESS_KEY)):
        score_again(path, scorer.written(score))


def _passed(
    plan: list["PlannedPicture"], made: MadePictures, reporter: ProgressReporter
) -> tuple[list["PlannedPicture"], MadePictures]:
    """Say what the operator's check found, and return the plan and what is there of it without what is withheld.

    Raises:
        InputError: nothing is left.
    """
    if made.doubtful:
        files = ", ".join(plan[index].file for index in sorted(made.doubtful)[:5])
        more = "" if len(made.doubtful) <= 5 else f" and {len(made.doubtful) - 5} more"
        reporter.warn(
            f"look at these before you share them, the operator's check is not sure about them: {files}{more}"
        )
    if not made.withheld:
        return plan, made
    told = f"{len(made.withheld)} of {len(plan)} pictures are withheld by the check that this studio's operator set"
    if len(made.withheld) == len(plan):
        cure = "try other prompts or another seed; the check errs at times"
        raise InputError.of([Problem("pictures", told, cure, CODE)])
    reporter.warn(f"{told}; another seed may give others in their place")
    return made.without_withheld(plan)


def _warn_unmeasured(
    config: GenerateConfig, made: MadePictures, scorer: "LikenessScorer", reporter: ProgressReporter
) -> None:
    """Say which pictures the engine found no subject in, and what that does to the order."""
    missing = sum(score is None for score in made.scores.values())
    if scorer.engine is None or not missing:
        return
    if missing < len(made.scores):
        reporter.warn(f"likeness is not measured in {missing} of {len(made.scores)} pictures; they come last")
    elif config.keep is None:
        reporter.warn("likeness is not measured in any picture, so they stay in the order of shots and seeds")
    else:
        reporter.warn("likeness is not measured in any picture, so the first ones without near-duplicates are kept")


def _ranked(
    config: GenerateConfig, plan: Sequence["PlannedPicture"], made: MadePictures, scorer: "LikenessScorer"
) -> GenerateResult:
    """Choose the pictures to keep of each shot, and rank them."""
    kept, duplicate_of = set(range(len(plan))), dict[int, int]()
    if config.keep is not None:
        kept = set()
        by_shot: dict[str, list[int]] = {}
        for index, item in enumerate(plan):
            by_shot.setdefault(item.shot, []).append(index)
        for places in by_shot.values():
            scores, prints = [made.scores[i] for i in places], [made.prints[i] for i in places]
            chosen = choose(scores, prints, config.keep)
            kept |= {places[i] for i in chosen.kept}
            duplicate_of |= {places[i]: places[other] for i, other in chosen.duplicate_of.items()}
    order = sorted(
        range(len(plan)), key=lambda index: (made.scores[index] is None, -(made.scores[index] or 0.0), index)
    )

    def place(index: int) -> str:
        return plan[index].file if index in kept else f"{LEFT_OUT_NAME}/{plan[index].file}"

    def images(indices: Sequence[int]) -> tuple[Image, ...]:
        found = []
        for number, index in enumerate(indices, start=1):
            ranked = index in kept and made.scores[index] is not None
            twin = duplicate_of.get(index)
            found.append(
                replace(
                    plan[index].image(made.scores[index], number if ranked else 0, (scorer.name, scorer.version)),
                    file=place(index),
                    duplicate_of=None if twin is None else place(twin),
                )
            )
        return tuple(found)

    return GenerateResult(
        images=images([index for index in order if index in kept]),
        contact_sheet=SHEET_NAME,
        archive=ARCHIVE_NAME,
        seconds=0.0,
        likeness_mean=mean_likeness([made.scores[index] for index in kept]),
        likeness_engine=scorer.name,
        left_out=images([index for index in order if index not in kept]),
        likeness_mean_made=mean_likeness(list(made.scores.values())),
        likeness_version=scorer.version,
        likeness_summary=scorer.summary([made.scores[index] for index in sorted(kept)]),
    )


def _open_folder(out_dir: Path, config: GenerateConfig, info: AdapterInfo, sha256: str | None) -> GenerateResult | None:
    """Claim the folder for this request; return the result if it is already finished."""
    request = {
        "verb": "generate",
        "base": info.base,
        "revision": info.revision,
        "adapter_sha256": sha256,
    }
    # Two settings change no picture beyond its last bits, so that others may go on.
    without = {"batch_size", "use_cache"}
    claimed = output.claim(out_dir, request, what="pictures", config=config, without=without)
    if not claimed or not output.is_finished(out_dir):
        return None
    data = read_json(out_dir / INDEX_NAME)
    if data is None or not all((out_dir / row["file"]).is_file() for row in data["images"]):
        output.reopen(out_dir)
        return None
    lists = {name: tuple(Image(**row) for row in data[name]) for name in ("images", "left_out")}
    return GenerateResult(**{**data, **lists, "sheets": tuple(data["sheets"])})


def _kept(out_dir: Path, item: PlannedPicture) -> PILImage.Image | None:
    """Return a planned picture that already exists; one that was left out is considered again."""
    for path in (out_dir / item.file, out_dir / LEFT_OUT_NAME / item.file):
        found = read_png(path)
        if found is not None and {**found[1], LIKENESS_KEY: None} == {**item.record, LIKENESS_KEY: None}:
            if path != out_dir / item.file:
                (out_dir / item.file).parent.mkdir(exist_ok=True)
                os.replace(path, out_dir / item.file)
            return found[0]
    return None


def _sort_out(out_dir: Path, result: GenerateResult) -> None:
    """Move the pictures that are not kept."""
    for image in result.left_out:
        place = out_dir / image.file
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(out_dir / image.file.removeprefix(f"{LEFT_OUT_NAME}/"), place)
