"""Whole audits with drawn outcomes: the shipped rules, without a model. `bench/power.py` has them at length."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def power() -> ModuleType:
    path = Path(__file__).parents[3] / "bench" / "power.py"
    spec = importlib.util.spec_from_file_location("power", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["power"] = module
    spec.loader.exec_module(module)
    return module


def found(power: ModuleType, effect: float, budgets: list[int], seeds: int) -> list[float]:
    """Share of 12 effects that are confirmed at each budget; the mean over some audits."""
    ends = [power.audit(seed, effect, budgets) for seed in range(seeds)]
    return [float(np.mean([end[at][0] / 12 for end in ends])) for at in range(len(budgets))]


def test_a_larger_budget_finds_more_and_is_used(power: ModuleType) -> None:
    first, second, third = found(power, 0.2, [7_000, 20_000, 50_000], 2)
    assert first < 0.5
    assert second > 0.8
    assert third > 0.97
    ((*_, used),) = power.audit(0, 0.1, [20_000])
    assert used > 0.9 * 20_000


def test_going_on_finds_what_starting_large_does(power: ModuleType) -> None:
    (_, going_on), (at_once,) = found(power, 0.2, [7_000, 20_000], 5), found(power, 0.2, [20_000], 5)
    assert abs(going_on - at_once) < 0.1


@pytest.mark.parametrize("plain", [0.1, 0.3])
def test_where_nothing_is_to_be_found_next_to_nothing_is(power: ModuleType, plain: float) -> None:
    ends = [power.audit(seed, 0.0, [9_000], plain=plain)[0] for seed in range(24)]
    assert sum(wrong > 0 for _, wrong, _, _ in ends) <= 3  # of 24 at 5 %, more than 3 have a chance of 3 %
    assert all(right == 0 for right, *_ in ends)


def test_an_effect_at_the_bound_is_no_finding(power: ModuleType) -> None:
    ends = [power.audit(seed, 0.05, [9_000])[0] for seed in range(12)]
    assert sum(wrong > 0 for _, wrong, _, _ in ends) <= 2


@pytest.mark.slow
def test_the_books_of_a_large_wave_take_seconds(power: ModuleType) -> None:
    """1,000 labels, 6,000 descriptions, 20 classifiers: quadratic bookkeeping took hours."""
    power.large()
