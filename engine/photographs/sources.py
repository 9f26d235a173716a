"""Where photographs with labels lie: folders, tables, tar files, data sets; read one by one, in a fixed order."""

import csv
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from mothlight.engine.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
LABEL_COLUMNS = ("label", "labels", "class")
IMAGE_COLUMNS = ("image", "img", "jpg", "picture")
PATH_COLUMNS = ("path", "file_name", "file", "filename", "image")
LARGEST = 1 << 28
"""Bytes of one photograph."""
LONGEST_LABEL = 1 << 20
"""Bytes of what stands beside it."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture that somebody took, and what they say it shows."""

    label: str
    name: str
    """Where it lies: relative to its source, and the same wherever that lies."""
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Refused:
    """One that can't be used."""

    label: str
    name: str
    reason: str
    twin: str = ""
    """The name of an equal file with another label: one of the two is wrong."""


def photographs(source: Path) -> Iterator[Photograph | Refused]:
    """All photographs of a source, in the order of their names.

    A folder has a folder for each label; or a `metadata.csv`; or tar files (WebDataset: `key.jpg` beside `key.cls`,
    `key.json` or `key.txt`); or Parquet files with a column of pictures; or it is what Hugging Face's `save_to_disk`
    wrote. A single file is one of these tables or tar files.

    Raises:
        UserError: it is none of these, or can't be read.
    """
    try:
        if source.is_dir():
            yield from _folder(source)
        elif source.suffix == ".csv":
            yield from _table(source)
        elif source.suffix == ".parquet":
            yield from _parquet([source])
        elif source.suffix == ".tar":
            yield from _tars([source])
        else:
            raise UserError(f"{source} is no folder of photographs, and no CSV, Parquet or tar file of them.")
    except OSError as error:
        raise UserError(f"Can't read {source}: {error.strerror or error}.") from error


def without_twins(found: Iterator[Photograph | Refused]) -> Iterator[tuple[Photograph, bytes] | Refused]:
    """The same with their bytes, where of equal files the first one stays: a picture counts once."""
    seen: dict[bytes, Photograph] = {}
    for one in found:
        if isinstance(one, Refused):
            yield one
            continue
        try:
            content = one.read()
        except (OSError, ValueError) as error:
            yield Refused(one.label, one.name, f"it can't be read ({error})")
            continue
        first = seen.setdefault(sha256(content).digest(), one)
        if first is one:
            yield one, content
        else:
            same = f"it is the same file as {first.name}"
            if first.label == one.label:
                yield Refused(one.label, one.name, same)
            else:
                yield Refused(one.label, one.name, f"{same}, which is labelled {first.label}", first.name)


def _folder(folder: Path) -> Iterator[Photograph | Refused]:
    inside = sorted(folder.iterdir())
    tables = [file for file in inside if file.name in ("metadata.csv", "labels.csv")]
    tars = [file for file in inside if file.suffix == ".tar"]
    parquets = [file for file in inside if file.suffix == ".parquet"] or sorted((folder / "data").glob("*.parquet"))
    if tables:
        yield from _table(tables[0])
    elif (folder / "dataset_info.json").is_file():
        yield from _saved(folder)
    elif tars:
        yield from _tars(tars)
    elif parquets:
        yield from _parquet(parquets)
    else:
        yield from _by_label(folder, [one for one in inside if one.is_dir()])


def _by_label(folder: Path, labels: Sequence[Path]) -> Iterator[Photograph]:
    for own in labels:
        for file in sorted(own.rglob("*")):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                yield Photograph(own.name, file.relative_to(folder).as_posix(), partial(_bytes_of, file))


def _bytes_of(file: Path) -> bytes:
    if file.stat().st_size > LARGEST:
        raise ValueError(f"more than {LARGEST:,} bytes")
    return file.read_bytes()


def _table(table: Path) -> Iterator[Photograph | Refused]:
    """Paths and labels; a path is found from where the table lies, and stays inside of that folder."""
    with table.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        known = rows.fieldnames or []
        label, path = _column(table, known, LABEL_COLUMNS), _column(table, known, PATH_COLUMNS)
        for number, row in enumerate(rows, 2):
            name, said = (row[path] or "").strip(), (row[label] or "").strip()
            file = table.parent / name
            if not name or not said:
                yield Refused(said, f"{table.name}, line {number}", "its path or its label is empty")
            elif not file.resolve().is_relative_to(table.parent.resolve()):
                yield Refused(said, name, f"it lies outside of {table.parent.name}")
            elif not file.is_file():
                yield Refused(said, name, "there is no such file")
            else:
                yield Photograph(said, PurePosixPath(name).as_posix(), partial(_bytes_of, file))


