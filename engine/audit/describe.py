"""Captions of any style → sentences that may stand in a prompt.

A caption of several sentences gives its sentences; free text gives short phrases, each made a sentence. No description
ever names a label: neither the one that was asked for, nor any that a classifier could answer.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import median
from typing import Literal

Said = frozenset[str]
"""The sentences of one caption, or of one description."""
Style = Literal["sentences", "phrases"]


def _words_of(kind: str) -> frozenset[str]:
    return frozenset(WORDS[kind].split())


WORDS: Mapping[str, str] = tomllib.loads(
    files("mothlight.engine.audit").joinpath("words.toml").read_text(encoding="utf-8")
)
PLAIN_WORDS, ARTICLES, PLACES, BREAKS, PICTURE = (
    _words_of(kind) for kind in ("plain", "articles", "places", "breaks", "picture")
)
LABEL = "\0"
"""Stands where a label was."""
LONGEST_PHRASE = 5
MOST_CONTENT = 3
"""Words of a phrase that say something."""
MANY = 2
"""Sentences of most captions, where captions are made of sentences."""
SPOKEN = 2
"""Captions of a label in which a phrase must stand, to be one."""


def parted(description: str) -> Said:
    """The sentences of a description."""
    parts = (part.strip() for part in re.split(r"(?<=[.!?])\s+", description))
    return frozenset(part if part[-1] in ".!?" else f"{part}." for part in parts if part)


def joined(said: Said) -> str:
    """Sentences as one description; the same ones in the same order always."""
    return " ".join(sorted(said))


@cache
def content(description: str) -> frozenset[str]:
    """The words that say something, in one case and number; prepositions only where nothing else does."""
    words = [word for word in _tokens(description) if word not in PLAIN_WORDS]
    return frozenset(stem(word) for word in words if word not in PLACES) or frozenset(words)


def stem(word: str) -> str:
    """A word in the singular, roughly: enough to find it again in another caption."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", text.casefold())


class Names:
    """The labels that no description may name: their words, one after the other, in singular or plural."""

    def __init__(self, labels: Iterable[str]) -> None:
        said = {part.strip() for label in labels for part in (label, *label.split(",")) if part.strip()}
        words = sorted((re.escape(one) for one in said), key=lambda one: (-len(one), one))
        self.pattern = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?:e?s)?(?!\w)", re.IGNORECASE) if words else None

    def in_text(self, text: str) -> bool:
        """Whether one is named."""
        return self.pattern is not None and self.pattern.search(text) is not None

    def cut(self, text: str, by: str) -> str:
        """The text with something else in their place."""
        return text if self.pattern is None else self.pattern.sub(by, text)


@dataclass(frozen=True)
class Reader:
    """Reads the captions of one label's images."""

    label: str
    names: Names
    style: Style
    template: str = ""
    """What a phrase becomes, with `{phrase}`; empty: what fits it."""

    def read(self, captions: Sequence[str], known: Iterable[str] = ()) -> list[Said]:
        """What each caption says; what the known sentences say is worded as there."""
        if self.style == "sentences":
            return alike([sentences(caption, self.label, self.names) for caption in captions], known)
        return phrases(captions, self.names, self.template, known)


def style_of(captions: Sequence[str]) -> Style:
    """Sentences if the captions are made of some, else phrases."""
    counts = [len(parted(_spaced(caption))) for caption in captions]
    return "sentences" if counts and median(counts) >= MANY else "phrases"


def _spaced(caption: str) -> str:
    """Captions of some models have a space before each full stop."""
    return re.sub(r"\s+([.,!?])", r"\1", caption)


def sentences(caption: str, label: str, names: Names) -> Said:
    """The sentences of a caption that name no label, the one's own being "it"; none about the picture itself."""
    own = Names([label])
    found = set()
    for sentence in parted(_spaced(caption)):
        if own.in_text(sentence):
            sentence = re.sub(rf"(?i)^(?:(?:the|a|an|this|one)\s+)?{LABEL}", "it", own.cut(sentence, LABEL))  # noqa: PLW2901
        words = _tokens(sentence)
        if words and LABEL not in sentence and not names.in_text(sentence) and not PICTURE & set(words):
            found.add(sentence)
    return frozenset(found)


def alike(said: Sequence[Said], known: Iterable[str]) -> list[Said]:
    """The same with one wording for all sentences of the same content: a known one, or else the most frequent."""
    counts = Counter(sentence for own in said for sentence in own)
    wording: dict[frozenset[str], str] = {}
    for sentence in sorted(counts, key=lambda one: (-counts[one], one)):
        wording.setdefault(content(sentence), sentence)
    wording |= {content(sentence): sentence for sentence in known}
    return [frozenset(wording[content(sentence)] for sentence in own if content(sentence)) for own in said]


