from collections.abc import Sequence
from math import inf, sqrt
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from mothlight.engine.stats import Pairs, e_value, effect_bounds, mcnemar_exact, q_values, round_share
from mothlight.sql import open_audit


@pytest.mark.parametrize("counts", [Pairs(40, 12, 3), Pairs(100, 0, 0), Pairs(7, 7, 0), Pairs(5, 0, 5)])
def test_the_intervals_of_the_database(counts: Pairs) -> None:
    """Wilson against scipy; Bonett and Price against their formula (2012): adjusted by one pair of each kind."""
    n, z = counts.pairs + 2, 1.959963984540054
    p, q = (counts.more + 1) / n, (counts.less + 1) / n
    half = z * sqrt((p + q - (p - q) ** 2) / n)
    with open_audit() as store:
        statement = "select bonett_price_low($more, $less, $pairs), bonett_price_high($more, $less, $pairs)"
        (sql,) = store.rows(statement, more=counts.more, less=counts.less, pairs=counts.pairs)
        assert sql == pytest.approx((max(-1, p - q - half), min(1, p - q + half)))
        (sql,) = store.rows("select wilson_low($k, $n), wilson_high($k, $n)", k=counts.more, n=counts.pairs)
        expected = binomtest(counts.more, counts.pairs).proportion_ci(method="wilson")
        assert sql == pytest.approx((expected.low, expected.high))


def test_mcnemar_against_scipy() -> None:
    for more, less in ((0, 0), (5, 0), (12, 3), (7, 7), (40, 61)):
        expected = binomtest(more, more + less).pvalue if more + less else 1.0
        assert mcnemar_exact(Pairs(200, more, less)) == pytest.approx(expected)


def test_an_e_value_is_the_product_written_out() -> None:
    differences = [1, 0, 0, -1, 1, 1]
    wealth = []
    for bet in (0.1, 0.2, 0.4, 0.6, 0.8):
        product = 1.0
        for difference in differences:
            product *= 1 + bet * (difference - 0.05)
        wealth.append(product)
    assert e_value(Pairs(6, 3, 1), 0.05) == pytest.approx(sum(wealth) / 5)
    assert e_value(Pairs(), 0.05) == 1
    assert e_value(Pairs(10_000, 10_000, 0), 0.05) < inf


def test_false_alarms_stay_under_the_promise_however_often_one_looks() -> None:
    """Ville: at the null's edge (E[D] = δ) the chance ever to reach 20 is at most 1/20."""
    rng, alarms, trials = Random(7), 0, 2000
    for _ in range(trials):
        counts = Pairs()
        for _ in range(12):
            draws = [rng.choices((1, 0, -1), (0.12, 0.81, 0.07))[0] for _ in range(24)]
            counts += Pairs(24, draws.count(1), draws.count(-1))
            if e_value(counts, 0.05) >= 20:
                alarms += 1
                break
    assert alarms / trials <= 0.05


def test_a_real_effect_is_found() -> None:
    """Median pairs to e ≥ 4,320 at a base rate of 10 % and an effect of 40 points: 64 in the design's simulation."""
    rng, needed = Random(3), []
    for _ in range(301):
        counts = Pairs()
        while e_value(counts, 0.05) < 4320:
            described, plain = rng.random() < 0.5, rng.random() < 0.1
            counts += Pairs(1, int(described and not plain), int(plain and not described))
        needed.append(counts.pairs)
    assert 50 <= sorted(needed)[150] <= 80


def weighted(e: list[float], tests: int) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(e, 1e-300)) - np.log(tests))


def test_q_values_are_those_of_e_bh_where_each_test_is_a_bug_of_its_own() -> None:
    e = [500.0, 90.0, 30.0, 0.0]
    q = q_values(weighted(e, 10), list("abcd"))
    assert q == pytest.approx([10 / 500, 10 / 180, 10 / 90, 1.0])
    for fdr in (0.01, 0.03, 0.06, 0.2):
        ranked = sorted(e, reverse=True)
        rejected = max((k for k, value in enumerate(ranked, 1) if value * k * fdr >= 10), default=0)
        assert sum(value <= fdr for value in q) == rejected


