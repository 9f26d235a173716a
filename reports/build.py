"""Writes a report: a folder of pages with their pictures beside, or one file with everything inside."""

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.reports import document as doc
from mothlight.reports.asking import in_blocks
from mothlight.reports.pictures import FOLDER, PictureFiles, PicturesInside, Read, write_whole
from mothlight.reports.reading import read_changes, read_report
from mothlight.reports.rendering import STYLE, render_changes, render_pages, static
from mothlight.reports.site import Site
from mothlight.reports.words import listed
from mothlight.sql import Store

WRITTEN = ".report.json"
"""In a report's folder: whose it is, and which files are its own."""
Tell = Callable[[str], None]


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
    with told(out):
        if single:
            return _write_file(report, PicturesInside(read), out)
        return _write_folder(report, read, out, tell)


def _single(report: doc.Report, shelf: PicturesInside) -> str:
    site = Site(report, shelf, single=True)
    site.prepare_pictures()
    return render_pages(site, site.pages(), style=static(STYLE))


def _write_file(report: doc.Report, shelf: PicturesInside, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, _single(report, shelf).encode())
    return out


def _write_folder(report: doc.Report, read: Read, out: Path, tell: Tell) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    before = _written(out)
    # ids of images are the same in audits that differ in their seed alone
    same = before.audit == report.audit.audit_id
    if not same:
        _note(out, _Written(audit="", files=before.files))  # until it is whole it is no audit's
    shelf = PictureFiles(out / FOLDER, read, trusted=same)
    site = Site(report, shelf, single=False)
    tell("pictures")
    site.prepare_pictures()
    pages = site.pages()
    tell(f"{len(pages):,} pages")
    names = {STYLE}
    _write_changed(out / STYLE, static(STYLE))
    for name, page in pages:
        _write_changed(out / f"{name}.html", render_pages(site, [(name, page)], style=None))
        names.add(f"{name}.html")
    names |= shelf.names
    _remove(out, [name for name in before.files if name not in names])
    _note(out, _Written(audit=report.audit.audit_id, files=sorted(names)))
    return out / "index.html"


class _Written(BaseModel):
    """What an earlier build wrote."""

    audit: str = ""
    """Whose it is; empty: nobody's, or half of it."""
    files: list[str] = []


def _written(out: Path) -> _Written:
    try:
        return _Written.model_validate_json((out / WRITTEN).read_bytes())
    except (OSError, ValueError):
        return _Written()


def _note(out: Path, written: _Written) -> None:
    _write_changed(out / WRITTEN, written.model_dump_json(indent=1))


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


def write_changes(changes: doc.Changes, out: Path) -> Path:
    """Write a suite's result as a page of its own; the page.

    Raises:
        UserError, DiskFullError: it can't be written.
    """
    counts = Counter(row.kind for row in changes.rows)
    said = listed([f"{count} {kind}" for kind, count in counts.items()], 9) or "no finding was asked"
    html = render_changes(changes, f"{changes.of}: {said}.")
    with told(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, html.encode())
    return out


@contextmanager
def told(out: Path) -> Iterator[None]:
    """What can't be written inside is one sentence.

    Raises:
        UserError, DiskFullError: it is so.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: the report can't be written to {out}.") from error
        raise UserError(f"Can't write the report to {out}: {error.strerror}; name another --out.") from error
