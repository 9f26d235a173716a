"""Writes a report: a folder of pages with their pictures beside, or one file with everything inside."""

import errno
import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.reports import document as doc
from mothlight.reports.blocks import in_blocks
from mothlight.reports.pages import AskPage, Page, Site
from mothlight.reports.pictures import FOLDER, PictureFiles, PicturesInside, Read, write_whole
from mothlight.reports.reading import read_changes, read_report
from mothlight.reports.words import digits, level, listed, percent, points, signed, visible
from mothlight.sql import Store

WRITTEN = ".report.json"
"""In a report's folder: whose it is, and which files are its own."""
SINGLE_ROWS = 2000
"""Rows of a table inside a single file."""
Tell = Callable[[str], None]
Data = list[tuple[str, str]]
"""JSON inside of a page, by the id of its element."""


def build_report(
    store: Store, out: Path, *, single: bool = False, against: Store | None = None, tell: Tell = lambda _: None
) -> Path:
    """Write the report of an audit into the folder `out`, or as the file `out`; the first page's path.

    A second build writes only what changed, and takes away pages that are no longer part of the report.

    Raises:
        UserError: the folder or file can't be written.
        DiskFullError: there is no room.
    """
    tell("reading the audit")
    return write_report(read_against(store, against), reader(store), out, single=single, tell=tell)


def read_against(store: Store, against: Store | None) -> doc.Report:
    """An audit's report, held against another audit if there is one."""
    report = read_report(store)
    return report if against is None else report.model_copy(update={"changes": read_changes(store, against)})


def render(store: Store) -> str:
    """The report as one page with everything inside."""
    return _single(read_report(store), PicturesInside(reader(store)))


def reader(store: Store) -> Read:
    """How the pictures of an audit are read."""

    def read(images: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        yield from in_blocks(store, "pictures", images)

    return read


def write_report(
    report: doc.Report, read: Read, out: Path, *, single: bool = False, tell: Tell = lambda _: None
) -> Path:
    """As `build_report`, of a document and its pictures."""
    with _told(out):
        if single:
            return _write_file(report, PicturesInside(read), out)
        return _write_folder(report, read, out, tell)


def _single(report: doc.Report, shelf: PicturesInside) -> str:
    site = Site(report, shelf, single=True)
    site.prepare_pictures()
    return _document(site, site.pages(), style=_static("report.css"))


def _write_file(report: doc.Report, shelf: PicturesInside, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, _single(report, shelf).encode())
    return out


def _write_folder(report: doc.Report, read: Read, out: Path, tell: Tell) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    before = _written(out)
    if before.get("audit") != report.audit.audit_id:
        # ids of images are the same in audits that differ in their seed alone
        _remove(out, [name for name in before.get("files", []) if name.startswith(f"{FOLDER}/")])
    shelf = PictureFiles(out / FOLDER, read)
    site = Site(report, shelf, single=False)
    tell("pictures")
    site.prepare_pictures()
    pages = site.pages()
    tell(f"{len(pages):,} pages")
    names = {"report.css"}
    _write_changed(out / "report.css", _static("report.css"))
    for name, page in pages:
        _write_changed(out / f"{name}.html", _document(site, [(name, page)], style=None))
        names.add(f"{name}.html")
    names |= shelf.names
    _remove(out, [name for name in before.get("files", []) if name not in names])
    _write_changed(out / WRITTEN, json.dumps({"audit": report.audit.audit_id, "files": sorted(names)}, indent=0))
    return out / "index.html"


def _written(out: Path) -> dict[str, Any]:
    """What an earlier build wrote; nothing where that is not known."""
    try:
        found = json.loads((out / WRITTEN).read_text(encoding="utf-8"))
        return {"audit": str(found["audit"]), "files": [str(name) for name in found["files"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remove(out: Path, names: Sequence[str]) -> None:
    """Take away files that an earlier build wrote, and nothing outside of the folder."""
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder in ("", FOLDER) and file not in ("", ".", ".."):
            (out / folder / file).unlink(missing_ok=True)


def _write_changed(path: Path, text: str) -> None:
    content = text.encode()
    try:
        same = path.read_bytes() == content
    except OSError:
        same = False
    if not same:
        write_whole(path, content)


def new_environment() -> Environment:
    """Jinja's, for pages whose every value is escaped, must exist, and can't turn or hide what stands around it."""
    environment = Environment(
        loader=PackageLoader("mothlight.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "percent": percent,
        "level": level,
        "points": points,
        "signed": signed,
        "digits": digits,
        "interval": _interval,
    }
    return environment


def source_hash(text: str) -> str:
    """What a page's policy allows an inline style or script by."""
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    return new_environment()


def write_changes(changes: doc.Changes, out: Path) -> Path:
    """Write a suite's result as a page of its own; the page.

    Raises:
        UserError, DiskFullError: it can't be written.
    """
    counts = Counter(row.kind for row in changes.rows)
    said = listed([f"{count} {kind}" for kind, count in counts.items()], 9) or "no finding was asked"
    style, script = _static("report.css"), _static("report.js")
    html = (
        _environment()
        .get_template("suite.html")
        .render(
            changes=changes,
            headline=f"{changes.of}: {said}.",
            title=f"{changes.against}: mothlight suite",
            data=[],
            style=style,
            script=script,
            policy=_policy(style, script, images="data:"),
        )
    )
    with _told(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, html.encode())
    return out


def _policy(style: str | None, script: str, *, images: str = "'self'", wasm: bool = False) -> str:
    """What a page may load: itself, by hash, and pictures."""
    styles = "'self'" if style is None else f"'sha256-{source_hash(style)}'"
    scripts = f"'sha256-{source_hash(script)}'" + (" 'wasm-unsafe-eval'" if wasm else "")
    return (
        f"default-src 'none'; img-src {images}; style-src {styles}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """What can't be written is one sentence.

    Raises:
        UserError, DiskFullError: it is so.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: the report can't be written to {out}.") from error
        raise UserError(f"Can't write the report to {out}: {error.strerror}; name another --out.") from error


def _document(site: Site, pages: Sequence[tuple[str, Page]], style: str | None) -> str:
    """One file that holds pages; without a style it has its style sheet beside it."""
    environment = _environment()
    damaged = len(site.shelf.damaged)
    bodies = [
        (
            name,
            # it was rendered by an environment that escapes
            Markup(  # noqa: S704
                environment.get_template(f"{type(page).__name__.removesuffix('Page').lower()}.html").render(
                    site=site, report=site.report, page=page, damaged=damaged
                )
            ),
        )
        for name, page in pages
    ]
    script, data = _static("report.js"), _data(site, pages)
    if data:
        script = "\n".join((script, _engine(), _static("ask.js")))
    policy = _policy(style, script, images="data:" if site.single else "'self'", wasm=bool(data))
    audit = site.report.audit
    return environment.get_template("layout.html").render(
        site=site,
        report=site.report,
        bodies=bodies,
        data=data,
        policy=policy,
        style=style,
        script=script,
        title=f"{_title(pages)}{audit.name}, seed {audit.seed}: mothlight report",
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
def _static(name: str) -> str:
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
