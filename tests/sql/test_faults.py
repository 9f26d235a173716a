"""DuckDB's faults become ours by their kind, at opening and after it."""

import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import duckdb
import pytest

from mothlight.engine.errors import CorruptError, DiskFullError, LockedError, StoreError, UserError
from mothlight.sql import Store, open_audit
from mothlight.sql.faults import translated


@pytest.fixture(params=["plain", "a lock, a block", "No space left on device", "Permission denied"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database whose path holds the words of other faults."""
    name: str = request.param
    folder = tmp_path / name
    folder.mkdir()
    database = folder / "audit.duckdb"
    with open_audit(database, read_only=False) as store:
        rows = [{"wave": k, "place": 0, "phase": "test", "prompt_id": f"{k}", "first_index": k} for k in range(30_000)]
        store.append("wave", [row | {"images": 1, "max_images": 1} for row in rows])
    return database


def damage(path: Path, start: int, end: int) -> None:
    """Turn over the bits of some of a file's bytes."""
    data = bytearray(path.read_bytes())
    data[start:end] = bytes(byte ^ 255 for byte in data[start:end])
    path.write_bytes(data)


def test_a_damaged_file_is_damaged_whatever_its_path(path: Path) -> None:
    size = path.stat().st_size
    damage(path, 4096 * 3, size)
    with pytest.raises(CorruptError, match="damaged or none of ours"), open_audit(path) as store:
        store.rows("select sum(first_index) from wave")


def test_damage_that_is_met_after_opening_is_damage(path: Path) -> None:
    met = 0
    data = path.read_bytes()
    for start in range(4096 * 3, len(data), 1 << 18):
        path.write_bytes(data)
        damage(path, start + 100, start + 200)
        try:
            store = open_audit(path)
        except CorruptError:
            continue
        with store:
            try:
                store.records("select * from wave")
            except CorruptError:
                met += 1
    assert met > 0


def test_a_second_writer_is_told_of_the_first(path: Path) -> None:
    code = "import sys; from mothlight.sql import open_audit; open_audit(sys.argv[1], read_only=False)"
    with open_audit(path, read_only=False):
        answer = subprocess.run([sys.executable, "-P", "-c", code, path], capture_output=True, text=True, check=False)
    assert "LockedError: Another process" in answer.stderr


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (duckdb.IOException('IO Error: Could not write file "/a/lock": No space left on device'), DiskFullError),
        (duckdb.IOException('IO Error: Could not set lock on file "/a/b": Conflicting lock is held in x'), LockedError),
        (duckdb.IOException('IO Error: Cannot open file "/a/lock": Permission denied'), StoreError),
        (duckdb.IOException("IO Error: Trying to read a database file with version number 69, but we can only"
                            " read versions between 64 and 68."), StoreError),
        (duckdb.IOException("IO Error: Corrupt database file: checksum in block at location 12"), CorruptError),
        (duckdb.Error("Corrupt database file: computed checksum 1 does not match"), CorruptError),
        (duckdb.FatalException("FATAL Error: the database has been invalidated; lock"), CorruptError),
        (duckdb.InterruptException("INTERRUPT Error: Interrupted!"), KeyboardInterrupt),
        (RuntimeError("Query interrupted"), KeyboardInterrupt),
        (duckdb.BinderException("Binder Error: no column lock, No space left"), duckdb.BinderException),
        (duckdb.ConstraintException("Constraint Error: Duplicate key interrupted"), duckdb.ConstraintException),
        (RuntimeError("ours"), RuntimeError),
    ],
)  # fmt: skip
def test_each_kind_of_fault(error: Exception, kind: type[BaseException]) -> None:
    assert type(translated(error, "/somewhere")) is kind


def test_rows_of_unequal_keys_keep_every_column() -> None:
    with open_audit() as store:
        row = {"role": "generator", "name": "r", "source": "s"}
        store.append("model", [{"content_key": "a", **row}, {"content_key": "b", **row, "worst_difference": 0.5}])
        assert store.rows("select worst_difference from model order by all") == [(0.5,), (None,)]


class _SignalError(BaseException):
    pass


def test_a_signal_before_the_block_leaves_no_transaction_open() -> None:
    with open_audit() as store:
        store.connection.begin()  # as if a signal came when it had begun
        with store.transaction():
            store.append("label", [{"label": "fly", "place": 0, "plain_prompt_id": "p"}])
        assert store.rows("select label from label") == [("fly",)]


def test_a_signal_inside_rolls_back() -> None:
    with open_audit() as store:
        with pytest.raises(_SignalError), store.transaction():  # noqa: PT012  # the block is what is tested
            store.append("label", [{"label": "fly", "place": 0, "plain_prompt_id": "p"}])
            raise _SignalError
        assert store.rows("select label from label") == []
        with store.transaction():
            pass


def test_a_signal_in_a_query_is_no_traceback(tmp_path: Path) -> None:
    open_audit(tmp_path / "audit.duckdb", read_only=False).close()
    slow = "select sum(sin(a.range * b.range)) from range(100000000) a, range(1000000) b"
    code = "import sys; from mothlight.engine.cli import main; print(1, flush=True); main()"
    run = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "sql", str(tmp_path), slow],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    run.stdout.readline()
    sleep(3)
    run.send_signal(signal.SIGINT)
    _, complaint = run.communicate(timeout=30)
    assert run.returncode == 128 + signal.SIGINT
    assert "Traceback" not in complaint


def test_the_time_of_a_query_ends(tmp_path: Path) -> None:
    open_audit(tmp_path / "audit.duckdb", read_only=False).close()
    slow = "select sum(sin(a.range * b.range)) from range(100000000) a, range(1000000) b"
    with open_audit(tmp_path) as store:
        with pytest.raises(UserError, match=r"stopped after 0\.5 seconds"):
            store.ask(slow, seconds=0.5)
        assert store.ask("select 1")[0].rows == [(1,)]


def test_a_store_of_another_thread_sees_what_is_committed() -> None:
    with open_audit() as store, store.beside() as other:
        assert isinstance(other, Store)
        store.append("label", [{"label": "fly", "place": 0, "plain_prompt_id": "p"}])
        assert other.rows("select label from label") == [("fly",)]


def test_a_writer_that_ends_between_two_questions_is_one_sentence() -> None:
    gone = duckdb.ConnectionException("the audit that runs does not answer (FlightUnavailableError)")
    fault = translated(gone, "audits/night/audit.duckdb")
    assert isinstance(fault, StoreError)
    assert "ended before it answered: ask again" in str(fault)
