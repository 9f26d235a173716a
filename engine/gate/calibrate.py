"""Bounds and error of a gate from scores of known truth: pure functions of arrays.

Truth comes in two ways. *Answers* are a person's, on a chance sample of an audit's own images: of those that pass, the
share that does not show its label is counted. *Known pictures* show their label by construction; asked for another
label, they show how often the gate is deceived. How many of an audit's images are misses then follows from the share
that passes (Rogan and Gladen 1978).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.models.bundle import Thresholds
from mothlight.engine.stats import Floats, exact_bounds

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth:
    """Gate scores (N,) float64 of images, and whether each shows the label that was asked (N,) bool."""

    scores: Floats
    shows: Bools
    second: Bools
    """Which half each is in: bounds are chosen on the first, and measured on the second."""

    def where(self, chosen: Bools) -> "Truth":
        """Some of them."""
        return Truth(self.scores[chosen], self.shows[chosen], self.second[chosen])


@dataclass(frozen=True, slots=True)
class Share:
    """`wrong` of `n`, and the 95 % interval of what it stands for."""

    wrong: int
    n: int
    rate: float
    low: float
    high: float


def share(wrong: int, n: int) -> Share:
    """With Clopper and Pearson's interval; a rate of 1 if n is 0, for nothing is known."""
    low, high = exact_bounds(wrong, n)
    return Share(wrong, n, wrong / n if n else 1.0, low, high)


def answered_error(truth: Truth, upper: float) -> Share:
    """Of the images that pass, the share that does not show its label; of a chance sample."""
    passed = truth.scores >= upper
    return share(int((passed & ~truth.shows).sum()), int(passed.sum()))


def deceived(truth: Truth, upper: float) -> Share:
    """Of the images that do not show the label, the share that passes."""
    return share(int((truth.scores[~truth.shows] >= upper).sum()), int((~truth.shows).sum()))


def kept(truth: Truth, bound: float) -> Share:
    """Of the images that show the label, the share at or over a bound; `wrong` counts those."""
    return share(int((truth.scores[truth.shows] >= bound).sum()), int(truth.shows.sum()))


def known_error(truth: Truth, upper: float, passed: int, images: int) -> Share:
    """As `answered_error`, of an audit of which `passed` of `images` pass, by known pictures.

    A share p of its images passes, t of those that show the label and f of the others; so (t − p) / (t − f) of them
    do not show it, of which f pass. The upper end takes all three at their least favourable ends.
    """
    false_pass, true_pass = deceived(truth, upper), kept(truth, upper)
    p_low, p_high = exact_bounds(passed, images)
    rate = _misses_among_passes(true_pass.rate, false_pass.rate, passed / images if images else 0.0)
    low = _misses_among_passes(true_pass.low, false_pass.low, p_high)
    high = _misses_among_passes(true_pass.high, false_pass.high, p_low)
    return Share(false_pass.wrong, false_pass.n, rate, min(low, rate), max(high, rate))


def _misses_among_passes(true_pass: float, false_pass: float, passed: float) -> float:
    if passed <= 0 or true_pass <= false_pass:
        return 1.0
    missed = min(max((true_pass - passed) / (true_pass - false_pass), 0.0), 1.0)
    return min(missed * false_pass / passed, 1.0)


def bounds_by_answers(truth: Truth, most: float) -> Thresholds | None:
    """Bounds such that of what passes at most a share `most` does not show its label, with 97.5 % certainty.

    The lowest such upper bound, and the highest lower one under which at most that share does show its label; None if
    there is no upper one.
    """
    uppers = _candidates(truth)
    upper = next((one for one in uppers if answered_error(truth, one).high <= most), None)
    if upper is None:
        return None
    lower = next((one for one in reversed(uppers) if one <= upper and _shown_under(truth, one).high <= most), 0.0)
    return Thresholds(lower=lower, upper=upper)


def bounds_by_pictures(truth: Truth, most: float) -> Thresholds | None:
    """Bounds such that of what does not show its label at most a share `most` passes, with 97.5 % certainty.

    The lowest such upper bound, and the highest lower one under which at most that share of what shows its label lies;
    None if there is no upper one.
    """
    uppers = _candidates(truth)
    upper = next((one for one in uppers if deceived(truth, one).high <= most), None)
    if upper is None:
        return None
    lower = next((one for one in reversed(uppers) if one <= upper and 1 - kept(truth, one).low <= most), 0.0)
    return Thresholds(lower=lower, upper=upper)


def _shown_under(truth: Truth, lower: float) -> Share:
    under = truth.scores < lower
    return share(int((under & truth.shows).sum()), int(under.sum()))


def _candidates(truth: Truth, most: int = 200) -> Sequence[float]:
    """Scores that a bound may take, rising: rounded to what a person would write, at most so many."""
    scores = np.unique(truth.scores)
    if len(scores) > most:
        scores = np.unique(np.quantile(scores, np.linspace(0, 1, most)))
    return [float(f"{one:.4g}") for one in scores]
