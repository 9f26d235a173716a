"""Pictures of an audit as a data set that other tools read: an image folder, WebDataset shards, or Parquet."""

import errno
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.engine.pictures import folder_name
from mothlight.engine.remake import require_pictures
from mothlight.sql import Store

Layout = Literal["imagefolder", "webdataset", "parquet"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
AT_ONCE = 500
"""Pictures in memory, in a Parquet row group, and in a shard."""
NUMBERS = {name: pa.int64() for name in ("wave", "index", "failures", "classifiers", "seed")}
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Row = Mapping[str, Any]


def export(store: Store, condition: str, layout: str, out: Path) -> int:
    """Write the pictures for which a condition on the view `outcome` holds; how many, all or none.

    Raises:
        UserError: there is no such layout, DuckDB refuses the condition, nothing is found, or the folder exists or
            can't be written.
        DiskFullError: there is no room.
    """
    if layout not in LAYOUTS:
        raise UserError(f"--format knows {', '.join(LAYOUTS)}, not `{layout}`.")
    if out.exists():
        raise UserError(f"{out} exists; name another --out.")
    answers = store.ask(f"select distinct image_id, label, description, index from outcome where ({condition}\n)")  # noqa: S608  # a person's own words, on a connection that can't write
    if len(answers) != 1:
        raise UserError("--where takes one condition on the view `outcome`, such as \"label = 'fly' and wrong\".")
    found = [row[0] for row in sorted(answers[0].rows, key=lambda row: (*row[1:], row[0]))]
    if not found:
        raise UserError(f"No picture is so: {condition}.")
    require_pictures(store, found)
    beside = out.with_name(f".{out.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        written = WRITERS[layout](_rows(store, found), beside)
        beside.rename(out)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: the pictures do not fit into {out}.") from error
        raise UserError(f"Can't write to {out}: {error.strerror}; name another --out.") from error
    return written


def _rows(store: Store, images: Sequence[str]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(images), AT_ONCE):
        yield store.step_records("dataset", images=list(images[start : start + AT_ONCE]))


def _said(row: Row) -> dict[str, Any]:
    """All but the picture; what each classifier said as an object."""
    return {**{key: value for key, value in row.items() if key != "jpeg"}, "predicted": json.loads(row["predicted"])}


def _image_folder(parts: Iterator[Sequence[Row]], folder: Path) -> int:
    """A folder for each label, and `metadata.jsonl` with a line for each file."""
    count = 0
    with (folder / "metadata.jsonl").open("x", encoding="utf-8") as listing:
        for rows in parts:
            for row in rows:
                file = Path(folder_name(row["label"]), f"{row['image_id']}.jpg")
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(row["jpeg"])
                listing.write(json.dumps({"file_name": file.as_posix(), **_said(row)}, ensure_ascii=False) + "\n")
                count += 1
    return count


def _web_dataset(parts: Iterator[Sequence[Row]], folder: Path) -> int:
    """Tar files in which each sample is a `.jpg` and a `.json` of the same name."""
    count = 0
    for number, rows in enumerate(parts):
        with tarfile.open(folder / f"{number:06}.tar", "x") as tar:
            for row in rows:
                for ending, data in (("jpg", row["jpeg"]), ("json", json.dumps(_said(row)).encode())):
                    entry = tarfile.TarInfo(f"{row['image_id']}.{ending}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
                count += 1
    return count


def _parquet(parts: Iterator[Sequence[Row]], folder: Path) -> int:
    """One file whose column `image` holds the pictures as `datasets` reads them."""
    count = 0
    writer: pq.ParquetWriter | None = None
    try:
        for rows in parts:
            images = [{"bytes": row["jpeg"], "path": f"{row['image_id']}.jpg"} for row in rows]
            columns: dict[str, Any] = {"image": pa.array(images, PICTURE)}
            for name in rows[0] if rows else ():
                if name != "jpeg":
                    columns[name] = pa.array([row[name] for row in rows], _type(name))
            table = pa.table(columns)
            features = {"image": {"_type": "Image"}} | {
                field.name: {"dtype": _as_datasets_say(field.type), "_type": "Value"}
                for field in table.schema
                if field.name != "image"
            }
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            writer = writer or pq.ParquetWriter(folder / "pictures.parquet", table.schema)
            writer.write_table(table)
            count += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return count


def _type(name: str) -> pa.DataType:
    if name in NUMBERS:
        return NUMBERS[name]
    return {"gate_score": pa.float32(), "passed": pa.bool_()}.get(name, pa.string())


def _as_datasets_say(kind: pa.DataType) -> str:
    return {"float": "float32"}.get(str(kind), str(kind))


WRITERS: Mapping[str, Callable[[Iterator[Sequence[Row]], Path], int]] = {
    "imagefolder": _image_folder,
    "webdataset": _web_dataset,
    "parquet": _parquet,
}
