"""Compiled engines, kept in the user's cache folder under a key of all that they depend on."""

import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import time

from pydantic import BaseModel, ConfigDict

from mothlight.engine.errors import UserError

log = logging.getLogger("mothlight.engine")
SUFFIX = ".engine"
VARIABLE = "MOTHLIGHT_CACHE"


class Entry(BaseModel):
    """What is known of a compiled engine; stands beside it as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str
    bundle: str
    graph: str
    builder: str
    """Library and version."""
    device: str
    seconds: float
    """That it took to build."""
    size: int
    sha256: str
    made: float
    """Seconds since 1970."""


def cache_folder() -> Path:
    """`$MOTHLIGHT_CACHE`, or `mothlight` in the user's cache folder."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mothlight"


def key_of(parts: Mapping[str, object]) -> str:
    """The key of an engine: 64 hex digits over everything that it depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class EngineCache:
    """A folder of engines, readable by its owner alone."""

    def __init__(self, folder: Path | None = None) -> None:
        """Make the folder if there is none.

        Raises:
            UserError: it can't be made, or is somebody else's.
        """
        self.folder = (folder or cache_folder()) / "engines"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = self.folder.stat()
            if status.st_uid != os.getuid():
                raise UserError(f"The cache {self.folder} is another user's: set {VARIABLE} to a folder of your own.")
            self.folder.chmod(0o700)
        except OSError as error:
            reason = error.strerror
            raise UserError(
                f"Can't use the cache {self.folder} ({reason}): set {VARIABLE} to another folder."
            ) from error

    def engine(self, key: str, build: Callable[[], tuple[bytes, Mapping[str, str]]]) -> tuple[bytes, bool]:
        """An engine from the cache, or built now; and whether it was built.

        Several processes that want the same one build it once: the others wait. One that is damaged is built again.
        `build` gives the bytes, and `bundle`, `graph`, `builder` and `device` for the list.
        """
        with self._locked(key):
            if (found := self._read(key)) is not None:
                return found, False
            start = time()
            engine, about = build()
            digest = hashlib.sha256(engine).hexdigest()
            now = time()
            entry = Entry(key=key, **about, seconds=round(now - start, 3), size=len(engine), sha256=digest, made=now)
            self._publish(self.folder / f"{key}{SUFFIX}", engine)
            self._publish(self.folder / f"{key}.json", entry.model_dump_json().encode())
            return engine, True

    def side(self, name: str) -> bytes:
        """What is kept beside the engines under a name, such as a timing cache; empty where there is nothing."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return b""

    def keep_side(self, name: str, data: bytes) -> None:
        """Keep it; the last one to do so wins."""
        if data:
            self._publish(self.folder / name, data)

    def entries(self) -> list[Entry]:
        """All engines, the newest first; what can't be read is left out."""
        found = [entry for path in self.folder.glob("*.json") if (entry := _entry(path)) is not None]
        return sorted(found, key=lambda entry: -entry.made)

    def clear(self) -> tuple[int, int]:
        """Remove everything; how many engines there were, and how many bytes of files."""
        count, size = 0, 0
        for path in sorted(self.folder.iterdir()):
            if path.is_file() and path.suffix != ".lock":
                count += path.suffix == SUFFIX
                size += path.stat().st_size
                path.unlink()
        return count, size

    def _read(self, key: str) -> bytes | None:
        path = self.folder / f"{key}{SUFFIX}"
        entry = _entry(self.folder / f"{key}.json")
        if entry is None or entry.key != key or not path.is_file() or path.is_symlink():
            if path.exists() or (self.folder / f"{key}.json").exists():
                log.warning("the compiled engine %s… is incomplete, so it is built again", key[:12])
            return None
        engine = path.read_bytes()
        if len(engine) != entry.size or hashlib.sha256(engine).hexdigest() != entry.sha256:
            log.warning("the compiled engine %s… (%s) is damaged, so it is built again", key[:12], entry.graph)
            return None
        return engine

    def forget(self, key: str) -> None:
        """Remove one that its library refuses."""
        for suffix in (SUFFIX, ".json"):
            (self.folder / f"{key}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        with (self.folder / f"{key}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _publish(self, path: Path, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _entry(path: Path) -> Entry | None:
    try:
        return Entry.model_validate_json(path.read_bytes())
    except (OSError, ValueError):  # pydantic's ValidationError is a ValueError
        return None
