"""The classes of ImageNet: WordNet id, name, hypernym, and the near siblings that are accepted by default."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Word:
    """One class."""

    wordnet_id: str
    name: str
    hypernym: str
    """The kind of thing that it is, as people call it."""
    accepted: tuple[str, ...]
    """Names of the classes so near that a prediction of one is no error, unless the settings say otherwise."""


@cache
def imagenet() -> tuple[Word, ...]:
    """All 1,000, in the order in which classifiers number them."""
    text = files("mothlight.engine").joinpath("imagenet.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple(Word(key, name, kind, tuple(near.split("; ")) if near else ()) for key, name, kind, near in rows)


@cache
def imagenet_word(name: str) -> Word | None:
    """A class by name or WordNet id."""
    return next((word for word in imagenet() if name in (word.name, word.wordnet_id)), None)
