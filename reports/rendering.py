"""Renders pages: Jinja's templates, the policy that allows each page itself alone, and the data inside."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mothlight.reports import document as doc
from mothlight.reports.pages import AskPage, Page
from mothlight.reports.site import Site
from mothlight.reports.words import digits, level, percent, points, signed, visible

STYLE = "report.css"
SINGLE_ROWS = 1000
"""Rows of a table inside a single file."""
Data = list[tuple[str, str]]
"""JSON inside of a page, by the id of its element."""


def environment_of(shown: Callable[[str], str], *, escaped: bool = True) -> Environment:
    """Jinja's, of templates whose every value must exist; `shown` makes a text of others safe to show."""
    made = Environment(
        loader=PackageLoader("mothlight.reports"),
        autoescape=escaped,  # noqa: S701  # of Markdown alone it is not: its texts pass `plain`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
    )
    made.filters |= {"percent": percent, "level": level, "points": points, "signed": signed, "digits": digits}
    return made


@cache
def environment() -> Environment:
    """Of pages, whose every value is escaped, and can't turn or hide what stands around it."""
    made = environment_of(visible)
    made.filters["interval"] = _interval
    return made


def source_hash(text: str) -> str:
    """What a page's policy allows an inline style or script by."""
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def policy(style: str | None, script: str, *, images: str = "'self'", wasm: bool = False) -> str:
    """What a page may load: itself, by hash, and pictures."""
    styles = "'self'" if style is None else f"'sha256-{source_hash(style)}'"
    scripts = f"'sha256-{source_hash(script)}'" + (" 'wasm-unsafe-eval'" if wasm else "")
    return (
        f"default-src 'none'; img-src {images}; style-src {styles}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def render_changes(changes: doc.Changes, headline: str) -> str:
    """A suite's result as a page of its own."""
    style, script = static(STYLE), static("report.js")
    return (
        environment()
        .get_template("suite.html")
        .render(
            changes=changes,
            headline=headline,
            title=f"{changes.against}: mothlight suite",
            data=[],
            style=style,
            script=script,
            policy=policy(style, script, images="data:"),
        )
    )


def render_pages(site: Site, pages: Sequence[tuple[str, Page]], style: str | None) -> str:
    """One file that holds pages; without a style it has its style sheet beside it."""
    damaged = len(site.shelf.damaged)
    bodies = [
        (
            name,
            # it was rendered by an environment that escapes
            Markup(  # noqa: S704
                environment()
                .get_template(f"{type(page).__name__.removesuffix('Page').lower()}.html")
                .render(site=site, report=site.report, page=page, damaged=damaged)
            ),
        )
        for name, page in pages
    ]
    script, data = static("report.js"), _data(site, pages)
    if data:
        script = "\n".join((script, _engine(), static("ask.js")))
    allowed = policy(style, script, images="data:" if site.single else "'self'", wasm=bool(data))
    audit = site.report.audit
    return (
        environment()
        .get_template("layout.html")
        .render(
            site=site,
            report=site.report,
            bodies=bodies,
            data=data,
            policy=allowed,
            style=style,
            script=script,
            title=f"{_title(pages)}{audit.name}, seed {audit.seed}: mothlight report",
        )
    )


def _title(pages: Sequence[tuple[str, Page]]) -> str:
    name = pages[0][0]
    return "" if name == "index" else f"{name.replace('-', ' ')} · "


def _data(site: Site, pages: Sequence[tuple[str, Page]]) -> Data:
    for _, page in pages:
        if isinstance(page, AskPage):
            most = SINGLE_ROWS if site.single else None
            tables = [{"name": one.name, "columns": one.columns, "rows": one.rows[:most]} for one in page.tables]
            return [("sql-engine", _json(_wasm())), ("sql-tables", _json(tables))]
    return []


def _json(value: object) -> str:
    """JSON that can't end the element it stands in."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")


@cache
def static(name: str) -> str:
    """A file beside the templates."""
    return files("mothlight.reports").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _engine() -> str:
    return files("mothlight.reports").joinpath("static", "sql-wasm.js").read_text(encoding="utf-8")


@cache
def _wasm() -> str:
    return b64encode(files("mothlight.reports").joinpath("static", "sql-wasm.wasm.gz").read_bytes()).decode()


def _interval(share: doc.Share) -> str:
    if share.low is None or share.high is None:
        return ""
    low, high = percent(share.low), percent(share.high)
    return f"{low.removesuffix(' %')} to {high}"
