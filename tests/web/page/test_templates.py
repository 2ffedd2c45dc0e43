import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from studio.web.page import templates
from studio.web.page.templates import render


def test_text_is_escaped_and_markup_is_not() -> None:
    html = render("page.notice", title="<b>", lines=["<i>", Markup("<br>")], tone='"')
    assert "<b>&lt;b&gt;</b>" in html and "<li>&lt;i&gt;</li><li><br></li>" in html
    assert 'class="ls-notice &#34;"' in html


def test_a_templates_layout_adds_no_blanks_to_the_page() -> None:
    html = render("page.empty", title="T", lead="", points=["a", "b"])
    assert html == '<div class="ls "><div class="ls-empty"><h2>T</h2><ul><li>a</li><li>b</li></ul></div></div>'


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises((UndefinedError, TypeError)):
        str(render("page.header", title="only"))


def test_no_template_switches_escaping_off() -> None:
    sources = [path.read_text(encoding="utf-8") for path in templates._FOLDER.glob("*.html")]
    assert sources and not any("safe" in source or "autoescape" in source for source in sources)
