"""The dashboard in a real headless Chromium: it loads, lives, asks nobody else, and axe finds nothing (WCAG AA)."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # pyright: ignore[reportMissingTypeStubs] - it has none
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.chain.registered import health
from tests.cli.command import run
from tests.conftest import StartMiner
from tests.dashboard.past import write_past
from tests.miner.process import MinerProcess
from tests.miner.validator import Hotkey

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
WAIT_MS: Final = 60_000
STANDARDS: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED: the dashboard in a browser: `apt install chromium`"),
    # Two cores that others use too: a browser's start alone may take a while.
    pytest.mark.timeout(600),
]


class Watched:
    """A browser's page that remembers what it should not do."""

    def __init__(self, context: BrowserContext, port: int) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url, port))

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.wrong.append(text)

    def _request(self, url: str, port: int) -> None:
        if not url.startswith("data:") and urlsplit(url).netloc != f"127.0.0.1:{port}":
            self.wrong.append(url)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS], timeout=WAIT_MS * 3)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shown(start_miner: StartMiner, tmp_path_factory: pytest.TempPathFactory) -> MinerProcess:
    """A miner with a day behind it."""
    hotkeys = [Hotkey().ss58 for _ in range(8)]
    home = tmp_path_factory.mktemp("past")
    write_past(home / "state", hotkeys)
    return start_miner(home=home, VALIDATOR_HOTKEYS=",".join(hotkeys), MAX_CONCURRENT_REQUESTS=4)


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures of this run lie."""
    return tmp_path_factory.mktemp("screenshots")


def opened(browser: Browser, miner: MinerProcess, **given: Any) -> tuple[BrowserContext, Watched]:  # noqa: ANN401 - a context's options
    context = browser.new_context(**given)
    watched = Watched(context, miner.admin_port)
    watched.page.goto(f"http://127.0.0.1:{miner.admin_port}/")
    return context, watched


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (768, "light"), (1280, "light"), (1920, "dark")])
def test_it_is_clean_in_both_themes_and_all_widths(
    browser: Browser, shown: MinerProcess, screenshots: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    context, watched = opened(browser, shown, color_scheme=scheme, viewport={"width": width, "height": 900})
    page = watched.page
    expect(page.locator("#link")).to_have_text("Live", timeout=WAIT_MS)
    page.screenshot(path=screenshots / f"{scheme}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out to the side"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) < 200
    assert dark == (scheme == "dark")
    page.locator("details").first.evaluate("one => { one.open = true }")
    found: Any = Axe().run(page, options={"runOnly": STANDARDS})  # pyright: ignore[reportUnknownMemberType] - no types
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 15, "axe did look"
    assert watched.wrong == []
    context.close()


def test_it_lives_pauses_and_goes_on(browser: Browser, start_miner: StartMiner) -> None:
    miner = start_miner()
    context, watched = opened(browser, miner)
    page = watched.page
    expect(page.locator("#link")).to_have_text("Live", timeout=WAIT_MS)
    expect(page.locator("#last")).to_contain_text("None yet", timeout=WAIT_MS)

    def ask() -> None:
        done = run(miner.home, "challenge", "hello", "--url", f"http://127.0.0.1:{miner.port}", "--json")
        assert done.code == 0, done.err

    ask()
    rows = page.locator("#last tbody tr")
    expect(rows).to_have_count(1, timeout=WAIT_MS)
    expect(rows.first).to_contain_text("ok")
    expect(page.locator("#hour .figures dd").first).to_have_text("1", timeout=WAIT_MS)
    page.locator("#pause").click()
    expect(page.locator("#link")).to_have_text("Paused")
    ask()
    page.wait_for_timeout(5000)
    assert rows.count() == 1
    page.locator("#pause").click()
    expect(rows).to_have_count(2, timeout=WAIT_MS)
    assert watched.wrong == []
    context.close()


def test_what_the_reader_opened_stays_open(browser: Browser, shown: MinerProcess) -> None:
    context, watched = opened(browser, shown)
    page = watched.page
    expect(page.locator("#link")).to_have_text("Live", timeout=WAIT_MS)
    page.locator("#day summary").click()
    page.locator("h1").click()
    done = run(shown.home, "challenge", "hello", "--url", f"http://127.0.0.1:{shown.port}", "--json")
    assert done.code in {0, 3}, done.err
    page.wait_for_timeout(6000)
    assert page.locator("#day details").evaluate("one => one.open")
    assert page.locator("#day tbody tr").count() == 24
    context.close()


def test_drain_and_resume_by_keyboard_and_without_javascript(browser: Browser, start_miner: StartMiner) -> None:
    miner = start_miner()
    context, watched = opened(browser, miner, java_script_enabled=False)
    page = watched.page
    assert page.locator("noscript a").count() == 1
    expect(page.locator("#banner")).to_contain_text("Ready")
    page.locator("#token").fill("not it")
    page.locator("#token").press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("STATE_DIR/admin-token", timeout=WAIT_MS)
    assert not health(miner)["admission"]["draining"]
    page.locator("#token").fill(miner.admin_token)
    page.get_by_role("button", name="Drain").click()
    expect(page.locator("#banner")).to_contain_text("Draining", timeout=WAIT_MS)
    assert health(miner)["admission"]["draining"]
    assert urlsplit(page.url).path == "/"
    page.locator("#token").fill(miner.admin_token)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#banner")).to_contain_text("Ready", timeout=WAIT_MS)
    assert not health(miner)["admission"]["draining"]
    context.close()


def test_a_miner_that_goes_away_is_said_and_comes_back(browser: Browser, start_miner: StartMiner) -> None:
    miner = start_miner()
    context, watched = opened(browser, miner)
    page = watched.page
    expect(page.locator("#link")).to_have_text("Live", timeout=WAIT_MS)
    miner.stop()
    expect(page.locator("#link")).to_contain_text("Connection lost", timeout=WAIT_MS)
    miner.restart()
    expect(page.locator("#link")).to_have_text("Live", timeout=WAIT_MS)
    context.close()
