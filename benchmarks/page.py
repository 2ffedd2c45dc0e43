"""How fast the page is, and what fifty open ones cost the server.

::

    python -m benchmarks.page --home out/page --out benchmarks/results/page.json

starts the studio on a fresh home, opens the page in Chromium (without one, that part is left out) and goes through all
tabs, empty and with results. Then fifty pages are open, idle at first, afterwards watching a training: each holds
Gradio's heartbeat and asks what the page asks, in its own rhythm. They are played by one HTTP client, because fifty
browsers would be measured instead of the server. Last, a gallery of five hundred pictures is scrolled from its top to
its end; those are of the scripted studio of the tests, since drawing them would take an hour.

Times are those of this machine as busy as it is, so the least of several rounds counts, and the load is told beside
them. The server's processor time is its own: it grows little when others want the processor, too. The training is a
process of its own, and not in it.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import re
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.screenshots import ROOT, served
from studio.client import Client
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.settings import Settings
from studio.pocket.samples import SAMPLE_CLASS_NOUN, SAMPLE_NAME, sample_photos
from studio.web.page.context import POLL_S

TABS = ("Library", "Photos", "Train", "Generate", "Finish", "Publish")
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_ROUNDS = 3
_PICTURES = 500
_PATIENCE_MS = 300_000
SWITCH = """
(door) => new Promise((done) => {
    const open = () => [...document.querySelectorAll('[role=tabpanel]')].find((panel) => panel.checkVisibility());
    const before = open(), start = performance.now();
    const look = () => {
        const passed = performance.now() - start;
        if (door.getAttribute('aria-selected') === 'true' && open() && open() !== before) done(passed);
        else if (passed > 5000) done(null);
        else requestAnimationFrame(look);
    };
    door.click();
    requestAnimationFrame(look);
})
"""
"""Presses a tab; tells after how many milliseconds its panel is drawn, or null after five seconds."""

SCREENFUL = """
async (by) => {
    scrollBy(0, by);
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    return scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
}
"""
"""Scrolls on; tells whether that was the end."""
LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longTasks.push(task.duration);
}).observe({type: 'longtask'});
"""
"""Notes every task of the page's thread that takes more than 50 ms by the clock."""


class Browser:
    """A page in Chromium, opened once; what it measures is the least of several rounds."""

    def __init__(self, playwright: Any, executable: str, address: str) -> None:
        self._browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        self._address = address

    def first_page_s(self) -> float:
        """Return how long the page takes in a fresh window until its first button can be pressed, seconds."""
        taken_s = []
        for _ in range(_ROUNDS):
            window = self._browser.new_context(viewport={"width": 1280, "height": 720})
            page = window.new_page()
            page.set_default_timeout(_PATIENCE_MS)
            started_s = time.perf_counter()
            page.goto(self._address)
            page.get_by_role("button", name="Try it with sample photos").wait_for()
            taken_s.append(time.perf_counter() - started_s)
            window.close()
        return round(min(taken_s), 2)

    def tab_switch_ms(self) -> dict[str, float | None]:
        """Return how long each tab takes to be drawn after its press, milliseconds."""
        page = self._browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(self._address)
        page.get_by_role("tab", name=TABS[0]).wait_for()  # with results it opens on another one
        page.wait_for_timeout(2000)  # what the page asks at its opening has come
        found: dict[str, list[float]] = {tab: [] for tab in TABS}
        for _ in range(_ROUNDS):
            for tab in TABS:
                taken = page.evaluate(SWITCH, page.get_by_role("tab", name=tab).element_handle())
                found[tab] += [] if taken is None else [taken]
        page.close()
        return {tab: round(min(taken), 1) if taken else None for tab, taken in found.items()}

    def scrolled(self, job: str) -> dict[str, Any]:
        """Return how busy the page is while a gallery is scrolled to its end, screenful by screenful, milliseconds."""
        page = self._browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(f"{self._address}/?job={job}")
        page.locator("#ls-pictures figure").nth(_PICTURES - 1).wait_for(state="attached")
        page.wait_for_timeout(2000)
        page.evaluate(LONG_TASKS)
        # Time of the page's own thread, not of the clock: on a busy machine a task waits for a core, too.
        meter = page.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})

        def spent_ms() -> float:
            metrics = meter.send("Performance.getMetrics")["metrics"]
            return next(1000 * row["value"] for row in metrics if row["name"] == "TaskDuration")

        steps, at_end, before = [], False, spent_ms()
        while not at_end and len(steps) < 400:
            at_end = page.evaluate(SCREENFUL, 860)
            now = spent_ms()
            steps.append(now - before)
            before = now
        long_tasks = page.evaluate("window.longTasks")
        page.close()
        return {
            "pictures": _PICTURES,
            "screenfuls": len(steps),
            "thread_ms_mean": round(statistics.mean(steps), 1),
            "thread_ms_longest": round(max(steps), 1),
            "tasks_over_50_ms": len(long_tasks),
            "longest_task_ms": round(max(long_tasks, default=0.0), 1),
        }

    def close(self) -> None:
        """End Chromium."""
        self._browser.close()


