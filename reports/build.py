"""Renders the report: one page that needs no network, no script and no file beside it."""

import hashlib
from base64 import b64encode
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.reports.charts import interval_chart
from mothlight.reports.pages import read_page
from mothlight.sql import Store


def build_report(store: Store, out: Path) -> Path:
    """Write the report of an audit into the folder `out`; the page's path.

    Raises:
        UserError: the folder can't be written.
        DiskFullError: there is no room.
    """
    html = render(store)
    page = out / "index.html"
    try:
        out.mkdir(parents=True, exist_ok=True)
        beside = out / ".index.html.new"
        beside.write_text(html, encoding="utf-8")
        beside.replace(page)
    except OSError as error:
        if error.errno == 28:
            raise DiskFullError(f"The disk is full: {page} needs {len(html) / 1e6:.1f} MB.") from error
        raise UserError(f"Can't write the report to {out}: {error.strerror}; name another --out.") from error
    return page


def new_environment() -> Environment:
    """Jinja's, for pages whose every value is escaped and must exist."""
    return Environment(
        loader=PackageLoader("mothlight.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source_hash(text: str) -> str:
    """What a page's policy allows an inline style or script by."""
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(store: Store) -> str:
    """The page as HTML."""
    style = files("mothlight.reports").joinpath("templates", "report.css").read_text(encoding="utf-8")
    environment = new_environment()
    environment.filters |= {"share": _share, "points": _points, "interval": _interval}
    template = environment.get_template("report.html")
    return template.render(
        page=read_page(store),
        style=style,
        style_hash=source_hash(style),
        chart=interval_chart,
        version=version("mothlight"),
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.0f}"


def _interval(row: dict[str, float | None], low: str, high: str) -> str:
    a, b = row[low], row[high]
    return "" if a is None or b is None else f"{100 * a:.0f} to {100 * b:.0f} %"