def phrases(captions: Sequence[str], names: Names, template: str, known: Iterable[str]) -> list[Said]:
    """The phrases of each caption, as sentences.

    A phrase is what stands together, with up to five words of which one to three say something. Phrases with the same
    words of that kind are one, worded as most captions do; of phrases that always stand together the fullest stays.
    """
    wordings: dict[frozenset[str], Counter[str]] = {}
    said: list[set[frozenset[str]]] = []
    for caption in captions:
        longest: dict[frozenset[str], str] = {}
        for key, wording in _windows(names.cut(_spaced(caption), LABEL)):
            longest[key] = max(longest.get(key, ""), wording, key=len)
        for key, wording in longest.items():
            wordings.setdefault(key, Counter())[wording] += 1
        said.append(set(longest))
    holders: dict[frozenset[str], list[int]] = {}
    for row, own in enumerate(said):
        for key in own:
            holders.setdefault(key, []).append(row)
    fullest: dict[tuple[int, ...], frozenset[str]] = {}
    for key, rows in sorted(holders.items(), key=lambda pair: sorted(pair[0])):
        if len(rows) >= SPOKEN:
            before = fullest.get(tuple(rows))
            if before is None or _fullness(key, wordings[key]) > _fullness(before, wordings[before]):
                fullest[tuple(rows)] = key
    worded = {content(sentence): sentence for sentence in known}
    kept = set(fullest.values()) | (worded.keys() & holders.keys())
    sentence_of = {key: worded.get(key) or as_sentence(_best(wordings[key]), template) for key in kept}
    return [frozenset(sentence_of[key] for key in own if key in sentence_of) for own in said]


def _fullness(key: frozenset[str], wordings: Counter[str]) -> tuple[int, bool, int]:
    return (len(key), _best(wordings).split()[0] in PLACES, wordings.total())


def _best(wordings: Counter[str]) -> str:
    """The most frequent wording; one with a preposition counts most, one without an article least."""

    def rank(wording: str) -> tuple[int, int, str]:
        first = wording.split(maxsplit=1)[0]
        worth = 4 if first in PLACES else 2 if first in ARTICLES else 1
        return (-wordings[wording] * worth, -len(wording), wording)

    return min(wordings, key=rank)


def _windows(text: str) -> Iterator[tuple[frozenset[str], str]]:
    """Each phrase of a text: its words that say something, and how it is worded."""
    for clause in re.split(rf"[^\w\s'\u2019{LABEL}-]+", text):
        run: list[str] = []
        for word in [*re.findall(rf"{LABEL}|[^\W_]+(?:['\u2019-][^\W_]+)*", clause.casefold()), "and"]:
            if word == LABEL:  # what stands before it are its attributes
                yield from _of_run([one for one in run if one not in ARTICLES and one not in PLACES])
                run = []
            elif word in BREAKS or word in PICTURE:
                yield from _of_run(run)
                run = []
            elif word.endswith("ing") and run and run[-1] not in PLACES | ARTICLES:
                yield from _of_run(run)
                run = [word]
            else:
                run.append(word)


def _of_run(words: Sequence[str]) -> Iterator[tuple[frozenset[str], str]]:
    for start in range(len(words)):
        for end in range(start + 1, min(start + LONGEST_PHRASE, len(words)) + 1):
            own = words[start:end]
            last = own[-1]
            inner = [word in PLACES for word in own[1:]]
            if last in PLACES or last in ARTICLES or any(inner) or any(word in ARTICLES for word in own[2:]):
                continue
            if own[0] not in PLACES and any(word in ARTICLES for word in own[1:]):
                continue
            key = frozenset(stem(word) for word in own if word not in ARTICLES and word not in PLAIN_WORDS)
            says = [word for word in key if word not in PLACES]
            if says and len(says) <= MOST_CONTENT:
                yield frozenset(says), " ".join(own)


def as_sentence(phrase: str, template: str = "") -> str:
    """A phrase as a sentence that fits a prompt."""
    if template:
        return template.format(phrase=phrase)
    first, last = phrase.split(maxsplit=1)[0], phrase.rsplit(maxsplit=1)[-1]
    if first in PLACES or first.endswith("ing"):
        return f"it is {phrase}."
    if first in ARTICLES:
        return f"there is {phrase}."
    return f"there are {phrase}." if last != stem(last) else f"it is {phrase}."


ASKED_FOR = re.compile(r"^[\s\-*•\d.)(\"'“]+|[\s\"'”]+$")
"""What a model puts before and behind a line of a list."""
LONGEST_PROPOSAL = 8


def proposals(answer: str, names: Names, template: str) -> list[str]:
    """The lines of a language model's answer that are short descriptions, as sentences; anything else is left out."""
    found = []
    for line in answer.splitlines():
        text = ASKED_FOR.sub("", line).rstrip(".!?").casefold()
        words = _tokens(text)
        plain = re.fullmatch(r"[\w\s,'\u2019-]+", text) is not None
        if not (plain and 1 <= len(words) <= LONGEST_PROPOSAL) or names.in_text(text) or PICTURE & set(words):
            continue
        if not content(text):
            continue
        whole = " ".join(text.split())
        found.append(f"{whole}." if whole.startswith(("it ", "there ")) else as_sentence(whole, template))
    return list(dict.fromkeys(found))
