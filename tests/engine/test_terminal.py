"""A first hour at the terminal: streams that fail, signals, questions, settings, pictures."""

import csv
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mothlight.engine.ask import show
from mothlight.engine.command import images_command
from mothlight.engine.config import AuditConfig, bundle_path, load_config
from mothlight.engine.errors import StoreError, UserError
from mothlight.engine.models.bundle import Manifest, Thresholds
from mothlight.engine.opening import Models, check_labels, load_models, open_database
from mothlight.engine.pictures import folder_name
from mothlight.engine.session import Progress, Session
from mothlight.engine.streams import tolerant
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE, Answer
from tests.engine.conftest import small_config, toml_of

MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    """A finished small audit with a confirmed finding."""
    folder = tmp_path_factory.mktemp("terminal") / "audit"
    folder.mkdir()
    config = small_config()
    with (
        open_database(folder / DATABASE, config, models, Path()) as store,
        Session(config, models, store, Progress()) as session,
    ):
        session.run()
    return folder


def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MOTHLIGHT, *words], capture_output=True, text=True, check=False, **more)


# streams


@pytest.mark.parametrize("how", ["full", "closed", "latin", "gone"])
def test_an_audit_ends_with_its_report_whatever_becomes_of_its_streams(how: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "audit")
    (tmp_path / "small.toml").write_text(toml_of(small_config()))
    words = [MOTHLIGHT, "audit", str(tmp_path / "small.toml"), "--out", str(tmp_path / "audit"), "--max-images", "500"]
    redirects = {"full": ">/dev/full 2>/dev/full", "closed": ">&- 2>&-", "latin": ">/dev/null", "gone": "| true"}
    surroundings = {**os.environ, "PYTHONIOENCODING": "latin-1", "LC_ALL": "C"}
    command = f"set -o pipefail; {' '.join(words)} {redirects[how]}"
    done = subprocess.run(["bash", "-c", command], check=False, env=surroundings)
    assert done.returncode == 0
    assert "mothlight audit of" in (tmp_path / "audit" / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words", [["sql"], ["sql", "select 1"], ["query"], ["query", "ledger"], ["query", "ledger", "--csv"]]
)
def test_an_answer_that_cannot_be_written_is_one_sentence(words: list[str], whole: Path) -> None:
    command = f"{shlex.join([MOTHLIGHT, words[0], str(whole), *words[1:]])} >/dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "mothlight: The answer can't be written: the disk is full.\n")


def test_a_stream_that_fails_once_is_silent_from_then_on() -> None:
    class Gone(io.StringIO):
        calls = 0

        def write(self, text: str) -> int:
            self.calls += 1
            raise OSError(5, text)

    gone = Gone()
    out = tolerant(gone)
    out.write("one")
    out.write("two")
    out.flush()
    assert gone.calls == 1


# signals


@pytest.mark.parametrize("signals", [1, 4])
def test_ctrl_c_while_describing_is_heard_at_once_and_more_do_no_harm(signals: int, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(toml_of(small_config()))
    words = [MOTHLIGHT, "audit", str(tmp_path / "small.toml"), "--out", str(tmp_path / "audit")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "describing" not in said:
            said = process.stderr.readline()
            assert said, "it ended before it described anything"
        time.sleep(0.3)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert "Stopping" in rest
    assert "Traceback" not in rest
    with open_audit(tmp_path / "audit") as store:
        assert store.rows("select count(*) from image") == [(96,)]


# questions


def asked(audit: Path, statement: str) -> list[dict[str, Any]]:
    """The rows that `mothlight sql --json` prints."""
    out = io.StringIO()
    with open_audit(audit, locked_down=True) as store:
        (answer,) = store.ask(statement)
    show(answer, "json", 1, out)
    rows: list[dict[str, Any]] = json.loads(out.getvalue())
    return rows


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("select 1 as n, 2 as n, 3 as n", [{"n": 1, "n_2": 2, "n_3": 3}]),
        ("select [timestamp '2026-01-02 03:04:05', null] as l", [{"l": ["2026-01-02T03:04:05", None]}]),
        ("select [1.50::decimal(5, 2), 2] as l", [{"l": [1.5, 2]}]),
        ("select ['\\xff\\xd8\\xff'::blob] as l", [{"l": ["<JPEG 1 kB>"]}]),
        ("select 'NaN'::double as a, ['inf'::float] as b", [{"a": None, "b": [None]}]),
        (
            "select {'a': date '2026-01-02'} as s, map {'k': 1.5::double} as m",
            [{"s": {"a": "2026-01-02"}, "m": {"k": 1.5}}],
        ),
        ("-- a comment\nselect 1 as one -- and another", [{"one": 1}]),
        ("select 1 as one;", [{"one": 1}]),
    ],
)
def test_json_holds_every_kind_of_value(statement: str, rows: list[dict[str, Any]], whole: Path) -> None:
    assert asked(whole, statement) == rows


