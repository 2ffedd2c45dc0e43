"""HTML of training: hints, plan, charts, samples and the result."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Any

from studio.core.catalog import BaseSpec
from studio.core.domain import JobView
from studio.core.fit import FitPlan
from studio.core.presets import TrainPreset
from studio.core.units import duration_text, gigabytes_text, likeness_text
from studio.web.page.history import JobHistory
from studio.web.page.parts import Url, notice, page_html

_SAMPLES_SHOWN = 6


def base_hint(spec: BaseSpec) -> str:
    """Return what a base is and what it needs."""
    need = f"Needs a GPU with {gigabytes_text(spec.vram_gb)}." if spec.vram_gb else "Runs on any processor."
    return page_html(escape(f"{spec.description} {need} Licence: {spec.licence}."), "ls-hint")


def preset_hint(preset: TrainPreset | None) -> str:
    """Return what a preset is for."""
    return page_html(escape(preset.description) if preset else "There is no preset for this base yet.", "ls-hint")


def plan(found: FitPlan) -> str:
    """Return what a run will take, before it starts; framed where it does not fit."""
    if found.fits is False:
        return notice("This run needs more memory than there is", [found.words()], tone="fair")
    return page_html(escape(f"Plan: {found.words()}"), "ls-hint")


def curves(history: JobHistory, result: Mapping[str, Any] | None) -> str:
    """Return the loss curve and the likeness curve, each as soon as it has something to show."""
    charts = []
    if len(history.loss) > 1:
        charts.append(_loss_chart(sorted(history.loss.items())))
    if history.likeness:
        best = result.get("best_step") if result else None
        charts.append(_likeness_chart(sorted(history.likeness.items()), best, max(history.loss, default=0)))
    return page_html("".join(charts), "ls-charts")


def _line(points: Sequence[tuple[float, float]], style: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" vector-effect="non-scaling-stroke" style="{style}"/>'


def _chart(title: str, now: str, body: str, low: str, high: str, label: str) -> str:
    return (
        f'<div class="ls-chart"><div class="ls-row"><b>{title}</b><span>{now}</span></div>'
        f'<svg viewBox="0 0 400 132" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        '<line x1="0" x2="400" y1="131" y2="131" vector-effect="non-scaling-stroke" style="stroke:var(--ls-line)"/>'
        f'{body}</svg><div class="ls-row ls-axis"><span>{low}</span><span>{high}</span></div></div>'
    )


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the mean of each value and its neighbours; the window is a twelfth of the curve."""
    reach = max(1, len(values) // 24)
    sums = [0.0, *accumulate(values)]
    spans = [(max(0, index - reach), min(len(values), index + reach + 1)) for index in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in spans]


def _loss_chart(curve: Sequence[tuple[int, float]]) -> str:
    stride = max(1, len(curve) // 400)
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
    body = _line(raw, "stroke:var(--primary-400);stroke-width:1;opacity:.28")
    body += _line(mean, "stroke:var(--primary-500);stroke-width:2.2")
    last = f"Loss, smoothed: {smooth[-1]:.4g} at step {steps[-1]}"
    return _chart("Loss", f"{smooth[-1]:.3g}", body, f"step {steps[0]:,}", f"{steps[-1]:,}", last)


def _likeness_chart(curve: Sequence[tuple[int, float]], best: int | None, last_step: int) -> str:
    first, last = curve[0][0], max(curve[-1][0], last_step)
    length = (last - first) or 1

    def at(step: int, value: float) -> tuple[float, float]:
        return 400 * (step - first) / length, 126 - 120 * max(0.0, min(1.0, value))

    points = [at(step, value) for step, value in curve]
    body = "".join(
        f'<line x1="0" x2="400" y1="{y}" y2="{y}" vector-effect="non-scaling-stroke" '
        'style="stroke:var(--ls-line);stroke-dasharray:2 5"/>'
        for y in (6, 66)
    )
    body += _line(points, "stroke:var(--ls-good);stroke-width:2.2")
    for (step, _), (x, y) in zip(curve, points, strict=True):
        # A zero-length line with round caps stays a circle although the chart is stretched.
        width = 13 if step == best else 7
        body += (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}" vector-effect="non-scaling-stroke" '
            f'style="stroke:var(--ls-good);stroke-width:{width};stroke-linecap:round"/>'
        )
    by_step = dict(curve)
    now = f"best {likeness_text(by_step[best])}" if best in by_step else likeness_text(curve[-1][1])
    words = "Likeness by step: " + ", ".join(f"{step}: {likeness_text(value)}" for step, value in curve)
    return _chart("Likeness", now, body, f"step {first:,}", f"{last:,}", words)


def samples(history: JobHistory, url: Url, best_step: int | None = None) -> str:
    """Return the sample pictures, newest checkpoint first, each row with its likeness."""
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for sample in history.samples.values():
        by_step.setdefault(int(sample["step"]), []).append(sample)
    rows = []
    for step in sorted(by_step, reverse=True)[:_SAMPLES_SHOWN]:
        scores = [sample["likeness"] for sample in by_step[step] if sample.get("likeness") is not None]
        likeness = history.likeness.get(step, sum(scores) / len(scores) if scores else None)
        title = "Before training" if step == 0 else f"Step {step:,}"
        if likeness is not None:
            title += f" · likeness {likeness_text(likeness)}"
        if step == best_step:
            title += " · kept"
        pictures = "".join(_sample(sample, url) for sample in by_step[step])
        rows.append(f'<h3>{title}</h3><div class="ls-samples">{pictures}</div>')
    return page_html("".join(rows))


def _sample(sample: Mapping[str, Any], url: Url) -> str:
    link = url(sample["path"])
    if link is None:
        return "<span></span>"
    prompt = escape(str(sample.get("prompt", "")))
    return f'<a href="{escape(link)}" target="_blank" title="{prompt}"><img src="{escape(link)}" alt="{prompt}"></a>'


def train_result(job: JobView, url: Url) -> str:
    """Return what a finished run achieved, and its file."""
    result = job.result or {}
    before, after = result.get("likeness_before"), result.get("likeness_after")
    if after is None:
        title, text = "Training is finished", "Likeness could not be measured for this subject; judge by the pictures."
    else:
        title = f"Likeness {likeness_text(after)}"
        text = _judgement(after)
        if before is not None:
            text = f"It was {likeness_text(before)} before training. {text}"
    text += f" Best checkpoint: step {result.get('best_step', 0):,} of {result.get('steps', 0):,},"
    text += f" after {duration_text(result.get('seconds') or 0)}."
    links = ""
    if (adapter := url("adapter/pytorch_lora_weights.safetensors")) is not None:
        links = f'<p class="ls-links"><a class="ls-button" href="{escape(adapter)}" download>Download the LoRA</a></p>'
    return page_html(f'<div class="ls-card"><div class="ls-big">{title}</div><p>{escape(text)}</p>{links}</div>')


def _judgement(likeness: float) -> str:
    """Say what a likeness on the calibrated scale means (0 = someone else, 1 = a photo of the subject)."""
    if likeness >= 0.7:
        return "The pictures clearly show the subject."
    if likeness >= 0.4:
        return "The pictures resemble the subject; more or better photos, or more steps, would help."
    return "The pictures hardly show the subject yet; try more steps or better photos."
