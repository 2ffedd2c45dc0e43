"""The results of verbs as tables on a terminal."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from studio.cli.shown import before_and_after, likeness_sentence, likeness_text
from studio.core.domain import (
    Dataset,
    Event,
    ExportResult,
    FinishResult,
    GenerateResult,
    JobFacts,
    PublishResult,
    TrainResult,
    plain,
)
from studio.core.job_words import place_of, work_of
from studio.core.language import retell, say
from studio.core.units import bytes_text


def new_table(*columns: str, names: bool = False) -> Table:
    """Return an empty table, with its columns' English names said in the language that is spoken.

    Args:
        columns: their names.
        names: the first column holds names to type again, which are never broken.
    """
    table = Table(header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(say(column), overflow="fold", no_wrap=names and index == 0)
    return table


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of a list."""

    name: str
    """To type again; never broken."""
    facts: str
    description: str


def show_entries(entries: Sequence[Entry]) -> Callable[[Console], None]:
    """Return what prints a list of things to choose from: the name, and below it the rest, as wide as the terminal.

    No table: beside a long name and its numbers, 80 columns leave ten to a sentence.
    """

    def show(console: Console) -> None:
        for entry in entries:
            console.print(Text(entry.name, style="bold"), soft_wrap=True)
            for line, style in ((entry.description, ""), (entry.facts, "dim")):
                console.print(Padding(Text(line, style=style), (0, 0, 0, 4), expand=False))

    return show


def _show_caveat(console: Console, summary: Mapping[str, Any] | None) -> None:
    """Say for whom the engine's scores are worse, where they have decided something."""
    if summary and summary.get("caveat"):
        console.print(say(summary["caveat"]), style="dim")


def _told(problem: Mapping[str, str]) -> str:
    return f"{retell(problem['message'])}; {retell(problem['cure'])}."


def capital(text: str) -> str:
    """Return a text with a capital at its beginning; the others stay, which German needs."""
    return text[:1].upper() + text[1:]


_STATUS_STYLE = {"good": "green", "usable": "yellow", "rejected": "red"}


def show_dataset(dataset: Dataset, out: Path) -> Callable[[Console], None]:
    """Return what prints the verdict on each photo."""

    def show(console: Console) -> None:
        table = new_table("photo", "verdict", "likeness", "what to do")
        for verdict in dataset.verdicts:
            told = [_told(problem) for problem in verdict.problems]
            advice = "\n".join([*told, *(f"{retell(note)}." for note in verdict.notes)])
            table.add_row(
                Text(verdict.name),
                Text(say(verdict.status), style=_STATUS_STYLE[verdict.status]),
                likeness_text(verdict.likeness),
                Text(advice),
            )
        console.print(table)
        for problem in dataset.set_problems:
            console.print(say("The set: {problem}").format(problem=_told(problem)), style="yellow")
        for found in dataset.advice:
            console.print(say("Advice: {problem}").format(problem=_told(found)))
        if dataset.likeness_summary:
            alike = likeness_sentence(dataset.likeness_summary, "photos")
            console.print(say("The photos among themselves: {likeness}").format(likeness=alike))
            _show_caveat(console, dataset.likeness_summary)
        ready = say("{count} of {total} photos are ready in {out}")
        console.print(ready.format(count=len(dataset.photos), total=len(dataset.verdicts), out=out))

    return show


def show_run(result: TrainResult, out: Path) -> Callable[[Console], None]:
    """Return what prints the checkpoints of a run and their scores."""

    def show(console: Console) -> None:
        if result.checkpoints:
            table = new_table("step", "likeness", "bleed", "validation loss")
            for row in result.checkpoints:
                best = row.get("step") == result.best_step
                loss = row.get("val_loss")
                table.add_row(
                    say("{step} (best)").format(step=row.get("step")) if best else str(row.get("step")),
                    likeness_text(row.get("likeness")),
                    likeness_text(row.get("bleed")),
                    "-" if loss is None else f"{loss:.4f}",
                    style="green" if best else None,
                )
            console.print(table)
        told = say("Best: step {step} of {steps} ({reason})")
        console.print(told.format(step=result.best_step, steps=result.steps, reason=retell(result.best_reason)))
        console.print(before_and_after(plain(result)))
        console.print(say("The adapter is in {place}").format(place=out / result.adapter))

    return show


def show_pictures(result: GenerateResult, out: Path) -> Callable[[Console], None]:
    """Return what prints the generated pictures, best first."""

    def show(console: Console) -> None:
        table = new_table("rank", "likeness", "picture", "prompt")
        for image in sorted(result.images, key=lambda image: (not image.rank, image.rank)):
            table.add_row(str(image.rank or "-"), likeness_text(image.likeness), Text(image.file), Text(image.prompt))
        console.print(table)
        if result.likeness_summary:
            console.print(capital(likeness_sentence(result.likeness_summary)))
            _show_caveat(console, result.likeness_summary)
        if result.left_out:
            twins = sum(image.duplicate_of is not None for image in result.left_out)
            told = say(
                "Kept {count} of {total} pictures: mean likeness {kept} instead of {made}; {twins} of the others "
                "nearly repeat a better one; all of them are in {place}"
            )
            console.print(
                told.format(
                    count=len(result.images),
                    total=len(result.images) + len(result.left_out),
                    kept=likeness_text(result.likeness_mean),
                    made=likeness_text(result.likeness_mean_made),
                    twins=twins,
                    place=out / "left_out",
                )
            )
        if result.from_cache:
            told = say("{count} pictures were made before and came from the result cache")
            console.print(told.format(count=result.from_cache))
        told = say("{count} pictures in {out}; contact sheet: {sheet}")
        console.print(told.format(count=len(result.images), out=out, sheet=out / result.contact_sheet))

    return show


