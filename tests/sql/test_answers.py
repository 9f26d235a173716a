"""An audit in Python: tables as Arrow, pandas and HTML, pictures, and the notebook that shows them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mothlight.engine.errors import UserError
from mothlight.engine.opening import Models, load_models
from mothlight.sql import Store, open_audit
from mothlight.sql.answers import Table
from tests.engine.conftest import run_audit_in, small_config

NOTEBOOK = Path(__file__).parents[2] / "examples" / "morning.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("morning")
    models: Models = load_models(small_config(), Path())
    run_audit_in(path, models, small_config(max_images=200))
    return path


def test_a_table_is_what_sql_gives(folder: Path) -> None:
    with open_audit(folder) as audit:
        table = audit.sql("select label, place from label where place >= $least order by place", least=0)
        assert len(table) == 2
        assert [row["label"] for row in table] == ["fly", "butterfly"]
        assert isinstance(table.arrow, pa.Table)
        assert list(table.pandas()["place"]) == [0, 1]
        assert audit.findings.columns[0] == "finding"
        assert {row["label"] for row in audit.images("label = 'fly'")} == {"fly"}
        assert len(audit.named("rates", label="fly")) > 0
        assert "Table of 2 rows: label, place" in repr(table)
        for wrong in ("select 1; select 2", "", "select nothing"):
            with pytest.raises(UserError):
                audit.sql(wrong)


def test_it_becomes_a_frame_of_polars(folder: Path) -> None:
    with open_audit(folder) as audit:
        assert audit.sql("select label from label").polars().shape == (2, 1)


def test_rows_are_shown_with_their_pictures(folder: Path) -> None:
    with open_audit(folder) as audit:
        shown = audit.images()._repr_html_()
        assert shown.count("<img ") == 40
        assert "more rows" in shown
        (image,) = audit.sql("select image_id from image order by image_id limit 1")
        assert audit.picture(str(image["image_id"]))._repr_jpeg_()[:3] == b"\xff\xd8\xff"
        with pytest.raises(UserError, match="More than one"):
            audit.picture("")


def test_what_a_table_holds_is_no_markup() -> None:
    table = Table(
        pa.table({"<b>": ["<script>alert(1)</script>", None], "blob": [b"123", None], "x": [0.123456789, 1.0]})
    )
    shown = table._repr_html_()
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "&lt;3 bytes&gt;" in shown
    assert "0.123457" in shown


def test_the_notebook_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "tinyworld").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    for cell in cells:
        assert not cell["outputs"]
        exec("".join(cell["source"]), names)  # noqa: S102  # our own notebook
    audit = names["audit"]
    assert isinstance(audit, Store)
    audit.close()
