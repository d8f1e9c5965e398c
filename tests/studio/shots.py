"""Pictures of the studio for the documentation.

onoma serve runs/demo/flagship --quiet &
python tests/studio/shots.py http://127.0.0.1:8000 docs/images
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAGES = ("", "names", "runs", "live", "chat", "systems")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser: the system's where there is one, else Playwright's own.

    Raises:
        ImportError: Playwright is not installed.
        playwright.sync_api.Error: there is no browser.
    """
    from playwright.sync_api import sync_playwright

    own = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        yield browser
        browser.close()


def act(page: Any, name: str) -> None:
    """What a visitor would do first."""
    if name == "":
        for title in ("toy story", "star wars"):
            add(page, title)
        page.locator(".because summary").first.click()
        page.wait_for_selector(".parts li")
    elif name == "names":
        page.get_by_label("Title of a new item").fill("The space war")
        page.locator(".finder input").first.fill("toy story")
        page.wait_for_selector(".pick")
        page.locator(".finder input").first.press("Enter")
        page.wait_for_selector(".names-chart path")
    elif name == "runs":
        for box in page.get_by_role("checkbox").all()[:2]:
            box.click()
        page.get_by_role("button", name="Compare", exact=True).click()
        page.wait_for_selector("figure")
    elif name == "chat":
        page.get_by_label("Your message").fill("I liked Toy Story. A comedy, please")
        page.get_by_label("Your message").press("Enter")
        page.wait_for_selector(".said li")
    elif name == "systems":
        page.get_by_label("Name, paper or kind").fill("StreamingVQ")
        page.wait_for_function("document.querySelectorAll('.systems details').length === 1")
        page.locator(".systems summary").click()


def add(page: Any, title: str) -> None:
    """Lay a title into the history."""
    before = page.locator(".had").count()
    page.locator(".finder input").first.fill(title)
    page.wait_for_selector(".pick")
    page.locator(".pick").first.click()
    page.wait_for_function(f"document.querySelectorAll('.had').length > {before}")


def main(url: str, folder: str) -> None:
    """One picture a page, and the first at the width of a phone in the dark."""
    with chromium() as browser:
        for name, width, scheme in [*((page, 1200, "light") for page in PAGES), ("", 390, "dark")]:
            size = {"width": width, "height": 820}
            page = browser.new_page(viewport=size, color_scheme=scheme)
            page.goto(f"{url}/studio/{name}")
            act(page, name)
            page.wait_for_timeout(1500)
            page.mouse.wheel(0, -9999)
            called = f"studio-{name or 'play'}{'-phone' if width < 600 else ''}"
            page.screenshot(path=str(Path(folder) / f"{called}.png"))
            page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
