"""The nouns: what is asked for, and the hashes that name it. An id is a hash of what a thing is, never a number."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


def identify(kind: str, *parts: object) -> str:
    """The id of a thing of some kind: 32 hex digits over its parts."""
    digest = hashlib.blake2b(digest_size=16, person=b"mothlight-id")
    for part in (kind, *parts):
        raw = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def image_id_of(prompt_id: str, index: int) -> str:
    """The id of an image: of its prompt's, and its index."""
    return identify("image", prompt_id, index)


def article(noun: str) -> str:
    """The indefinite article, by the first letter."""
    return "an" if noun[:1].lower() in "aeiou" else "a"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to make images of, and the label that they must show."""

    label: str
    text: str
    description: str = ""
    """The sentences added to the label's plain prompt; empty for the plain prompt itself."""

    @property
    def prompt_id(self) -> str:
        """Hash of label and text."""
        return identify("prompt", self.label, self.text)


PHOTOGRAPHS = "photographs"
"""The text of the prompt that photographs stand under, and the phase of their discovery."""
GENERATED = ("discovery", "test", "reserve")
"""The phases of generated images."""
PROOF = "proof"
"""The phase of the photographs that descriptions are tested on."""


def photographs_of(label: str) -> Prompt:
    """What a label's photographs are images of; an index is a photograph's place."""
    return Prompt(label, PHOTOGRAPHS)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of work, of commit and of resume: a prompt and a fixed range of indices."""

    prompt: Prompt
    first_index: int
    images: int
    wave: int

    @property
    def chunk_id(self) -> str:
        """Hash of prompt and range."""
        return identify("chunk", self.prompt.prompt_id, self.first_index, self.images)

    @property
    def indices(self) -> range:
        """The indices of its images."""
        return range(self.first_index, self.first_index + self.images)

    def image_id(self, index: int) -> str:
        """Hash of prompt and index."""
        return image_id_of(self.prompt.prompt_id, index)


@dataclass(frozen=True, slots=True)
class Plan:
    """One line of a wave: a prompt and the range of fresh indices that it takes."""

    wave: int
    phase: str
    prompt: Prompt
    first_index: int
    images: int

    def chunks(self, size: int) -> Iterator[Chunk]:
        """The range cut into chunks of `size` images; the last may be shorter."""
        for start in range(0, self.images, size):
            yield Chunk(self.prompt, self.first_index + start, min(size, self.images - start), self.wave)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Failures of one classifier on a label's plain prompt; `place` 0 is all with that prediction, from 1 on parts."""

    round: int
    """The round that looked at them."""
    classifier: str
    label: str
    predicted: str
    """Empty: any error."""
    place: int
    members: tuple[str, ...]
    """Image ids."""

    @property
    def cluster_id(self) -> str:
        """Hash of when, whose, what and which part."""
        return identify("cluster", self.round, self.classifier, self.label, self.predicted, self.place)


Origin = Literal["failures", "longer", "shorter", "joined", "own", "pooled", "control", "photographs", "generated"]
"""Where a description comes from: captions of failures; a description with a sentence more, or less; two confirmed
ones together; a person; failures of several labels; or nowhere, for comparison. Or it was found in photographs and is
tested on generated images, or the other way round."""
Tested = Literal["generated", "photographs"]
"""What a description is tested on: pairs that are generated, or photographs of the proof half."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A description under test: does its prompt raise the rate of its event, for any of the classifiers?"""

    prompt: Prompt
    event: str
    """The prediction that counts; empty: any error."""
    place: int
    """Rank among its label's at birth, from 0."""
    score: float
    origin: Origin
    round: int
    """The batch of tests that it belongs to, from 1."""
    weight: float
    """Share of the level that each of its tests has."""
    born_wave: int
    """Its proof starts in the wave after."""
    cluster_id: str | None = None
    parent_id: str | None = None
    others: tuple[Prompt, ...] = ()
    """Of a description that is tested on several labels together, the other labels' prompts.

    A wave counts for it only if it takes the same indices of each of them. So what is refuted is that the effect, on
    the mean over its labels' pairs, is at most the smallest that counts: the geometric mean of the bets' growth over
    labels is at most the growth at their mean."""
    tested_on: Tested = "generated"

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Every prompt that it is tested on."""
        return (self.prompt, *self.others)

    @property
    def labels(self) -> tuple[str, ...]:
        """Of its prompts."""
        return tuple(prompt.label for prompt in self.prompts)

    @property
    def hypothesis_id(self) -> str:
        """Hash of its prompts and event, and of what it is tested on."""
        on = (PHOTOGRAPHS,) if self.tested_on == "photographs" else ()
        return identify("hypothesis", *(prompt.prompt_id for prompt in self.prompts), self.event, *on)
