"""Whatever is pressed is seen to be pressed: within 300 ms, where the eye is, however slow the server answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

# Every button at two sizes takes a quarter of an hour on two cores; run with -m slow.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TABS = ("Photos", "Train", "Generate", "Finish", "Publish")
SEEN_MS = 300
"""Up to here an answer still belongs to the press."""

SLOW_SERVER = """
const ask = window.fetch;
window.fetch = async (...request) => {
    const address = String(request[0] && request[0].url || request[0]);
    if (window.slow && address.includes('/run/')) await new Promise((done) => setTimeout(done, 700));
    return ask(...request);
};
"""
"""Keeps every answer back for longer than a press may go without an effect."""

SEEN = """
window.isShown = (part) => part.checkVisibility({visibilityProperty: true, opacityProperty: true});
window.seen = () => {
    const inside = (box) => box.width && box.height && box.bottom > 0 && box.top < innerHeight
        && box.right > 0 && box.left < innerWidth;
    const found = [String(document.fullscreenElement)];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const node = texts.currentNode;
        if (!node.data.trim() || !isShown(node.parentElement)) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        if (inside(range.getBoundingClientRect())) found.push(node.data.trim());
    }
    const parts = 'img, input, textarea, [aria-busy=true], [aria-expanded], [aria-selected]';
    for (const part of document.querySelectorAll(parts)) {
        if (!isShown(part) || !inside(part.getBoundingClientRect())) continue;
        found.push([part.tagName, part.currentSrc, part.value, part.checked, part.ariaBusy, part.ariaExpanded,
            part.ariaSelected].join());
    }
    return found.join('\\n');
};
window.watched = (limit) => {
    window.effect = null;
    document.addEventListener('click', () => {
        const start = performance.now(), before = window.before;
        const look = () => {
            const passed = performance.now() - start;
            if (window.seen() !== before) window.effect = passed;
            else if (passed > limit) window.effect = -1;
            else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
    }, {capture: true, once: true});
    window.before = window.seen();
};
"""
"""``seen`` tells what can be read in the window, ``watched`` how long after the next press that is something else."""

UNPRESSED = """
(done) => {
    const name = (button) => (button.ariaLabel || button.innerText || button.title || button.className)
        .trim().replace(/\\s+/g, ' ').slice(0, 60);
    // The second row of tabs is Gradio's, for narrow screens; a browser without a screen fills none.
    const buttons = [...document.querySelectorAll('[role=tabpanel] button')].filter((button) =>
        isShown(button) && !button.disabled
        && !button.matches('[role=tab], [aria-label=Fullscreen]'));
    const next = buttons.find((button) => !done.includes(name(button)));
    if (!next) return null;
    window.next = next;
    next.scrollIntoView({block: 'nearest', behavior: 'instant'});
    return name(next);
}
"""
"""Finds the first button that was not pressed yet, brought into the window as little as a reader would."""


IN_SIGHT = """
(part => { const box = part.getBoundingClientRect(); return box.height && box.top > -2 && box.top < innerHeight; })
"""
"""Whether a part begins in the window."""


def fill(address: str, photos: list[Path]) -> None:
    """Make one job of every kind."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, analytics_enabled=False)
    check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
    run = client.predict(check["id"], api_name="/train")
    pictures = client.predict(run["id"], pack="places", api_name="/generate")
    client.predict([], "plain_white", generate_job=pictures["id"], api_name="/finish")
    client.predict(run["id"], "ada/portrait", dry_run=True, api_name="/publish")
    client.close()


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 720), (390, 844)])
@pytest.mark.parametrize("full", [False, True], ids=["empty", "with results"])
def test_every_press_is_seen_at_once(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, width_px: int, height_px: int, full: bool
) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = sample_photos(tmp_path / "photos", count=5, size_px=64)
    unseen: list[str] = []
    pressed: list[str] = []
    with edge.serve(settings, tmp_path / "server.txt") as address:
        if full:
            fill(address, photos)
        page = visit(address, width_px=width_px, height_px=height_px, script=SLOW_SERVER + SEEN)
        choosers: list[Any] = []
        page.on("filechooser", lambda chooser: choosers.append(chooser))  # an upload opens the system's own window
        for tab in TABS:
            done: list[str] = []
            while True:
                page.evaluate("window.slow = false")
                page.get_by_role("tab", name=tab).click()
                page.wait_for_function("!document.querySelector('[aria-busy=true]')")
                page.wait_for_timeout(120)
                button = page.evaluate(UNPRESSED, done)
                if button is None:
                    break
                done.append(button)
                target = page.evaluate_handle("window.next").as_element()
                target.hover()
                page.evaluate(f"window.slow = true; window.watched({SEEN_MS})")
                target.click()
                effect = page.wait_for_function("window.effect", polling=20).json_value()
                pressed.append(f"{tab}: {button}")
                if effect < 0 and not choosers:
                    unseen.append(pressed[-1])
                choosers.clear()
                page.wait_for_timeout(800)
                page.keyboard.press("Escape")
    assert "; ".join(unseen) == "", f"of {len(pressed)} buttons: {pressed}"
    assert len(pressed) > 12


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 720), (390, 844)])
def test_an_error_stands_below_the_button_and_beside_its_field_and_a_job_comes_into_sight(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, width_px: int, height_px: int
) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = sample_photos(tmp_path / "photos", count=5, size_px=64)
    with edge.serve(settings, tmp_path / "server.txt") as address:
        fill(address, photos)
        page = visit(address, width_px=width_px, height_px=height_px)
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.get_by_role("tab", name="Train").click()
        page.get_by_role("button", name="Advanced").locator("visible=true").click()
        page.get_by_role("button", name="Steps and learning rates").click()
        page.locator("#ls-train-steps").locator("input, textarea").fill("many")
        page.get_by_role("button", name="Advanced").locator("visible=true").click()  # folded away again
        page.get_by_role("button", name="Train", exact=True).click()
        page.locator("#ls-train-notice").get_by_text("is not a whole number").wait_for()
        page.wait_for_function(f"() => {IN_SIGHT}(document.querySelector('#ls-train-notice'))")
        page.locator("#ls-train-steps .ls-wrong").get_by_text("Is not a whole number").wait_for()
        assert page.locator("#ls-train-steps .ls-wrong").is_visible(), "the fold is opened"
        page.locator("#ls-train-steps").locator("input, textarea").fill("6")
        page.locator("#ls-train-steps .ls-wrong").wait_for(state="detached")
        page.get_by_role("button", name="Train", exact=True).click()
        page.locator("#ls-train-notice").get_by_text("is not a whole number").wait_for(state="detached")
        page.wait_for_function(f"() => {IN_SIGHT}(document.querySelector('#ls-train-status'))")
        assert failures == []
