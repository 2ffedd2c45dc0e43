"""Pieces of the page as HTML strings: pure functions of records, every foreign word escaped.

``url`` arguments turn a path below a job's output folder into a link, or into None if the file is not there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Any

from studio.catalog import BaseSpec
from studio.domain import JobView
from studio.errors import StudioError
from studio.fit import FitPlan
from studio.packs import Pack, Shot, subject_kind
from studio.presets import Chain, TrainPreset
from studio.ui.actions import is_open
from studio.ui.story import Story

Url = Callable[[str], str | None]

_STATES = {
    "pending": "Waiting for its turn",
    "pendingGpu": "Waiting for a free device",
    "pendingImages": "Reading the photos",
    "pendingModel": "Loading the base model",
    "checking": "Looking at the photos",
    "training": "Training",
    "generating": "Making pictures",
    "exporting": "Exporting",
    "finishing": "Finishing pictures",
    "publishing": "Publishing",
    "completed": "Finished",
    "stalled": "Stopped early",
    "cancelled": "Cancelled",
}
_MARKS = {"good": "Good", "usable": "Usable", "rejected": "Left out"}
_SAMPLES_SHOWN = 6


def _page(inner: str, classes: str = "") -> str:
    return f'<div class="ls {classes}">{inner}</div>' if inner else ""


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _problem(problem: Mapping[str, str]) -> str:
    return f"{escape(_sentence(problem['message']))} {escape(_sentence(problem['cure']))}"


def header() -> str:
    """Return the top of the page."""
    return _page(
        '<div class="ls-head"><h1>Likeness Studio</h1><span>A few photos in, a portrait series out.</span></div>'
    )


def log_in() -> str:
    """Return what those are told who are not logged in."""
    lines = [
        "With your Hugging Face account: your photos, runs and pictures are then yours alone.",
        "Without it you can look around, and nothing is stored.",
    ]
    return notice("Log in to begin", lines)


def footer() -> str:
    """Return the bottom of the page."""
    return _page('<div class="ls-foot">Photos and pictures stay on the machine that runs this studio.</div>')


def empty(title: str, lines: Sequence[str], *, lead: str = "") -> str:
    """Return what a tab shows before anything has happened."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    start = f"<p>{escape(lead)}</p>" if lead else ""
    return _page(f'<div class="ls-empty"><h2>{escape(title)}</h2>{start}<ul>{items}</ul></div>')


def fold(title: str) -> str:
    """The head of a folded part of a form; the style sheet hides the next part while it says that it is closed."""
    toggle = "this.setAttribute('aria-expanded', this.getAttribute('aria-expanded') !== 'true')"
    return _page(f'<button type="button" aria-expanded="false" onclick="{toggle}">{escape(title)}</button>')


