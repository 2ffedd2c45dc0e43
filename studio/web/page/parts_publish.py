"""HTML of publishing: the result, what follows a run, the card."""

from html import escape

from studio.core.domain import JobView
from studio.core.units import bytes_text
from studio.web.page.parts import notice, page_html


def publish_result(job: JobView) -> str:
    """Return where something was published, or that this is only what would be."""
    result = job.result or {}
    count = len(result.get("files", ()))
    facts = f"{count} files, {bytes_text(result.get('bytes', 0))}, licence {result.get('licence')}."
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
    return page_html(f'<div class="ls-card">{words}</div>') + (notice("Worth knowing", warned) if warned else "")


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
    return page_html(f'<p class="ls-soft" data-published="{escape(job.state)}">{escape(words)}</p>')


def card_text(readme: str) -> str:
    """Return the text of a model card without its front matter and the Hub's own tags, for a preview."""
    body = readme.split("\n---\n", 1)[-1] if readme.startswith("---\n") else readme
    return body.replace("<Gallery />", "").strip()
