"""Standard output and error that can't end a night: a terminal that went away, a full disk, another alphabet."""

import io
import os
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast


def printable(text: object, keep: str = "") -> str:
    """Without control and direction characters, which could rewrite what stands on a terminal; `keep` stays."""
    return "".join(c if c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "�" for c in str(text))


class _Tolerant(io.TextIOBase):
    """See `tolerant`."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.silent = stream is None

    def write(self, text: str) -> int:
        """See `io.TextIOBase`."""
        if not self.silent and self.stream is not None:
            try:
                self.stream.write(text)
            except (OSError, ValueError):
                self.silent = True
        return len(text)

    def flush(self) -> None:
        """See `io.TextIOBase`."""
        if not self.silent and self.stream is not None:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                self.silent = True

    def isatty(self) -> bool:
        """See `io.TextIOBase`."""
        with suppress(OSError, ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def fileno(self) -> int:
        """See `io.TextIOBase`."""
        if self.stream is None:
            raise OSError("closed")
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a variable there
        """Of the stream behind it."""
        return getattr(self.stream, "encoding", None) or "utf-8"


def tolerant(stream: TextIO | None) -> TextIO:
    """A stream to which nothing that goes wrong with writing matters: from the first fault on it is silent."""
    return cast("TextIO", _Tolerant(stream))


def settle() -> None:
    """Make the process's streams ready: what a locale can't write becomes `?`, and a closed one takes everything."""
    for name, mode in (("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def finish() -> None:
    """Flush, and let Python's own flush at the end go nowhere where that fails: it would make another exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            discard(stream)


def discard(stream: TextIO) -> None:
    """Send what is still to be written to nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: object) -> None:
    """A line on standard output, if somebody is there to read it."""
    out = tolerant(sys.stdout)
    out.write(f"{text}\n")
    out.flush()