def notice(title: str, lines: Iterable[str] = (), *, tone: str = "fair") -> str:
    """Return a message box; ``tone`` is good, fair or bad."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    body = f"<ul>{items}</ul>" if items else ""
    return _page(f'<div class="ls-notice {escape(tone)}" role="alert"><b>{escape(title)}</b>{body}</div>')


def error(caught: StudioError, labels: Mapping[str, str] | None = None) -> str:
    """Return an error with all its problems; ``labels`` say what the form calls a setting."""
    if caught.problems:
        count = len(caught.problems)
        title = "One thing to change" if count == 1 else f"{count} things to change"
        names = labels or {}
        lines = [f"{names.get(row.where, row.where)}: {row.message}; {row.cure}." for row in caught.problems]
        return notice(title, lines, tone="bad")
    return notice(_sentence(str(caught)), tone="bad")


def duration(seconds: float) -> str:
    """Return a rough length of time in words."""
    if seconds < 50:
        return f"{max(5, round(seconds / 5) * 5)} s"
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"


def progress(job: JobView, story: Story) -> str:
    """Return where a job stands: state in words, bar, step, remaining time; its cause if it stopped."""
    state = _STATES[job.state]
    if not is_open(job):
        return _stopped(job) if job.state != "completed" else ""
    done = job.progress or {}
    step, total, eta_s = done.get("step"), done.get("total"), done.get("eta_s")
    detail, share = "", None
    if total:
        share = min(1.0, (step or 0) / total)
        what = {"check": "photo", "train": "step", "export": "file", "publish": "file"}.get(job.kind, "picture")
        detail = f"{what.capitalize()} {step or 0:,} of {total:,}"
        if eta_s is not None:
            detail += f" · about {duration(eta_s)} left"
    stage = story.stage if job.state not in ("pending", "pendingGpu") else ""
    bar = '<div class="ls-bar waiting"><i></i></div>'
    if share is not None:
        bar = f'<div class="ls-bar"><i style="width:{share * 100:.1f}%"></i></div>'
    right = f"{share * 100:.0f} %" if share is not None else ""
    return _page(
        f'<div class="ls-card" data-state="{job.state}"><div class="ls-row"><h2>{escape(state)}</h2>'
        f'<span class="ls-soft">{right}</span></div>{bar}'
        f'<div class="ls-row ls-soft"><span>{escape(detail or stage)}</span>'
        f"<span>{escape(stage if detail and stage.lower() != state.lower() else '')}</span></div></div>"
    )


def _stopped(job: JobView) -> str:
    if job.state == "cancelled":
        return notice("Cancelled. What was done so far is kept.")
    lines = [f"{problem.get('where', '')}: {_plain(problem)}".lstrip(": ") for problem in job.problems]
    causes = [line for line in (job.cause or "").splitlines() if line.strip()]
    if lines or len(causes) > 1:
        return notice("This could not be finished", lines or causes, tone="bad")
    return notice(_sentence(job.cause or "This could not be finished"), tone="bad")


def _plain(problem: Mapping[str, str]) -> str:
    return f"{_sentence(problem['message'])} {_sentence(problem['cure'])}"


# Photos


def verdict_cards(verdicts: Iterable[Mapping[str, Any]], url: Url) -> str:
    """Return one card per photo: crop, mark, likeness to the others, and what to do about each problem."""
    return _page("".join(_verdict_card(verdict, url) for verdict in verdicts), "ls-cards")


def _verdict_card(verdict: Mapping[str, Any], url: Url) -> str:
    status, name = verdict["status"], str(verdict["name"])
    link = url(verdict["preview"]) if verdict.get("preview") else None
    picture = f'<img src="{escape(link)}" alt="{escape(name)}">' if link else "no preview"
    likeness = verdict.get("likeness")
    like = ""
    if likeness is not None:
        width = max(0.0, min(1.0, likeness)) * 100
        like = (
            f'<div class="ls-soft">Like the others: {likeness:.2f}</div>'
            f'<div class="ls-meter"><i style="width:{width:.0f}%"></i></div>'
        )
    problems = "".join(f'<p class="ls-problem">{_problem(problem)}</p>' for problem in verdict["problems"])
    return (
        f'<div class="ls-photo {status}"><div class="ls-frame">{picture}<span class="ls-mark">{_MARKS[status]}</span>'
        f'</div><div class="ls-words"><span class="ls-name" title="{escape(name)}">{escape(name)}</span>'
        f"{like}{problems}</div></div>"
    )


def check_summary(dataset: Mapping[str, Any]) -> str:
    """Return the verdict on the whole set and what to do next."""
    verdicts = dataset["verdicts"]
    ready = len(dataset["photos"])
    left_out = sum(verdict["status"] == "rejected" for verdict in verdicts)
    subject = escape(str(dataset["subject"]))
    if not ready:
        title, text = "None of these photos can be used", "The cards say why; add others and check again."
    elif dataset["set_problems"]:
        title = f"{ready} of {len(verdicts)} photos of {subject} are ready"
        text = "You can train with them; the points below would make the result better."
    else:
        title = (
            f"{ready} of {len(verdicts)} photos of {subject} are ready" if left_out else f"All {ready} photos are ready"
        )
        text = "This is a good set. Go on to training."
    likenesses = [verdict["likeness"] for verdict in verdicts if verdict.get("likeness") is not None]
    if likenesses:
        text += (
            f" Likeness between the photos: {sum(likenesses) / len(likenesses):.2f} on average (1 = the same subject)."
        )
    problems = "".join(f"<li>{_problem(problem)}</li>" for problem in dataset["set_problems"])
    tone = "bad" if not ready else "fair" if problems else "good"
    listing = f"<ul>{problems}</ul>" if problems else ""
    return _page(f'<div class="ls-notice {tone}"><h2>{title}</h2><span>{escape(text)}</span>{listing}</div>')


# Training


def base_hint(spec: BaseSpec) -> str:
    """Return what a base is and what it needs."""
    need = f"Needs a GPU with {spec.vram_gb:g} GB." if spec.vram_gb else "Runs on any processor."
    return _page(escape(f"{spec.description} {need} Licence: {spec.licence}."), "ls-hint")


def preset_hint(preset: TrainPreset | None) -> str:
    """Return what a preset is for."""
    return _page(escape(preset.description) if preset else "There is no preset for this base yet.", "ls-hint")


def plan(found: FitPlan) -> str:
    """Return what a run will take, before it starts; framed where it does not fit."""
    if found.fits is False:
        return notice("This run needs more memory than there is", [found.words()], tone="fair")
    return _page(escape(f"Plan: {found.words()}"), "ls-hint")


def curves(story: Story, result: Mapping[str, Any] | None) -> str:
    """Return the loss curve and the likeness curve, each as soon as it has something to show."""
    charts = []
    if len(story.loss) > 1:
        charts.append(_loss_chart(sorted(story.loss.items())))
    if story.likeness:
        best = result.get("best_step") if result else None
        charts.append(_likeness_chart(sorted(story.likeness.items()), best, max(story.loss, default=0)))
    return _page("".join(charts), "ls-charts")


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
    now = f"best {dict(curve)[best]:.2f}" if best is not None and best in dict(curve) else f"{curve[-1][1]:.2f}"
    words = "Likeness by step: " + ", ".join(f"{step}: {value:.2f}" for step, value in curve)
    return _chart("Likeness", now, body, f"step {first:,}", f"{last:,}", words)


def samples(story: Story, url: Url, best_step: int | None = None) -> str:
    """Return the sample pictures, newest checkpoint first, each row with its likeness."""
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for sample in story.samples.values():
        by_step.setdefault(int(sample["step"]), []).append(sample)
    rows = []
    for step in sorted(by_step, reverse=True)[:_SAMPLES_SHOWN]:
        scores = [sample["likeness"] for sample in by_step[step] if sample.get("likeness") is not None]
        likeness = story.likeness.get(step, sum(scores) / len(scores) if scores else None)
        title = "Before training" if step == 0 else f"Step {step:,}"
        if likeness is not None:
            title += f" · likeness {likeness:.2f}"
        if step == best_step:
            title += " · kept"
        pictures = "".join(_sample(sample, url) for sample in by_step[step])
        rows.append(f'<h3>{title}</h3><div class="ls-samples">{pictures}</div>')
    return _page("".join(rows))


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
        title = f"Likeness {after:.2f}"
        text = _judgement(after)
        if before is not None:
            text = f"It was {before:.2f} before training. {text}"
    text += f" Best checkpoint: step {result.get('best_step', 0):,} of {result.get('steps', 0):,},"
    text += f" after {duration(result.get('seconds') or 0)}."
    links = ""
    if (adapter := url("adapter/pytorch_lora_weights.safetensors")) is not None:
        links = f'<p class="ls-links"><a class="ls-button" href="{escape(adapter)}" download>Download the LoRA</a></p>'
    return _page(f'<div class="ls-card"><div class="ls-big">{title}</div><p>{escape(text)}</p>{links}</div>')


def _judgement(likeness: float) -> str:
    """Say what a likeness on the calibrated scale means (0 = someone else, 1 = a photo of the subject)."""
    if likeness >= 0.7:
        return "The pictures clearly show the subject."
    if likeness >= 0.4:
        return "The pictures resemble the subject; more or better photos, or more steps, would help."
    return "The pictures hardly show the subject yet; try more steps or better photos."


# Generating


def pack_preview(
    pack: Pack | None, subject: str, class_noun: str = "person", pictures: Mapping[str, str] | None = None
) -> str:
    """Return a pack's card: what it is about, the shots that show it best, and all of them in plain words.

    Args:
        pack: the pack; None where none fits.
        subject: name of the subject.
        class_noun: what the subject is; chooses the prompts.
        pictures: name of a shot -> link of a picture that was made of it before.
    """
    if pack is None:
        return _page("No pack fits this run; write prompts of your own.", "ls-hint")
    colours = pack.preview.colours or ("#d6d1ca",)
    bands = ", ".join(f"{colour} {i * 100 // len(colours)}% {(i + 1) * 100 // len(colours)}%"
                      for i, colour in enumerate(colours))  # fmt: skip
    said = {shot.name: escape(_said(pack, shot, subject, class_noun)) for shot in pack.shots}
    shown = "".join(_shot_tile(shot, said[shot.name], (pictures or {}).get(shot.name)) for shot in pack.previewed())
    shots = "".join(f"<li><b>{escape(shot.title)}</b> {said[shot.name]}</li>" for shot in pack.shots)
    by = " · ".join(escape(part) for part in (f"{len(pack.shots)} shots", pack.licence, pack.author) if part)
    return _page(
        f'<div class="ls-pack"><i style="background:linear-gradient(90deg, {bands})"></i>'
        f'<p class="ls-hint">{escape(pack.description)}</p><div class="ls-tiles">{shown}</div>'
        f'<details><summary class="ls-hint">{by}</summary><ul class="ls-shots">{shots}</ul></details></div>'
    )


def _shot_tile(shot: Shot, said: str, link: str | None) -> str:
    title = escape(shot.title)
    picture = f'<img src="{escape(link)}" alt="{title}">' if link else ""
    return f'<span title="{said}">{picture}<em>{title}</em></span>'


def _said(pack: Pack, shot: Shot, subject: str, class_noun: str) -> str:
    """Return a shot's prompt for a reader: the subject by name, and of each wildcard the first word."""
    text = shot.prompt_for(subject_kind(class_noun))
    for name, words in pack.wildcards.items():
        text = text.replace("{" + name + "}", f"{words[0]} …")
    return text.replace("{subject}", subject).replace("{instance_token}", subject).replace("{class_noun}", class_noun)


