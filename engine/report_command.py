"""What `mothlight report` does."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from rich.console import Console

from mothlight.engine.command import answering, database_of, opened
from mothlight.engine.console import print_line
from mothlight.engine.errors import UserError
from mothlight.engine.streams import say, tolerant
from mothlight.reports.build import build_report, read_against
from mothlight.reports.printing import print_pdf
from mothlight.reports.summaries import as_json, as_junit, as_markdown, as_model_card, schema
from mothlight.sql import Store


@dataclass(frozen=True, slots=True)
class Form:
    """What is asked for: files, or one text on standard output."""

    kind: Literal["folder", "file", "pdf", "json", "schema", "markdown", "model card", "junit"]
    path: Path | None = None
    classifier: str = ""


MEMORY = 500
"""Megabytes of the database's pages at first, so that a report stays under 1 GiB where that is possible."""
FILES = ("folder", "file", "pdf")


def report_command(audit: Path, forms: Sequence[Form], against: Path | None) -> None:
    """Write or print an audit's report.

    Raises:
        UserError: two texts are asked for at once, or something can't be read or written.
    """
    if sum(form.kind not in FILES for form in forms) > 1:
        raise UserError("--json, --schema, --markdown, --model-card and --junit each fill standard output: give one.")
    with ExitStack() as stack:
        store = stack.enter_context(opened(audit))
        store.start_small(MEMORY)
        other = None
        if against is not None:
            same = against.exists() and database_of(against).samefile(store.path)
            other = store if same else stack.enter_context(opened(against))
        speaks = any(form.kind not in FILES for form in forms)
        for form in forms:
            if form.kind in FILES:
                page = _written(store, other, audit, form)
                if speaks:  # the text alone goes to standard output
                    print_line(Console(file=tolerant(sys.stderr)), str(page))
                else:
                    say(page)
            else:
                text = _text(store, other, form)
                with answering():
                    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
                    sys.stdout.flush()


def _written(store: Store, other: Store | None, audit: Path, form: Form) -> Path:
    def tell(what: str) -> None:
        if sys.stderr.isatty():
            print_line(Console(file=tolerant(sys.stderr)), f"report: {what}")

    if form.kind == "folder":
        return build_report(store, form.path or database_of(audit).parent / "report", against=other, tell=tell)
    path = form.path or Path("report.html")
    if form.kind == "file":
        return build_report(store, path, single=True, against=other, tell=tell)
    with TemporaryDirectory() as folder:
        page = build_report(store, Path(folder) / "report.html", single=True, against=other, tell=tell)
        tell("printing")
        return print_pdf(page, path)


def _text(store: Store, other: Store | None, form: Form) -> str:
    if form.kind == "schema":
        return schema()
    report = read_against(store, other)
    match form.kind:
        case "json":
            return as_json(report)
        case "markdown":
            return as_markdown(report)
        case "model card":
            return as_model_card(report, form.classifier)
        case _:
            return as_junit(report)