class OpenPage:
    """What an open page asks of the server: at its opening, then every ``POLL_S`` while its job runs."""

    def __init__(self, http: httpx.AsyncClient, name: str, config: dict[str, Any]) -> None:
        self._http, self._name = http, name
        steps = [step for step in config["dependencies"] if step["backend_fn"] and step["targets"]]
        timers = {part["id"] for part in config["components"] if part["type"] == "timer"}
        self.opening = next(step for step in steps if step["targets"][0][1] == "load")
        self.ticks = {step["targets"][0][0]: step for step in steps if step["targets"][0][0] in timers}
        self._values: dict[int, Any] = {}
        self.taken_s: list[float] = []
        self._active: list[int] = []

    async def ask(self, step: dict[str, Any]) -> dict[int, Any]:
        """Send one event with the values that the page has; return the answer by component."""
        body = {
            "data": [self._values.get(part) for part in step["inputs"]],
            "fn_index": step["id"],
            "session_hash": self._name,
            "trigger_id": step["targets"][0][0],
        }
        started_s = time.perf_counter()
        answer = await self._http.post("/gradio_api/run/predict", json=body)
        self.taken_s.append(time.perf_counter() - started_s)
        answer.raise_for_status()
        told = dict(zip(step["outputs"], answer.json()["data"], strict=True))
        self._values |= {part: value for part, value in told.items() if isinstance(value, str)}
        return told

    async def open(self) -> None:
        """Open the page and hold its heartbeat."""
        self._beating = asyncio.create_task(self._beat())
        told = await self.ask(self.opening)
        timers = (part for part in self.ticks if isinstance(told.get(part), dict))
        self._active = [part for part in timers if told[part].get("active") is True]

    async def live(self, until_s: float, beginning_s: float) -> None:
        """Look at the job, if one is at work, until the time is over."""
        await asyncio.sleep(beginning_s)  # people do not open their pages in the same moment
        self.taken_s.clear()
        while time.perf_counter() < until_s:
            await asyncio.sleep(POLL_S)
            for part in self._active:
                await self.ask(self.ticks[part])
        self._beating.cancel()

    async def _beat(self) -> None:
        async with self._http.stream("GET", f"/gradio_api/heartbeat/{self._name}", timeout=None) as stream:
            async for _ in stream.aiter_bytes():
                pass


def _spent_s(server: psutil.Process) -> float:
    times = server.cpu_times()
    return times.user + times.system


async def _look_on(
    url: str, cookies: httpx.Cookies, server: psutil.Process, pages: int, seconds: float
) -> dict[str, Any]:
    # A browser asks again where the server has just closed an idle connection, after five seconds; here none is so old.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
    async with httpx.AsyncClient(base_url=url, cookies=cookies, limits=limits, timeout=_PATIENCE_MS / 1000) as http:
        config = (await http.get("/config")).json()
        opened = [OpenPage(http, f"page{number:03d}{time.time_ns()}", config) for number in range(pages)]
        before_s = _spent_s(server)
        for page in opened:
            await page.open()
        opening_s = _spent_s(server) - before_s
        before_s, begun_s = _spent_s(server), time.perf_counter()
        lives = (page.live(begun_s + seconds, POLL_S * number / pages) for number, page in enumerate(opened))
        await asyncio.gather(*lives)
        passed_s, spent_s = time.perf_counter() - begun_s, _spent_s(server) - before_s
    answers = sorted(taken_s for page in opened for taken_s in page.taken_s)
    found: dict[str, Any] = {
        "pages": pages,
        "seconds": round(passed_s),
        "server_cpu_ms_per_opening": round(1000 * opening_s / pages, 1),
        "requests_per_s": round(len(answers) / passed_s, 1),
        "server_share_of_a_core": round(spent_s / passed_s, 3),
    }
    if answers:
        look_ms = {"least": answers[0], "median": statistics.median(answers), "p95": answers[int(0.95 * len(answers))]}
        found["look_ms"] = {name: round(1000 * value, 1) for name, value in look_ms.items()}
        found["server_cpu_ms_per_look"] = round(1000 * spent_s / len(answers), 1)
    return found


