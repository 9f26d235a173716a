"""Captions → sentences that may stand in a prompt."""

import re
from collections.abc import Iterable

Said = frozenset[str]
"""The sentences of one caption, or of one description."""


def sentences(caption: str, labels: Iterable[str]) -> Said:
    """The sentences of a caption that name none of the labels: those describe, the others only name."""
    names = re.compile(rf"\b({'|'.join(re.escape(label) for label in labels)})(s|es)?\b", re.IGNORECASE)
    return frozenset(part for part in parted(re.sub(r"\s+([.,!?])", r"\1", caption)) if not names.search(part))


def parted(description: str) -> Said:
    """The sentences of a description."""
    parts = (part.strip() for part in re.split(r"(?<=[.!?])\s+", description))
    return frozenset(part if part[-1] in ".!?" else f"{part}." for part in parts if part)


def joined(said: Said) -> str:
    """Sentences as one description; the same ones in the same order always."""
    return " ".join(sorted(said))
