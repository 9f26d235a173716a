"""Reading an audit while it is written: the writing process answers on a socket in the audit's folder, by Arrow Flight.

Any Flight client can ask: a ticket is JSON, `{"statement": …, "parameters": …, "session": …, "seconds": …}`, and what
comes back is a stream of record batches. Only SELECT and EXPLAIN run, in a transaction that reads, on cursors of their
own; no file can be named, no setting changed. A session is one snapshot, until it is closed or was idle for long.

DuckDB bounds the memory of a database, not of a statement: if the writer finds none left, it ends what the readers run
and tries again.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread, Timer
from time import monotonic

import duckdb
import pyarrow as pa
from pyarrow import flight

from mothlight.sql.faults import was_interrupted
from mothlight.sql.remote import SOCKET, address
from mothlight.sql.store import LOCK_DOWN, Store

SECONDS = 60.0
"""That a statement may take, unless its ticket asks for less."""
CLOSING = 5.0
"""Seconds that a statement of a session that is closed has to end."""
IDLE = 600.0
"""Seconds after which a session that nobody used is closed."""
ROWS = 10_000
"""Of a record batch."""
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


@dataclass(slots=True)
class _Session:
    """One reader's snapshot."""

    cursor: duckdb.DuckDBPyConnection
    lock: Lock = field(default_factory=Lock)
    used: float = field(default_factory=monotonic)
    begun: bool = False


class AuditServer(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow ships no types
    """Answers readers of a database that this process writes."""

    def __init__(self, store: Store, location: str) -> None:
        """Listen at `location`; the store's cursors are made here, its own connection stays the writer's."""
        self.root = store.connection.cursor()
        self.sessions: dict[str, _Session] = {}
        self.lock = Lock()
        super().__init__(location)

    def do_get(self, context: object, ticket: flight.Ticket) -> flight.FlightDataStream:
        """The rows of a statement."""
        del context
        asked = json.loads(ticket.ticket)
        session = self._session(str(asked.get("session", "")))
        seconds = min(float(asked.get("seconds") or SECONDS), SECONDS)
        with _told():
            statement = _reading(str(asked["statement"]))
        session.lock.acquire()
        timer = Timer(seconds, session.cursor.interrupt)
        timer.daemon = True
        timer.start()

        def end() -> None:
            timer.cancel()
            session.used = monotonic()
            session.lock.release()

        try:
            with _told(lambda: self._rolled_back(session)):
                if not session.begun:
                    session.cursor.execute("begin transaction read only")
                    session.begun = True
                reader = session.cursor.execute(statement, asked.get("parameters") or {}).to_arrow_reader(ROWS)
        except BaseException:
            end()
            raise
        return flight.GeneratorStream(reader.schema, self._batches(session, reader, end))

    def _batches(
        self, session: _Session, reader: pa.RecordBatchReader, end: Callable[[], None]
    ) -> Iterator[pa.RecordBatch]:
        try:
            with _told(lambda: self._rolled_back(session)):
                yield from reader
        finally:
            end()

    def do_action(self, context: object, action: flight.Action) -> Iterator[flight.Result]:
        """`close` ends a session, whose name is the body."""
        del context
        if action.type == "close":
            with self.lock:
                session = self.sessions.pop(action.body.to_pybytes().decode(), None)
            if session is not None:
                session.cursor.interrupt()
                if session.lock.acquire(timeout=CLOSING):
                    session.cursor.close()
        return iter(())

    def interrupt(self) -> None:
        """End what the readers run."""
        with self.lock:
            for session in self.sessions.values():
                if session.lock.locked():
                    session.cursor.interrupt()

    def _session(self, name: str) -> _Session:
        with self.lock:
            now = monotonic()
            for other, one in list(self.sessions.items()):
                if now - one.used > IDLE and not one.lock.locked():
                    one.cursor.close()
                    del self.sessions[other]
            if name not in self.sessions:
                self.sessions[name] = _Session(self.root.cursor())
            return self.sessions[name]

    def _rolled_back(self, session: _Session) -> None:
        session.begun = False
        with suppress(duckdb.Error):
            session.cursor.rollback()

    def close(self) -> None:
        """Answer nobody any more."""
        self.interrupt()
        self.shutdown()
        for session in self.sessions.values():
            with suppress(duckdb.Error):
                session.cursor.close()
        self.root.close()


def _reading(text: str) -> str:
    statements = duckdb.extract_statements(text)
    if len(statements) != 1 or statements[0].type not in READING:
        raise duckdb.PermissionException("while the audit runs, it answers one SELECT or EXPLAIN at a time.")
    return str(statements[0].query)


@contextmanager
def _told(first: Callable[[], None] = lambda: None) -> Iterator[None]:
    """What DuckDB raises goes to the client with its kind and its words."""
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        first()
        kind, text = type(error).__name__, str(error)
        if was_interrupted(error):
            kind = "OperationalError"
            text = f"stopped: a statement may take {SECONDS:g} seconds, and no longer than the audit runs."
        raise flight.FlightServerError("SQL", json.dumps({"kind": kind, "text": text}).encode()) from error


@contextmanager
def serving(store: Store) -> Iterator[None]:
    """Inside, others can read the database that `store` writes; one in memory is nobody's but ours."""
    folder = Path(store.path).parent
    if not Path(store.path).is_file():
        yield
        return
    store.connection.execute(LOCK_DOWN)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    socket = folder / SOCKET
    socket.unlink(missing_ok=True)  # of one that was killed: the file's lock is ours
    mask = os.umask(0o177)
    try:
        server = AuditServer(store, address(handle))
    finally:
        os.umask(mask)
    Thread(target=server.serve, name="serve", daemon=True).start()
    store.when_full = server.interrupt
    try:
        yield
    finally:
        store.when_full = None
        server.close()
        socket.unlink(missing_ok=True)
        os.close(handle)
