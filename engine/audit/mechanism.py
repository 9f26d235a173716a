"""What an audit needs done, and leaves to whoever does it."""

from collections.abc import Sequence
from typing import Protocol

from mothlight.engine.records import Plan
from mothlight.engine.stats import Floats


class Helpers(Protocol):
    """Models that a round asks about words."""

    def propose(self, failing: Sequence[str], passing: Sequence[str], showing: int) -> str:
        """What a language model says sets captions of failures apart from others; empty if it refuses."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Floats | None:
        """Where sentences lie among the images, (T, D) of norm 1; None if the embedder reads no text."""
        ...


class Mechanism(Helpers, Protocol):
    """What the audit needs done; how it is done is none of its business."""

    def make(self, plans: Sequence[Plan]) -> None:
        """Make and judge every image of the plans that the database lacks.

        Raises:
            OutOfTimeError: a deadline came first.
        """
        ...

    def caption(self) -> None:
        """Caption every image of the view `to_caption`.

        Raises:
            OutOfTimeError: as above.
        """
        ...

    def budget(self, images: int, begun_under: int | None) -> int:
        """The budget of the settings, or what a deadline leaves of it to an audit that has so many images.

        `begun_under` is what it left when the reserve was chosen that is being made.
        """
        ...

    def say(self, phase: str, found: int) -> None:
        """Tell the person what begins, and how much is confirmed so far."""
        ...
