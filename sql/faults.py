"""DuckDB's faults as ours, told apart by their kind: the exception's class and how its message begins.

A message quotes paths and values, so a word somewhere inside says nothing: "block" holds "lock", and so may a path.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from mothlight.engine.errors import CorruptError, DiskFullError, LockedError, StoreError

HOLDER = re.compile(r"Conflicting lock is held in .*?\((PID \d+)\)", re.DOTALL)
FULL = re.compile(r".*(No space left on device|Disk quota exceeded)$|Out of Memory Error: failed to offload data block")
LOCKED = re.compile(r"IO Error: (Could not set lock on file|File is already open in)")
NEWER = re.compile(r"IO Error: Trying to read a database file with version number (\d+), but we can only read")
UNOPENED = re.compile(r"IO Error: (Cannot|Could not) (open|create|truncate|move|remove) (file|director|database)")
GONE = re.compile(r"the audit that runs does not answer")
"""As `sql.remote` says it."""
CORRUPT = re.compile(r"Corrupt database file")
"""DuckDB 2.0 says so without a class of its own."""
BROKEN = (duckdb.IOException, duckdb.FatalException, duckdb.SerializationException, duckdb.InternalException)


def translated(error: Exception, path: Path | str) -> BaseException:
    """A fault of DuckDB as one of ours; one that is our own mistake, such as bad SQL, is handed back as it is."""
    text = str(error)
    first = text.partition("\n")[0]
    fault: BaseException = error
    if was_interrupted(error):
        fault = KeyboardInterrupt()
    elif FULL.match(first):
        fault = DiskFullError(f"The disk is full: {path} can't grow; free some space and start the same command again.")
    elif LOCKED.match(first):
        holder = HOLDER.search(text)
        who = f" ({holder[1]})" if holder else ""
        fault = LockedError(f"Another process{who} has {path} open; wait for it to end, or end it.")
    elif GONE.match(first):
        fault = StoreError(f"The process that was writing {path} ended before it answered: ask again.")
    elif newer := NEWER.match(first):
        fault = StoreError(
            f"A newer DuckDB wrote {path} (storage version {newer[1]}): upgrade mothlight and its duckdb to read it."
        )
    elif UNOPENED.match(first):
        fault = StoreError(f"Can't open the database {path}: {first}")
    elif isinstance(error, BROKEN) or CORRUPT.match(first):
        fault = CorruptError(f"The database {path} is damaged or none of ours ({first}); nothing was changed.")
    return fault


def was_interrupted(error: BaseException) -> bool:
    """Whether it is DuckDB's word for a signal, or a `Connection.interrupt`, in the middle of a statement."""
    kind = isinstance(error, duckdb.InterruptException) or type(error) is RuntimeError
    return kind and "interrupted" in str(error).partition("\n")[0].lower()


@contextmanager
def faults_of(path: Path | str) -> Iterator[None]:
    """Inside, what DuckDB raises is one of ours, or a KeyboardInterrupt.

    Raises:
        LockedError, CorruptError, DiskFullError, StoreError: see `translated`.
    """
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        ours = translated(error, path)
        if ours is error:
            raise
        raise ours from error