def _watched(url: str, cookies: httpx.Cookies, server: psutil.Process, pages: int, seconds: float) -> dict[str, Any]:
    """Return what open pages ask, how long answers take, and what they cost the server."""
    with ThreadPoolExecutor(1) as apart:  # the browser's driver holds a loop of its own in this thread
        return apart.submit(asyncio.run, _look_on(url, cookies, server, pages, seconds)).result()


def measure(address: str, home: Path, pages: int, seconds: float, browser: Browser | None) -> dict[str, Any]:
    """Measure one studio that has just started; its home is empty."""
    url = address.split("?")[0].rstrip("/")
    token = re.search(r"token=([^&\s]+)", address)
    (server,) = (child for child in psutil.Process().children() if child.cmdline()[-1].endswith("app.py"))
    with httpx.Client(base_url=url, follow_redirects=True) as visitor:
        visitor.get(address)
        cookies = visitor.cookies
    found: dict[str, Any] = {"memory_bytes": server.memory_info().rss}
    if browser:
        found |= {"first_page_s": browser.first_page_s(), "tab_switch_ms": {"empty": browser.tab_switch_ms()}}
    found["idle"] = _watched(url, cookies, server, pages, seconds)
    with Client(url, token=token[1] if token else None) as studio:
        config = CheckConfig(subject=SAMPLE_NAME, class_noun=SAMPLE_CLASS_NOUN)
        check = studio.check(sample_photos(home / "sample"), config)
        check.wait()
        run = studio.train(check)
        end_s = time.monotonic() + 120
        while run.view()["state"] != "training" and time.monotonic() < end_s:
            time.sleep(0.5)
        found["watching"] = _watched(url, cookies, server, pages, seconds)
        found["watching"]["job"] = run.view()["state"]
        run.cancel()
    if browser:
        found["tab_switch_ms"]["with_results"] = browser.tab_switch_ms()
    return found


def scroll(home: Path, playwright: Any, executable: str) -> dict[str, Any]:
    """Fill a scripted studio with a gallery, and scroll it."""
    path = ROOT / "tests" / "web" / "conftest.py"
    spec = importlib.util.spec_from_file_location("edge_of_benchmarks", path)
    assert spec is not None and spec.loader is not None
    edge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(edge)
    settings = Settings(home=home / "scripted", port=0, presets_dir=edge.write_presets(home / "presets"))
    with edge.serve(settings, home / "scripted.txt") as address, Client(address) as studio:
        config = CheckConfig(subject=SAMPLE_NAME, class_noun=SAMPLE_CLASS_NOUN)
        run = studio.train(studio.check(sample_photos(home / "few", count=5, size_px=64), config))
        job = studio.generate(run, GenerateConfig(pack="places", count=_PICTURES // 2))
        job.wait()
        browser = Browser(playwright, executable, address)
        found = browser.scrolled(job.id)
        browser.close()
    return found


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="a fresh folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--no-browser", action="store_true", help="measure the server only")
    asked = parser.parse_args()
    executable = None if asked.no_browser else next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    load, started_s = os.getloadavg()[0], time.perf_counter()
    with served(asked.home) as address:
        start_s = time.perf_counter() - started_s
        if executable is None:
            found = measure(address, asked.home, asked.pages, asked.seconds, None)
        else:
            from playwright.sync_api import sync_playwright

            with sync_playwright() as playwright:
                browser = Browser(playwright, executable, address)
                found = measure(address, asked.home, asked.pages, asked.seconds, browser)
                browser.close()
                found["scroll"] = scroll(asked.home, playwright, executable)
    machine = {"cores": os.cpu_count(), "load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2)}
    took_s = round(time.perf_counter() - started_s)
    found = {"machine": machine, "took_s": took_s, "start_s": round(start_s, 1), **found}
    asked.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
