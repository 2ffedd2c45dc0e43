"""HTML of training: hints, plan, charts, samples and the result."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from studio.core import language
from studio.core.domain import JobView
from studio.core.fit import FitPlan
from studio.core.presets import TrainPreset
from studio.core.units import caveat_after, duration_text, likeness_sentence, likeness_text
from studio.web.page import words
from studio.web.page.history import JobHistory
from studio.web.page.parts import Url, capital, hint, likeness_scale, notice
from studio.web.page.templates import render

_MAX_POINTS = 400
"""A long run must not make the page heavy."""


def preset_hint(preset: TrainPreset | None) -> Markup:
    """Return what a preset is for."""
    return hint(language.say(preset.description) if preset else words.NO_PRESET)


def plan(found: FitPlan) -> Markup:
    """Return what a run will take, before it starts; framed where it does not fit."""
    if found.fits is False:
        return notice(words.PLAN_TOO_LARGE, [found.words()], tone="fair")
    return hint(words.PLAN.format(plan=found.words()))


def curves(history: JobHistory, result: Mapping[str, Any] | None) -> Markup:
    """Return the loss curve and the likeness curve, each as soon as it has something to show."""
    charts = []
    if len(history.loss) > 1:
        charts.append(_loss_chart(sorted(history.loss.items())))
    if history.likeness:
        best = result.get("best_step") if result else None
        charts.append(_likeness_chart(sorted(history.likeness.items()), best, max(history.loss, default=0)))
    return render("train.charts", rows=charts)


def _line(points: Sequence[tuple[float, float]], style: str) -> dict[str, str]:
    return {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points), "style": style}


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the mean of each value and its neighbours; the window is a twelfth of the curve."""
    reach = max(1, len(values) // 24)
    sums = [0.0, *accumulate(values)]
    spans = [(max(0, index - reach), min(len(values), index + reach + 1)) for index in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in spans]


def _loss_chart(curve: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return the loss chart for the template; a chart is 400 units wide, and y runs from 6 (top) to 126."""
    stride = max(1, len(curve) // _MAX_POINTS)
    steps = [step for step, _ in curve]
    smooth = _smooth([value for _, value in curve])
    ordered = sorted(value for _, value in curve)
    low = min(ordered[0], min(smooth))
    # One spike must not flatten the rest: the top is the 95th percentile, spikes are clipped there.
    high = max(ordered[int(0.95 * (len(ordered) - 1))], max(smooth))
    span, length = (high - low) or 1.0, (steps[-1] - steps[0]) or 1

    def at(step: int, value: float) -> tuple[float, float]:
        return 400 * (step - steps[0]) / length, 126 - 120 * (min(value, high) - low) / span

    raw = [at(step, value) for step, value in curve[::stride]]
    mean = [at(step, value) for step, value in list(zip(steps, smooth, strict=True))[::stride]]
    return {
        "title": words.LOSS,
        "now": f"{smooth[-1]:.3g}",
        "description": words.LOSS_DESCRIPTION.format(loss=smooth[-1], step=steps[-1]),
        "low": words.FIRST_STEP.format(step=steps[0]),
        "high": f"{steps[-1]:,}",
        "grid": (),
        "lines": [
            _line(raw, "stroke:var(--primary-400);stroke-width:1;opacity:.28"),
            _line(mean, "stroke:var(--primary-500);stroke-width:2.2"),
        ],
        "dots": (),
    }


def _likeness_chart(curve: Sequence[tuple[int, float]], best: int | None, last_step: int) -> dict[str, Any]:
    """Return the likeness chart for the template; the best checkpoint's dot is the larger one."""
    first, last = curve[0][0], max(curve[-1][0], last_step)
    length = (last - first) or 1
    points = [(400 * (step - first) / length, 126 - 120 * max(0.0, min(1.0, likeness))) for step, likeness in curve]
    best_likeness = dict(curve).get(best) if best is not None else None
    values = ", ".join(f"{step}: {likeness_text(likeness)}" for step, likeness in curve)
    return {
        "title": words.LIKENESS,
        "now": likeness_text(curve[-1][1])
        if best_likeness is None
        else words.LIKENESS_BEST.format(likeness=likeness_text(best_likeness)),
        "description": words.LIKENESS_DESCRIPTION.format(values=values),
        "low": words.FIRST_STEP.format(step=first),
        "high": f"{last:,}",
        "grid": (6, 66),  # likeness 1 and 0.5
        "lines": [_line(points, "stroke:var(--ls-good);stroke-width:2.2")],
        "dots": [
            {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": 13 if step == best else 7}
            for (step, _), (x, y) in zip(curve, points, strict=True)
        ],
    }


def chosen_frames(history: JobHistory, best_step: int | None, pressed: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the evaluated checkpoints, at most two, that stand side by side: the one pressed last comes last.

    Args:
        history: what has happened in the run.
        best_step: the checkpoint that was kept; None while there is none.
        pressed: steps that somebody has pressed, the newest last. Where that is fewer than two, the untrained base
            and the kept or the newest checkpoint fill up.
    """
    steps = sorted(_by_step(history))
    if not steps:
        return ()
    own = [step for step in pressed if step in steps]
    usual = (steps[0], best_step if best_step in steps else steps[-1])
    # Each once, where it stands last.
    wanted = dict.fromkeys(reversed([*(step for step in usual if step not in own), *own]))
    return tuple(wanted)[1::-1]


def film(history: JobHistory, url: Url, best_step: int | None, chosen: Sequence[int]) -> Markup:
    """Return every evaluated checkpoint as a strip of frames, and the chosen ones side by side below it.

    Each is shown by pictures of the same prompts and seeds; the strip shows the first of them.

    Args:
        history: what has happened in the run.
        url: links to its pictures.
        best_step: the checkpoint that was kept; None while there is none.
        chosen: as ``chosen_frames`` returns it.
    """
    by_step = _by_step(history)
    frames = [_frame(history, url, by_step, step, best_step, step in chosen) for step in sorted(by_step)]
    beside = [by_step[step] for step in sorted(chosen)]
    rows = [
        {
            "prompt": str(beside[0][index].get("prompt", "")),
            "pictures": [
                {"link": url(of[index]["path"]), "caption": _likeness_of(of[index].get("likeness"))}
                for of in beside
                if index < len(of)
            ],
        }
        for index in range(len(beside[0]) if beside else 0)
    ]
    heads = [frame for frame in frames if frame["chosen"]]
    return render("train.film", title=words.FILM, about=words.FILM_ABOUT, frames=frames, heads=heads, rows=rows)


def _by_step(history: JobHistory) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for sample in sorted(history.samples.values(), key=lambda sample: str(sample["path"])):
        found.setdefault(int(sample["step"]), []).append(sample)
    return found


def _frame(
    history: JobHistory,
    url: Url,
    by_step: Mapping[int, Sequence[Mapping[str, Any]]],
    step: int,
    best_step: int | None,
    is_chosen: bool,
) -> dict[str, Any]:
    summary = history.summaries.get(step) or {"mean": history.likeness.get(step)}
    mean, word = summary.get("mean"), str(summary.get("word") or "")
    return {
        "step": step,
        "title": words.SAMPLES_BEFORE if step == 0 else words.SAMPLES_STEP.format(step=step),
        "kept": words.SAMPLES_KEPT if step == best_step else "",
        "word": word.capitalize(),
        "likeness": _likeness_of(mean),
        "percent": None if mean is None else f"{100 * max(0.0, min(1.0, mean)):.0f}",
        "link": url(by_step[step][0]["path"]),
        "chosen": is_chosen,
    }


def _likeness_of(value: float | None) -> str:
    return words.NOT_MEASURED if value is None else words.LIKENESS_OF.format(likeness=likeness_text(value))


def train_result(job: JobView, url: Url) -> Markup:
    """Return what a finished run achieved, and its file."""
    result = job.result or {}
    before, after = result.get("likeness_before"), result.get("likeness_after")
    sentences = []
    title, likeness, scale = words.TRAINED, "", Markup()
    if after is None:
        sentences.append(words.TRAINED_UNMEASURED)
    else:
        summary = result.get("likeness_summary") or {"mean": after}
        # The word stands above the bar, the numbers between them.
        title = capital(language.say(summary.get("word") or "") or words.TRAINED)
        likeness = capital(likeness_sentence({**summary, "word": None})) + "."
        scale = likeness_scale(summary)
        sentences += [words.JUDGEMENTS[summary["word"]]] if summary.get("word") else []
        if before is not None:
            text = likeness_sentence(result.get("likeness_summary_before") or {"mean": before})
            sentences.append(words.TRAINED_BEFORE.format(likeness=text))
    best, steps = result.get("best_step", 0), result.get("steps", 0)
    sentences.append(words.TRAINED_BEST.format(best=best, steps=steps, time=duration_text(result.get("seconds") or 0)))
    text = " ".join(sentences) + caveat_after(result.get("likeness_summary"))
    adapter = url("adapter/pytorch_lora_weights.safetensors")
    return render(
        "train.result",
        title=title,
        likeness=likeness,
        scale=scale,
        text=text,
        adapter=adapter,
        download=words.TRAINED_DOWNLOAD,
    )
