"""Text files that people wrote with any program: read for what they say, or refused; never half read.

Editors and shells on Windows write UTF-16 with a mark, or the old code page of western languages. What is neither
marked nor UTF-8 is guessed only where the guess cannot well be wrong.
"""

import codecs
import re
import unicodedata

_MARKS: tuple[tuple[bytes, str], ...] = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WESTERN_SIGNS = frozenset("\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u20ac£°«»·©®™¡¿½¼§")
_IN_WORDS = frozenset("\u2019·")


def decode_text(data: bytes, *, is_cut: bool = False) -> str:
    """Return the text of a file.

    Args:
        data: the file's bytes.
        is_cut: whether only a beginning was read, which may end within a character.

    Raises:
        ValueError: it cannot be told what the bytes say.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], encoding, is_cut)
    try:
        text = _strict(data, "utf-8", is_cut)
    except UnicodeDecodeError:
        text = ""
    if text and "\x00" not in text:
        return text
    if b"\x00" in data:
        return _strict(data, _unmarked_utf16(data), is_cut)
    text = _strict(data, "cp1252", is_cut)
    if not _is_western(text):
        raise ValueError("is in an encoding that cannot be told")
    return text


def _strict(data: bytes, encoding: str, is_cut: bool) -> str:
    return codecs.getincrementaldecoder(encoding)("strict").decode(data, final=not is_cut)


def _unmarked_utf16(data: bytes) -> str:
    """Return which of the two byte orders a text has whose every other byte is zero."""
    odd, even = data[1::2].count(0), data[0::2].count(0)
    if min(odd, even) == 0 and max(odd, even) >= 0.8 * (len(data) // 2):
        return "utf-16-le" if odd else "utf-16-be"
    raise ValueError("holds bytes that no text has")


def _is_western(text: str) -> bool:
    """Tell whether a text read as cp1252 looks as if it were written in it.

    Other code pages give words of accented letters only, signs within words, or capitals after small letters.
    """
    words = re.split(r"\s+", text)
    return all(c.isascii() or c.isalpha() or c in _WESTERN_SIGNS for c in text) and all(map(_is_western_word, words))


def _is_western_word(word: str) -> bool:
    run = 0
    for before, c, after in zip(f" {word}", word, f"{word[1:]} ", strict=False):
        is_letter = unicodedata.category(c)[0] == "L"
        run = run + 1 if is_letter and not c.isascii() else 0
        capital_inside = not c.isascii() and c.isupper() and before.islower()
        sign_inside = c in _WESTERN_SIGNS and c not in _IN_WORDS and before.isalpha() and after.isalpha()
        if run > 2 or capital_inside or sign_inside or c in "ªº":
            return False
    return True
