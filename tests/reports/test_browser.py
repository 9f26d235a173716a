"""The report in a real browser: from disk, without network, with and without scripts, for every eye and on paper."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from unicodedata import normalize

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright
from pypdf import PdfReader

from mothlight.reports.answers import write_answers_page
from mothlight.reports.build import build_report, write_changes
from mothlight.reports.printing import find_browser, print_pdf
from mothlight.reports.reading import read_changes, read_report
from mothlight.reports.words import visible
from mothlight.sql import Store, open_audit
from tests.reports.filling import count, fill, jpeg, many

CHROMIUM = find_browser()
WITH_A_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
AXE = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}

PAYLOADS = (
    "<script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "<svg onload=window.hacked=1>",
    "</script><script>window.hacked=1</script>", "</style><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    '" onmouseover="window.hacked=1', "' autofocus onfocus='window.hacked=1", "<!-- <script>", "]]><script>",
    "{{ 7 * 7 }}", "{% include 'x' %}", "${7*7}", "`${window.hacked=1}`", "&lt;script&gt;", "&#60;b&#62;",
    "<iframe src=http://example.org>", "<link rel=stylesheet href=http://example.org/x.css>", "<base href=http://example.org>",
    "<meta http-equiv=refresh content=0;url=http://example.org>", "'; drop table findings; --", "\\u003cscript\\u003e",
    "<a href=http://example.org>x</a>", "<object data=http://example.org>", "url(http://example.org/x.png)",
)  # fmt: skip
WRAPPERS = ("{}", "x{}y", "\u202e{}", "{}\x00", "\x1b[31m{}", "é😀 {}", "{}\u200d", "{}\n\n{}")
HOSTILE = [wrapper.replace("{}", payload) for payload, wrapper in product(PAYLOADS, WRAPPERS)]


def test_ci_has_a_browser() -> None:
    assert CHROMIUM is not None or not os.environ.get("CI"), "CI needs Chromium: apt-get install chromium"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [], timeout=60_000
        )
        yield found
        found.close()


class Seen:
    """What a page asked for, said and did."""

    def __init__(self, context: BrowserContext, folder: Path) -> None:
        self.page: Page = context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.inside = (folder.as_uri(), "data:", "blob:")
        self.page.on("request", self._request)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.page.on("popup", lambda popup: self.outside.append(popup.url))

    def _request(self, request: Request) -> None:
        if not request.url.startswith(self.inside):
            self.outside.append(request.url)


@contextmanager
def opened(
    browser: Browser, path: Path, *, width: int = 1200, dark: bool = False, scripts: bool = True
) -> Iterator[Seen]:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        offline=True,
    )
    seen = Seen(context, path.parent)
    seen.page.goto(path.as_uri())
    yield seen
    context.close()
    assert seen.outside == []
    assert seen.errors == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of each kind."""
    out = tmp_path_factory.mktemp("browsed")
    with open_audit() as store, open_audit() as other:
        for one in (store, other):
            fill(one, "fly")
            one.rows("insert into cluster_member values ('c', 'plain-1'), ('c', 'plain-2')")
        store.rows("insert into caption_failure values ('plain-1', 'refused')")
        store.rows(
            "insert into hypothesis by name select * replace ('i' as hypothesis_id, 'it is wet.' as description)"
            " from hypothesis"
        )
        store.rows("insert into standing values ('i', 'i', true, 'waits')")
        build_report(store, out, against=other)
        build_report(store, out / "single.html", single=True, against=other)
        write_changes(read_changes(store, other), out / "suite.html")
        (out / "answers").mkdir()
        (out / "answers" / "x.jpg").write_bytes(jpeg())
        write_answers_page([{"image_id": "x", "label": "fly"}], out / "answers")
    return out


KINDS = ["index", "tests", "map", "changes", "ask", "about", "classifier-1", "label-1", "cluster-1", "single", "suite"]


