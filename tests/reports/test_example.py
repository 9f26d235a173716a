"""The report in the repository is what this version makes of its data."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mothlight.reports.build import write_report
from mothlight.reports.document import Report
from mothlight.reports.pictures import safe_name

EXAMPLE = Path(__file__).parents[2] / "reports" / "example"


def test_the_example_is_not_stale(tmp_path: Path) -> None:
    report = Report.model_validate_json((EXAMPLE / "report.json").read_bytes())

    def read(images: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for image in images:
            yield image, (EXAMPLE / "images" / f"{safe_name(image)}.jpg").read_bytes()

    write_report(report, read, tmp_path)
    made = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    kept = {file.relative_to(EXAMPLE): file.read_bytes() for file in EXAMPLE.rglob("*") if file.is_file()}
    kept.pop(Path("report.json"))
    assert made.keys() == kept.keys(), "make example"
    assert [str(name) for name in made if made[name] != kept[name]] == [], "make example"


def test_the_example_is_small_and_whole() -> None:
    assert sum(file.stat().st_size for file in EXAMPLE.rglob("*") if file.is_file()) < 4_000_000
    report = Report.model_validate_json((EXAMPLE / "report.json").read_bytes())
    assert report.bugs
    assert report.audit.finished
