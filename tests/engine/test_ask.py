"""What a person asks: every form of an answer, named queries with what they take, and the shell."""

import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pyarrow.parquet as pq
import pytest

from mothlight.engine.ask import FORMATS, Asked, Format, answer
from mothlight.engine.errors import UserError
from mothlight.engine.opening import Models
from mothlight.engine.shell import Shell, completer, names_in
from mothlight.sql import Store, open_audit
from mothlight.sql.named import given_parameters, query_names, query_parameters, query_text
from tests.engine.conftest import run_audit_in, small_config

ROWS = "select * from (values (1, 'a|b', null), (2, '<i>', 0.5)) as t(n, words, share) order by n"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    run_audit_in(folder, models, small_config())
    return folder


def said(store: Store, text: str, form: Format = "table", **how: object) -> str:
    out = io.StringIO()
    asked = Asked(form)
    for name, value in how.items():
        setattr(asked, name, value)
    answer(store, text, asked, out=out)
    return out.getvalue()


def test_every_form_says_the_same(audit: Path) -> None:
    with open_audit(audit, locked_down=True) as store:
        assert json.loads(said(store, ROWS, "json")) == [
            {"n": 1, "words": "a|b", "share": None},
            {"n": 2, "words": "<i>", "share": 0.5},
        ]
        assert list(csv.reader(io.StringIO(said(store, ROWS, "csv")))) == [
            ["n", "words", "share"], ["1", "a|b", ""], ["2", "<i>", "0.5"],
        ]  # fmt: skip
        markdown = said(store, ROWS, "markdown").splitlines()
        assert markdown == ["| n | words | share |", "| --- | --- | --- |", "| 1 | a\\|b |  |", "| 2 | &lt;i> | 0.5 |"]
        assert "a|b" in said(store, ROWS)


@pytest.mark.parametrize("form", FORMATS)
def test_no_rows_are_no_fault(audit: Path, form: Format) -> None:
    with open_audit(audit, locked_down=True) as store:
        text = said(store, "select label from label where false", form)
        assert text == "[\n]\n" if form == "json" else "label" in text or "No rows" in text or form == "table"


