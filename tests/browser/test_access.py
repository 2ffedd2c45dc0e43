"""Everybody can use the page: axe on every tab with results, in both modes and sizes, and what axe does not see.

STUDIO_SCREENSHOTS=<folder> keeps the table of docs/ACCESS.md as access.md, and a picture of each tab.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

TABS = ("Library", "Photos", "Train", "Generate", "Finish", "Publish")
OPERATORS = "This machine"
"""The tab that a link at the foot of the page opens."""
SIZES = {"desktop": (1280, 720), "phone": (390, 844)}
IMPACTS = ("critical", "serious", "moderate", "minor")

SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
    for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.shifts += shift.value;
}).observe({type: 'layout-shift', buffered: true});
"""
"""Adds up how far things jump without being asked to. Source: https://web.dev/articles/cls, good is up to 0.1."""


def calm(page: Any) -> None:
    page.wait_for_function("!document.querySelector('[aria-busy=true]')")
    page.wait_for_timeout(400)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_axe_finds_nothing_serious_on_any_tab_and_nothing_jumps_at_first_or_fails(
    visit: Callable[..., Any], full_studio: str, shot: Callable[[Any, str], None], size: str, dark: bool
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    width_px, height_px = SIZES[size]
    mode = "dark" if dark else "light"
    said: list[str] = []
    page = visit(full_studio, width_px=width_px, height_px=height_px, dark=dark, script=SHIFTS)
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    calm(page)
    rows, wrong = [], []
    assert page.evaluate("window.shifts") < 0.1, "a page that is opened does not jump"
    for tab in (*TABS, OPERATORS):
        if tab == OPERATORS:
            page.get_by_role("link", name=tab).click()  # opens the page anew
            page.get_by_role("tab", name=tab, selected=True).wait_for()
            page.locator("#ls-admin-holdings").get_by_text("Result cache").first.wait_for()
        else:
            page.get_by_role("tab", name=tab).click()
        calm(page)
        shot(page, f"access-{tab.lower()}-{size}-{mode}")
        found = Axe().run(page).response
        counts = Counter(rule["impact"] for rule in found["violations"])
        rows.append(
            f"| {tab} | {size}, {mode} | {' | '.join(str(counts[i]) for i in IMPACTS)} | {len(found['passes'])} |"
        )
        wrong += [
            f"{tab}: {rule['impact']} {rule['id']}: {node['html'][:300]} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"][:3]
            if rule["impact"] in ("serious", "critical")
        ]
    if folder := os.environ.get("STUDIO_SCREENSHOTS"):
        with (Path(folder) / "access.md").open("a", encoding="utf-8") as table:
            table.write("\n".join(rows) + "\n")
    assert "\n".join(wrong) == ""
    assert said == []


RING = """
(field) => {
    const ring = getComputedStyle(field.closest('label') || field);
    return ring.outlineStyle === 'none' ? 0 : parseFloat(ring.outlineWidth);
}
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_who_uses_the_keyboard_sees_where_they_are_and_a_reader_hears_names(
    visit: Callable[..., Any], full_studio: str, dark: bool
) -> None:
    page = visit(full_studio, dark=dark)
    page.set_default_timeout(20_000)
    door = page.get_by_role("tab", name="Generate")
    door.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")  # a ring is shown to who came by the keyboard
    assert page.evaluate(RING, door.element_handle()) >= 2
    page.keyboard.press("Enter")
    for name in ("Pack", "What to generate"):
        radio = page.get_by_role("group", name=name).get_by_role("radio").first
        radio.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert page.evaluate(RING, radio.element_handle()) >= 2, name
    page.get_by_role("tab", name="Photos").click()
    page.get_by_role("button", name="Drop photos here").wait_for()
    assert page.get_by_role("button", name="Take out: sample-01.jpg").count() == 1
    page.get_by_role("tab", name="Library").click()
    page.locator("#ls-subjects").get_by_role("button", name="Ada").wait_for()
