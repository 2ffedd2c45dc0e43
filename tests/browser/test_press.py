"""Whatever is pressed is seen to be pressed: within 300 ms, where the eye is, however slow the server answers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from studio.core.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SIZES = [(1280, 720), (390, 844)]
TABS = ("Library", "Photos", "Train", "Generate", "Finish", "Publish")
BELOW = "below the tabs"
SEEN_MS = 300
"""Up to here an answer still belongs to the press."""
KEPT_EMPTY = ("Try it with sample photos",)
"""Buttons of the empty page that would fill it: their requests are held for good, and they are the last."""

SLOW_SERVER = """
window.effect = -1;
window.asked = 0;
const ask = window.fetch;
window.fetch = async (...request) => {
    if (!String(request[0]?.url ?? request[0]).includes('/run/')) return ask(...request);
    while (window.effect === null || window.held) await new Promise((done) => setTimeout(done, 10));
    window.asked += 1;
    return ask(...request).finally(() => { window.asked -= 1; });
};
"""
"""Keeps every question to the server back until the press has had its effect, or should have had it."""

SEEN = """
window.drawn = performance.now();
new MutationObserver(() => { window.drawn = performance.now(); }).observe(document, {childList: true, subtree: true});
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
    const parts = 'img, input, textarea, [aria-busy=true], [aria-expanded], [aria-selected], [aria-pressed]';
    for (const part of document.querySelectorAll(parts)) {
        if (!isShown(part) || !inside(part.getBoundingClientRect())) continue;
        found.push([part.tagName, part.currentSrc, part.value, part.checked, part.ariaBusy, part.ariaExpanded,
            part.ariaSelected, part.ariaPressed].join());
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
([done, last, below]) => {
    const name = (button) => (button.dataset.do || button.ariaLabel || button.innerText || button.title
        || button.className).trim().replace(/\\s+/g, ' ').slice(0, 60);
    // Gradio's second row of tabs, for narrow screens; how fast a screen is filled is the window system's affair.
    // A checkpoint that is chosen already stays chosen.
    const chosen = '[data-frame][aria-pressed=true]';
    const foreign = `[role=tab], .tab-wrapper, .overflow-menu, [aria-label=Fullscreen], ${chosen}`;
    const inside = (button) => Boolean(button.closest('[role=tabpanel]')) !== below;
    const buttons = [...document.querySelectorAll('.gradio-container button')].filter((button) =>
        isShown(button) && inside(button) && !button.disabled && !button.closest(foreign)
        && !done.includes(name(button)));
    const next = buttons.find((button) => !last.includes(name(button))) || buttons[0];
    if (!next) return null;
    window.next = next;
    next.scrollIntoView({block: 'nearest', behavior: 'instant'});
    return name(next);
}
"""
"""Finds the first button that was not pressed yet, brought into the window as little as a reader would."""

CALM = """
() => !window.asked && !document.querySelector('[aria-busy=true]') && performance.now() - window.drawn > 200
    && [...document.querySelectorAll('[role=tabpanel]')].some((panel) => isShown(panel) && panel.innerText.trim())
"""
"""Whether every press has its answer, and the page is drawn: a tab is filled some time after it is chosen."""

UNANSWERED = """
() => [window.asked, ...[...document.querySelectorAll('[aria-busy=true]')].map((part) => part.outerHTML.slice(0, 300))]
"""
"""What keeps a page from being calm."""

IN_SIGHT = """
(part => { const box = part.getBoundingClientRect(); return box.height && box.top > -2 && box.top < innerHeight; })
"""
"""Whether a part begins in the window."""


@pytest.fixture(scope="module")
def empty_studio(edge: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a studio without jobs."""
    folder = tmp_path_factory.mktemp("empty")
    settings = Settings(home=folder / "home", port=0, presets_dir=edge.write_presets(folder / "presets"))
    with edge.serve(settings, folder / "server.txt") as address:
        yield address


def settle(page: Any) -> None:
    from playwright.sync_api import TimeoutError as Late

    try:
        page.wait_for_function(CALM, polling=20, timeout=30_000)
    except Late:
        pytest.fail(f"Still without an answer: {page.evaluate(UNANSWERED)}")


def press_all(page: Any, tab: str, choosers: list[Any]) -> tuple[list[str], list[str]]:
    """Press every button of a tab once; returns what was pressed, and what of it had no effect."""
    done: list[str] = []
    unseen: list[str] = []
    door = page.get_by_role("tab", name=tab) if tab != BELOW else None
    while True:
        settle(page)
        if door is not None and door.get_attribute("aria-selected") != "true":  # the last press led elsewhere
            door.click()
            settle(page)
        button = page.evaluate(UNPRESSED, [done, list(KEPT_EMPTY), tab == BELOW])
        if button is None:
            return done, unseen
        done.append(button)
        target = page.evaluate_handle("window.next").as_element()
        page.evaluate(f"window.watched({SEEN_MS})")
        if button in KEPT_EMPTY:
            page.evaluate("window.held = true")
        target.click()
        effect = page.wait_for_function("window.effect", polling=20).json_value()
        if effect < 0 and not choosers:
            unseen.append(button)
        if button in KEPT_EMPTY:
            page.reload()
            page.get_by_role("tab", name=tab).wait_for()
        choosers.clear()
        page.keyboard.press("Escape")


@pytest.mark.parametrize(("width_px", "height_px"), SIZES)
@pytest.mark.parametrize("full", [False, True], ids=["empty", "with results"])
def test_every_press_is_seen_at_once(
    visit: Callable[..., Any], request: pytest.FixtureRequest, width_px: int, height_px: int, full: bool
) -> None:
    address = request.getfixturevalue("full_studio" if full else "empty_studio")
    page = visit(address, width_px=width_px, height_px=height_px, script=SLOW_SERVER + SEEN)
    page.emulate_media(reduced_motion="reduce")  # a page that still scrolls would look like an effect
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))  # an upload opens the system's own window
    pressed, unseen = [], []
    for tab in (*TABS, BELOW):
        of_tab, without = press_all(page, tab, choosers)
        pressed += [f"{tab}: {button}" for button in of_tab]
        unseen += [f"{tab}: {button}" for button in without]
    assert "; ".join(unseen) == "", f"of {len(pressed)} buttons: {pressed}"
    assert len(pressed) > 12


@pytest.mark.parametrize(("width_px", "height_px"), SIZES)
def test_an_error_stands_below_the_button_and_beside_its_field_and_a_job_comes_into_sight(
    visit: Callable[..., Any], full_studio: str, width_px: int, height_px: int
) -> None:
    page = visit(full_studio, width_px=width_px, height_px=height_px)
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
