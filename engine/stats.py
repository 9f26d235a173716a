"""Tests, e-values and what they confirm: pure functions of integer counts.

Intervals of one look are SQL macros, in sql/macros.
Arrays hold one number per test, in any shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, lgamma, log, pi

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BETS = (0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the capital that are bet on each pair."""
LARGEST_LOG = 700.0
"""exp of more would overflow a double; an e-value that large needs no more digits."""
MISSED = 0.05
"""How often, at most, a confidence sequence ever leaves out the truth."""
HALVED = 18
"""Halvings of an interval of length 2 until a bound is known to a hundred-thousandth."""


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

    @property
    def error(self) -> float:
        """Its standard error; 0 without pairs."""
        if not self.pairs:
            return 0.0
        variance = (self.more + self.less) / self.pairs - self.effect**2
        return float((max(variance, 0.0) / self.pairs) ** 0.5)


def mcnemar_exact(counts: Pairs) -> float:
    """Two-sided exact p-value of McNemar's test: a fair coin for each discordant pair."""
    n = counts.more + counts.less
    tail = sum(comb(n, k) for k in range(min(counts.more, counts.less) + 1)) / (1 << n)
    return min(1.0, 2 * tail)


def exact_bounds(k: int, n: int, missed: float = MISSED) -> tuple[float, float]:
    """Clopper and Pearson's interval for k of n, wrong at most in a share `missed` of all cases; [0, 1] if n is 0."""
    if not n:
        return 0.0, 1.0
    return _binomial_low(k, n, missed / 2), 1 - _binomial_low(n - k, n, missed / 2)


def _binomial_low(k: int, n: int, missed: float) -> float:
    """The rate at which k or more of n come in a share `missed` of all cases."""
    if not k:
        return 0.0
    ks = np.arange(k, n + 1)
    ways = np.array([lgamma(n + 1) - lgamma(one + 1) - lgamma(n - one + 1) for one in ks])
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        tail = np.exp(ways + ks * log(middle) + (n - ks) * np.log1p(-middle)).sum()
        low, high = (low, middle) if tail > missed else (middle, high)
    return (low + high) / 2


def log_e_values(pairs: ArrayLike, more: ArrayLike, less: ArrayLike, bound: ArrayLike) -> Floats:
    """Log evidence against E[D] ≤ `bound`: the average over `BETS` of ∏(1 + λ (D − bound)).

    A betting martingale (Waudby-Smith and Ramdas 2023), so it may be looked at after any number of pairs. The order of
    the pairs does not matter, hence counts are enough. `bound` is under 1/4, where no bet can lose all.
    """
    n, up, down, delta = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in (pairs, more, less, bound)))
    return _log_wealth(n, up, down, delta, _bets(delta.ndim))


def e_value(counts: Pairs, min_effect: float) -> float:
    """See `log_e_values`; of one test, and not as a logarithm."""
    return float(np.exp(min(float(log_e_values(counts.pairs, counts.more, counts.less, min_effect)), LARGEST_LOG)))


def effect_bounds(pairs: ArrayLike, more: ArrayLike, less: ArrayLike, missed: float = MISSED) -> tuple[Floats, Floats]:
    """A confidence sequence of E[D]: bounds that hold at every number of pairs at once, but for a share `missed`.

    Every bound is left out against which the same bets have won 2 / `missed` times their capital, from either side.
    """
    n, up, down = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in (pairs, more, less)))
    return _lower_bound(n, up, down, missed / 2), -_lower_bound(n, down, up, missed / 2)


def _lower_bound(pairs: Floats, more: Floats, less: Floats, missed: float) -> Floats:
    low, high = np.full(pairs.shape, -1.0), np.ones(pairs.shape)
    for _ in range(HALVED):
        middle = (low + high) / 2
        refuted = _log_wealth(pairs, more, less, middle, _bets(middle.ndim) / (1 + middle)) >= -np.log(missed)
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low


def _bets(dimensions: int) -> Floats:
    return np.array(BETS).reshape((-1,) + (1,) * dimensions)


def _log_wealth(pairs: Floats, more: Floats, less: Floats, bound: Floats, bets: Floats) -> Floats:
    """Log of what a capital of 1, spread over the bets (first axis), has become."""
    growth = (
        more * np.log1p(bets * (1 - bound))
        + (pairs - more - less) * np.log1p(-bets * bound)
        + less * np.log1p(-bets * (1 + bound))
    )
    largest: Floats = growth.max(axis=0)
    return np.asarray(largest + np.log(np.exp(growth - largest).mean(axis=0)))


def round_share(number: int) -> float:
    """The part of the level that belongs to the round of that number, from 1: 6 / (π² r²), which sum up to 1."""
    return 6 / (pi * number) ** 2


def q_values(log_evidence: Sequence[float] | Floats, bugs: ArrayLike) -> Floats:
    """The smallest level at which each test is confirmed, 1 at most.

    `log_evidence` (n) are logs of e w, an e-value times its weight; the weights of all tests sum up to 1 at most.
    `bugs` parts the tests. At a level L the largest set R is confirmed in which each test has e w ≥ 1/(L |R|), and each
    bug, of those in R, has Σ e w ≥ 1/(L · number of bugs in R), the sum over all of its tests. The first is e-BH (Wang
    and Ramdas 2022) with weights: of the tests confirmed at most a share L is false on average, under any dependence,
    at any stopping. The second gives the same for bugs, a bug being false if all of its tests are, however the parts
    were chosen: the false ones of b confirmed bugs are at most Σ 1/b ≤ L Σ e w, summed over true nulls.
    """
    evidence = np.exp(np.minimum(np.asarray(log_evidence, np.float64), LARGEST_LOG))
    q = np.ones(len(evidence))
    kept = _worth_ranking(evidence)
    if not kept:
        return q
    names, part = np.unique(np.asarray(bugs, dtype=np.str_), return_inverse=True)
    whole = np.bincount(part, evidence, len(names))
    members: list[list[int]] = [[] for _ in names]
    rows = sorted(kept, key=lambda row: (evidence[row], row))
    for row in rows:
        members[part[row]].append(row)
    parts = sorted((one for one in range(len(names)) if members[one]), key=lambda one: (whole[one], one))
    left = [len(own) for own in members]
    tests, found = len(rows), len(parts)
    gone: list[tuple[float, list[int]]] = []
    next_row = next_part = 0
    removed = np.zeros(len(q), bool)
    while tests:
        while removed[rows[next_row]]:
            next_row += 1
        while not left[parts[next_part]]:
            next_part += 1
        row, bug = rows[next_row], parts[next_part]
        by_row, by_bug = 1 / (tests * evidence[row]), 1 / (found * whole[bug])
        out = [row] if by_row >= by_bug else [one for one in members[bug] if not removed[one]]
        gone.append((max(by_row, by_bug), out))
        removed[out] = True
        tests -= len(out)
        left[part[out[0]]] -= len(out)
        found -= not left[part[out[0]]]
    # each set that was passed through holds at its own level; a test's is the least of the sets that it was in
    level = 1.0
    for needed, out in gone:
        level = min(level, needed)
        q[out] = level
    return q


def _worth_ranking(evidence: Floats) -> list[int]:
    """Tests that some level under 1 could confirm: with e w ≥ 1/k among k of them."""
    kept = np.arange(len(evidence))
    while len(kept) and (weak := evidence[kept] * len(kept) < 1).any():
        kept = kept[~weak]
    return [int(one) for one in kept]
