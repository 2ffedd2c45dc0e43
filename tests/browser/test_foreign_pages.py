"""A page of another site, and one of another port, in a real browser that holds the owner's cookie: both get nothing.

Each page tries what was possible before: to read jobs, to upload a photo, to submit a job, to publish and to unpublish,
by fetch with and without credentials, by a form and as a picture. The server listens on 127.0.0.1 and, as the
stand-in for an address that others reach, on 127.0.0.2.
"""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from studio.core.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "127.0.0.3"])]

CALLS = """
async (studio) => {
  const json = {"content-type": "application/json"};
  const form = new FormData();
  form.append("files", new Blob(["photo"], {type: "image/jpeg"}), "face.jpg");
  const sha256 = "55c64d0fcd6f9d5f7c828093857e3fdfda68478bb4e9bd24d481ef391c7804e8";  // of "photo"
  const wishes = {
    read_config: ["/config", {}],
    read_uploads: ["/uploads", {}],
    read_info: ["/gradio_api/info", {}],
    read_jobs: ["/gradio_api/run/jobs", {method: "POST", headers: json, body: '{"data": [50]}'}],
    simple_jobs: ["/gradio_api/call/jobs", {method: "POST", body: '{"data": [50]}'}],
    upload: ["/gradio_api/upload", {method: "POST", body: form}],
    put: ["/uploads/" + sha256, {method: "PUT", body: "photo"}],
    submit: ["/checks", {method: "POST", headers: json, body: '{"photos": []}'}],
    publish: ["/gradio_api/call/v2/publish",
      {method: "POST", headers: json, body: '{"train_job": "t", "repo": "a/b"}'}],
    unpublish: ["/gradio_api/call/v2/unpublish", {method: "POST", body: '{"repo": "a/b", "token": ""}'}],
  };
  const told = {};
  for (const [name, [path, options]] of Object.entries(wishes))
    for (const credentials of ["include", "omit"])
      for (const mode of ["cors", "no-cors"])
        try {
          const answer = await fetch(studio + path, {...options, credentials, mode});
          told[`${name} ${credentials} ${mode}`] = `${answer.type} ${answer.status}`;
        } catch (error) { told[`${name} ${credentials} ${mode}`] = "refused"; }
  told.picture = await new Promise(done => {
    const picture = new Image();
    picture.onload = () => done("shown"); picture.onerror = () => done("refused");
    picture.src = studio + "/static/img/logo.svg";
  });
  return told;
}
"""

FORM = """
(studio) => {
  document.body.innerHTML = `<form method="post" enctype="text/plain" action="${studio}/gradio_api/run/jobs">
    <input name='{"data": [50], "x": "' value='"}'></form>`;
  document.forms[0].submit();
}
"""


@pytest.fixture
def pages() -> Iterator[Callable[[str], str]]:
    """Serve an empty page on an address of choice."""
    servers = []

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another page</title><body></body>")

        def log_message(self, *_: Any) -> None:
            pass

    def served(host: str) -> str:
        servers.append(ThreadingHTTPServer((host, 0), Empty))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://{host}:{servers[-1].server_port}"

    yield served
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_pages_of_other_sites_and_ports_get_nothing_and_the_owner_everything(
    host: str, browser: Any, edge: ModuleType, pages: Callable[[str], str], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", port=0, host=host, presets_dir=edge.write_presets(tmp_path / "presets"))
    with edge.serve(settings, tmp_path / "server.txt", token="") as studio:
        token = (settings.home / "server-token").read_text().strip()
        window = browser.new_context()
        owner = window.new_page()
        owner.goto(studio)
        assert "opens with its token" in owner.inner_text("body")
        owner.goto(f"{studio}/?token={token}")
        owner.get_by_role("tab", name="Photos").wait_for()
        assert token not in owner.url

        refusals: list[str] = []
        other_site = "127.0.0.3" if host != "127.0.0.3" else "127.0.0.4"
        for foreign in (pages(host), pages(other_site), pages("localhost")):
            page = window.new_page()
            sent: list[tuple[str, str, int]] = []
            page.on(
                "response",
                lambda answer, sent=sent: sent.append(
                    (answer.request.method, urlsplit(answer.url).path, answer.status)
                ),
            )
            page.goto(foreign)
            told = page.evaluate(CALLS, studio)
            seen = {name: words for name, words in told.items() if words not in ("refused", "opaque 0")}
            assert seen == {}, f"{foreign} read {seen}"
            assert told["picture"] == "refused"
            passed = [row for row in sent if row[1] != "/" and row[2] < 400]
            assert passed == [], f"{foreign} was answered: {passed}"
            page.evaluate(FORM, studio)
            page.wait_for_url(f"{studio}/**")
            refusals.append(page.inner_text("body"))
            page.goto(foreign)
            page.set_content(f'<iframe src="{studio}"></iframe>')
            page.wait_for_timeout(500)
            assert len(page.frames) == 2 and "Likeness Studio" not in page.frames[1].content()
            page.close()

        # What a page cannot read may still have been done: nothing of it lies on the disk.
        arrived = [path for path in settings.home.rglob("*") if path.is_file() and path.read_bytes() == b"photo"]
        assert arrived == []
        mine = {"x-studio-token": token, "content-type": "application/json"}
        listed = httpx.post(f"{studio}/gradio_api/run/jobs", headers=mine, content=b'{"data": [50]}').json()
        assert listed["data"] == [[]], "no job was begun"
        assert len(refusals) == 3 and all("Another site may not act for you" in words for words in refusals)

        # Her own browser, in the same window as all of those, works on.
        owner.reload()
        owner.get_by_role("button", name="Try it with sample photos").click()
        owner.get_by_text("sample-08").first.wait_for()
        owner.get_by_role("button", name="Continue to training").wait_for()
        jobs = owner.evaluate(
            "async () => (await fetch('/gradio_api/run/jobs', {method: 'POST',"
            " headers: {'content-type': 'application/json'}, body: JSON.stringify({data: [50]})})).json()"
        )
        assert json.loads(json.dumps(jobs))["data"][0][0]["kind"] == "check"
        window.close()
