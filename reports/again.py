"""Renders a report's folder again from the `report.json` in it: after a change of templates, or a version later."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mothlight.engine.errors import UserError
from mothlight.reports.build import write_report
from mothlight.reports.document import Report
from mothlight.reports.pictures import FOLDER, safe_name

DOCUMENT = "report.json"


def render_again(folder: Path, out: Path) -> Path:
    """Write the report that `folder` holds, its pictures with it, into `out`; the first page.

    Raises:
        UserError, DiskFullError: it can't be read or written.
    """
    try:
        report = Report.model_validate_json((folder / DOCUMENT).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / DOCUMENT} is no report of this version: {str(error).splitlines()[0]}") from error

    def read(images: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for image in images:
            for kind in (".kept.jpg", ".jpg"):
                file = folder / FOLDER / f"{safe_name(image)}{kind}"
                if file.is_file():
                    yield image, file.read_bytes()
                    break

    return write_report(report, read, out)


if __name__ == "__main__":
    render_again(Path(sys.argv[1]), Path(sys.argv[1]))
