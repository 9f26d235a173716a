"""Files of labels, as people have them: lines, numbered or not, JSON, a Python dictionary, a CSV."""

import ast
import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mothlight.engine.errors import UserError
from mothlight.engine.vocabulary import imagenet, imagenet_word
from mothlight.exporters.libraries import reason

NUMBERED = re.compile(r"""^\s*['"]?(?P<place>\d+)['"]?\s*(?:[:,;\t=]|\s)\s*(?P<name>\S.*?)\s*,?\s*$""")
WORDNET = re.compile(r"^(?P<key>n\d{8})(?:[\s,:]+(?P<name>\S.*))?$")
NAME_COLUMNS = ("name", "label", "class", "class_name", "label_name", "category", "classname", "labels", "names")
PLACE_COLUMNS = ("index", "id", "idx", "class_id", "label_id", "number", "class_index", "classid")
BACKGROUND = ("background", "__background__", "dummy", "none of the above")
"""What the class before the others is called in lists of 1,001."""

IMAGENET_SHARE = 0.9
"""Share of a model's own names that must be ImageNet's before they give way to ours."""


def read_label_file(path: Path) -> tuple[str, ...]:
    """The labels of a file in the order of the model's outputs.

    Raises:
        UserError: it can't be read, has no labels, or its numbers leave one out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"There is no file of labels {path}.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"The labels in {path} can't be read: {reason(error)}") from error
    labels = tuple(_plain(name) for name in _parsed(path, text.strip()))
    if not labels or not all(labels):
        raise UserError(f"{path} has no labels, or an empty one.")
    return labels


def parsed_names(text: str) -> dict[int, str] | None:
    """Names by number, as exporters write them into a model's metadata; None where it is none of that."""
    value = _literal(text)
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return None
    try:
        return {int(key): str(name) for key, name in value.items()}
    except (TypeError, ValueError):
        return None


def _parsed(path: Path, text: str) -> list[str]:
    if text[:1] in ("{", "["):
        return _structured(path, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and (table := _table(path, lines)) is not None:
        return table
    numbered = [NUMBERED.match(line) for line in lines]
    if len(lines) > 1 and all(numbered):
        return _in_order(path, {int(one["place"]): one["name"] for one in numbered if one}, len(lines))
    return lines


def _literal(text: str) -> Any:
    """JSON, or what Python would print; None for neither."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _structured(path: Path, text: str) -> list[str]:
    value = _literal(text)
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict | list):
        value = next(iter(value.values()))  # {"labels": [...]}
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):
        value = value["id2label"]
    if isinstance(value, list):
        return [_name(one) for one in value]
    if isinstance(value, dict):
        by_number = value
        if value and all(isinstance(one, int) for one in value.values()):
            by_number = {place: name for name, place in value.items()}
        try:
            return _in_order(path, {int(place): _name(one) for place, one in by_number.items()}, len(value))
        except (TypeError, ValueError):
            pass
    raise UserError(f"{path} looks like JSON, and is no list of names and no dictionary of names by number.")


def _name(one: Any) -> str:
    """A name, or the last of what stands with it (`["n01440764", "tench"]`, `{"name": "tench"}`)."""
    if isinstance(one, list | tuple) and one:
        return " ".join(str(part) for part in one) if WORDNET.match(str(one[0])) else str(one[-1])
    if isinstance(one, dict):
        return str(next((one[key] for key in NAME_COLUMNS if key in one), ""))
    return str(one)


def _table(path: Path, lines: list[str]) -> list[str] | None:
    """The column of names of a CSV with a header; None where there is none."""
    delimiter = next((one for one in (",", ";", "\t") if one in lines[0]), ",")
    header = [cell.strip().strip('"').lower() for cell in lines[0].split(delimiter)]
    column = next((place for place, cell in enumerate(header) if cell in NAME_COLUMNS), None)
    if column is None or (len(header) == 1 and header[0] not in NAME_COLUMNS) or len(lines) < 2:
        return None
    rows = list(csv.reader(lines[1:], delimiter=delimiter))
    if any(len(row) <= column for row in rows):
        return None
    names = [row[column].strip() for row in rows]
    place = next((one for one, cell in enumerate(header) if cell in PLACE_COLUMNS), None)
    if place is None or not all(row[place].strip().isdigit() for row in rows):
        return names
    return _in_order(path, {int(row[place]): name for row, name in zip(rows, names, strict=True)}, len(rows))


def _in_order(path: Path, by_number: dict[int, str], count: int) -> list[str]:
    """Names by number, from 0 or from 1.

    Raises:
        UserError: a number is missing, or stands twice.
    """
    start = min(by_number, default=0)
    wanted = range(start, start + count)
    if start > 1 or len(by_number) != count or set(by_number) != set(wanted):
        missing = next((one for one in range(count) if one not in by_number), count)
        raise UserError(f"{path} numbers its labels, and {missing} is missing or another stands twice.")
    return [by_number[one] for one in wanted]


def _plain(name: str) -> str:
    """Without quotes or a comma at the end; a WordNet id stands for ImageNet's name."""
    bare = name.strip().strip(",").strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1].strip()
    found = WORDNET.match(bare)
    if found is None:
        return bare
    word = imagenet_word(found["key"])
    return word.name if word else str(found["name"] or bare).split(",")[0].strip()


def _spelled(name: str) -> str:
    """A name without what lists write differently: capitals, underscores, hyphens, apostrophes."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower().replace("'", "")).strip()


def labels_of(given: str, names: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    """The labels of a classifier: its own, or ImageNet's where they are the same classes or it says none of 1,000.

    Libraries spell ImageNet's classes in several ways; under one spelling several classifiers can be audited together.

    Raises:
        UserError: it names none, or another number than it has outputs.
    """
    own = tuple(names or ())
    words = imagenet()
    if outputs == len(words):
        same = sum(
            _spelled(name.split(",")[0]) in (_spelled(word.name.split(" (")[0]), word.wordnet_id)
            for name, word in zip(own, words, strict=False)
        )
        if not own or same >= IMAGENET_SHARE * outputs:
            return tuple(word.name for word in words)
    if len(own) != outputs:
        raise UserError(
            f"{given} names {len(own)} labels for {outputs} outputs: its config.json needs `label_names` (timm) or "
            f"`id2label` (transformers), or give --labels FILE with one label per line."
        )
    if len(set(own)) != len(own):
        twice = next(name for name in own if own.count(name) > 1)
        raise UserError(f"{given} has the label `{twice}` twice; give --labels FILE with one label per line.")
    return own
