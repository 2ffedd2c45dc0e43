"""HTML of publishing: the result, what follows a run, the card."""

from markupsafe import Markup

from studio.core.domain import JobView
from studio.core.language import retell
from studio.core.units import bytes_text
from studio.web.page import words
from studio.web.page.parts import notice
from studio.web.page.templates import render


def publish_result(job: JobView) -> Markup:
    """Return where a run was published, or that this is only a preview."""
    result = job.result or {}
    commit, url = result.get("commit"), str(result.get("url", ""))
    facts = words.counted(
        words.PUBLISHED_FACTS,
        len(result.get("files", ())),
        size=bytes_text(result.get("bytes", 0)),
        licence=result.get("licence"),
    )
    link = None
    if commit is None:
        title, then = words.PUBLISHED_PREVIEW, words.PUBLISHED_NOTHING
    else:
        title = words.PUBLISHED.format(repo=result.get("repo"))
        then = (words.PUBLISHED_PUBLIC if result.get("public") else words.PUBLISHED_PRIVATE).format(commit=commit)
        # The address comes from the Hub: escaping would not make a javascript: link harmless.
        if url.startswith(("https://", "http://")):
            link = {"link": url, "text": words.PUBLISHED_OPEN}
    warnings = list(result.get("warnings", ()))
    card = render("page.result", title=title, text=f"{facts} {then}", link=link)
    return card + (notice(words.WORTH_KNOWING, warnings) if warnings else Markup())


def then_published(run: JobView, job: JobView | None) -> Markup:
    """Return one line on the job that publishes a run; nothing if there is none."""
    if job is None or job.state == "cancelled":
        return Markup()
    repo = job.facts.repo
    commit = (job.result or {}).get("commit")
    if job.state == "completed":
        text = words.THEN_PUBLISHED if commit else words.THEN_PREVIEWED
    elif run.state in ("stalled", "cancelled"):
        text = words.THEN_RUN_STOPPED
    elif job.state == "stalled":
        text = words.THEN_STALLED
    else:
        text = words.THEN_WAITING if job.state == "pendingImages" else words.THEN_PUBLISHING
    text = text.format(repo=repo, commit=commit, cause=retell(job.cause or ""))
    return render("page.then_published", state=job.state, text=text)


def card_text(readme: str) -> str:
    """Return the text of a model card without its front matter and the Hub's own tags, for a preview."""
    body = readme.split("\n---\n", 1)[-1] if readme.startswith("---\n") else readme
    return body.replace("<Gallery />", "").strip()
