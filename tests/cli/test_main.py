"""The command line: arguments become configs, events become lines, errors become sentences."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import typer

from studio.cli import common, main, verbs
from studio.core import language
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import (
    Dataset,
    Event,
    ExportResult,
    FinishedPicture,
    FinishResult,
    GenerateResult,
    Image,
    OnEvent,
    Photo,
    PublishResult,
    ShouldStop,
    TrainResult,
    Verdict,
)
from studio.core.errors import ConflictError, InputError, JobCancelled, Problem
from studio.core.finish_config import FinishConfig
from studio.core.fit import FitPlan, MeasuredRun, plan_of
from studio.core.records import from_dict, to_dict
from studio.core.settings import Settings
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig

COMMANDS = (
    "demo", "check", "train", "generate", "export", "publish", "unpublish", "finish", "chains", "presets", "packs",
    "bases", "settings", "doctor", "serve", "forget",
)  # fmt: skip

TRAINED = TrainResult(
    adapter="adapter",
    best_step=200,
    best_reason="highest likeness",
    steps=300,
    seconds=12.0,
    likeness_before=0.05,
    likeness_after=0.83,
    bleed=0.02,
    likeness_engine="pocket",
    checkpoints=({"step": 100, "likeness": 0.4, "bleed": 0.0, "val_loss": 0.5}, {"step": 200, "likeness": 0.83}),
)


@dataclass
class FakeStudio:
    """Stands in for the service: remembers what was asked, tells a few events, writes what verbs write."""

    calls: list[tuple[str, StrictModel, Path, Path]] = field(default_factory=list)
    before_return: Callable[[ShouldStop], None] = lambda should_stop: None

    def __call__(self, settings: Settings) -> "FakeStudio":
        return self

    def run(
        self,
        verb: str,
        config: StrictModel,
        source: Path,
        out: Path,
        *,
        on_event: OnEvent,
        should_stop: ShouldStop,
    ) -> Any:
        self.calls.append((verb, config, source, out))
        on_event(Event("stage", {"name": "working", "message": "Working hard"}))
        on_event(Event("progress", {"step": 1, "total": 2, "eta_s": 75.0, "message": "working"}))
        on_event(Event("metrics", {"step": 1, "loss": float("nan"), "likeness": 0.5}))
        on_event(Event("message", {"level": "warning", "text": "mind the [gap]"}))
        self.before_return(should_stop)
        out.mkdir(parents=True, exist_ok=True)
        return getattr(self, f"_{verb}")(config, source, out)

    def measure_plan(self, config: TrainConfig, dataset_dir: Path, *, on_event: OnEvent) -> FitPlan:
        self.calls.append(("plan", config, dataset_dir, dataset_dir))
        measured = MeasuredRun("cpu", 1.0, step_s=0.5, picture_s=1.0, peak_bytes=2**30, adapter_bytes=8, resume_bytes=9)
        return plan_of(config, 8, measured, room_bytes=2**31)

    def _check(self, config: CheckConfig, source: Path, out: Path) -> Dataset:
        names = sorted(path.name for path in source.iterdir())
        dataset = Dataset(
            subject=config.subject,
            class_noun=config.class_noun,
            photos=tuple(Photo(f"photos/{name}", name, "", (64, 64), "", "1:1", (0, 0, 64, 64)) for name in names[:1]),
            verdicts=tuple(
                Verdict(name, "rejected", ({"code": "blurred", "message": "is blurred", "cure": "take a sharp one"},))
                for name in names
            ),
            set_problems=({"code": "too_few", "message": "only 2 photos", "cure": "add 3 more"},),
            likeness_engine=None,
        )
        (out / "dataset.json").write_text(json.dumps(to_dict(dataset)))
        (out / "DONE").touch()
        return dataset

    def _train(self, config: TrainConfig, source: Path, out: Path) -> TrainResult:
        return TRAINED

    def _generate(self, config: GenerateConfig, source: Path, out: Path) -> GenerateResult:
        image = Image("beach/000.png", "beach", "a sks woman [at the beach]", "", 1, 0.81, 1)
        left_out = (replace(image, file="left_out/beach/001.png", rank=0, duplicate_of=image.file),)
        made = GenerateResult((image,), "contact_sheet.png", "pictures.zip", 1.0, 0.81, "pocket")
        return made if config.keep is None else replace(made, left_out=left_out, likeness_mean_made=0.6, from_cache=2)

    def _export(self, config: ExportConfig, source: Path, out: Path) -> ExportResult:
        files = ("certificate.json", "Ada.safetensors")
        return ExportResult(config.format, files, "certificate.json", 3_200_000, 1, 0.02, 4.0)

    def _publish(self, config: PublishConfig, source: Path, out: Path) -> PublishResult:
        commit = None if config.dry_run else "c" * 40
        url = f"https://hub/{config.repo}"
        files = ("README.md", "gallery/[1].png")
        return PublishResult(
            config.repo, url, commit, config.public, config.form, "apache-2.0", files, 1, 3_200_000, (), 1.0
        )

    def check_publishing(self, config: TrainConfig, publish: PublishConfig, *, owner: str) -> None:
        self.calls.append(("access", publish, Path(), Path()))
        if publish.repo.startswith("read/"):
            raise InputError.of([Problem("token", "may only read", "make one with write access", "read_only")])

    def unpublish(self, repo: str) -> None:
        self.calls.append(("unpublish", PublishConfig(repo=repo), Path(), Path()))

    def _finish(self, config: FinishConfig, source: Path, out: Path) -> FinishResult:
        picture = FinishedPicture(
            "pictures/a.jpg", "a.png", (1350, 1080), 1234567, 80, "b.webp", "c.webp", 1.0, "", ("enlarged [2] times",)
        )
        failed = {"where": "b.png", "message": "is damaged", "cure": "copy it again", "code": "not_a_photo"}
        return FinishResult((picture,), (failed,), "contact_sheet.png", "pictures.zip", 1.0, config.chain)


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeStudio:
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    fake = FakeStudio()
    for module in (common, verbs):
        monkeypatch.setattr(module, "Studio", fake)
    return fake


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b [1].jpg"):
        (folder / name).write_bytes(b"x")
    return folder


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]


# What it is made of


def test_the_command_line_and_the_doctor_start_without_anything_heavy() -> None:
    heavy = ("torch", "gradio", "diffusers", "transformers", "numpy", "cv2", "dlib")
    code = f"import sys, studio.cli.main, studio.doctor; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_speaks_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_help_is_the_sentence_of_the_config_field(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    main.run(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert TrainConfig.model_fields["base"].description in shown


def helps(command: Any) -> Iterator[str]:
    for part in (command, *command.params):
        if getattr(part, "help", None):
            yield part.help
    for inner in getattr(command, "commands", {}).values():
        yield from helps(inner)


def test_help_is_german_where_the_settings_say_so_and_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    english = list(helps(typer.main.get_command(main.app)))
    german = language.catalogue("de")
    assert [text for text in english if ("", text) not in german] == [], "add them to languages/de/cli.po"
    monkeypatch.setenv("STUDIO_LANGUAGE", "de")
    assert main.run(["check", "--help"]) == 0
    assert "Ordner mit Fotos." in capsys.readouterr().out
    assert language.current() == "en", "what the verbs write stays English"
    monkeypatch.setenv("STUDIO_LANGUAGE", "xx")
    assert main.run(["check", "--help"]) == 0
    assert "Folder of photos." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["generate", "RUN", "--out", "o", "--pack", "busines", "--set", "cuont=2"],
         ["'business'", "did you mean count?", "is not a folder of a run"]),
        (["train", "PHOTOS", "--out", "o", "--base", "pockt", "--preset", "pocket_lora", "--set", "stesp=2"],
         ["'pocket'", "'pocket_lora_cpu'", "did you mean steps?", "is not a folder of photos"]),
        (["finish", "PICTURES", "--out", "o", "--chain", "headsht_white"], ["'headshot_white'", "is not there"]),
    ],
)  # fmt: skip
def test_every_wrong_name_is_told_at_once_with_the_nearest_one_before_torch_is_there(
    command: list[str], expected: list[str]
) -> None:
    """Also before a photo is read. On two idle cores a second; a start of torch takes five and more."""
    code = (
        "import sys, time; from studio.cli import main; before_s = time.process_time()\n"
        f"code = main.run({command})\n"
        "heavy = [name for name in ('torch', 'diffusers', 'PIL.JpegImagePlugin', 'cv2') if name in sys.modules]\n"
        "print(code, heavy, time.process_time() - before_s < 3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "2 [] True"
    said = " ".join(done.stderr.split())
    assert [text for text in expected if text not in said] == []


# Verbs


def test_json_events_come_line_by_line_and_the_last_line_is_the_result(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dataset"
    arguments = ["check", str(photos), "--subject", "Ada", "--class-noun", "woman", "--out", str(out), "--json"]
    assert main.run(arguments) == 0
    *events, result = _lines(capsys)
    assert [event["kind"] for event in events] == ["stage", "progress", "metrics", "message"]
    assert events[2]["data"]["loss"] is None
    assert from_dict(Dataset, result).subject == "Ada"
    assert studio.calls == [("check", CheckConfig(subject="Ada", class_noun="woman"), photos, out)]


def test_what_a_library_prints_does_not_get_between_the_json_lines(
    studio: FakeStudio, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio.before_return = lambda should_stop: print("loading 100 %")
    assert main.run(["check", str(photos), "--json"]) == 0
    shown = capsys.readouterr()
    assert all(json.loads(line) for line in shown.out.splitlines())
    assert "loading 100 %" in shown.err


def test_a_person_sees_every_verdict_with_its_cure(
    studio: FakeStudio, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["check", str(photos)]) == 0
    shown = capsys.readouterr()
    for text in ("a.jpg", "b [1].jpg", "is blurred; take a sharp one.", "only 2 photos; add 3 more.", "photos-dataset"):
        assert text in shown.out
    for text in ("Working hard", "mind the [gap]", "likeness 0.50"):
        assert text in shown.err


def _train(photos: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(photos), "--subject", "Ada", "--class-noun", "woman", "--out", str(out), *more]


def test_a_check_assumes_nothing_and_says_where_it_writes(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(["check", str(photos)])
    assert f"into {photos}-dataset; --out" in " ".join(capsys.readouterr().err.split())
    main.run(["train", str(photos), "--out", str(tmp_path / "run")])
    main.run(["check", str(photos), "--class-noun", "dog", "--out", str(tmp_path / "x")])
    assert "--out" not in capsys.readouterr().err
    nouns = [config.class_noun for verb, config, *_ in studio.calls if verb == "check"]
    assert nouns == ["", "", "dog"], "the check itself looks at the photos and says what it took them for"


def test_training_on_photos_checks_them_first(studio: FakeStudio, photos: Path, tmp_path: Path) -> None:
    assert main.run(_train(photos, tmp_path / "run")) == 0
    (check, _, source, dataset), (train, config, trained_on, run) = studio.calls
    assert (check, train) == ("check", "train")
    assert (source, dataset, trained_on, run) == (photos, tmp_path / "run-dataset", dataset, tmp_path / "run")
    assert isinstance(config, TrainConfig)
    assert (config.subject, config.class_noun, config.base) == ("Ada", "woman", "pocket")


def test_training_on_a_dataset_needs_no_check(studio: FakeStudio, photos: Path, tmp_path: Path) -> None:
    main.run(["check", str(photos), "--out", str(tmp_path / "dataset")])
    main.run(_train(tmp_path / "dataset", tmp_path / "run"))
    assert [call[0] for call in studio.calls] == ["check", "train"]


def test_that_a_person_agrees_can_be_said_of_a_dataset_later(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(["check", str(photos), "--out", str(tmp_path / "dataset")])
    path = tmp_path / "dataset" / "dataset.json"
    problems = [{"code": "no_consent"}, {"code": "few_photos"}]
    path.write_text(json.dumps({"subject": "Ärna", "consent": False, "set_problems": problems}))
    main.run([*_train(tmp_path / "dataset", tmp_path / "run"), "--consent"])
    assert json.loads(path.read_text()) == {
        "subject": "Ärna",
        "consent": True,
        "set_problems": [{"code": "few_photos"}],
    }
    path.write_text("[]")
    assert main.run([*_train(tmp_path / "dataset", tmp_path / "other"), "--consent"]) == 2
    assert "dataset.json" in capsys.readouterr().err and len(studio.calls) == 2


def test_training_on_a_dataset_needs_no_subject_because_the_dataset_has_one(
    studio: FakeStudio, photos: Path, tmp_path: Path
) -> None:
    main.run(["check", str(photos), "--subject", "Ada", "--class-noun", "woman", "--out", str(tmp_path / "dataset")])
    assert main.run(["train", str(tmp_path / "dataset"), "--out", str(tmp_path / "run")]) == 0
    config = studio.calls[-1][1]
    assert isinstance(config, TrainConfig) and (config.subject, config.class_noun) == ("", "")


def test_a_plan_is_told_in_words_and_as_json_and_nothing_is_trained(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(photos), "--subject", "Ada", "--class-noun", "woman", "--out", str(tmp_path / "run")]
    assert main.run([*arguments, "--set", "steps=100", "--plan"]) == 0
    assert [call[0] for call in studio.calls] == ["check", "plan"]
    assert "100 steps, about " in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert main.run([*arguments, "--plan", "--json"]) == 0
    last = _lines(capsys)[-1]
    assert last["fits"] is True and last["peak_bytes"] == 2**30 and last["words"]


def test_options_and_set_reach_the_config(studio: FakeStudio, photos: Path, tmp_path: Path) -> None:
    more = ("--base", "sd15", "--set", "method.rank=8", "--set", "steps=12", "--set", "seed=3")
    assert main.run(_train(photos, tmp_path / "run", *more)) == 0
    config = studio.calls[-1][1]
    assert isinstance(config, TrainConfig)
    assert (config.base, config.method.rank, config.steps, config.seed) == ("sd15", 8, 12, 3)


def test_every_wrong_setting_is_named_before_anything_runs(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--set", "learning_rat=1", "--set", "seed=-1", "--json")
    assert main.run(_train(photos, tmp_path / "run", *more)) == 2
    (answer,) = _lines(capsys)
    assert {problem["where"] for problem in answer["problems"]} == {"learning_rat", "seed"}
    assert not studio.calls


def test_a_base_outside_the_catalog_needs_a_preset_to_be_named(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(_train(photos, tmp_path / "run", "--base", "someone/a-model")) == 2
    assert "name a preset" in capsys.readouterr().err
    assert main.run(_train(photos, tmp_path / "run", "--base", "someone/a-model", "--preset", "pocket_lora_cpu")) == 0
    assert studio.calls[-1][1].base == "someone/a-model"  # type: ignore[attr-defined]


def test_pictures_come_from_prompts_in_order_or_from_a_pack(
    studio: FakeStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--prompt", "a {subject}", "--prompt", "two {subject}", "--count", "3", "--seed", "9"]
    assert main.run(["generate", str(tmp_path), "--out", str(tmp_path / "out"), *more]) == 0
    assert studio.calls[0][1] == GenerateConfig(prompts=("a {subject}", "two {subject}"), count=3, seed=9)
    assert "a sks woman [at the beach]" in capsys.readouterr().out
    assert main.run(["generate", str(tmp_path), "--out", str(tmp_path / "out"), "--pack", "pocket_scenes", *more]) == 2
    assert len(studio.calls) == 1


def test_keeping_the_best_tells_what_it_was_worth(
    studio: FakeStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--pack", "pets", "--count", "2", "--keep", "1", "--no-cache"]
    assert main.run(["generate", str(tmp_path), "--out", str(tmp_path / "out"), *more]) == 0
    assert studio.calls[0][1] == GenerateConfig(pack="pets", count=2, keep=1, use_cache=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Kept 1 of 2 pictures: mean likeness 0.81 instead of 0.60; 1 of the others nearly repeat" in shown
    assert "2 pictures were made before" in shown
    assert main.run(["generate", str(tmp_path), "--out", str(tmp_path / "out"), "--pack", "pets", "--keep", "3"]) == 2
    assert "cannot be more than count (1)" in capsys.readouterr().err


def test_finishing_changes_the_chains_steps_and_names_what_failed(
    studio: FakeStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--chain", "headshot_white", "--set", "fit.max_bytes=90000", "--set", "background.fill=blur"]
    assert main.run(["finish", str(tmp_path), "--out", str(tmp_path / "out"), *more]) == 0
    verb, config, source, out = studio.calls[0]
    assert (verb, source, out) == ("finish", tmp_path, tmp_path / "out") and isinstance(config, FinishConfig)
    by_kind = {step.do: step.model_dump() for step in config.steps}
    assert by_kind["fit"]["max_bytes"] == 90000 and by_kind["background"]["fill"] == "blur"
    shown = capsys.readouterr().out
    assert "1080 x 1350" in shown and "enlarged [2] times" in shown and "1 of 2 pictures" in shown
    assert "b.png: is damaged; copy it again." in shown
    assert main.run(["finish", str(tmp_path), "--out", str(tmp_path / "out"), "--chain", "headshot_green"]) == 2
    assert main.run(["finish", str(tmp_path), "--out", str(tmp_path), *more, "--set", "fit.hight=3"]) == 2
    assert "fit.hight" in capsys.readouterr().err and len(studio.calls) == 1


def test_a_person_sees_which_checkpoint_is_best(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(_train(photos, tmp_path / "run"))
    shown = capsys.readouterr().out
    assert "200 (best)" in shown
    assert "Before training: likeness 0.05\nAfter training: likeness 0.83" in shown


@pytest.mark.parametrize("command", ["presets", "packs", "bases", "chains"])
def test_lists_hold_every_name_for_people_and_programs(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--json"]) == 0
    (answer,) = _lines(capsys)
    names = [row["name"] for row in answer[command]]
    assert names
    assert main.run([command]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_serve_tells_its_address_and_ends_quietly_on_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from studio.web import server

    def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
        on_ready(f"http://127.0.0.1:{settings.port}")
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setenv("STUDIO_PORT", "4321")
    assert main.run(["serve", "--json"]) == 0
    assert _lines(capsys) == [{"address": "http://127.0.0.1:4321"}]
    assert main.run(["serve"]) == 0
    assert "http://127.0.0.1:4321" in capsys.readouterr().out


# What can go wrong


def _failing(error: BaseException) -> Callable[[ShouldStop], None]:
    def fail(should_stop: ShouldStop) -> None:
        raise error

    return fail


def test_a_missing_folder_is_answered_with_a_cure(
    studio: FakeStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["check", str(tmp_path / "nowhere")]) == 2
    shown = capsys.readouterr().err
    assert "nowhere" in shown.replace("\n", "") and "give an existing folder" in shown


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError.of([Problem("a.jpg", "is bad", "mend it")]), 2), (ConflictError("Another run is in there."), 1)],
)
def test_errors_are_told_as_they_are_and_decide_the_exit_code(
    studio: FakeStudio, photos: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    studio.before_return = _failing(error)
    assert main.run(["check", str(photos)]) == code
    shown = capsys.readouterr()
    assert str(error) in shown.err and "Traceback" not in shown.err + shown.out
    assert main.run(["check", str(photos), "--json"]) == code
    answer = _lines(capsys)[-1]
    assert answer["error"] == str(error)
    assert [problem["cure"] for problem in answer["problems"]] == [p.cure for p in error.problems]  # type: ignore[attr-defined]


def test_a_bug_is_kept_in_a_file_and_not_thrown_at_the_user(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio.before_return = _failing(KeyError("surprise"))
    assert main.run(["check", str(photos)]) == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert "surprise" in shown.err and "last_error.txt" in shown.err.replace("\n", "")
    assert "Traceback" in (tmp_path / "home" / "last_error.txt").read_text()


@pytest.mark.parametrize("arguments", [["train", "--json"], ["chekc", "--json"], ["check", "--jsno", "--json"]])
def test_wrong_usage_is_a_json_line_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    (answer,) = _lines(capsys)
    assert answer["error"]


def test_a_wrong_variable_is_named(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUDIO_PORT", "many")
    assert main.run(["check", str(photos)]) == 2
    assert "STUDIO_PORT" in capsys.readouterr().err


def test_ctrl_c_asks_the_verb_to_stop_and_says_how_to_go_on(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(should_stop: ShouldStop) -> None:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        raise JobCancelled("stopped")

    studio.before_return = press
    before = signal.getsignal(signal.SIGINT)
    assert main.run(["check", str(photos), "--out", str(tmp_path / "out")]) == 130
    shown = capsys.readouterr().err.replace("\n", " ")
    assert "again to stop at once" in shown
    assert "the same command goes on from there" in shown
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(studio: FakeStudio, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def press(should_stop: ShouldStop) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second Ctrl-C was ignored")

    studio.before_return = press
    assert main.run(["check", str(photos)]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_export_says_where_the_files_are_and_that_they_were_read_back(
    studio: FakeStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    command = ["export", str(run), "--format", "kohya", "--set", "dtype=float16", "--out", str(tmp_path / "out")]
    assert main.run(command) == 0
    shown = capsys.readouterr().out
    assert str(tmp_path / "out" / "Ada.safetensors") in shown.replace("\n", "")
    assert "3.2 MB, read back by plain diffusers" in shown and "at most 1 of 255" in shown
    assert studio.calls[0][1] == ExportConfig(format="kohya", dtype="float16")
    assert main.run([*command, "--json"]) == 0
    assert _lines(capsys)[-1]["difference_max"] == 1
    assert main.run(["export", str(run), "--format", "pickle", "--out", str(tmp_path / "out")]) == 2


def test_publish_names_its_folder_after_run_and_repository_and_says_where_it_is(
    studio: FakeStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    command = ["publish", str(run), "--repo", "ada/portrait"]
    given = ["--public", "--update", "--pictures", "best", "--set", "gallery=3", "--set", "choose=[a.png, b.png]"]
    assert main.run([*command, *given]) == 0
    assert "https://hub/ada/portrait for everybody, commit ccc" in capsys.readouterr().out
    verb, config, source, out = studio.calls[-1]
    assert (verb, source, out) == ("publish", run, tmp_path / "run-ada--portrait")
    assert config == PublishConfig(
        repo="ada/portrait", public=True, update=True, pictures="best", gallery=3, choose=("a.png", "b.png")
    )
    assert main.run([*command, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["commit"] is None
    assert main.run(["publish", str(run), "--repo", "portrait"]) == 2
    assert "not a valid repository name (owner/name)" in capsys.readouterr().err


def test_unpublish_wants_to_be_told_twice(studio: FakeStudio, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["unpublish", "ada/portrait"]) == 2 and "--yes" in capsys.readouterr().err
    assert studio.calls == []
    assert main.run(["unpublish", "ada/portrait", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": "ada/portrait"} and len(studio.calls) == 1


def test_generate_takes_a_run_or_a_published_adapter(
    studio: FakeStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "--prompt", "{subject}", "--out", str(tmp_path / "out")]
    assert main.run([*command, "--adapter", "ada/portrait@main"]) == 0
    config = studio.calls[-1][1]
    assert isinstance(config, GenerateConfig) and config.adapter == "ada/portrait@main"
    assert main.run(command) == 2 and "give RUN or --adapter" in capsys.readouterr().err
    assert main.run([*command, str(tmp_path), "--adapter", "ada/portrait"]) == 2


def test_a_run_is_published_after_training_with_the_token_asked_before_it(
    studio: FakeStudio, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(photos), "--subject", "Ada", "--class-noun", "woman", "--out", str(tmp_path / "run")]
    assert main.run([*command, "--publish", "read/portrait"]) == 2
    assert [call[0] for call in studio.calls] == ["access"] and "may only read" in capsys.readouterr().err
    studio.calls.clear()
    assert main.run([*command, "--publish", "ada/portrait", "--json"]) == 0
    assert [call[0] for call in studio.calls] == ["access", "check", "train", "publish"]
    _, config, source, out = studio.calls[-1]
    assert (config, source) == (PublishConfig(repo="ada/portrait"), tmp_path / "run")
    assert out == tmp_path / "run-ada--portrait"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["commit"] == "c" * 40
