"""Where the marks of static drawings lie; `templates/charts.html` draws them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mothlight.reports import document as doc

WIDTH, PAD = 240, 8
"""Pixels of a drawing of proportions, and at its ends."""
TONES = 8
"""Of the map."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A proportion on a line from 0 to 1, with its interval."""

    kind: str
    x: float
    low: float
    high: float
    y: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Spark:
    """Evidence over waves: a line, the height from which it confirms nothing or something, and its last value."""

    points: str
    last_x: float
    last_y: float
    zero_y: float


@dataclass(frozen=True, slots=True)
class Dot:
    """A failure on the map."""

    x: float
    y: float
    tone: int


def marks(test: doc.Test) -> list[Mark]:
    """The described rate above the plain one."""
    return share_marks([("described", test.described), ("plain", test.plain)])


def share_marks(shares: Sequence[tuple[str, doc.Share]]) -> list[Mark]:
    """Shares beneath each other; what has no images has no mark."""
    return [
        Mark(kind, _x(share.value), _x(share.low), _x(share.high), 10 + 12 * place)
        for place, (kind, share) in enumerate(shares)
        if share.value is not None and share.low is not None and share.high is not None
    ]


def bar(counts: Sequence[tuple[str, int]], width: int = 480) -> list[Segment]:
    """Counts side by side."""
    total = sum(count for _, count in counts)
    segments, before = [], 0
    for kind, count in counts:
        if count:
            segments.append(Segment(kind, round(width * before / total, 1), round(width * count / total, 1)))
        before += count
    return segments


def spark(waves: Sequence[doc.Wave], width: int = 120, height: int = 34) -> Spark | None:
    """The logarithm of the e-value after each wave, from 1 upwards to the largest; None: no evidence."""
    if not waves:
        return None
    logs = [0.0, *(math.log10(max(wave.e_value, 1e-300)) for wave in waves)]
    top, bottom = max(*logs, 1.0), min(*logs, 0.0)
    step = (width - 8) / (len(logs) - 1)

    def y(value: float) -> float:
        return round(4 + (height - 8) * (top - value) / (top - bottom), 1)

    places = [(round(4 + step * place, 1), y(value)) for place, value in enumerate(logs)]
    return Spark(" ".join(f"{x},{at}" for x, at in places), *places[-1], y(0.0))


def tones(points: Sequence[doc.Point]) -> list[str]:
    """The labels that have a tone of their own on the map, those with most failures; the others share one."""
    counts = Counter(point.label for point in points)
    return sorted(counts, key=lambda label: (-counts[label], label))[: TONES - 1]


def dots(points: Sequence[doc.Point], width: int = 720, height: int = 460) -> list[Dot]:
    """The map."""
    own = {label: tone for tone, label in enumerate(tones(points))}
    return [
        Dot(
            round(10 + point.x * (width - 20), 1),
            round(10 + (1 - point.y) * (height - 20), 1),
            own.get(point.label, TONES - 1),
        )
        for point in points
    ]


def heat(value: float | None) -> int:
    """How dark a rate's cell is, 0 to 5; -1 where nothing is known."""
    if value is None:
        return -1
    return sum(value >= bound for bound in (0.02, 0.05, 0.1, 0.25, 0.5))


def _x(share: float) -> float:
    return round(PAD + share * (WIDTH - 2 * PAD), 1)