def test_a_parquet_file_holds_all_rows(audit: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    with open_audit(audit, locked_down=True) as store:
        assert (
            said(store, "select * from outcome", parquet=path)
            == f"{len(store.rows('from outcome')):,} rows in {path}\n"
        )
        table = pq.read_table(path)
        assert table.num_rows == len(store.rows("from outcome"))
        with pytest.raises(UserError, match="one statement"):
            said(store, "select 1; select 2", parquet=path)
        with pytest.raises(UserError, match="Can't write"):
            said(store, "select 1", parquet=tmp_path / "nowhere" / "x.parquet")
    assert sorted(tmp_path.iterdir()) == [path]


def test_no_form_gives_more_rows_than_asked_or_meant(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = "select range as n from range(5000)"
    with open_audit(audit, locked_down=True) as store:
        assert len(said(store, many, "csv", limit=7).splitlines()) == 8
        assert len(json.loads(said(store, many, "json", limit=7))) == 7
        said(store, many, parquet=tmp_path / "rows.parquet", limit=4500)
        assert pq.read_table(tmp_path / "rows.parquet").column("n").to_pylist() == [*range(4500)]
        monkeypatch.setattr("mothlight.engine.ask.MOST_ROWS", 100)
        with pytest.raises(UserError, match="more than 100 rows: ask for fewer, or say --limit"):
            said(store, many, "csv")


def test_the_pictures_of_rows(audit: Path, tmp_path: Path) -> None:
    with open_audit(audit, locked_down=True) as store:
        wanted = "select image_id, classifier from outcome where label = 'fly' order by image_id limit 7"
        ids = {row[0] for row in store.rows(wanted)}
        text = said(store, wanted, images=tmp_path / "pictures")
        assert text.startswith(f"{len(ids)} pictures of 7 rows")
        written = {path.stem: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
        assert written == dict(
            store.rows("select image_id, jpeg from image where list_contains($ids, image_id)", ids=[*ids])
        )
        with pytest.raises(UserError, match="No row has a picture"):
            said(store, "select label from label", images=tmp_path / "none")


def test_a_large_answer_is_not_fetched_for_a_table(audit: Path) -> None:
    with open_audit(audit, locked_down=True) as store:
        begun = monotonic()
        text = said(store, "select range, repeat('x', 50) from range(2000000000)", limit=3)
        assert "… and more; --limit 30" in text
        assert monotonic() - begun < 20


def test_what_a_person_asks_has_bounds(audit: Path) -> None:
    with open_audit(audit, locked_down=True, memory="200MB") as store:
        with pytest.raises(UserError, match="Out of Memory"):
            said(store, "select length(string_agg(repeat('x', 1000), '')) from range(100000000)")
        with pytest.raises(UserError, match=r"stopped after 0\.3 seconds"):
            said(store, "select sum(sin(a.range * b.range)) from range(100000000) a, range(1000000) b", seconds=0.3)
        assert said(store, "select 7 as seven", "csv") == "seven\n7\n"


EXAMPLES = {"image": "", "finding": "1"}


ASKABLE = [name for name in query_names() if query_parameters(name) or "$" not in query_text(name)]
"""The others serve the report."""


@pytest.mark.parametrize("name", ASKABLE)
def test_every_named_query_runs_with_its_defaults(audit: Path, name: str) -> None:
    needed = [f"{one.name}={EXAMPLES[one.name]}" for one in query_parameters(name) if one.default is None]
    with open_audit(audit, locked_down=True) as store:
        answers = store.ask(query_text(name), given_parameters(name, needed))
    assert len(answers) == 1
    assert answers[0].columns


def test_named_queries_answer_what_they_say(audit: Path) -> None:
    def rows(store: Store, name: str, *given: str) -> list[dict[str, object]]:
        (one,) = store.ask(query_text(name), given_parameters(name, given))
        return [dict(zip(one.columns, row, strict=True)) for row in one.rows]

    with open_audit(audit, locked_down=True) as store:
        assert {row["label"] for row in rows(store, "rates", "label=fly")} == {"fly"}
        (image,) = store.rows("select image_id from embedding order by image_id limit 1")[0]
        near = rows(store, "nearest", f"image={image[:9]}", "count=4")
        assert len(near) == 4
        assert image not in {row["image_id"] for row in near}
        cosines = [float(str(row["cosine"])) for row in near]
        assert cosines == sorted(cosines, reverse=True)
        some = rows(store, "disagreement", "count=3")
        assert len(some) <= 3
        (used,) = {row["passes_from"] for row in rows(store, "gate_sensitivity") if row["in_use"]}
        at_bound = {
            row["classifier"]: (row["n"], row["failures"]) for row in rows(store, "gate_sensitivity") if row["in_use"]
        }
        assert used == store.rows("select gate_upper from audit")[0][0]
        counted = store.rows(
            "select classifier, count(*), count(*) filter (wrong) from outcome where passed group by all"
        )
        assert at_bound == {name: (n, wrong) for name, n, wrong in counted}
        assert all(float(str(row["margin"])) >= 0 for row in rows(store, "low_margins"))


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("rates", ["lable=fly"], "takes label=all, classifier=all, not `lable=fly`"),
        ("rates", ["fly"], "not `fly`"),
        ("budget", ["label=fly"], "takes nothing"),
        ("worst_clusters", ["count=many"], "must be of the kind integer"),
        ("nearest", [], "`image` is missing"),
        ("evidence_over_time", ["finding=1.5"], "must be of the kind integer"),
    ],
)
def test_a_parameter_that_does_not_fit_is_one_sentence(name: str, given: list[str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        given_parameters(name, given)


def typed(store: Store, capsys: pytest.CaptureFixture[str], *lines: str) -> str:
    """What a shell says to some lines."""
    shell = Shell(store, Asked())
    for line in lines:
        assert shell.take(line) is (line not in (".quit", ".exit"))
    return capsys.readouterr().out


def test_the_shell_answers_and_goes_on(audit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_audit(audit, locked_down=True) as store:
        text = typed(
            store, capsys, ".help", "", "select count(*)", "  as n from label;", "select nonsense;", ".nonsense",
            ".queries", ".views", ".mode csv", "select 5 as five;", ".query rates label=nobody", ".query rates x=1",
            "select image_id from image limit 2;", f".images {tmp_path / 'shown'}", ".images", ".quit",
        )  # fmt: skip
    assert "A statement ends with a semicolon" in text
    assert "n\n2\n" in text.replace(" ", "")
    assert "SQL: Binder Error" in text
    assert "There is no command `.nonsense`" in text
    assert "five\n5\n" in text
    assert "label,description,classifier" in text
    assert "not `x=1`" in text
    assert "2 pictures of 2 rows" in text
    assert len(list((tmp_path / "shown").iterdir())) == 2


def test_names_are_completed(audit: Path) -> None:
    with open_audit(audit, locked_down=True) as store:
        complete = completer(names_in(store))
    assert complete("outc", 0) == "outcome"
    assert complete("failure_ra", 0) == "failure_rate"
    assert complete(".que", 1) == ".query"
    assert complete("nothing_such", 0) is None


def test_at_a_terminal_it_is_a_shell(audit: Path, tmp_path: Path) -> None:
    main, other = pty.openpty()
    code = "from mothlight.engine.cli import main; main()"
    home = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"}
    run = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "sql", str(audit)], stdin=other, stdout=other, stderr=other, env=home
    )
    os.close(other)
    text = b""

    def until(words: bytes) -> None:
        nonlocal text
        end = monotonic() + 30
        while words not in text and monotonic() < end:
            if select.select([main], [], [], 0.2)[0]:
                text += os.read(main, 4096)

    until(b"mothlight> ")
    os.write(main, b"select 40 + 2 as answer;\n")
    until(b"42")
    text = text.partition(b"42")[2]
    until(b"mothlight> ")
    os.write(main, b"\x04")
    end = monotonic() + 30
    while run.poll() is None and monotonic() < end:  # who leaves a terminal waits until it has shown everything
        if select.select([main], [], [], 0.2)[0]:
            with suppress(OSError):
                os.read(main, 4096)
    assert run.returncode == 0
    os.close(main)
    assert "select 40 + 2 as answer;" in (tmp_path / "mothlight" / "sql_history").read_text(encoding="utf-8")
