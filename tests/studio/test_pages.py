"""Every page in a headless browser: no errors, and what is clicked does what it says."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed")

from endure import Program  # noqa: E402
from playwright.sync_api import Error  # noqa: E402
from shots import PAGES, act, add, chromium  # noqa: E402


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        context = chromium()
        made = context.__enter__()
    except Error as error:
        pytest.skip(f"no browser: {str(error).splitlines()[0]}")
    yield made
    context.__exit__(None, None, None)


@pytest.fixture
def visit(program: Program, browser: Any) -> Iterator[Any]:
    """Opens a page; whatever its console, its scripts or its requests complain of is kept."""
    opened = []

    def go(path: str, width: int = 1200, scheme: str = "light") -> tuple[Any, list[str]]:
        size = {"width": width, "height": 900}
        page = browser.new_page(viewport=size, color_scheme=scheme)
        opened.append(page)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("requestfailed", lambda asked: wrong.append(asked.url))
        page.on("request", lambda asked: _outside(asked.url) and wrong.append(asked.url))
        answer = page.goto(f"http://127.0.0.1:{program.port}/studio/{path}")
        assert answer.status == 200
        return page, wrong

    yield go
    for page in opened:
        page.close()


def _outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1", "data:", "blob:"))


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (375, "dark")])
def test_pages_work_without_an_error_and_fit_the_screen(
    visit: Any, name: str, width: int, scheme: str
) -> None:
    page, wrong = visit(name, width, scheme)
    act(page, name)
    page.wait_for_timeout(300)
    assert not wrong
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator(".empty.wrong").count() == 0
    dark = page.evaluate("document.documentElement.dataset.theme")
    assert dark == scheme


def test_what_is_laid_on_the_table_changes_what_is_recommended(visit: Any) -> None:
    page, wrong = visit("")
    page.wait_for_selector(".answer")
    first = page.locator(".answer .title").all_inner_texts()
    add(page, "toy story")
    page.wait_for_function(
        "old => document.querySelector('.answer .title')?.innerText !== old", arg=first[0]
    )
    second = page.locator(".answer .title").all_inner_texts()
    assert second and second != first and not wrong
    hidden = second[0]
    page.locator(".answer").first.get_by_label("Hide").click()
    page.wait_for_function(
        "old => document.querySelector('.answer .title')?.innerText !== old", arg=hidden
    )
    assert hidden not in page.locator(".answer .title").all_inner_texts()


def test_a_title_is_never_markup(visit: Any, program: Program) -> None:
    title = "<img src=x onerror=\"document.title='owned'\"> Marzipan"
    program.client.put_items([{"item_id": "evil", "title": title}])
    page, wrong = visit("")
    add(page, "marzipan")
    assert page.locator(".had .title").first.inner_text() == title
    assert page.title() != "owned" and page.locator("img[src=x]").count() == 0 and not wrong


def test_a_dialogue_goes_on(visit: Any) -> None:
    page, wrong = visit("chat")
    act(page, "chat")
    page.get_by_role("button", name="Why?").first.click()
    page.wait_for_function("document.querySelectorAll('.theirs').length === 2")
    page.wait_for_function("!document.querySelectorAll('.theirs')[1].innerText.startsWith('…')")
    assert page.locator(".theirs").nth(1).inner_text() and not wrong


def test_lists_are_walked_by_the_keyboard(visit: Any) -> None:
    page, wrong = visit("")
    page.wait_for_selector(".answer")
    page.keyboard.press("/")
    page.keyboard.type("star wars")
    page.wait_for_selector(".pick >> nth=2")
    titles = page.locator(".pick .title").all_inner_texts()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(".had .title")
    assert page.locator(".had .title").first.inner_text() == titles[1] and not wrong


def test_one_goes_on_from_a_recommendation_and_from_a_neighbour(visit: Any) -> None:
    page, wrong = visit("")
    title = page.locator(".answer .title").first.inner_text()
    page.locator(".answer .title").first.click()
    page.wait_for_selector(".had .title")
    assert page.locator(".had .title").first.inner_text() == title
    names, errors = visit("names")
    names.locator(".finder input").first.fill("toy story")
    names.wait_for_selector(".finder .pick")
    names.locator(".finder .pick").first.click()
    names.wait_for_selector(".chosen")
    beside = names.locator(".panel").first.locator(".pick .title").first
    title = beside.inner_text()
    beside.click()
    names.wait_for_function(
        "title => document.querySelector('.chosen .title').innerText === title", arg=title
    )
    assert not wrong and not errors


def test_a_page_that_is_not_there_says_so(browser: Any, program: Program) -> None:
    page = browser.new_page()
    answer = page.goto(f"http://127.0.0.1:{program.port}/studio/nothing")
    assert answer.status == 404 and "Nothing is here" in page.inner_text("h1")
    page.close()
