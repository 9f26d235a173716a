"""Reads an audit that another process writes, by asking that process: see `serve`."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyarrow import flight

SOCKET = "audit.sock"
"""The file in an audit's folder."""


def address(handle: int) -> str:
    """Of the socket in a folder that is open here: a socket's own path may have 107 bytes, a folder's any length."""
    return f"grpc+unix:///proc/self/fd/{handle}/{SOCKET}"


class RemoteConnection:
    """What `Store` needs of a connection, of a database that another process writes: one snapshot, to read."""

    def __init__(self, folder: Path) -> None:
        """Connect to the process that writes the audit in `folder`.

        Raises:
            flight.FlightUnavailableError: nobody answers there.
        """
        self.handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.client = flight.connect(address(self.handle))
        self.session = os.urandom(8).hex()
        self.description: list[tuple[str, ...]] | None = None
        self.reader: Any = None
        self.left: list[tuple[Any, ...]] = []

    def extract_statements(self, text: str) -> list[Any]:
        """As DuckDB's."""
        return duckdb.extract_statements(text)

    def execute(self, statement: Any, parameters: Mapping[str, object] | None = None) -> "RemoteConnection":
        """As DuckDB's; the rows come as they are fetched.

        Raises:
            duckdb.Error: what DuckDB says over there.
        """
        text = str(getattr(statement, "query", statement))
        self.interrupt()
        asked = {"statement": text, "parameters": dict(parameters or {}), "session": self.session}
        with _retold():
            self.reader = self.client.do_get(flight.Ticket(json.dumps(asked).encode()))
            self.description = [(name,) for name in self.reader.schema.names]
        self.left = []
        return self

    def fetchmany(self, count: int) -> list[tuple[Any, ...]]:
        """As DuckDB's."""
        rows = self.left
        while len(rows) < count:
            with _retold():
                try:
                    batch = self.reader.read_chunk().data
                except StopIteration:
                    break
            rows = [*rows, *_rows(batch)]
        self.left = rows[count:]
        return rows[:count]

    def to_arrow_reader(self, rows: int) -> pa.RecordBatchReader:
        """As DuckDB's; the batches are of the size that the other side chose."""
        del rows
        return self.reader.to_reader()

    def fetchall(self) -> list[tuple[Any, ...]]:
        """As DuckDB's."""
        rows, self.left = self.left, []
        with _retold():
            return [*rows, *(row for chunk in self.reader for row in _rows(chunk.data))]

    def interrupt(self) -> None:
        """Give up what is under way."""
        if self.reader is not None:
            self.reader.cancel()
            self.reader = None

    def cursor(self) -> "RemoteConnection":
        """The same snapshot: it is asked one thing at a time."""
        return self

    def close(self) -> None:
        """End the snapshot."""
        if self.handle < 0:
            return
        self.interrupt()
        with suppress(pa.ArrowException):
            list(self.client.do_action(flight.Action("close", self.session.encode())))
        self.client.close()
        os.close(self.handle)
        self.handle = -1


@contextmanager
def _retold() -> Iterator[None]:
    """What DuckDB raised over there is raised here."""
    try:
        yield
    except flight.FlightError as error:
        if not getattr(error, "extra_info", None):
            raise duckdb.ConnectionException(f"the audit that runs does not answer ({type(error).__name__})") from error
        told = json.loads(error.extra_info)
        kind = getattr(duckdb, told["kind"], duckdb.Error)
        raise kind(told["text"]) from error


def _rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """As DuckDB gives them: its large integers come as decimals without a fraction."""
    columns = []
    for column, kind in zip(batch.columns, batch.schema.types, strict=True):
        values = column.to_pylist()
        if pa.types.is_decimal(kind) and kind.scale == 0:
            values = [None if value is None else int(value) for value in values]
        columns.append(values)
    return list(zip(*columns, strict=True))
