"""The language that the studio speaks: sentences are written in English, catalogues translate them.

A catalogue is a gettext file, ``languages/<language>/<room>.po``, so that translators have their tools; a sentence
without a translation stays English. Python's own gettext reads only compiled files, which would be binaries to keep or
a build before the first start: hence the small reader here. A process speaks one language, which ``use`` sets before
anything is said; files, prompts, names of settings and what programs read stay as they are.

A translation has the plural forms of English, one for one thing and one for several: that is right for German.
Source: the format of .po files, https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html.
"""

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

Catalogue = Mapping[tuple[str, str], str]
"""(context, English) -> translation; the context tells equal English words apart and is mostly empty."""

SOURCE = "en"
FOLDER = Path(__file__).with_name("languages")
_LINE = re.compile(r'(?:(msgctxt|msgid|msgstr)\s+)?(".*")')
_OWN_WORDS = 2
"""A sentence with fewer words of its own beside its values would be found in too many others."""
_VALUE = "(?:(?!; ).)+"
"""A problem and its cure are two sentences, with a semicolon between them."""
_T = TypeVar("_T")


class _Speaker:
    """What this process speaks."""

    language = SOURCE


def languages() -> tuple[str, ...]:
    """Return the languages that the studio speaks, English first."""
    return (SOURCE, *sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))


def use(language: str) -> None:
    """Speak a language from now on; English where there is no catalogue of it."""
    _Speaker.language = language if language in languages() else SOURCE


@contextlib.contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak a language for a while, and then what was spoken before."""
    before = _Speaker.language
    use(language)
    try:
        yield
    finally:
        _Speaker.language = before


def current() -> str:
    """Return the language that is spoken, for example ``de``."""
    return _Speaker.language


def say(text: str, context: str = "") -> str:
    """Return a sentence in the language that is spoken; its braces are filled in afterwards.

    Args:
        text: the English sentence.
        context: what tells it apart from equal ones; a translation without context serves them all.
    """
    if _Speaker.language == SOURCE:
        return text
    known = catalogue(_Speaker.language)
    return known.get((context, text)) or known.get(("", text)) or text


def retell(text: str) -> str:
    """Return a sentence that was filled in before, in the language that is spoken: one of a job's process or its files.

    Those stay English, so that they mean the same to every program and after every change of the language. The values
    are found where the braces of a translated sentence stand.
    """
    if _Speaker.language == SOURCE:
        return text
    known = say(text)
    if known != text:
        return known
    for pattern, translation in _templates(_Speaker.language):
        if found := pattern.fullmatch(text):
            return translation.format(**{name: say(value) for name, value in found.groupdict().items()})
    problem, semicolon, cure = text.partition("; ")
    return f"{retell(problem)}; {retell(cure)}" if semicolon else text


def spoken(value: _T, context: str = "") -> _T:
    """Return what ``say`` makes of every text in a tuple, a list or the values of a dict; other values as they are."""
    if _Speaker.language == SOURCE:
        return value
    return _spoken(value, context)


def _spoken(value: Any, context: str) -> Any:
    if isinstance(value, str):
        return say(value, context)
    if isinstance(value, tuple | list):
        return type(value)(_spoken(part, context) for part in value)
    if isinstance(value, dict):
        return {key: _spoken(part, context) for key, part in value.items()}
    return value


class Spoken(ModuleType):
    """A module of sentences, named in capitals, as others see it: a name's value is what ``spoken`` makes of it."""

    def __getattribute__(self, name: str) -> Any:
        """Return the value of a name in the language that is spoken now."""
        value = super().__getattribute__(name)
        return spoken(value, name) if name.isupper() else value


@functools.cache
def catalogue(language: str) -> Catalogue:
    """Return all that the rooms' files of a language hold."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted((FOLDER / language).glob("*.po")):
        found |= read(path.read_text(encoding="utf-8"))
    return found


@functools.cache
def _templates(language: str) -> Sequence[tuple[re.Pattern[str], str]]:
    """Return the sentences with values that ``retell`` finds, those with the most words of their own first."""
    found = []
    for (_, english), translation in catalogue(language).items():
        parts = re.split(r"{(\w+)[^{}]*}", english)
        own = sum(len(re.findall(r"[^\W\d]+", part)) for part in parts[::2])
        if len(parts) > 1 and own >= _OWN_WORDS and len(set(parts[1::2])) == len(parts) // 2:
            pattern = "".join(f"(?P<{part}>{_VALUE})" if at % 2 else re.escape(part) for at, part in enumerate(parts))
            # Numbers stand in the sentence as text, which takes no format of numbers.
            found.append((own, re.compile(pattern, re.DOTALL), re.sub(r"{(\w+)[^{}]*}", r"{\1}", translation)))
    return [(pattern, text) for _, pattern, text in sorted(found, key=lambda row: -row[0])]


def read(text: str) -> Catalogue:
    """Return the entries of a .po file; without its head, and without what is marked as doubtful or not translated."""
    found = {}
    for block in re.split(r"\n[ \t]*\n", text):
        entry: dict[str, str] = {}
        word = ""
        for line in block.splitlines():
            match = _LINE.fullmatch(line.strip())
            if match is not None:
                word = match[1] or word
                entry[word] = entry.get(word, "") + json.loads(match[2])
        if entry.get("msgid") and entry.get("msgstr") and "#, fuzzy" not in block:
            found[entry.get("msgctxt", ""), entry["msgid"]] = entry["msgstr"]
    return found
