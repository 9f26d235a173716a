"""Pairs → e-values → what stands confirmed, what is refuted, and how far each test still is from an answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.audit.board import Board
from mothlight.engine.audit.describe import content
from mothlight.engine.stats import BETS, Floats, effect_bounds, log_e_values, q_values

PRIOR_PAIRS, PRIOR_MORE, PRIOR_LESS = 8, 0.2, 0.05
"""What a test that has no pairs yet is taken for: so many pairs of a description that adds 15 points."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    """What the pairs so far say of each test (H, C)."""

    log_e: Floats
    """Log of the e-value against "the effect is at most `min_effect`"."""
    q: Floats
    """The smallest false discovery rate at which the test is confirmed."""
    confirmed: Mask
    refuted: Mask
    """The confidence sequence lies below `min_effect`."""
    low: Floats
    """Of the effect's confidence sequence."""
    high: Floats
    bugs: Sequence[str]
    """(H): the bug that a hypothesis' tests belong to; the id of one of its hypotheses."""

    @property
    def closed(self) -> Mask:
        """(H): nothing is left to ask about the hypothesis."""
        return np.asarray((self.confirmed | self.refuted).all(axis=1))

    @property
    def found(self) -> Mask:
        """(H): confirmed for a classifier."""
        return np.asarray(self.confirmed.any(axis=1))


def judge(board: Board, min_effect: float, fdr: float) -> Verdicts:
    """Decide every test on its current evidence; what was confirmed may lose that again."""
    log_e = log_e_values(board.pairs, board.more, board.less, min_effect)
    low, high = effect_bounds(board.pairs, board.more, board.less)
    weighted = log_e + np.log(board.weights)[:, None]
    alone = [one.hypothesis_id for one in board.hypotheses]
    by_test = _q(weighted, alone)
    bugs = together(board, np.asarray((by_test <= fdr).any(axis=1)))
    q = _q(weighted, bugs) if bugs != alone else by_test
    return Verdicts(log_e, q, q <= fdr, high <= min_effect, low, high, bugs)


def _q(weighted: Floats, bugs: Sequence[str]) -> Floats:
    classifiers = weighted.shape[1]
    return q_values(weighted.ravel(), np.repeat(np.array(bugs, np.str_), classifiers)).reshape(weighted.shape)


def together(board: Board, strong: Mask) -> list[str]:
    """The bug of each hypothesis: strong ones that share a label and say the same are one, any other is one of its own.

    They say the same if their words are the same, and their events may be. No order, case or plain word makes a
    difference. One that says more than others is a wording of that with the largest effect, not a bridge between two.
    """
    bugs = [one.hypothesis_id for one in board.hypotheses]
    rows = [int(row) for row in np.flatnonzero(strong)]
    said = {row: content(board.hypotheses[row].prompt.description) for row in rows}
    effects = ((board.more - board.less) / np.maximum(board.pairs, 1)).max(axis=1, initial=-1)

    by_label: dict[str, list[int]] = {}
    for row in rows:
        for label in board.hypotheses[row].labels:
            by_label.setdefault(label, []).append(row)

    def same_event(row: int, other: int) -> bool:
        one, two = board.hypotheses[row].event, board.hypotheses[other].event
        return one == two or "" in (one, two)

    for row in rows:
        own = {other for label in board.hypotheses[row].labels for other in by_label[label]} - {row}
        near = [other for other in sorted(own) if said[other] <= said[row] and same_event(row, other)]
        less = [other for other in near if said[other] < said[row]]
        whole = max(less, key=lambda other: (effects[other], -other), default=None)
        for other in near:
            first, second = sorted((bugs[row], bugs[other]))
            if first != second and (other == whole or said[other] == said[row]):
                bugs = [first if bug == second else bug for bug in bugs]
    return bugs


def pairs_to_go(board: Board, verdicts: Verdicts, fdr: float, min_effect: float, optimism: float) -> Floats:
    """(H): pairs until a hypothesis is confirmed for another classifier, if its effect is as large as may be hoped.

    Hoped for is the mean of the pairs so far and of `PRIOR_PAIRS`, and `optimism` standard errors more. Infinite where
    that is under `min_effect`, and where nothing is left to ask.
    """
    n = board.pairs + PRIOR_PAIRS
    more = (board.more + PRIOR_PAIRS * PRIOR_MORE) / n
    less = (board.less + PRIOR_PAIRS * PRIOR_LESS) / n
    error = np.sqrt(np.maximum(more + less - (more - less) ** 2, 0) / n)
    hoped = np.minimum(more + optimism * error, 1 - less)
    bets = np.array(BETS)[:, None, None]
    growth = (
        hoped * np.log1p(bets * (1 - min_effect))
        + (1 - hoped - less) * np.log1p(-bets * min_effect)
        + less * np.log1p(-bets * (1 + min_effect))
    ).max(axis=0)
    found = len({bug for bug, sure in zip(verdicts.bugs, verdicts.found, strict=True) if sure})
    bar = -np.log(fdr * (found + 1) * board.weights)[:, None]
    left = np.maximum(bar - verdicts.log_e, 1.0)
    with np.errstate(divide="ignore"):
        needed = np.where((growth > 0) & ~verdicts.confirmed & ~verdicts.refuted, left / growth, np.inf)
    nearest: Floats = needed.min(axis=1, initial=np.inf)
    return nearest
