"""An audit is read while it is written, by whoever may read its folder, and the writer is none the worse."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Thread
from time import monotonic

import duckdb
import pytest
from pyarrow import flight

from mothlight.engine.errors import LockedError, UserError
from mothlight.sql import Store, open_audit
from mothlight.sql.remote import SOCKET, RemoteConnection
from mothlight.sql.serve import serving

BOMB = "select length(string_agg(repeat('x', 1000), '')) from range(100000000)"
ENDLESS = "select sum(sin(a.range * b.range)) from range(100000000) a, range(1000000) b"
HOSTILE = [
    "insert into label values ('x', 1, 'y')",
    "update label set place = 0",
    "delete from label",
    "drop table label",
    "create table t (a integer)",
    "create temp table t as select 1",
    "create or replace view outcome as select 1",
    "create macro f(a) as a",
    "explain analyze insert into label values ('x', 1, 'y')",
    "copy label to '/tmp/mothlight-stolen.csv'",
    "copy (select 1) to '/tmp/mothlight-stolen.parquet'",
    "export database '/tmp/mothlight-stolen'",
    "import database '/tmp'",
    "attach '/tmp/mothlight-stolen.duckdb'",
    "detach audit",
    "install httpfs",
    "load httpfs",
    "set memory_limit = '100GB'",
    "reset memory_limit",
    "pragma enable_profiling",
    "checkpoint",
    "force checkpoint",
    "vacuum",
    "begin",
    "commit",
    "rollback",
    "use memory",
    "call pragma_version()",
    "prepare p as select 1",
    "execute p",
    "select 1; drop table label",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from glob('/*')",
    "select * from read_parquet('http://127.0.0.1/x')",
    "select nextval('s')",
    "select * from store",
    "",
    "nonsense",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def writer(folder: Path) -> Iterator[Store]:
    """A database that is being written, and answers."""
    with open_audit(folder / "audit.duckdb", read_only=False) as store, serving(store):
        add(store, 3)
        yield store


def add(store: Store, count: int) -> None:
    """So many more labels."""
    ((known,),) = store.rows("select count(*) from label")
    rows = [
        {"label": f"label {place}", "place": place, "plain_prompt_id": "p"} for place in range(known, known + count)
    ]
    store.append_all([("label", rows)])


@pytest.fixture
def reader(folder: Path, writer: Store) -> Iterator[Store]:
    """As another process has it."""
    del writer
    connection = RemoteConnection(folder)
    with Store(connection, folder) as store:  # type: ignore[arg-type]  # it stands for DuckDB's
        yield store


def other_process(folder: Path, statement: str) -> str:
    code = (
        "import sys; from mothlight.sql import open_audit\n"
        "with open_audit(sys.argv[1]) as store: print(store.is_running, store.rows(sys.argv[2]))"
    )
    words = [sys.executable, "-P", "-c", code, str(folder), statement]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def test_another_process_reads_what_is_committed(folder: Path, writer: Store) -> None:
    assert other_process(folder, "select count(*) from label") == "True [(3,)]"
    add(writer, 4)
    assert other_process(folder, "select count(*) from label") == "True [(7,)]"


def test_a_reader_has_one_snapshot(folder: Path, writer: Store, reader: Store) -> None:
    assert reader.rows("select count(*) from label") == [(3,)]
    add(writer, 1)
    assert reader.rows("select count(*) from label") == [(3,)]
    with Store(RemoteConnection(folder), folder) as other:  # type: ignore[arg-type]  # as above
        assert other.rows("select count(*) from label") == [(4,)]


def test_values_are_those_that_duckdb_gives(writer: Store, reader: Store) -> None:
    statement = (
        "select 1 as a, null as b, 'x' as c, 1.5::double as d, sum(range)::hugeint as e, [1, 2] as f, "
        "'\\x00ab'::blob as g, timestamp '2026-01-01 00:00:00' as h, true as i, {'k': 1} as j from range(3)"
    )
    assert reader.rows(statement) == writer.rows(statement)
    assert reader.rows("select $word || 'y', $list", word="x", list=["a", "b"]) == [("xy", ["a", "b"])]
    assert reader.records("select 1 as one")[0] == {"one": 1}
    assert isinstance(reader.rows(statement)[0][7], datetime)


def test_a_table_for_python_comes_from_there_too(reader: Store) -> None:
    assert list(reader.sql("select label from label where place = $place", place=1)) == [{"label": "label 1"}]
    assert reader.sql("select range from range(50000)").arrow.num_rows == 50_000


def test_many_rows_come_in_parts(reader: Store) -> None:
    rows = reader.rows("select range from range(50000)")
    assert [row[0] for row in rows] == list(range(50_000))
    cursor = reader.connection.execute("select range from range(1000000000)")
    assert cursor.fetchmany(3) == [(0,), (1,), (2,)]
    assert cursor.fetchmany(2) == [(3,), (4,)]


@pytest.mark.parametrize("statement", HOSTILE)
def test_hostile_statements_do_nothing(folder: Path, writer: Store, reader: Store, statement: str) -> None:
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises((duckdb.Error, UserError)):
        reader.rows(statement)
    assert reader.rows("select count(*) from label") == [(3,)]
    add(writer, 1)
    assert writer.rows("select count(*) from label") == [(4,)]
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not list(Path("/tmp").glob("mothlight-stolen*"))  # noqa: S108  # where they would have written


def test_a_fault_is_told_as_duckdb_tells_it(reader: Store) -> None:
    with pytest.raises(duckdb.BinderException, match="nothing_such"):
        reader.rows("select nothing_such from label")
    with pytest.raises(UserError, match="SQL: Binder Error"):
        reader.ask("select nothing_such from label")


def test_the_time_of_a_query_ends_over_there_too(folder: Path, writer: Store) -> None:
    client = flight.connect(f"grpc+unix://{folder / SOCKET}")
    ticket = flight.Ticket(json.dumps({"statement": ENDLESS, "seconds": 0.5}).encode())
    begun = monotonic()
    with pytest.raises(flight.FlightError):
        client.do_get(ticket).read_all()
    assert monotonic() - begun < 20
    add(writer, 1)
    client.close()


def test_any_flight_client_can_ask(folder: Path, writer: Store) -> None:
    add(writer, 2)
    client = flight.connect(f"grpc+unix://{folder / SOCKET}")
    ticket = flight.Ticket(json.dumps({"statement": "select label from label order by place"}).encode())
    table = client.do_get(ticket).read_all()
    assert table.column("label").to_pylist() == [f"label {place}" for place in range(5)]
    client.close()


def test_a_memory_bomb_fails_alone(folder: Path, writer: Store) -> None:
    faults: list[str] = []

    def throw() -> None:
        with Store(RemoteConnection(folder), folder) as store:  # type: ignore[arg-type]  # as above
            try:
                store.rows(BOMB)
            except duckdb.Error as error:
                faults.append(type(error).__name__)

    thread = Thread(target=throw)
    thread.start()
    count = 3
    while thread.is_alive():
        add(writer, 1000)
        count += 1000
        thread.join(0.05)
    assert faults
    assert writer.rows("select count(*) from label") == [(count,)]


def test_what_a_reader_runs_ends_with_the_audit(folder: Path) -> None:
    ended: list[str] = []

    def ask() -> None:
        with Store(RemoteConnection(folder), folder) as store:  # type: ignore[arg-type]  # as above
            try:
                store.rows(ENDLESS)
            except duckdb.Error as error:
                ended.append(type(error).__name__)

    begun = monotonic()
    with open_audit(folder / "audit.duckdb", read_only=False) as store, serving(store):
        thread = Thread(target=ask)
        thread.start()
        thread.join(1.0)
    thread.join(20)
    assert ended
    assert monotonic() - begun < 20
    with open_audit(folder) as store:
        assert not store.is_running


def test_the_socket_is_the_owner_s_alone_and_goes(folder: Path) -> None:
    (folder / SOCKET).write_text("left by one that was killed")
    with open_audit(folder / "audit.duckdb", read_only=False) as store, serving(store):
        assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
    assert not (folder / SOCKET).exists()


def test_a_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("path" * 20)
    folder.mkdir(parents=True)
    with open_audit(folder / "audit.duckdb", read_only=False) as store, serving(store):
        add(store, 1)
        assert other_process(folder, "select count(*) from label") == "True [(1,)]"


def test_a_writer_that_does_not_answer_holds_the_file(folder: Path) -> None:
    with open_audit(folder / "audit.duckdb", read_only=False):
        code = "import sys; from mothlight.sql import open_audit; open_audit(sys.argv[1])"
        (folder / SOCKET).write_text("nobody")
        answer = subprocess.run(
            [sys.executable, "-P", "-c", code, folder], capture_output=True, text=True, check=False, timeout=60
        )
    assert f"LockedError: Another process (PID {os.getpid()})" in answer.stderr
    assert LockedError.exit_code == 5


def test_what_a_killed_writer_left_opens(folder: Path) -> None:
    code = (
        "import os, signal, sys; from mothlight.sql import open_audit; from mothlight.sql.serve import serving\n"
        "with open_audit(sys.argv[1], read_only=False) as store, serving(store):\n"
        "    store.append_all([('label', [{'label': 'a', 'place': 0, 'plain_prompt_id': 'p'}])])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code, folder / "audit.duckdb"], check=False, timeout=60)
    assert (folder / SOCKET).exists()
    with open_audit(folder) as store:
        assert store.rows("select label from label") == [("a",)]
    with open_audit(folder / "audit.duckdb", read_only=False) as store, serving(store):
        assert other_process(folder, "select label from label") == "True [('a',)]"