def picture_order(story: Story, result: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the pictures, best first; the final ranks once there are some."""
    images = list(result["images"]) if result else list(story.images.values())
    if result and all(image.get("rank") for image in images):
        return sorted(images, key=lambda image: image["rank"])
    return sorted(images, key=lambda image: -1.0 if image.get("likeness") is None else image["likeness"], reverse=True)


def picture_caption(image: Mapping[str, Any]) -> str:
    """Return the words under one picture: its likeness, its shot."""
    shot = str(image.get("shot", "")).replace("-", " ").replace("_", " ")
    likeness = image.get("likeness")
    return " · ".join(part for part in (f"{likeness:.2f}" if likeness is not None else "", shot) if part)


def generate_result(job: JobView, url: Url) -> str:
    """Return the downloads of finished pictures."""
    result = job.result or {}
    count, mean = len(result.get("images", ())), result.get("likeness_mean")
    title = f"{count} picture{'s' if count != 1 else ''}"
    text = f"Average likeness {mean:.2f}; the most alike come first." if mean is not None else "Ready to download."
    if left_out := result.get("left_out"):
        text += f" {len(left_out)} others were left out"
        if mean is not None and (before := result.get("likeness_mean_made")) is not None:
            text += f"; the average of all was {before:.2f}"
        text += "."
    if served := result.get("from_cache"):
        text += f" {served} had been made before."
    links = ""
    for name, words, extra in (
        (result.get("archive"), "Download all (zip)", "ls-first"),
        (result.get("contact_sheet"), "Contact sheet", ""),
    ):
        if name and (link := url(name)) is not None:
            links += f'<a class="ls-button {extra}" href="{escape(link)}" download>{words}</a>'
    links = f'<p class="ls-links">{links}</p>'
    return _page(f'<div class="ls-card"><h2>{title}</h2><p class="ls-soft">{escape(text)}</p>{links}</div>')


def warnings(story: Story) -> str:
    """Return what the verb wanted the user to know."""
    return notice("Worth knowing", story.warnings) if story.warnings else ""


# Finishing


def chain_hint(chain: Chain | None) -> str:
    """Return what a chain makes, and its steps in words."""
    if chain is None:
        return ""
    steps = " → ".join(_STEPS_IN_WORDS[step.do] for step in chain.steps)
    return _page(f"{escape(chain.description)} <br>{escape(steps)}", "ls-hint")


_STEPS_IN_WORDS = {
    "cutout": "cut out",
    "background": "background",
    "upscale": "enlarge",
    "face": "restore faces",
    "fit": "fit size and bytes",
}


def finished_caption(picture: Mapping[str, Any]) -> str:
    """Return the words under one finished picture."""
    height, width = picture["size_hw"]
    quality = f" · quality {picture['quality']}" if picture.get("quality") is not None else ""
    return f"{picture['source']} · {width} x {height} · {_bytes(picture['size_bytes'])}{quality}"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"


def publish_result(job: JobView) -> str:
    """Return where something was published, or that this is only what would be."""
    result = job.result or {}
    count = len(result.get("files", ()))
    facts = f"{count} files, {_bytes(result.get('bytes', 0))}, licence {result.get('licence')}."
    commit, url = result.get("commit"), str(result.get("url", ""))
    if commit is None:
        head, text = "What would be published", f"{facts} Nothing was sent."
    else:
        seen = "everybody may see it" if result.get("public") else "only you and those you allow may see it"
        head, text = f"Published: {result.get('repo')}", f"{facts} Commit {commit}; {seen}."
    link = ""
    if commit is not None and url.startswith(("https://", "http://")):
        link = f'<a class="ls-button ls-first" href="{escape(url)}" target="_blank" rel="noopener">Open on the Hub</a>'
    words = f'<h2>{escape(head)}</h2><p class="ls-soft">{escape(text)}</p><p class="ls-links">{link}</p>'
    warned = list(result.get("warnings", ()))
    return _page(f'<div class="ls-card">{words}</div>') + (notice("Worth knowing", warned) if warned else "")


def then_published(run: JobView, job: JobView | None) -> str:
    """Return one line on the job that publishes a run; empty if there is none."""
    if job is None or job.state == "cancelled":
        return ""
    repo = job.title.partition(": ")[2]
    if job.state == "completed":
        commit = (job.result or {}).get("commit")
        words = f"Published: {repo}, commit {commit}." if commit else f"What would be published as {repo} is ready."
    elif run.state in ("stalled", "cancelled"):
        words = f"Not published as {repo}: the run has to be finished first."
    elif job.state == "stalled":
        words = f"Not published as {repo}: {job.cause}"
    elif job.state == "pendingImages":
        words = f"It is published as {repo} when it is done."
    else:
        words = f"Publishing {repo}."
    return _page(f'<p class="ls-soft" data-published="{escape(job.state)}">{escape(words)}</p>')


def card_text(readme: str) -> str:
    """Return the text of a model card without its front matter and the Hub's own tags, for a preview."""
    body = readme.split("\n---\n", 1)[-1] if readme.startswith("---\n") else readme
    return body.replace("<Gallery />", "").strip()


def finish_result(job: JobView, url: Url) -> str:
    """Return the downloads of finished pictures, what is to be known about them, and those that failed."""
    result = job.result or {}
    pictures, failed = result.get("pictures", ()), result.get("failed", ())
    count = len(pictures)
    title = f"{count} picture{'s' if count != 1 else ''} finished"
    text = (
        f"{_bytes(sum(picture['size_bytes'] for picture in pictures))} in all." if pictures else "The sheet is ready."
    )
    links = ""
    for name, words, extra in (
        (result.get("archive"), "Download all (zip)", "ls-first"),
        (result.get("contact_sheet"), "Contact sheet", ""),
    ):
        if name and (link := url(name)) is not None:
            links += f'<a class="ls-button {extra}" href="{escape(link)}" download>{words}</a>'
    words = f'<h2>{title}</h2><p class="ls-soft">{escape(text)}</p><p class="ls-links">{links}</p>'
    card = _page(f'<div class="ls-card">{words}</div>')
    lines = [f"{problem['where']}: {_plain(problem)}" for problem in failed]
    card += notice(f"{len(lines)} could not be finished", lines, tone="bad") if lines else ""
    notes = [f"{picture['source']}: {note}." for picture in pictures for note in picture["notes"]]
    return card + (notice("Worth knowing", notes) if notes else "")
