from math import inf, sqrt
from random import Random

import pytest
from scipy.stats import binomtest

from mothlight.engine.stats import Pairs, e_value, mcnemar_exact, q_values
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


def test_q_values_are_those_of_e_bh() -> None:
    e = {"a": 500.0, "b": 90.0, "c": 30.0, "d": 0.0}
    q = q_values(e, tests=10)
    assert q == pytest.approx({"a": 10 / 500, "b": 10 / 180, "c": 10 / 90, "d": 1.0})
    for fdr in (0.01, 0.03, 0.06, 0.2):
        ranked = sorted(e.values(), reverse=True)
        rejected = max((k for k, value in enumerate(ranked, 1) if value * k * fdr >= 10), default=0)
        assert sum(value <= fdr for value in q.values()) == rejected


def test_a_later_rank_can_carry_an_earlier_one() -> None:
    assert q_values({"a": 11.0, "b": 10.9}, tests=10) == pytest.approx({"a": 10 / 21.8, "b": 10 / 21.8})
