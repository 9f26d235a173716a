"""Images out of an audit, as files in folders by label and prediction, with a table of what they are."""

import csv
import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.engine.remake import require_pictures
from mothlight.sql import Store

COLUMNS = ("image_id", "classifier", "label", "predicted", "description", "phase", "index", "score", "verdict")
LISTING = "images.csv"


def write_finding(store: Store, number: int, out: Path, limit: int) -> tuple[int, int]:
    """The images that show a finding; how many were written, and how many there are.

    Raises:
        UserError: there is no finding of that number, or the folder can't be written.
    """
    ((known,),) = store.rows("select coalesce(max(finding), 0) from findings")
    if not 1 <= number <= known:
        raise UserError(f"There is no finding {number}; " + (f"they go to {known}." if known else "none is confirmed."))
    return _write(store, store.step_records("finding_pictures", finding=number), out, limit)


def write_where(store: Store, condition: str, out: Path, limit: int) -> tuple[int, int]:
    """The images that a condition on the view `outcome` holds for; as `write_finding`.

    Raises:
        UserError: DuckDB refuses the condition, or the folder can't be written.
    """
    answers = store.ask(f"select * from outcome where ({condition}\n) order by label, description, index, classifier")  # noqa: S608  # a person's own words, on a connection that can't write
    if len(answers) != 1:
        raise UserError("--where takes one condition on the view `outcome`, such as \"label = 'fly' and wrong\".")
    rows = [dict(zip(answers[0].columns, row, strict=True)) for row in answers[0].rows]
    return _write(store, rows, out, limit)


def chosen_images(store: Store, finding: int | None, condition: str | None) -> list[str]:
    """The ids of a finding's pairs, or of the images for which a condition on the view `outcome` holds.

    Raises:
        UserError: DuckDB refuses the condition, or there is none.
    """
    if condition is None:
        found = [image_id for (image_id,) in store.step("finding_pairs", finding=finding)]
    else:
        answers = store.ask(f"select distinct image_id from outcome where ({condition}\n) order by image_id")  # noqa: S608  # as above
        found = [row[0] for one in answers[:1] for row in one.rows]
    if not found:
        raise UserError("No image is so.")
    return found


def _write(store: Store, rows: Sequence[dict[str, Any]], out: Path, limit: int) -> tuple[int, int]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty; name another --out.")
    images = list(dict.fromkeys(row["image_id"] for row in rows))  # several classifiers may have named one
    chosen = set(images[:limit])
    require_pictures(store, images[:limit])
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / LISTING).open("x", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(("file", *COLUMNS))
            for row in (row for row in rows if row["image_id"] in chosen):
                place = Path(folder_name(row["label"]), folder_name(row["predicted"]), f"{row['image_id']}.jpg")
                ((jpeg,),) = store.rows("select jpeg from image where image_id = $key", key=row["image_id"])
                (out / place).parent.mkdir(parents=True, exist_ok=True)
                (out / place).write_bytes(jpeg)
                table.writerow((place.as_posix(), *(row[name] for name in COLUMNS)))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: not all images fit into {out}.") from error
        raise UserError(f"Can't write to {out}: {error.strerror}.") from error
    return len(chosen), len(images)


def folder_name(label: str) -> str:
    """A label as a folder: no part of it leads elsewhere."""
    name = re.sub(r"[^\w ()'-]+", "_", label).strip(" ._")[:80]
    return name or "_"
