"""Pictures out of an audit, read back by the tools that they are for."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mothlight.engine.command import export_images_command
from mothlight.engine.errors import UserError
from mothlight.engine.opening import Models
from mothlight.sql import open_audit
from tests.engine.conftest import run_audit_in, small_config


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    run_audit_in(folder, models, small_config(max_images=200))
    with open_audit(folder, read_only=False) as store:
        # a label that would lead elsewhere, were it a path
        store.rows("update prompt set label = '../../fly/..' where label = 'fly'")
        store.rows("update label set label = '../../fly/..' where label = 'fly'")
    return folder


def known(audited: Path) -> dict[str, tuple[str, bytes]]:
    with open_audit(audited) as store:
        rows = store.rows("select image_id, label, jpeg from picture join image using (image_id) where passed")
    return {image_id: (label, jpeg) for image_id, label, jpeg in rows}


def test_an_image_folder_is_read_by_datasets_and_pillow(audited: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    out = tmp_path / "folder"
    expected = known(audited)
    assert f"{len(expected)} pictures" in export_images_command(audited, "passed", "imagefolder", out)
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert {row["image_id"]: (row["label"], (out / row["file_name"]).read_bytes()) for row in rows} == expected
    assert {path.parent.parent for path in out.rglob("*.jpg")} == {out}
    assert not (tmp_path / "fly").exists()
    for path in out.rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert image.size == (64, 64)
    read: Any = load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(read) == len(expected)
    assert {one["image_id"] for one in read} == set(expected)
    assert read[0]["image"].size == (64, 64)


def test_a_web_dataset_is_read_by_a_plain_tar_reader(audited: Path, tmp_path: Path) -> None:
    out = tmp_path / "tars"
    export_images_command(audited, "passed", "webdataset", out)
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(out.iterdir()):
        with tarfile.open(path) as tar:
            for entry in tar:
                stem, _, ending = entry.name.partition(".")
                file = tar.extractfile(entry)
                assert file is not None
                found.setdefault(stem, {})[ending] = file.read()
    expected = known(audited)
    assert {key: (json.loads(one["json"])["label"], one["jpg"]) for key, one in found.items()} == expected
    one = json.loads(next(iter(found.values()))["json"])
    assert set(one["predicted"]) == {"planted-resnet", "planted-mobilenet", "planted-convnext"}
    assert one["prompt"].startswith("a realistic photograph of")


def test_parquet_is_read_by_datasets(audited: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    out = tmp_path / "parquet"
    export_images_command(audited, "passed", "parquet", out)
    read: Any = Dataset.from_parquet(str(out / "pictures.parquet"), cache_dir=str(tmp_path / "cache"))
    expected = known(audited)
    assert {one["image_id"]: one["label"] for one in read} == {key: label for key, (label, _) in expected.items()}
    with Image.open(io.BytesIO(expected[read[0]["image_id"]][1])) as image:
        assert read[0]["image"].tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("where", "layout", "said"),
    [
        ("passed", "zip", "knows imagefolder"),
        ("index < 0", "parquet", "No picture is so"),
        ("no_such_column", "parquet", "SQL:"),
        ("true); drop table image; select (true", "parquet", "one condition|SQL:"),
    ],
)
def test_bad_words_are_one_sentence(audited: Path, tmp_path: Path, where: str, layout: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        export_images_command(audited, where, layout, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_there_is_left_alone(audited: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name another --out"):
        export_images_command(audited, "passed", "parquet", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name another --out"):
        export_images_command(audited, "passed", "parquet", tmp_path / "file" / "x")
