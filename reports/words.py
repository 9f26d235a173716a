"""Numbers and lists as words, and what others wrote made safe to show."""

import math
from collections.abc import Sequence

from mothlight.engine.streams import printable

LONGEST = 2000
"""Characters of one text that a page shows."""
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(value: float | None) -> str:
    """A proportion: `91 %`, with more digits where it is small."""
    if value is None:
        return "–"
    share = round(100 * value, 9)  # an interval's end at 1 may fall short of it by the last bit
    if share in (0, 100) or 10 <= share <= 99:
        return f"{share:.0f} %"
    if share > 99:
        return f"{min(share, 99.9):.1f} %"
    return f"{share:.1f} %" if share >= 0.1 else f"{share:.1g} %"


def level(value: float) -> str:
    """A proportion that somebody set, as exactly as it was set: `5 %`, `0.1 %`."""
    return f"{100 * value:.6g} %"


def points(value: float | None) -> str:
    """A difference of proportions in percentage points, with its sign where it is negative."""
    return "–" if value is None else f"{100 * value:.0f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference of proportions in percentage points, with its sign."""
    if value is None:
        return "–"
    said = f"{100 * value:+.0f}".replace("-", "−")
    return "0" if said in ("+0", "−0") else said


def digits(value: float | None) -> str:
    """A number by its first two digits: `0.052`, `85`, `2,300`, `1.3·10⁷`."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or 1e-4 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}·10{str(int(exponent)).translate(RAISED)}"


def quoted(text: str) -> str:
    """What somebody else wrote, in quotes and without a full stop at its end."""
    return f"“{visible(text).strip().removesuffix('.')}”"


def listed(items: Sequence[str], most: int, word: str = "and") -> str:
    """`a, b and c`; of more than `most` the first ones, and how many more."""
    if len(items) > most:
        return f"{', '.join(items[:most])} {word} {len(items) - most:,} more"
    return f" {word} ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""


def visible(text: object) -> str:
    """Without control and direction characters, which could rewrite what stands around them; long texts are cut.

    Format characters that words need (joiners) stay.
    """
    kept = printable(text, keep="\n\t\u200c\u200d")
    return kept if len(kept) <= LONGEST else f"{kept[:LONGEST]}… ({len(kept) - LONGEST:,} more characters)"
