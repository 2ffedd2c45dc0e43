import codecs

import pytest

from studio.core.text import decode_text

WORDS = "Größe, été, in a \u201cCafé\u201d \u2013 Zoë\u2019s"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_a_text_says_the_same_in_every_encoding(encoding):
    assert decode_text(WORDS.encode(encoding)) == WORDS


@pytest.mark.parametrize(
    "data",
    [
        "фото на пляже".encode("cp1251"),
        "na łące".encode("cp1250"),
        "雪の中で".encode("shift-jis"),
        b"\xff\xfe\x00 in the snow",
        b"a\x00b\x00\x00c",
    ],
)
def test_what_cannot_be_told_is_refused_and_never_half_read(data):
    with pytest.raises(ValueError):
        decode_text(data)


def test_a_beginning_may_end_within_a_character_and_a_whole_text_may_not():
    cut = codecs.BOM_UTF8 + "é".encode()[:1]
    assert decode_text(cut, is_cut=True) == ""
    with pytest.raises(ValueError):
        decode_text(cut)
