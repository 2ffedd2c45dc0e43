from dataclasses import replace

from studio.core.domain import JobView
from studio.web.page import parts_publish

JOB = JobView("train-1", "train", "training", "local", "Ada", created_s=0.0)


def test_what_was_published_is_told_with_a_safe_link() -> None:
    result = {"repo": "ada/<b>", "url": "https://hub/ada/x", "commit": "c" * 40, "public": False, "licence": "mit",
              "files": ["README.md"], "bytes": 4000, "warnings": ["Mind <it>."]}  # fmt: skip
    done = replace(JOB, kind="publish", state="completed", result=result)
    html = parts_publish.publish_result(done)
    assert (
        'href="https://hub/ada/x"' in html and "ada/&lt;b&gt;" in html and "Only you" in html and "&lt;it&gt;" in html
    )
    dry = replace(done, result={**result, "commit": None})
    assert "Nothing was sent" in parts_publish.publish_result(dry) and "href" not in parts_publish.publish_result(dry)
    odd = replace(done, result={**result, "url": "javascript:alert(1)"})
    assert "javascript" not in parts_publish.publish_result(odd)


def test_a_card_is_previewed_without_its_front_matter() -> None:
    assert (
        parts_publish.card_text("---\nlicense: mit\n---\n\n# Ada\n\n<Gallery />\n\n---\nend\n")
        == "# Ada\n\n\n\n---\nend"
    )
    assert parts_publish.card_text("# Ada") == "# Ada"