def test_a_time_with_its_zone_can_be_asked_for(whole: Path) -> None:
    assert len(asked(whole, "select now() as t")) == 1


def test_a_csv_holds_values_in_full() -> None:
    values = [0.1234567890123, [1, "a"], "a\rb", 'x"y', None, True]
    out = io.StringIO()
    show(Answer(["a", "b", "c", "d", "e", "a"], [tuple(values)]), "csv", 1, out)
    header, row = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert header == ["a", "b", "c", "d", "e", "a_2"]
    assert row == ["0.1234567890123", '[1, "a"]', "a\rb", 'x"y', "", "true"]


@pytest.mark.parametrize("statement", ["", ";", "  ", "-- nothing but a comment"])
def test_no_statement_is_one_sentence(statement: str, whole: Path) -> None:
    with open_audit(whole) as store, pytest.raises(UserError, match="There is no statement to run"):
        store.ask(statement)


def test_several_statements_and_standard_input(whole: Path) -> None:
    done = run("sql", str(whole), "select 1 as a; select 2 as b")
    assert done.stdout == "a\n1\nb\n2\n"
    assert run("sql", str(whole), "select 1; select 2", "--json").returncode == 2
    assert run("sql", str(whole), "-", input="select 5 as five").stdout == "five\n   5\n"