def _column(where: Path, known: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in known:
            return name
    raise UserError(f"{where} has no column {' or '.join(f'`{one}`' for one in wanted[:2])}: {', '.join(known)}.")


def _tars(tars: Sequence[Path]) -> Iterator[Photograph | Refused]:
    """WebDataset: the members of a sample share their name up to the first full stop of its last part."""
    for tar in tars:
        try:
            with tarfile.open(tar, "r:") as archive:
                samples: dict[str, dict[str, tarfile.TarInfo]] = {}
                for member in archive:
                    if member.isreg():
                        folder, _, file = member.name.rpartition("/")
                        stem, _, kind = file.partition(".")
                        samples.setdefault(f"{folder}/{stem}".lstrip("/"), {})[f".{kind.lower()}"] = member
                for key in sorted(samples):
                    yield from _sample(tar, archive, key, samples[key])
        except tarfile.TarError as error:
            raise UserError(f"{tar} is no tar file that can be read: {error}.") from error


def _sample(
    tar: Path, archive: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo]
) -> Iterator[Photograph | Refused]:
    name = f"{tar.name}/{key}"
    pictures = [member for kind, member in members.items() if kind in SUFFIXES]
    label = _said(archive, members)
    if label is None:
        yield Refused("", name, "nothing beside it says its label (.cls, .txt, or .json with `label`)")
    elif not pictures:
        yield Refused(label, name, "it has no picture")
    else:
        yield Photograph(label, name, partial(_member, tar, pictures[0].offset_data, pictures[0].size))


def _said(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> str | None:
    for kind in (".cls", ".json", ".txt"):  # a text beside pictures may be a caption
        if kind not in members or members[kind].size > LONGEST_LABEL:
            continue
        file = archive.extractfile(members[kind])
        text = file.read().decode("utf-8", errors="replace").strip() if file else ""
        if kind != ".json":
            return text or None
        try:
            found = json.loads(text).get("label")
        except (ValueError, AttributeError):
            continue
        if found is not None:
            return str(found)
    return None


def _member(tar: Path, offset: int, size: int) -> bytes:
    if size > LARGEST:
        raise ValueError(f"more than {LARGEST:,} bytes")
    with tar.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _parquet(files: Sequence[Path]) -> Iterator[Photograph | Refused]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            table = pq.ParquetFile(file)
            names = _class_names(table.schema_arrow.metadata)
            label = _column(file, table.schema_arrow.names, LABEL_COLUMNS)
            image = _column(file, table.schema_arrow.names, IMAGE_COLUMNS)
            first = 0
            for group in range(table.num_row_groups):
                labels = table.read_row_group(group, columns=[label])[label].to_pylist()
                for at, said in enumerate(labels):
                    name = f"{file.name}/{first + at}"
                    if said is None:
                        yield Refused("", name, "it has no label")
                    else:
                        yield Photograph(_named(said, names), name, partial(_row, file, group, image, at))
                first += len(labels)
        except pa.ArrowException as error:
            raise UserError(f"{file} is no Parquet file that can be read: {error}.") from error


def _row(file: Path, group: int, image: str, at: int) -> bytes:
    return _content(_pictures_of(file, group, image)[at].as_py())


@lru_cache(maxsize=2)
def _pictures_of(file: Path, group: int, image: str) -> Any:
    """The pictures of a row group, which can only be read together; those of the last two stay."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(file).read_row_group(group, columns=[image])[image]


def _content(value: Any) -> bytes:
    """The bytes of a cell: a blob, or Hugging Face's struct of `bytes` and `path`."""
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise ValueError("the cell holds no picture")  # noqa: TRY004  # of the data, not of the program
    return value


def _class_names(metadata: dict[bytes, bytes] | None) -> list[str]:
    """The names of Hugging Face's class labels, where a column holds their numbers."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return []
    return _names_of(features)


def _names_of(features: Any) -> list[str]:
    for name in LABEL_COLUMNS:
        found = features.get(name, {}) if isinstance(features, dict) else {}
        if isinstance(found, dict) and isinstance(found.get("names"), list):
            return [str(one) for one in found["names"]]
    return []


def _named(said: Any, names: Sequence[str]) -> str:
    return names[said] if isinstance(said, int) and 0 <= said < len(names) else str(said)


def _saved(folder: Path) -> Iterator[Photograph | Refused]:
    """What Hugging Face's `save_to_disk` wrote: Arrow streams, and their features beside them."""
    import pyarrow as pa

    try:
        names = _names_of(json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).get("features"))
    except (ValueError, AttributeError) as error:
        raise UserError(f"{folder / 'dataset_info.json'} is damaged: {error}.") from error
    for file in sorted(folder.glob("*.arrow")):
        try:
            with pa.memory_map(str(file)) as mapped:
                table = pa.ipc.open_stream(mapped).read_all()
        except pa.ArrowException as error:
            raise UserError(f"{file} is no Arrow file that can be read: {error}.") from error
        label = _column(file, table.column_names, LABEL_COLUMNS)
        image = _column(file, table.column_names, IMAGE_COLUMNS)
        for at, said in enumerate(table[label].to_pylist()):
            name = f"{file.name}/{at}"
            if said is None:
                yield Refused("", name, "it has no label")
            else:
                yield Photograph(_named(said, names), name, partial(_cell, table, image, at))


def _cell(table: Any, image: str, at: int) -> bytes:
    return _content(table[image][at].as_py())
