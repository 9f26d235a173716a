"""The report in the repository is what this version makes of its data."""

from pathlib import Path

import pytest

from mothlight.engine.errors import UserError
from mothlight.reports.again import render_again
from mothlight.reports.document import Report

EXAMPLE = Path(__file__).parents[2] / "reports" / "example"


def test_the_example_is_not_stale(tmp_path: Path) -> None:
    render_again(EXAMPLE, tmp_path)
    made = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    kept = {file.relative_to(EXAMPLE): file.read_bytes() for file in EXAMPLE.rglob("*") if file.is_file()}
    kept.pop(Path("report.json"))
    assert made.keys() == kept.keys(), "make gold (other templates) or make example (other data)"
    assert [str(name) for name in made if made[name] != kept[name]] == [], (
        "make gold (other templates) or make example (other data)"
    )


def test_the_example_is_small_and_whole() -> None:
    assert sum(file.stat().st_size for file in EXAMPLE.rglob("*") if file.is_file()) < 4_000_000
    report = Report.model_validate_json((EXAMPLE / "report.json").read_bytes())
    assert report.bugs
    assert report.audit.finished


def test_a_folder_without_a_document_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no report of this version"):
        render_again(tmp_path, tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UserError, match="is no report of this version"):
        render_again(tmp_path, tmp_path)