def test_a_table_too_wide_for_a_terminal_has_one_line_per_column(whole: Path) -> None:
    asked = shlex.join([MOTHLIGHT, "sql", str(whole), "from findings limit 1"])
    done = subprocess.run(
        ["script", "-qec", f"stty cols 80; {asked}", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any(line.replace("\x1b[1m", "").startswith("baseline_failures") for line in lines), done.stdout
    assert max(len(line) for line in lines) < 120


def test_columns_and_queries_are_listed(whole: Path) -> None:
    views = run("sql", str(whole)).stdout
    assert "image_id, classifier, label" in views
    assert "views:" in views
    assert "tables:" in views
    queries = run("query", str(whole)).stdout
    assert "ledger" in queries
    assert "Whose error each image was" in queries


# opening


def test_a_typing_error_makes_no_database(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(StoreError, match="There is no audit at"):
        open_audit(tmp_path / "audti.duckdb")
    assert list(tmp_path.iterdir()) == []
    with open_audit(whole) as store:
        assert store.rows("select count(*) > 0 from findings") == [(True,)]


# settings


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("max_images = 460", "max_images = 3000000000", "`max_images` is 3000000000"),
        ('name = "fly"', 'name = "Fly"', "did you mean `fly`?"),
        ('name = "fly"', 'name = "fly "', "did you mean `fly`?"),
        ("{label}", "{label.name}", "not 'label.name'"),
        ("{label}", "thing", "must name the label"),
        ("{label}", "{label", "is no template"),
        ('name = "fly"', 'name = "fly", accepted = ["bea"]', "did you mean `bee`?"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    text = toml_of(small_config())
    assert old in text
    (tmp_path / "small.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_models(load_config(tmp_path / "small.toml"), tmp_path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_before_settings_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text("\ufeff" + toml_of(small_config()), encoding="utf-8")
    assert load_config(tmp_path / "small.toml") == small_config()


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a photo of {a} {label} ({hypernym}).", "a photo of a fly."),
        ("a photo of {a} {label}, {hypernym}.", "a photo of a fly."),
        ("{label} [{hypernym}], outdoors", "fly, outdoors"),
        ("{hypernym}: {label}", ": fly"),
        ("a {label}, a kind of {hypernym}", "a fly, a kind of"),
    ],
)
def test_an_empty_hypernym_leaves_no_gap(prompt: str, text: str) -> None:
    settings = small_config().model_dump() | {"prompt": prompt, "labels": [{"name": "fly"}]}
    config = AuditConfig.model_validate(settings)
    assert config.plain_prompt(config.labels[0]).text == text


def test_a_label_that_the_renderer_cannot_draw_is_said(models: Models) -> None:
    """Where every judge knows it all the same."""
    labels = (*models.gate.manifest.labels[:3], "unicorn")
    knowing = [
        replace(bundle, manifest=bundle.manifest.model_copy(update={"labels": labels}))
        for bundle in (*models.classifiers, models.gate)
    ]
    changed = replace(models, classifiers=tuple(knowing[:-1]), gate=knowing[-1])
    config = small_config(labels=[{"name": "unicorn", "hypernym": "animal"}])
    with pytest.raises(UserError, match="The renderer can't draw `unicorn`: there are apple"):
        check_labels(config, changed)


def test_other_settings_are_said_with_their_old_values(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "audit")
    (tmp_path / "small.toml").write_text(toml_of(small_config(min_effect=0.11)))
    done = run("audit", str(tmp_path / "small.toml"), "--out", str(tmp_path / "audit"))
    assert done.returncode == 2
    assert "min_effect = 0.05, now 0.11" in done.stderr


# what could not be judged


def strict_gate(folder: Path) -> Path:
    """tinyworld's gate, whose bounds nothing reaches."""
    shutil.copytree(bundle_path("tinyworld:gate", Path()), folder)
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    sealed = manifest.model_copy(update={"thresholds": Thresholds(lower=1.5, upper=2.0)}).sealed()
    (folder / "manifest.json").write_bytes(sealed.to_json())
    return folder


def test_an_audit_in_which_nothing_passed_the_gate_is_no_clean_one(tmp_path: Path) -> None:
    settings = small_config(gate=str(strict_gate(tmp_path / "gate")))
    (tmp_path / "small.toml").write_text(toml_of(settings))
    done = run("audit", str(tmp_path / "small.toml"), "--out", str(tmp_path / "audit"))
    assert done.returncode == 4, done.stderr
    assert "This audit says nothing of bugs: none of its" in done.stdout
    assert "No bug" not in done.stdout
    page = (tmp_path / "audit" / "report" / "index.html").read_text(encoding="utf-8")
    assert "This audit says nothing of bugs: none of its" in page
    assert "No bug" not in page


# pictures


def test_the_pictures_of_a_finding_are_where_its_number_says(whole: Path, tmp_path: Path) -> None:
    done = run("images", str(whole), "--finding", "1", "--out", str(tmp_path / "one"))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "one" / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    with open_audit(whole) as store:
        ((label, predicted, description, classifier),) = store.rows(
            "select label, predicted, description, classifier from findings where finding = 1"
        )
    for row in rows:
        assert (row["label"], row["description"], row["classifier"]) == (label, description, classifier)
        assert predicted in ("any error", row["predicted"])
        picture = tmp_path / "one" / row["file"]
        assert picture.parent == tmp_path / "one" / folder_name(label) / folder_name(row["predicted"])
        assert picture.read_bytes()[:3] == b"\xff\xd8\xff"
    page = run("report", str(whole), "--out", str(tmp_path / "report"))
    assert page.returncode == 0
    assert "mothlight images AUDIT --finding 1 " in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_pictures_are_chosen_by_a_condition(whole: Path, tmp_path: Path) -> None:
    done = run(
        "images", str(whole), "--where", "label = 'fly' and wave = 0", "--out", str(tmp_path / "f"), "--limit", "3"
    )
    assert done.stdout.startswith(f"3 images in {tmp_path / 'f'} of ")
    assert len({path.name for path in (tmp_path / "f").rglob("*.jpg")}) == 3
    wrong: list[tuple[int | None, str | None, str, str]] = [
        (None, "labell = 1", "g", "labell"),
        (None, "1); delete from image; select (1", "g", "SQL"),
        (None, "", "g", "SQL"),
        (99, None, "g", "they go to"),
        (None, None, "g", "Say which images"),
        (1, None, "f", "not empty"),
    ]
    for finding, where, out, sentence in wrong:
        with pytest.raises(UserError, match=sentence):
            images_command(whole, finding, where, tmp_path / out, 10)


def test_one_row_per_image(whole: Path) -> None:
    with open_audit(whole) as store:
        pictures = store.rows("select count(*), count(distinct image_id) from picture")
        assert pictures == store.rows("select count(*), count(*) from image")


@pytest.mark.parametrize("label", ["../x", "a/b", ".", "", "\0", "CON\n", "é 1"])
def test_no_label_leads_out_of_the_folder(label: str) -> None:
    name = folder_name(label)
    assert name
    assert not {"/", "\\", "\0", "\n"} & set(name)
    assert name not in (".", "..")