def show_count(files: int, out: Path) -> Callable[[Console], None]:
    """Return what prints how many files lie in a folder."""
    return lambda console: console.print(say("{count} files in {out}").format(count=files, out=out))


def show_export(result: ExportResult, out: Path) -> Callable[[Console], None]:
    """Return what prints the files of an export and its certificate."""

    def show(console: Console) -> None:
        for file in result.files:
            console.print(str(out / file))
        told = say(
            "{size}, read back by plain diffusers in a fresh process; its pictures differ from the trained model's by "
            "at most {difference} of 255"
        )
        console.print(told.format(size=bytes_text(result.bytes), difference=result.difference_max))

    return show


def show_finished(result: FinishResult, out: Path) -> Callable[[Console], None]:
    """Return what prints the finished pictures and those that failed."""

    def show(console: Console) -> None:
        table = new_table("picture", "from", "pixels", "size", "worth knowing")
        for picture in result.pictures:
            size = f"{picture.size_hw[1]} x {picture.size_hw[0]}"
            notes = Text("\n".join(map(retell, picture.notes)))
            table.add_row(Text(picture.file), Text(picture.source), size, bytes_text(picture.size_bytes), notes)
        console.print(table)
        for problem in result.failed:
            console.print(f"{problem['where']}: {_told(problem)}", style="red")
        count = len(result.pictures)
        total = count + len({row["where"] for row in result.failed})
        console.print(say("{count} of {total} pictures are in {out}").format(count=count, total=total, out=out))

    return show


def show_published(result: PublishResult, out: Path) -> Callable[[Console], None]:
    """Return what prints where a run was published."""

    def show(console: Console) -> None:
        for file in result.files:
            console.print(file)
        size = say("{count} files, {size}, licence {licence}").format(
            count=len(result.files), size=bytes_text(result.bytes), licence=result.licence
        )
        if result.commit is None:
            told = say("{files}: what would be published is in {place}; run it without --dry-run to do it")
            console.print(told.format(files=size, place=out / "repo"))
        else:
            seen = say("everybody" if result.public else "you and those you allow")
            told = say("{files}: published at {url} for {seen}, commit {commit}")
            console.print(told.format(files=size, url=result.url, seen=seen, commit=result.commit))

    return show


def jobs_table(rows: Sequence[Mapping[str, Any]]) -> Table | str:
    """Return a table of jobs, as ``list`` shows them, or the words that there are none."""
    if not rows:
        return say("There are no jobs yet.")
    table = new_table("job", "state", "title", names=True)
    for row in rows:
        place = place_of(row.get("place"), row.get("starts_in_s"))
        table.add_row(row["id"], row["state"], Text(f"{row['title']} ({place})" if place else row["title"]))
    return table


def job_words(view: Mapping[str, Any]) -> str:
    """Return one line on how a job stands."""
    progress = view["progress"]
    done = say(", {step} of {total}").format(**progress) if progress.get("total") else ""
    cause = f": {retell(view['cause'])}" if view["cause"] else ""
    source = view.get("waits_for")
    waits = ""
    if source:
        waits = say(", waits for {work}").format(work=work_of(source["kind"], JobFacts.from_json(view["facts"])))
    place = place_of(view.get("place"), view.get("starts_in_s"))
    place = f", {place}" if place else ""
    stands = say("{id} ({title}) is {state}").format(id=view["id"], title=view["title"], state=view["state"])
    return f"{stands}{waits}{place}{done}{cause}"


def job_details(view: Mapping[str, Any]) -> str:
    """Return all that a person wants to know of one job, a line for each thing."""
    times = [
        (say("Submitted {time}"), "created_s"),
        (say("started {time}"), "started_s"),
        (say("ended {time}"), "finished_s"),
    ]
    told = [words.format(time=_time_text(view[name])) for words, name in times if view[name] is not None]
    lines = [job_words(view), ", ".join(told)]
    if view["attempt"]:
        lines.append(say("Attempts so far: {count}").format(count=view["attempt"]))
    lines += [f"{problem['where']}: {problem['message']}; {problem['cure']}" for problem in view["problems"]]
    if view["source"]:
        lines.append(say("It reads {job}.").format(job=view["source"]))
    if view.get("folder"):
        lines.append(say("Its files are in {folder}").format(folder=view["folder"]))
    return "\n".join(lines)


def event_line(seq: int, event: Event) -> str:
    """Return one line on an event."""
    data = event.data
    if event.kind == "message":
        words = f"{data.get('level', 'info')}: {data.get('text', '')}"
    elif event.kind == "progress":
        words = say("{step} of {total}").format(step=data.get("step"), total=data.get("total") or "?")
        words = f"{words} {data.get('message') or ''}"
    elif event.kind == "stage":
        words = str(data.get("message") or data.get("name", ""))
    else:
        words = json.dumps(plain(data), ensure_ascii=False)
    return f"{seq:5} {event.kind:9} {words}".rstrip()


def _time_text(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