def test_a_later_rank_can_carry_an_earlier_one() -> None:
    assert q_values(weighted([11.0, 10.9], 10), list("ab")) == pytest.approx([10 / 21.8, 10 / 21.8])
    assert q_values([], []).tolist() == []


def largest_set(evidence: NDArray[np.float64], bugs: Sequence[str], level: float) -> set[int]:
    """By removing, again and again, every test that does not hold: the definition."""
    kept = set(range(len(bugs)))
    while True:
        number = len({bugs[row] for row in kept})
        whole = {bug: sum(e for e, own in zip(evidence, bugs, strict=True) if own == bug) for bug in bugs}
        out = {
            row for row in kept
            if evidence[row] * level * len(kept) < 1 - 1e-12 or whole[bugs[row]] * level * number < 1 - 1e-12
        }  # fmt: skip
        if not out:
            return kept
        kept -= out


def test_q_values_are_the_levels_at_which_the_largest_set_takes_a_test() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        tests = int(rng.integers(1, 14))
        evidence = np.exp(rng.normal(0, 2, tests))
        bugs = rng.choice(list("abcde"), tests).tolist()
        q = q_values(np.log(evidence), bugs)
        for level in (*q[q < 1], 0.01, 0.05, 0.3, 0.9):
            assert {row for row in range(tests) if q[row] <= level + 1e-12} == largest_set(
                evidence, bugs, level + 1e-12
            )


def test_bugs_and_rows_are_false_as_seldom_as_promised() -> None:
    """Under nulls that only one bug in six wordings shares (dependence at its worst), and few true effects beside."""
    rng = np.random.default_rng(11)
    rows, false_bugs, trials, level = 0.0, 0.0, 3000, 0.2
    bugs = ["same"] * 6 + [f"b{k}" for k in range(6)]
    for _ in range(trials):
        shared = rng.random() < 1 / 30  # an e-value of mean 1 that is 30 or 0
        evidence = np.array([30.0 * shared] * 6 + [30.0 * (rng.random() < 1 / 30) for _ in range(3)] + [200.0] * 3) / 12
        found = q_values(np.log(np.maximum(evidence, 1e-300)), bugs) <= level
        null = np.arange(12) < 9
        rows += found[null].sum() / max(found.sum(), 1)
        confirmed = {bug for bug, own in zip(bugs, found, strict=True) if own}
        false_bugs += len(confirmed & set(bugs[:9])) / max(len(confirmed), 1)
    assert rows / trials <= level
    assert false_bugs / trials <= level


def test_the_shares_of_all_rounds_are_one_level() -> None:
    assert round_share(1) == pytest.approx(0.607927, abs=1e-6)
    assert 0.999 < sum(round_share(number) for number in range(1, 2000)) < 1


def test_a_confidence_sequence_holds_at_every_look() -> None:
    rng, missed, trials = np.random.default_rng(2), 0, 400
    draws = rng.choice((1, 0, -1), p=(0.25, 0.65, 0.10), size=(trials, 480))
    more, less = np.cumsum(draws == 1, axis=1)[:, 23::24], np.cumsum(draws == -1, axis=1)[:, 23::24]
    low, high = effect_bounds(np.arange(24, 481, 24)[None, :], more, less)
    missed = int(((low > 0.15) | (high < 0.15)).any(axis=1).sum())
    assert missed / trials <= 0.05
    assert (high - low)[:, -1].mean() < 0.3


def test_bounds_are_where_the_bets_have_won_enough() -> None:
    low, high = effect_bounds([0, 200, 200], [0, 60, 0], [0, 20, 0])
    assert (low[0], high[0]) == pytest.approx((-1, 1))
    assert low[1] < 0.2 < high[1]
    for bound, capital in ((low[1] - 0.001, 41), (low[1] + 0.001, 39)):
        wealth = [
            (1 + bet * (1 - bound)) ** 60 * (1 - bet * bound) ** 120 * (1 - bet * (1 + bound)) ** 20
            for bet in np.array([0.1, 0.2, 0.4, 0.6, 0.8]) / (1 + bound)
        ]
        assert (np.mean(wealth) > 40) == (capital > 40)
    assert low[2] == pytest.approx(-high[2])
