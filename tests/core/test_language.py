"""The studio in another language: every sentence has a translation, and its braces are the same."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.checking.seen import SAY_IT
from studio.core import language
from studio.core.catalog import BASES
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.errors import InputError
from studio.core.presets import list_chains, list_packs, list_presets, override
from studio.core.settings import PROJECT_ROOT, Settings, language_of
from studio.core.train_config import GROUPS, TrainConfig

GERMAN = language.catalogue("de")


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    yield
    language.use("en")


def has_german(text: str, context: str = "") -> bool:
    return (context, text) in GERMAN or ("", text) in GERMAN


def braces(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def test_a_catalogue_is_read_as_gettext_writes_it() -> None:
    text = (
        '# a comment\nmsgid ""\nmsgstr "Language: de\\n"\n\n'
        'msgctxt "BUTTON"\nmsgid "Train"\nmsgstr "Training starten"\n\n'
        '#, fuzzy\nmsgid "Doubtful"\nmsgstr "Zweifelhaft"\n\nmsgid "Not yet"\nmsgstr ""\n\n'
        'msgid ""\n"Two "\n"lines\\n"\nmsgstr "Zwei \\"Zeilen\\"\\n"\n\n#~ msgid "Gone"\n#~ msgstr "Weg"\n'
    )
    assert language.read(text) == {("BUTTON", "Train"): "Training starten", ("", "Two lines\n"): 'Zwei "Zeilen"\n'}


def test_a_sentence_is_said_in_the_language_that_is_used_and_in_english_again() -> None:
    assert language.say("Publish") == "Publish"
    language.use("de")
    assert (language.current(), language.say("Publish")) == ("de", "Veröffentlichen")
    assert language.say("Nobody has translated this.") == "Nobody has translated this."
    assert language.spoken({"a": ("Publish", 1)}) == {"a": ("Veröffentlichen", 1)}
    with language.speaking("fr"):
        assert (language.current(), language.say("Publish")) == ("en", "Publish")
    assert language.current() == "de"


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("is too dark", "ist zu dunkel"),
        ("is nearly the same as IMG 1.jpg", "ist fast dasselbe wie IMG 1.jpg"),
        ("is too small (90 x 80 px)", "ist zu klein (90 x 80 px)"),
        ("only 3 photos can be used; add 2 more; 8 to 20 are best", "nur 3 Fotos sind brauchbar; füge noch 2 hinzu"),
        ("9 photos show only one background", "9 Fotos zeigen nur einen Hintergrund"),
        ("9 photos show only 2 different backgrounds", "9 Fotos zeigen nur 2 verschiedene Hintergründe"),
        ("in 2 of 9 photos the face fills fewer pixels than could be learned", "in 2 von 9 Fotos füllt das Gesicht"),
        ("in 2 of 9 photos the subject has fewer pixels than could be learned", "in 2 von 9 Fotos hat das Motiv"),
        ("no face was found in any of 5 photos of a woman", "in keinem der 5 Fotos der Art Frau wurde ein Gesicht"),
        ("no face was found in more than 2 of 9 photos of a woman", "nur in 2 von 9 Fotos der Art Frau wurde"),
        (
            f"if they show something else, {SAY_IT}; otherwise use photos with one clear face",
            "wenn sie etwas anderes zeigen, sage, was es ist",
        ),
        ("a sentence of somebody else, with 5 photos", "a sentence of somebody else, with 5 photos"),
    ],
)
def test_what_a_job_has_written_in_english_is_told_again(english: str, german: str) -> None:
    assert language.retell(english) == english
    language.use("de")
    assert language.retell(english).startswith(german)


def test_the_language_is_as_set_and_else_as_the_system_says() -> None:
    assert language_of(Settings(language="de"), {"LANG": "en_GB.UTF-8"}) == "de"
    auto = Settings(language="auto")
    assert language_of(auto, {"LC_ALL": "de_AT.UTF-8", "LANG": "en_GB.UTF-8"}) == "de"
    assert language_of(auto, {"LC_ALL": "", "LANG": "C.UTF-8"}) == "c"
    assert language_of(auto, {}) == ""


def test_braces_are_the_same_in_every_translation() -> None:
    wrong = [english for (_, english), german in GERMAN.items() if braces(english) != braces(german)]
    assert wrong == []


def test_every_sentence_of_settings_bases_and_groups_is_translated() -> None:
    from studio.web.page import widgets

    fields = [field for model in (CheckConfig, TrainConfig, GenerateConfig) for field in widgets.describe(model)]
    asked_elsewhere = {"subject", "class_noun", "base", "consent", "max_photos", "pack", "count", "keep", "seed"}
    asked_elsewhere |= {"adapter_scale", "adapter"}
    shown = [field for field in fields if field.path not in asked_elsewhere]
    texts = [text for field in shown for text in (field.label, field.sentence)]
    texts += [*GROUPS, *(base.description for base in BASES.values())]
    assert [text for text in texts if not has_german(text)] == []


def test_every_preset_pack_shot_and_chain_has_a_translated_title_and_description() -> None:
    shipped = [*list_presets(), *list_packs(), *list_chains()]
    texts = [text for row in shipped for text in (row.title, row.description)]
    texts += [shot.title for pack in list_packs() for shot in pack.shots]
    assert len(texts) > 90 and [text for text in texts if not has_german(text)] == []


def sentences_said() -> Iterator[tuple[str, str]]:
    """Yield every text that is written as the argument of ``say``, with its place."""
    for path in sorted((PROJECT_ROOT / "studio").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"say", "language.say", "tell"}:
                text = node.args[0]
                for part in (text.body, text.orelse) if isinstance(text, ast.IfExp) else (text,):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value, f"{path.name}:{part.lineno}"


def test_every_sentence_that_is_said_somewhere_is_translated() -> None:
    found = list(sentences_said())
    assert len(found) > 30
    assert [place for text, place in found if not has_german(text)] == []


RESULTS = ("bench", "jobs", "keys", "remote", "runners", "shown", "space", "tables", "verbs")
"""Modules of the command line that show what a command has done."""
NOT_SHOWN = re.compile(r"say|typer\..*|help_of|Problem|message|.*Error|.*\.parse|.*\.call|.*command|new_table")
"""What takes texts that are said elsewhere, are help, or end a command as an error, which stays English."""


def shown_plainly(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every sentence below a node that is put together without ``say``, with its line."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and NOT_SHOWN.fullmatch(ast.unparse(child.func)):
            continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):  # a docstring
            continue
        if isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) in {"problem", "cure"}:  # of an error
            continue
        if (isinstance(node, ast.arg) and child is node.annotation) or isinstance(node, ast.AnnAssign):
            continue
        if isinstance(child, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in child.values)
        else:
            text = child.value if isinstance(child, ast.Constant) and isinstance(child.value, str) else ""
        if re.search(r"[A-Za-z]{2,}.* .*[A-Za-z]{2,}|[A-Za-z]{2,} .*7|7 .*[A-Za-z]{2,}", text):
            yield text, child.lineno
        yield from shown_plainly(child)


@pytest.mark.parametrize("name", RESULTS)
def test_what_a_command_shows_at_its_end_is_said_and_not_only_written(name: str) -> None:
    tree = ast.parse((PROJECT_ROOT / "studio" / "cli" / f"{name}.py").read_text(encoding="utf-8"))
    named = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
    }
    said = {ast.unparse(n.args[0]) for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "say"}
    for node in tree.body:  # a constant that is said, or only help, is not shown as it is
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in named:
            if node.targets[0].id in said:
                assert isinstance(node.value, ast.Constant) and has_german(str(node.value.value))
            node.value = ast.Constant(None)
    assert list(shown_plainly(tree)) == []


def test_every_heading_of_a_commands_table_is_translated() -> None:
    headings = [
        text.value
        for path in sorted((PROJECT_ROOT / "studio" / "cli").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "new_table"
        for text in node.args
        if isinstance(text, ast.Constant) and text.value
    ]
    assert len(headings) > 20
    assert [text for text in headings if not has_german(text)] == []


def test_a_result_is_shown_in_the_readers_language_and_what_a_verb_says_before_stays_english(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from studio.cli.output import TerminalOutput
    from studio.cli.tables import show_count

    monkeypatch.setenv("STUDIO_LANGUAGE", "de")
    output = TerminalOutput()
    output.result({}, show_count(3, Path("here")))
    assert capsys.readouterr().out == "3 Dateien in here\n"
    assert language.say("Publish") == "Publish"


CHECK_ROOM = ("checking/judge.py", "checking/advice.py", "checking/seen.py", "checking/prepare.py")


PUT_TOGETHER = {
    "7 photos show only 7",
    "in 7 of 7 photos 7 fewer pixels than could be learned",
    "in any",
    "in more than 7",
    "no face was found 7 of 7 photos of a 7",
    "if they show something else, 7; otherwise use photos with one clear face",
}
"""Sentences with a part of words, and such parts: what becomes of them stands above."""


def sentences_of(path: Path) -> Iterator[str]:
    """Yield what a module of the check writes into findings, with a 7 for every value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {"PhotoFinding", "_advice", "replace"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in told:
            texts = node.args[1:]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"cure", "message", "text", "found"}:
            texts = [node.value]
        else:
            continue
        for text in texts:
            for branch in (text.body, text.orelse) if isinstance(text, ast.IfExp) else (text,):
                if isinstance(branch, ast.JoinedStr):
                    yield "".join(str(p.value) if isinstance(p, ast.Constant) else "7" for p in branch.values)
                elif isinstance(branch, ast.Constant) and isinstance(branch.value, str) and " " in branch.value:
                    yield branch.value


def test_every_sentence_of_the_photo_check_is_told_again_in_german() -> None:
    language.use("de")
    found = [text for name in CHECK_ROOM for text in sentences_of(PROJECT_ROOT / "studio" / name)]
    assert len(found) > 30
    assert [text for text in found if language.retell(text) == text and text not in PUT_TOGETHER] == []


def test_a_refusal_of_the_settings_is_told_again_in_german() -> None:
    with pytest.raises(InputError) as caught:
        override(TrainConfig(), {"steps": "many", "batch_size": 0, "learning_rate": "fast", "nothing": 1})
    language.use("de")
    told = {
        problem.where: (language.retell(problem.message), language.retell(problem.cure))
        for problem in caught.value.problems
    }
    assert told["steps"][0].startswith("ist keine ganze Zahl") and told["learning_rate"][0].startswith("ist keine Zahl")
    assert told["batch_size"][1].startswith("nimm mindestens 1") and told["nothing"][0].startswith("diese Einstellung")
