"""Tests and e-values: pure functions of integer counts. The intervals are SQL macros, in sql/macros."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, exp, log1p
from typing import TypeVar

BETS = (0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the capital that are bet on each pair."""
LARGEST_LOG = 700.0
"""exp of more would overflow a double; an e-value that large needs no more digits."""
Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Paired yes-or-no outcomes, counted."""

    pairs: int = 0
    more: int = 0
    """Pairs with the event under the description only."""
    less: int = 0
    """Pairs with the event under the plain prompt only."""

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs(self.pairs + other.pairs, self.more + other.more, self.less + other.less)

    @property
    def effect(self) -> float:
        """The mean difference; 0 without pairs."""
        return (self.more - self.less) / self.pairs if self.pairs else 0.0


def mcnemar_exact(counts: Pairs) -> float:
    """Two-sided exact p-value of McNemar's test: a fair coin for each discordant pair."""
    n = counts.more + counts.less
    tail = sum(comb(n, k) for k in range(min(counts.more, counts.less) + 1)) / (1 << n)
    return min(1.0, 2 * tail)


def e_value(counts: Pairs, min_effect: float) -> float:
    """Evidence against E[D] ≤ `min_effect`: the average over `BETS` of ∏(1 + λ (D − δ)).

    A betting martingale (Waudby-Smith and Ramdas 2023), so it may be looked at after any number of pairs. The order of
    the pairs does not matter, hence counts are enough.
    """
    same = counts.pairs - counts.more - counts.less
    total = 0.0
    for bet in BETS:
        growth = (
            counts.more * log1p(bet * (1 - min_effect))
            + same * log1p(-bet * min_effect)
            + counts.less * log1p(-bet * (1 + min_effect))
        )
        total += exp(min(growth, LARGEST_LOG))
    return total / len(BETS)


def q_values(e_values: Mapping[Name, float], tests: int) -> dict[Name, float]:
    """The smallest false discovery rate at which e-BH (Wang and Ramdas 2022) rejects each hypothesis.

    `tests` is K, how many hypotheses there could have been; those not named have e = 0. q = min over ranks k at or
    behind its own of K / (k e_(k)), at most 1.
    """
    ranked = sorted(e_values.items(), key=lambda pair: -pair[1])
    result: dict[Name, float] = {}
    smallest = 1.0
    for rank in range(len(ranked), 0, -1):
        name, e = ranked[rank - 1]
        if e > 0:
            smallest = min(smallest, tests / (rank * e))
        result[name] = smallest
    return result
