"""Photographs in folders, tables, tar files and data sets; a bad row is a row, never the end."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mothlight.engine.errors import UserError
from mothlight.engine.photographs.pixels import to_pixels
from mothlight.engine.photographs.sources import Photograph, Refused, photographs, without_twins

LABELS = ["bee", "bee", "fly", "fly", "fly"]


def picture(grey: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(out, "PNG")
    return out.getvalue()


PICTURES = [(label, picture(40 * at)) for at, label in enumerate(LABELS)]


def as_folders(out: Path) -> None:
    for at, (label, content) in enumerate(PICTURES):
        (out / label / "deeper").mkdir(parents=True, exist_ok=True)
        (out / label / "deeper" / f"{at}.PNG").write_bytes(content)
    (out / "fly" / "notes.txt").write_text("no picture")
    (out / "readme.md").write_text("")


def as_table(out: Path) -> None:
    with (out / "metadata.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "label"])
        for at, (label, content) in enumerate(PICTURES):
            (out / f"{at}.png").write_bytes(content)
            rows.writerow([f"{at}.png", label])


def as_tars(out: Path, label_in: str = ".cls") -> None:
    for shard in (0, 1):
        with tarfile.open(out / f"photos-{shard}.tar", "w") as archive:
            for at, (label, content) in enumerate(PICTURES):
                if at % 2 != shard:
                    continue
                said = json.dumps({"label": label}) if label_in == ".json" else label
                for kind, body in ((".png", content), (label_in, said.encode())):
                    member = tarfile.TarInfo(f"set/{at:03}{kind}")
                    member.size = len(body)
                    archive.addfile(member, io.BytesIO(body))


def as_parquet(out: Path) -> None:
    table = pa.table({"label": LABELS, "image": [content for _, content in PICTURES]})
    pq.write_table(table, out / "photos.parquet", row_group_size=2)


def as_hugging_face(out: Path) -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Pictures

    features = Features({"image": Pictures(), "label": ClassLabel(names=["bee", "fly"])})
    rows = {"image": [{"bytes": content, "path": None} for _, content in PICTURES], "label": LABELS}
    Dataset.from_dict(rows, features=features).save_to_disk(out)


def as_hugging_face_parquet(out: Path) -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Pictures

    features = Features({"image": Pictures(), "label": ClassLabel(names=["bee", "fly"])})
    rows = {"image": [{"bytes": content, "path": None} for _, content in PICTURES], "label": LABELS}
    (out / "data").mkdir()
    Dataset.from_dict(rows, features=features).to_parquet(out / "data" / "train-00000-of-00001.parquet")


@pytest.mark.parametrize(
    "write",
    [
        as_folders,
        as_table,
        as_tars,
        lambda out: as_tars(out, ".txt"),
        lambda out: as_tars(out, ".json"),
        as_parquet,
        as_hugging_face,
        as_hugging_face_parquet,
    ],
)
def test_each_source_gives_the_same_photographs_in_the_same_order(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path)
    found = [one for one in photographs(tmp_path) if isinstance(one, Photograph)]
    assert sorted((one.label, int(to_pixels(one.read())[0, 0, 0])) for one in found) == [
        (label, 40 * at) for at, label in enumerate(LABELS)
    ]
    again = [one for one in photographs(tmp_path) if isinstance(one, Photograph)]
    assert [one.name for one in again] == [one.name for one in found]
    assert len({one.name for one in found}) == len(LABELS)
    assert not any(str(tmp_path) in one.name for one in found)


def test_a_file_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    as_folders(tmp_path)
    (tmp_path / "bee" / "z.png").write_bytes(PICTURES[0][1])
    (tmp_path / "fly" / "z.png").write_bytes(PICTURES[1][1])
    refused = [one for one in without_twins(photographs(tmp_path)) if isinstance(one, Refused)]
    assert [(one.name, one.reason) for one in refused] == [
        ("bee/z.png", "it is the same file as bee/deeper/0.PNG"),
        ("fly/z.png", "it is the same file as bee/deeper/1.PNG, which is labelled bee"),
    ]


def test_a_bad_row_is_a_row(tmp_path: Path) -> None:
    as_table(tmp_path)
    (tmp_path.parent / "outside.png").write_bytes(PICTURES[0][1])
    with (tmp_path / "metadata.csv").open("a") as file:
        file.write("missing.png,fly\n,fly\n0.png,\n../outside.png,fly\n/etc/hostname,fly\n")
    reasons = [one.reason for one in photographs(tmp_path) if isinstance(one, Refused)]
    empty = "its path or its label is empty"
    outside = f"it lies outside of {tmp_path.name}"
    assert reasons == ["there is no such file", empty, empty, outside, outside]


def test_members_of_a_tar_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "one.tar", "w") as archive:
        for name, body in (("a.png", PICTURES[0][1]), ("b.cls", b"fly"), ("c.png", PICTURES[1][1]), ("c.json", b"[")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
        link = tarfile.TarInfo("d.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = list(photographs(tmp_path / "one.tar"))
    assert [(one.name, type(one).__name__) for one in found] == [
        ("one.tar/a", "Refused"), ("one.tar/b", "Refused"), ("one.tar/c", "Refused"),
    ]  # fmt: skip


def test_cells_without_a_picture_or_a_label_are_refused(tmp_path: Path) -> None:
    table = pa.table({"label": ["fly", None, "bee"], "image": [None, b"x", picture(9)]})
    pq.write_table(table, tmp_path / "photos.parquet")
    found = list(without_twins(photographs(tmp_path / "photos.parquet")))
    assert [isinstance(one, Refused) for one in found] == [True, True, False]


def test_a_picture_that_is_gone_when_it_is_read_is_refused(tmp_path: Path) -> None:
    as_folders(tmp_path)
    found = photographs(tmp_path)
    first = next(found)
    (tmp_path / first.name).unlink()
    refused = [one for one in without_twins(iter([first, *found])) if isinstance(one, Refused)]
    assert [one.name for one in refused] == [first.name]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", "path,kind\na,b\n", "has no column `label` or `labels`: path, kind"),
        ("x.parquet", "no", "is no Parquet file"),
        ("x.tar", "no", "is no tar file"),
        ("x.zip", "no", "is no folder of photographs, and no CSV, Parquet or tar file"),
        ("dataset_info.json", "{", "is damaged"),
    ],
)
def test_a_source_that_is_none_is_one_sentence(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        list(photographs(tmp_path if name == "dataset_info.json" else tmp_path / name))
    with pytest.raises(UserError, match="no folder of photographs"):
        list(photographs(tmp_path / "nowhere"))
