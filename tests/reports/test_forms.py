"""A report in its other forms: JSON, Markdown, a model card's section, JUnit, PDF; and held against another audit."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft202012Validator

from mothlight.engine.errors import UserError
from mothlight.reports import printing
from mothlight.reports.build import build_report, write_changes
from mothlight.reports.document import Report
from mothlight.reports.printing import print_pdf
from mothlight.reports.reading import read_changes, read_report
from mothlight.reports.summaries import as_json, as_junit, as_markdown, as_model_card, plain, schema
from mothlight.sql import Store, open_audit
from tests.reports.filling import count, fill
from tests.reports.test_report import HOSTILE

SCHEMA = Path(__file__).parents[2] / "reports" / "report.schema.json"


@pytest.fixture
def store() -> Iterator[Store]:
    with open_audit() as opened:
        fill(opened, "fly")
        yield opened


@pytest.fixture
def other() -> Iterator[Store]:
    with open_audit() as opened:
        fill(opened, "fly")
        yield opened


def test_json_is_the_report_and_fits_its_schema(store: Store) -> None:
    report = read_report(store)
    text = as_json(report)
    assert Report.model_validate_json(text) == report
    validator = Draft202012Validator(json.loads(schema()))
    assert list(validator.iter_errors(json.loads(text))) == []
    assert list(validator.iter_errors({**json.loads(text), "bugs": [{}]})) != []


def test_the_schema_in_the_repository_is_this_version_s() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema(), "make schema"


def test_markdown_has_the_verdict_and_a_row_for_each_bug(store: Store) -> None:
    lines = as_markdown(read_report(store)).splitlines()
    assert lines[0] == "### mothlight: bugs confirmed"
    (row,) = [line for line in lines if line.startswith("| 1 |")]
    assert "| fly → bee | fly | 100 % (68 % to 100 %, n = 8) | 0 % (0 % to 32 %, n = 8) |" in row


def test_a_model_card_is_of_one_classifier(store: Store) -> None:
    report = read_report(store)
    assert "| fly → bee | fly | 100 %" in as_model_card(report, "fly")
    with pytest.raises(UserError, match="has no classifier `bee`; it has fly"):
        as_model_card(report, "bee")


def test_junit_has_a_case_for_each_description(store: Store) -> None:
    def cases() -> list[tuple[str, list[str]]]:
        suite = ET.fromstring(as_junit(read_report(store)))[0]  # noqa: S314  # our own
        return [(str(case.get("classname")), [child.tag for child in case]) for case in suite]

    assert cases() == [("fly", ["failure"])]
    store.rows("update decision set status = 'not confirmed'")
    assert cases() == [("fly", [])]
    store.rows("delete from decision")
    store.rows("delete from evidence")
    assert cases() == [("not tested", ["skipped"])]


def test_hostile_words_end_no_cell_and_no_element() -> None:
    with open_audit() as store:
        fill(store, HOSTILE + "\x00\ud7ff\x0b | `x` [a](javascript:b) \n\n# head")
        report = read_report(store)
    assert plain("a|b\n\n# c") == r"a\|b \# c"
    for text in (as_markdown(report), as_model_card(report, report.classifiers[0].classifier)):
        assert not re.search(r"<(?!/?sub>)|(?<!\\)[`\[]", text.replace("`mothlight query AUDIT findings`", ""))
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert len(ET.fromstring(as_junit(report))[0]) == 1  # noqa: S314  # our own
    assert Report.model_validate_json(as_json(report)) == report


def _mended(store: Store) -> None:
    store.rows("update decision set status = 'not confirmed'")
    store.rows("update pair_count set more = 0, failures = 0")
    store.rows("update evidence set low = -0.1, high = 0.1")


def _forgotten(store: Store) -> None:
    store.rows("delete from decision")


def _plain_is_worse(store: Store) -> None:
    store.rows("update prediction set wrong = true, predicted = 'bee' where wave = 0 and index > 0")
    count(store)


@pytest.mark.parametrize(
    ("change", "kinds", "backwards"),
    [
        (lambda _: None, ["unchanged"], ["unchanged"]),
        (_mended, ["fixed"], ["new"]),
        (_forgotten, ["not asked again"], ["not asked before"]),
        (_plain_is_worse, ["worse", "unchanged"], ["unchanged", "better"]),
    ],
)
def test_two_audits_are_held_against_each_other(
    store: Store, other: Store, change: Callable[[Store], object], kinds: list[str], backwards: list[str]
) -> None:
    change(store)
    assert [row.kind for row in read_changes(store, other).rows] == kinds
    assert [row.kind for row in read_changes(other, store).rows] == backwards


def test_changes_have_a_page(store: Store, other: Store, tmp_path: Path) -> None:
    _mended(store)
    build_report(store, tmp_path / "report", against=other)
    page = (tmp_path / "report" / "changes.html").read_text(encoding="utf-8")
    assert "<strong>fixed</strong>" in page
    assert 'href="changes.html"' in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    build_report(store, tmp_path / "report")
    assert not (tmp_path / "report" / "changes.html").exists()
    alone = write_changes(read_changes(store, other), tmp_path / "changes.html").read_text(encoding="utf-8")
    assert "<strong>fixed</strong>" in alone
    assert ": 1 fixed." in alone


def test_without_a_browser_a_pdf_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(printing, "find_browser", lambda: None)
    with pytest.raises(UserError, match="needs Chromium"):
        print_pdf(tmp_path / "page.html", tmp_path / "page.pdf")
    (tmp_path / "page.pdf").write_text("of another day")
    monkeypatch.setattr(printing, "find_browser", lambda: "/bin/true")
    with pytest.raises(UserError, match="did not print"):
        print_pdf(tmp_path / "page.html", tmp_path / "page.pdf")
    monkeypatch.setattr(printing, "find_browser", lambda: "/bin/false")
    with pytest.raises(UserError, match="did not print"):
        print_pdf(tmp_path / "page.html", tmp_path / "page.pdf")
