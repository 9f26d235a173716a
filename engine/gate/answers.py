"""What a person says of an audit's images: a chance sample to look at, and the table in which the answers come back."""

import csv
import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.engine.records import identify
from mothlight.engine.remake import require_pictures
from mothlight.sql import Store

TABLE = "answers.csv"
COLUMNS = ("image_id", "label", "shows")
MEANT = {"yes": True, "y": True, "1": True, "true": True, "no": False, "n": False, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Sampled:
    """An image of an audit that a person may be asked about."""

    image_id: str
    label: str
    kind: str
    """plain or described."""
    score: float
    passed: bool


def sample(store: Store, images: int | None = None) -> list[Sampled]:
    """An audit's images in an order of chance that stays the same, half of them plain; the first so many, or all."""
    rows = [Sampled(*row) for row in store.step("gate_scores")]
    rows.sort(key=lambda one: identify("gate answers", one.image_id))
    if images is None:
        return rows
    own = [[one for one in rows if one.kind == kind] for kind in ("plain", "described")]
    half = images // 2
    first = own[0][: max(images - half, images - len(own[1]))]
    chosen = {one.image_id for one in (*first, *own[1][: images - len(first)])}
    return [one for one in rows if one.image_id in chosen]


def write_sample(store: Store, sampled: Sequence[Sampled], folder: Path) -> None:
    """The sample's pictures, and the table to fill in; answers that are there already stay.

    Raises:
        UserError, DiskFullError: the folder can't be written.
    """
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        table = folder / TABLE
        known = read_answers(table, store) if table.is_file() else {}
        for one in sampled:
            file = folder / "images" / f"{one.image_id}.jpg"
            if not file.is_file():
                require_pictures(store, [one.image_id])
                ((_, jpeg),) = store.step("pictures", images=[one.image_id])
                file.write_bytes(jpeg)
        beside = folder / f".{TABLE}.new"
        with beside.open("w", encoding="utf-8", newline="") as out:
            lines = csv.writer(out)
            lines.writerow(COLUMNS)
            for one in sampled:
                answer = known.pop(one.image_id, None)
                lines.writerow((one.image_id, one.label, "" if answer is None else "yes" if answer else "no"))
            labels = {one.image_id: one.label for one in sample(store)} if known else {}
            for image_id, answer in known.items():  # of an earlier, larger sample
                lines.writerow((image_id, labels[image_id], "yes" if answer else "no"))
        beside.replace(table)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: the sample does not fit into {folder}.") from error
        raise UserError(f"Can't write {folder}: {error.strerror}.") from error


def read_answers(table: Path, store: Store) -> dict[str, bool]:
    """Whether each image shows its label, by image id; lines without an answer are left out.

    Raises:
        UserError: the table can't be read, or a line of it is wrong.
    """
    known = {one.image_id for one in sample(store)}
    answers: dict[str, bool] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            missing = {"image_id", "shows"} - set(lines.fieldnames or ())
            if missing:
                raise UserError(f"{table} has no column {', '.join(sorted(missing))}.")
            for line in lines:
                answer = _answer(table, lines.line_num, line, known)
                if answer is not None:
                    answers[line["image_id"]] = answer
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Can't read the table {table}: {error}.") from error
    return answers


def _answer(table: Path, number: int, line: Mapping[str, str | None], known: set[str]) -> bool | None:
    said = (line["shows"] or "").strip().casefold()
    if not said:
        return None
    if said not in MEANT:
        raise UserError(f"{table}, line {number}: `shows` is {said!r}; it is yes or no, or empty.")
    if line["image_id"] not in known:
        raise UserError(f"{table}, line {number}: this audit has no image {line['image_id']}.")
    return MEANT[said]
