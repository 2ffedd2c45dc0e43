"""The page in Firefox, where it is installed: it opens, its tabs switch, a press is answered, nothing is left hidden.

Firefox is driven by what it brings itself, Marionette: playwright drives only a Firefox of its own, and Debian has no
geckodriver. Source: https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

PATIENCE_S = 60


class Firefox:
    """A window that is told what to do over a socket: ``length:[0, number, command, arguments]``."""

    def __init__(self, port: int, until_s: float) -> None:
        while True:
            try:
                self.wire = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
                break
            except OSError:
                assert time.monotonic() < until_s, "Firefox does not listen"
                time.sleep(0.2)
        self.sent = 0
        self._read()  # it introduces itself
        self.ask("WebDriver:NewSession")

    def _read(self) -> Any:
        size = b""
        while not size.endswith(b":"):
            size += self.wire.recv(1)
        told = b""
        while len(told) < int(size[:-1]):
            told += self.wire.recv(int(size[:-1]) - len(told))
        return json.loads(told)

    def ask(self, command: str, **arguments: Any) -> Any:
        self.sent += 1
        order = json.dumps([0, self.sent, command, arguments]).encode()
        self.wire.sendall(str(len(order)).encode() + b":" + order)
        _, _, failed, answer = self._read()
        assert failed is None, failed
        return answer

    def tell(self, script: str, *arguments: Any) -> Any:
        return self.ask("WebDriver:ExecuteScript", script=script, args=list(arguments))["value"]

    def wait(self, script: str, *arguments: Any) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not self.tell(f"return {script}", *arguments):
            assert time.monotonic() < until_s, script
            time.sleep(0.1)


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Firefox]:
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if found is None:
        pytest.skip("there is no Firefox")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = tmp_path / "profile"
    profile.mkdir()
    wishes = {"marionette.port": port, "browser.shell.checkDefaultBrowser": False, "app.update.enabled": False}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in wishes.items()]
    (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
    environment = {**os.environ, "HOME": str(tmp_path), "MOZ_HEADLESS": "1"}
    command = [found, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        window = None
        try:
            window = Firefox(port, time.monotonic() + PATIENCE_S)
            yield window
        finally:
            if window is not None:
                window.wire.close()
            child.terminate()


TAB = "[...document.querySelectorAll('[role=tab]')].find((tab) => tab.checkVisibility() && tab.dataset.tabId === %s)"
SEEN = "[...document.querySelectorAll('[role=tabpanel]')].some((panel) => panel.checkVisibility(" + (
    "{visibilityProperty: true}) && panel.innerText.includes(arguments[0]))"
)


def test_the_page_opens_its_tabs_switch_and_a_press_is_answered(firefox: Firefox, full_studio: str) -> None:
    firefox.ask("WebDriver:Navigate", url=full_studio)
    firefox.wait(f"{TAB % repr('check')} !== undefined")
    firefox.tell(f"{TAB % repr('check')}.click()")
    firefox.wait(SEEN, "Check photos")
    for tab, text in (("train", "Base model"), ("generate", "Pictures per prompt"), ("publish", "Who can see it")):
        firefox.tell(f"{TAB % repr(tab)}.click()")
        firefox.wait(SEEN, text)
    firefox.tell(
        "[...document.querySelectorAll('.ls-form button.lg')].find((one) => one.innerText === 'Publish').click()"
    )
    firefox.wait("document.querySelector('#ls-publish-notice').innerText.includes('thing to change')")
    assert firefox.tell("return document.querySelector('#ls-publish-repo .ls-wrong') !== null"), "beside its field, too"
