"""The photographs under audit: looked through once, each a row, and read again whenever they are judged."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.config import AuditConfig, ImagesConfig, LabelConfig
from mothlight.engine.errors import UserError
from mothlight.engine.photographs.pixels import UnreadableError, size_of, squared, to_pixels
from mothlight.engine.photographs.sources import Photograph, Refused, photographs, without_twins
from mothlight.engine.vocabulary import imagenet_word

LARGEST_AS_IT_IS = 1024
"""Pictures of one size keep it up to so many pixels a side."""
Row = dict[str, Any]


def label_of(config: AuditConfig, said: str) -> str:
    """What the audit calls a label of its photographs: with ImageNet's vocabulary a WordNet id is one as well."""
    word = imagenet_word(said) if config.vocabulary == "imagenet" else None
    return said if word is None else word.name


def own_labels(config: AuditConfig, source: Path, known: Sequence[Collection[str]]) -> tuple[LabelConfig, ...]:
    """The photographs' labels, those that all of the models know whose labels are given.

    Raises:
        UserError: there are none, or the source can't be read.
    """
    said = {label_of(config, one.label) for one in photographs(source) if one.label}
    labels = sorted(label for label in said if all(label in own for own in known))
    if not labels:
        some = ", ".join(sorted(said)[:6])
        raise UserError(
            f"{source} has no label that the classifiers and the gate know: {some or 'it has none at all'}."
        )
    settings = {"name": config.name, "vocabulary": config.vocabulary, "labels": labels, "images": config.images}
    needed = {"classifiers": config.classifiers, "gate": config.gate, "embedder": config.embedder}
    return AuditConfig.model_validate({**settings, **needed, "captioner": config.captioner}).labels


def take(config: AuditConfig, source: Path, seen: Callable[[int], object] = lambda _: None) -> list[Row]:
    """A row for each photograph of a source, for the table `photograph`; `seen` hears of how many there were.

    Those under audit are at most `max_images`, a sample by their hashes. Half of them, by another part of the hash, are
    for discovery. Of equal files the first stays, and none if their labels differ.

    Raises:
        UserError: none can be used, or the source can't be read.
    """
    labels = {label.name for label in config.labels}
    rows: dict[str, Row] = {}
    for number, one in enumerate(without_twins(photographs(source)), start=1):
        row = _row(one, config, labels)
        rows[row["name"]] = row
        if isinstance(one, Refused) and one.twin:
            rows[one.twin] |= {"reason": f"the same file is there as {one.name}, labelled {one.label}", "half": None}
        seen(number)
    used = [row for row in rows.values() if not row["reason"]]
    refused = [row for row in rows.values() if row["reason"]]
    used.sort(key=lambda row: row["digest"][32:])
    for row in used[config.max_images :]:
        row |= {"reason": f"the budget is {config.max_images:,}: it is not in the sample", "half": None}
    used, over = used[: config.max_images], used[config.max_images :]
    if not used:
        why = f": {refused[0]['name']}: {refused[0]['reason']}" if refused else ""
        raise UserError(f"{source} holds no photograph that can be used{why}.")
    used.sort(key=lambda row: (row["label"], row["half"], row["digest"]))
    place: dict[str, int] = {}
    for row in used:
        row["index"] = place.get(row["label"], 0)
        place[row["label"]] = row["index"] + 1
    return [*used, *sorted([*refused, *over], key=lambda row: row["name"])]


def _row(one: tuple[Photograph, bytes] | Refused, config: AuditConfig, labels: Collection[str]) -> Row:
    row: Row = dict.fromkeys(("half", "index", "digest", "width", "height", "reason"))
    if isinstance(one, Refused):
        return {**row, "name": one.name, "label": label_of(config, one.label), "reason": one.reason}
    photograph, content = one
    label, digest = label_of(config, photograph.label), sha256(content).hexdigest()
    row |= {"name": photograph.name, "label": label, "digest": digest}
    if label not in labels:
        return {**row, "reason": f"`{label}` is no label under audit"}
    try:
        row["height"], row["width"] = size_of(content)
    except UnreadableError as error:
        return {**row, "reason": str(error)}
    return {**row, "half": "discovery" if int(digest[0], 16) % 2 else "proof"}


class Photographs:
    """The photographs under audit, all as pictures of one size."""

    def __init__(self, config: ImagesConfig, source: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """`rows` are those of the table `photograph` that are used.

        Raises:
            UserError: the source can't be read.
        """
        self.config = config
        self.rows = {(row["label"], row["index"]): row for row in rows}
        self.some = list(rows[:1000])
        sizes = {(row["height"], row["width"]) for row in rows}
        self.as_they_are = len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_AS_IT_IS
        self.size = next(iter(sizes)) if self.as_they_are else (config.size, config.size)
        """Height and width of each picture."""
        names = {row["name"] for row in rows}
        self.found = {one.name: one for one in _readable(source) if one.name in names}

    def pixels(self, label: str, index: int) -> NDArray[np.uint8]:
        """One picture, (H, W, 3) uint8 of the one size.

        Raises:
            UnreadableError: it is damaged, gone, or not the file that was looked through.
        """
        row = self.rows.get((label, index)) or self.some[index % len(self.some)]  # on others, time is measured
        if row["name"] not in self.found:
            raise UnreadableError("it is gone")
        try:
            content = self.found[row["name"]].read()
        except (OSError, ValueError) as error:
            raise UnreadableError(f"it can't be read ({error})") from error
        if sha256(content).hexdigest() != row["digest"]:
            raise UnreadableError("it is another file than when the audit began")
        pixels = to_pixels(content)
        if self.as_they_are:
            return pixels
        return squared(pixels, self.config.size, crop=self.config.fit == "crop")


def _readable(source: Path) -> Iterator[Photograph]:
    return (one for one in photographs(source) if isinstance(one, Photograph))
