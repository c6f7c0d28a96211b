"""The console in a real browser, with scripts and without: no error, no broken rule of ours, and people can use it."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from house import House
from playwright.async_api import Browser, Page, async_playwright
from stage import CHROMIUM, TOKEN, open_stage

MISSING = not Path(CHROMIUM).exists()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MISSING and not os.environ.get("CI"), reason=f"there is no {CHROMIUM}"),
]
COMPLAINTS = ("error", "warning")
SERIOUS = ("serious", "critical")


class Visitor:
    """Somebody with a browser; what their browser complains about is kept."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    async def sign_in(self, path: str = "/") -> None:
        await self.page.goto(self.url + path)
        await self.page.fill("#token", TOKEN)
        async with self.page.expect_navigation():
            await self.page.click("button.main")

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def text(self) -> str:
        return await self.page.inner_text("body")


@asynccontextmanager
async def visitor(
    browser: Browser, url: str, *, scripts: bool = True, look: Mapping[str, str] = {}
) -> AsyncIterator[Visitor]:
    context = await browser.new_context(java_script_enabled=scripts, viewport={"width": 1280, "height": 800})
    await context.add_cookies(
        [{"name": f"receiver_{name}", "value": value, "url": url} for name, value in look.items()]
    )
    try:
        yield Visitor(await context.new_page(), url)
    finally:
        await context.close()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


def pages_of(house: House, tasks: dict[str, str]) -> list[str]:
    return [
        *("/", "/tasks", "/tasks?state=failed", "/deliveries", "/deliveries/1/body", "/actions", "/actions/2"),
        *("/replays", "/replays/new?preview=1&mode=retry", "/alerts", "/settings"),
        *(f"/tasks/{task}" for task in (tasks["ended"], tasks["missed"], tasks["hostile"])),
        f"/tasks/{tasks['failed']}/submit-again",
    ]


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_somebody_signs_in_looks_at_a_task_and_retries_what_died(tmp_path: Path, scripts: bool) -> None:
    async with (
        open_stage(tmp_path) as (_, tasks, url),
        chromium() as browser,
        visitor(browser, url, scripts=scripts) as guest,
    ):
        page = guest.page
        await guest.sign_in(f"/tasks/{tasks['ended']}")
        assert page.url == f"{url}/tasks/{tasks['ended']}"
        assert "succeeded" in await guest.text()
        assert await page.locator("figure img").count() == 1
        await page.click("tr:has-text('tell-the-shop') button")
        assert "Owed again" in await guest.text()
        await guest.open("/actions?state=dead")
        before = await page.locator("tbody tr").count()
        await page.click("text=Replay these…")
        await page.click("text=Count, and show some")
        await page.click(f"button:has-text('Replay {before}')")
        assert "The replay has begun" in await guest.text()
        await page.click("nav >> text=Actions")
        await page.click(".card:has-text('keep-files') button")
        assert "Paused" in await guest.text()
        await page.click("button:has-text('中文')")
        assert "动作" in await guest.text()
        await page.click("header button:has-text('退出')")
        assert page.url == f"{url}/sign-in"
        assert guest.complaints == []


async def test_no_page_breaks_a_rule_or_says_an_error(tmp_path: Path) -> None:
    async with open_stage(tmp_path) as (house, tasks, url), chromium() as browser, visitor(browser, url) as guest:
        await guest.sign_in()
        for path in pages_of(house, tasks):
            await guest.open(path)
            assert guest.complaints == [], path
            times = await guest.page.locator("time").all_inner_texts()
            assert not any(text.endswith("Z") for text in times), path


@pytest.mark.parametrize("look", [{"theme": "light"}, {"theme": "dark", "language": "zh"}], ids=["light", "dark, zh"])
async def test_people_who_cannot_see_well_or_use_no_mouse_can_use_every_page(
    tmp_path: Path, look: dict[str, str]
) -> None:
    found: list[str] = []
    async with (
        open_stage(tmp_path) as (house, tasks, url),
        chromium() as browser,
        visitor(browser, url, look=look) as guest,
    ):
        await guest.sign_in()
        for path in [*pages_of(house, tasks), "/sign-in"]:
            await guest.open(path)
            for each in (await Axe().run(guest.page)).response["violations"]:
                if each["impact"] in SERIOUS:
                    found += [f"{path}: {each['id']}: {node['html'][:150]}" for node in each["nodes"]]
    assert found == []


async def test_keys_go_where_they_say_and_a_click_copies(tmp_path: Path) -> None:
    async with open_stage(tmp_path) as (_, tasks, url), chromium() as browser, visitor(browser, url) as guest:
        await guest.sign_in()
        page = guest.page
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.keyboard.press("g")
        async with page.expect_navigation():
            await page.keyboard.press("t")
        assert page.url == f"{url}/tasks"
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.name") == "q"
        await page.keyboard.press("j")  # a letter like any other here
        assert await page.input_value("[name=q]") == "j"
        await guest.open(f"/tasks/{tasks['ended']}")
        await page.click(f'button[data-copy="{tasks["ended"]}"]')
        await page.wait_for_selector("button.copied")
        assert await page.evaluate("navigator.clipboard.readText()") == tasks["ended"]


async def test_what_changes_is_shown_as_it_does_and_what_is_new_waits(tmp_path: Path) -> None:
    async with open_stage(tmp_path) as (house, tasks, url), chromium() as browser, visitor(browser, url) as guest:
        await guest.sign_in("/tasks")
        page = guest.page
        await page.wait_for_selector(".lamp.alive")
        row = page.locator(f"#row-{tasks['queued']}")
        assert "queued" in await row.inner_text()
        await house.advance(30)
        await page.wait_for_selector(f"#row-{tasks['queued']} .state.ok")
        new = await house.submit()
        await page.wait_for_selector("#news a")
        assert await page.locator(f"#row-{new}").count() == 0  # nothing moves under the pointer
        await page.click("#news a")
        await page.wait_for_selector(f"#row-{new}")
        await guest.open(f"/tasks/{new}")
        await page.wait_for_selector(".lamp.alive")
        await page.click("summary:has-text('Input')")
        await house.advance(30)
        await page.wait_for_selector("h1 .state.ok")
        assert await page.locator("details[open] >> text=Use the first image").count() == 1
        assert guest.complaints == []


async def test_seven_pages_at_once_hold_up_none_of_them(tmp_path: Path) -> None:
    """A browser has six connections to a server on plain HTTP; only the page that is seen holds one."""
    async with open_stage(tmp_path) as (_, _, url), chromium() as browser, visitor(browser, url) as guest:
        await guest.sign_in()
        for _ in range(7):
            page = await guest.page.context.new_page()
            await page.goto(f"{url}/tasks", timeout=10_000)
            assert await page.locator("tbody tr").count() > 5


async def test_another_site_can_neither_press_nor_load_anything(tmp_path: Path) -> None:
    async with open_stage(tmp_path) as (house, _, url), chromium() as browser, visitor(browser, url) as guest:
        await guest.sign_in()
        foreign = url.replace("127.0.0.1", "localhost")  # another site, as far as the browser is concerned
        await guest.page.goto(f"{foreign}/sign-in")
        await guest.page.evaluate(
            """(url) => fetch(url + "/definitions/keep-files/pause", {method: "POST", mode: "no-cors",
               credentials: "include"}).catch(() => null)""",
            url,
        )
        states = await house.store.definition_states()
        assert not next(each for each in states if each.name == "keep-files").paused