@pytest.fixture(scope="module")
def more_bugs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page after the first, of many bugs."""
    out = tmp_path_factory.mktemp("many")
    with open_audit() as store:
        fill(store, "fly")
        many(store, 54)
        build_report(store, out)
    return out / "bugs-2.html"


@WITH_A_BROWSER
@pytest.mark.parametrize("name", [*KINDS, "bugs-2", "answers/index"])
def test_no_page_has_a_barrier(browser: Browser, folder: Path, more_bugs: Path, name: str) -> None:
    page = more_bugs if name == "bugs-2" else folder / f"{name}.html"
    for dark, width in product((False, True), (390, 1200)):
        with opened(browser, page, dark=dark, width=width) as seen:
            found = Axe().run(seen.page, options=AXE).response["violations"]
            seen.outside.clear()  # axe asks for the style sheet itself
            assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
            wider = seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0, f"{wider} pixels to the right of the screen"


@WITH_A_BROWSER
@pytest.mark.parametrize("name", [*KINDS, "answers/index"])
def test_every_page_is_readable_without_scripts(browser: Browser, folder: Path, name: str) -> None:
    with opened(browser, folder / f"{name}.html", scripts=False) as seen:
        assert seen.page.locator("h1").first.inner_text()
        for picture in seen.page.locator("img").all()[:4]:
            picture.scroll_into_view_if_needed()
            box = picture.bounding_box()
            assert box is not None
            assert box["width"] > 40


@WITH_A_BROWSER
def test_links_lead_somewhere(browser: Browser, folder: Path) -> None:
    for name in KINDS[:-1]:
        with opened(browser, folder / f"{name}.html") as seen:
            for target in seen.page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"):
                file, _, anchor = target.partition("#")
                page = folder / (file or f"{name}.html")
                assert page.is_file(), target
                assert not anchor or f'id="{anchor}"' in page.read_text(encoding="utf-8"), target


@WITH_A_BROWSER
@pytest.mark.parametrize("name", ["index", "single"])
def test_pictures_are_looked_at_by_keyboard(browser: Browser, folder: Path, name: str) -> None:
    with opened(browser, folder / f"{name}.html") as seen:
        page = seen.page
        first = page.locator(".picture").first
        first.focus()
        page.keyboard.press("Enter")
        large = page.locator("dialog[open] img")
        assert large.is_visible()
        sources = [large.get_attribute("src")]
        page.keyboard.press("ArrowRight")
        sources.append(large.get_attribute("src"))
        page.keyboard.press("ArrowLeft")
        assert large.get_attribute("src") == sources[0] != sources[1]
        assert page.evaluate("document.querySelector('dialog img').naturalWidth") == (300 if name == "index" else 256)
        page.keyboard.press("Escape")
        assert not large.is_visible()
        assert page.evaluate("document.activeElement.classList.contains('picture')")


@WITH_A_BROWSER
def test_tables_are_sorted_and_filtered(browser: Browser, tmp_path: Path) -> None:
    with open_audit() as store:
        fill(store, "fly")
        for number in range(12):
            store.rows(
                "insert into hypothesis by name select * replace"
                " ($id as hypothesis_id, $text as description, $number as place)"
                " from hypothesis where hypothesis_id = 'h'",
                id=f"i{number}", text=f"it is number {number}.", number=number + 1,
            )  # fmt: skip
            store.rows("insert into standing values ($id, $id, true, 'waits')", id=f"i{number}")
        build_report(store, tmp_path)
    with opened(browser, tmp_path / "tests.html") as seen:
        table = seen.page.locator("table").first
        rows = table.locator("tbody tr")
        before = rows.all_inner_texts()
        table.locator("thead button").first.click()
        table.locator("thead button").first.click()
        assert sorted(rows.all_inner_texts()) == sorted(before)
        assert rows.all_inner_texts() != before
        assert table.locator("th").first.get_attribute("aria-sort") == "descending"
        seen.page.locator("input[type=search]").first.fill("number 11")
        assert rows.filter(visible=True).all_inner_texts() == [text for text in before if "number 11" in text]


@WITH_A_BROWSER
@pytest.mark.parametrize("name", ["ask", "single"])
def test_sql_is_asked_in_the_page(browser: Browser, folder: Path, name: str) -> None:
    with opened(browser, folder / f"{name}.html") as seen:
        page = seen.page
        page.locator("#ask-sql").fill("select classifier, round(100 * effect) as points from findings")
        page.locator("#ask-form button").click()
        page.locator("#ask-answer td").first.wait_for()
        assert page.locator("#ask-answer").inner_text().split() == ["classifier", "points", "fly", "100"]
        assert "1 row" in page.locator("#ask-status").inner_text()
        for place in range(page.locator("#ask-example option").count()):
            page.locator("#ask-example").select_option(index=place)
            expect(page.locator("#ask-status")).to_contain_text(" ms")
        page.locator("#ask-sql").fill("select 1 from nowhere")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#ask-status")).to_contain_text("no such table")


@WITH_A_BROWSER
def test_the_map_shows_the_picture_that_is_pointed_at(browser: Browser, folder: Path) -> None:
    for name in ("map", "single"):
        with opened(browser, folder / f"{name}.html") as seen:
            seen.page.locator(".map circle").first.hover()
            assert seen.page.locator("#peek img").is_visible()
            assert "(fly), group 1" in seen.page.locator("#peek").inner_text()


def _hostile(store: Store) -> None:
    fill(store, HOSTILE[3])
    for number, text in enumerate(HOSTILE):
        store.rows(
            "insert into hypothesis by name select * replace"
            " ($id as hypothesis_id, $text as description, $number as place) from hypothesis where hypothesis_id = 'h'",
            id=f"i{number}", text=text, number=number + 1,
        )  # fmt: skip
        store.rows("insert into standing values ($id, $id, true, $text)", id=f"i{number}", text=text)
    store.rows("delete from caption")
    store.rows("insert into caption select image_id, $text from image", text=HOSTILE[9])
    store.rows("update audit set generator = $text, name = $text, ended = $text", text=HOSTILE[40])
    store.rows("update run set machine = $text, mothlight_version = $text", text=HOSTILE[80])
    store.rows("update prediction set predicted = $text where wrong", text=HOSTILE[48])
    store.rows("update hypothesis set event = $text", text=HOSTILE[48])
    count(store)


@WITH_A_BROWSER
def test_two_hundred_hostile_strings_are_words(browser: Browser, tmp_path: Path) -> None:
    assert len(set(HOSTILE)) == 200
    with open_audit() as store:
        _hostile(store)
        assert len(read_report(store).waiting) == 200
        build_report(store, tmp_path)
        build_report(store, tmp_path / "single.html", single=True)
    for page in sorted(tmp_path.glob("*.html")):
        with opened(browser, page) as seen:
            assert seen.page.evaluate("typeof window.hacked") == "undefined"
            for element in ("iframe", "object", "base", "meta[http-equiv=refresh]", "[onerror]", "[onload]"):
                assert seen.page.locator(element).count() == 0
            if page.name in ("tests.html", "single.html"):
                shown = set(seen.page.evaluate("[...document.querySelectorAll('bdi')].map(e => e.textContent)"))
                assert {visible(text) for text in HOSTILE} <= shown
            if page.name == "ask.html":
                seen.page.locator("#ask-sql").fill("select caption, predicted, label from failures")
                seen.page.locator("#ask-form button").click()
                seen.page.locator("#ask-answer td").first.wait_for()
                assert HOSTILE[9] in seen.page.locator("#ask-answer td").first.text_content()  # type: ignore[operator]
                assert seen.page.evaluate("typeof window.hacked") == "undefined"


@WITH_A_BROWSER
def test_long_words_leave_the_page_as_wide_as_it_is(browser: Browser, tmp_path: Path) -> None:
    with open_audit() as store:
        fill(store, "w" * 80)
        store.rows("update prompt set description = $text where prompt_id = 'net'", text="w" * 10_000)
        store.rows("update hypothesis set description = $text", text="w" * 10_000)
        build_report(store, tmp_path)
    for page, width in product(sorted(tmp_path.glob("*.html")), (390, 1200)):
        with opened(browser, page, width=width) as seen:
            wider = seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0, (page.name, width, wider)


def printed(pdf: Path) -> str:
    """The text layer, ligatures taken apart."""
    text = " ".join(page.extract_text() for page in PdfReader(pdf).pages)
    return " ".join(normalize("NFKC", text).split())


@WITH_A_BROWSER
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_paper_has_every_column(browser: Browser, folder: Path, tmp_path: Path, paper: str) -> None:
    with opened(browser, folder / "index.html") as seen:
        seen.page.pdf(path=tmp_path / "index.pdf", format=paper, prefer_css_page_size=False)
    said = printed(tmp_path / "index.pdf")
    for words in ("classifier status described plain 0 to 100 % effect pairs e-value q", "+43 to +100", "8 50 0.01"):
        assert words in said, words


@WITH_A_BROWSER
def test_the_pdf_of_the_command_has_every_page(folder: Path, tmp_path: Path) -> None:
    print_pdf(folder / "single.html", tmp_path / "report.pdf")
    said = printed(tmp_path / "report.pdf")
    for words in ("Each bug", "What was not confirmed", "Map of failures", "Method and run", "Label fly", "8 50 0.01"):
        assert words in said, words
