"""Named queries: the files in `queries`, what each is for, and what it takes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mothlight.engine.errors import UserError


@cache
def sql_text(*path: str) -> str:
    """The text of a file of this package."""
    return files("mothlight.sql").joinpath(*path).read_text(encoding="utf-8")


def query_text(name: str) -> str:
    """The text of a named query.

    Raises:
        UserError: there is none of that name.
    """
    known = query_names()
    if name not in known:
        raise UserError(f"There is no query `{name}`; there are {', '.join(known)}.")
    return sql_text("queries", f"{name}.sql")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a named query takes: `-- $name type: help` or `-- $name type = default: help` at its head."""

    name: str
    kind: str
    default: str | None
    help: str

    def value(self, text: str) -> object:
        """What was typed, as its kind.

        Raises:
            UserError: it is none of that kind.
        """
        try:
            match self.kind:
                case "integer":
                    return int(text)
                case "number":
                    return float(text)
        except ValueError:
            raise UserError(f"`{self.name}` is {text!r}, and must be of the kind {self.kind}: {self.help}") from None
        return text


PARAMETER = re.compile(r"^-- \$(\w+) (text|integer|number)(?: = (\S+))?: (.+)$", re.MULTILINE)


def query_parameters(name: str) -> list[Parameter]:
    """What a named query takes, in the order of its head.

    Raises:
        UserError: there is none of that name.
    """
    return [Parameter(*found.groups()) for found in PARAMETER.finditer(query_text(name))]


def given_parameters(name: str, words: Sequence[str]) -> dict[str, object]:
    """The parameters of a named query out of words as `label=fly`, the others at their defaults.

    Raises:
        UserError: one is unknown, missing, or of another kind; the sentence says what the query takes.
    """
    known = {one.name: one for one in query_parameters(name)}
    takes = ", ".join(f"{one.name}={one.default or one.kind.upper()}" for one in known.values()) or "nothing"
    values = {one.name: one.value(one.default) for one in known.values() if one.default is not None}
    for word in words:
        key, is_pair, text = word.partition("=")
        if not is_pair or key not in known:
            raise UserError(f"The query `{name}` takes {takes}, not `{word}`.")
        values[key] = known[key].value(text)
    missing = [one for one in known.values() if one.name not in values]
    if missing:
        raise UserError(f"The query `{name}` takes {takes}; `{missing[0].name}` is missing: {missing[0].help}")
    return values


def query_purpose(name: str) -> str:
    """What a named query is for: the comment at its head."""
    first, _, _ = query_text(name).partition("\n")
    return first.removeprefix("--").strip() if first.startswith("--") else ""


def query_names() -> list[str]:
    """The named queries, sorted."""
    folder = files("mothlight.sql").joinpath("queries")
    return sorted(file.name.removesuffix(".sql") for file in folder.iterdir() if file.name.endswith(".sql"))
