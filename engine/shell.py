"""`mothlight sql AUDIT` at a terminal: statements, their answers, history and completion."""

import atexit
import os
import readline
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mothlight.engine.ask import FORMATS, Asked, answer, show_queries, show_views
from mothlight.engine.errors import MothlightError, UserError
from mothlight.engine.streams import printable
from mothlight.sql import Store
from mothlight.sql.named import given_parameters, query_names, query_text

HELP = """\
A statement ends with a semicolon; it may have several lines. Tab completes tables, columns and commands.
.help                this
.views               views, tables and their columns
.queries             named queries
.query NAME [k=v]    run one
.mode NAME           table, markdown, csv or json
.images FOLDER       write the pictures of the last answer's rows (their column image_id)
.quit                end (as Ctrl-D)"""
COMMANDS = (".help", ".views", ".queries", ".query", ".mode", ".images", ".quit")
WORDS = (
    "select",
    "from",
    "where",
    "group by all",
    "order by",
    "limit",
    "join",
    "using",
    "count(*)",
    "distinct",
    "desc",
)
HISTORY = 2000
NAMES = "select table_name, column_name from duckdb_columns() where not internal"
"""Of tables and views."""


@dataclass(slots=True)
class Shell:
    """What one person asks of one audit."""

    store: Store
    asked: Asked
    typed: list[str] = field(default_factory=list)
    """The lines of a statement that has not ended."""
    last: str = ""
    parameters: dict[str, object] = field(default_factory=dict)

    def run(self, read: Callable[[str], str] = input) -> None:
        """Read and answer until the end of what is typed."""
        sys.stdout.write(f"{printable(self.store.path)}: SQL, read-only. .help says more, .quit ends.\n")
        while True:
            try:
                line = read("      ...> " if self.typed else "mothlight> ")
            except EOFError:
                sys.stdout.write("\n")
                return
            except KeyboardInterrupt:
                self.typed = []
                sys.stdout.write("\n")
                continue
            if not self.take(line):
                return

    def take(self, line: str) -> bool:
        """One line; False if it ends the shell. What can't be done is said, and the shell goes on."""
        try:
            return self._take(line)
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")
        except MothlightError as error:
            if error.exit_code == 1:
                raise
            sys.stdout.write(f"{printable(error)}\n")
        return True

    def _take(self, line: str) -> bool:
        if not self.typed and line.strip().startswith("."):
            return self._command(line.split())
        if not self.typed and not line.strip():
            return True
        self.typed.append(line)
        if line.rstrip().endswith(";"):
            text, self.typed = "\n".join(self.typed), []
            self._ask(text, {})
        return True

    def _ask(self, text: str, parameters: dict[str, object]) -> None:
        self.last, self.parameters = text, parameters
        answer(self.store, text, self.asked, parameters, sys.stdout)

    def _command(self, words: Sequence[str]) -> bool:
        match words:
            case [".quit" | ".exit"]:
                return False
            case [".help"]:
                sys.stdout.write(f"{HELP}\n")
            case [".views" | ".tables" | ".schema"]:
                show_views(self.store, sys.stdout)
            case [".queries"]:
                show_queries(sys.stdout)
            case [".query", name, *given]:
                self._ask(query_text(name), given_parameters(name, given))
            case [".mode", mode] if mode in FORMATS:
                self.asked.form = mode
            case [".images", folder] if self.last:
                self.asked.images = Path(folder)
                try:
                    answer(self.store, self.last, self.asked, self.parameters, sys.stdout)
                finally:
                    self.asked.images = None
            case [".images", _]:
                raise UserError("Ask something first: .images writes the pictures of the last answer's rows.")
            case _:
                raise UserError(f"There is no command `{' '.join(words)}`; .help lists them.")
        return True


def names_in(store: Store) -> list[str]:
    """What may be completed: commands, words of SQL, tables, views, their columns, named queries."""
    found = {name for row in store.rows(NAMES) for name in row}
    return sorted({*COMMANDS, *WORDS, *found, *query_names()})


def completer(names: Sequence[str]) -> Callable[[str, int], str | None]:
    """For readline: the state-th of the names that go on from a text."""

    def complete(text: str, state: int) -> str | None:
        fitting = [name for name in names if name.startswith(text.lower())]
        return fitting[state] if state < len(fitting) else None

    return complete


def history_file() -> Path:
    """Where what was typed is kept."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "mothlight" / "sql_history"


def interactive(store: Store, asked: Asked) -> None:
    """The shell at this terminal, with history and completion."""
    history = history_file()
    with suppress(OSError):  # a home that can't be read or written has no history
        readline.read_history_file(history)
    readline.set_history_length(HISTORY)
    readline.set_completer_delims(" \t\n,()=<>;")
    readline.set_completer(completer(names_in(store)))
    readline.parse_and_bind("tab: complete")

    def keep() -> None:
        with suppress(OSError):
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)

    atexit.register(keep)
    try:
        Shell(store, asked).run()
    finally:
        keep()
        atexit.unregister(keep)
