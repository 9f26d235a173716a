"""Boards with hypotheses and counts of one's choice."""

from collections.abc import Mapping, Sequence

import numpy as np

from mothlight.engine.audit.board import Board
from mothlight.engine.records import Hypothesis, Origin, Plan
from mothlight.engine.stats import Pairs, round_share
from tests.engine.conftest import small_config

CONFIG = small_config(max_images=10_000)
BOTH = ["a", "b"]


def hypothesis(
    description: str, label: str = "fly", event: str = "bee", *, tests: int = 12, number: int = 1, score: float = 2.0,
    origin: Origin = "failures",
) -> Hypothesis:  # fmt: skip
    config = next(one for one in CONFIG.labels if one.name == label)
    prompt = CONFIG.plain_prompt(config, description)
    return Hypothesis(prompt, event, 0, score, origin, number, round_share(number) / tests, 0)


def begun() -> list[Plan]:
    return [Plan(0, "discovery", CONFIG.plain_prompt(label), 0, 48) for label in CONFIG.labels]


def board_of(
    counts: Mapping[Hypothesis, Pairs | tuple[Pairs, Pairs]], plans: Sequence[Plan] | None = None, number: int = 1
) -> Board:
    """Pairs of classifier a, or of a and b; b has as many pairs as a otherwise, and nothing to be seen in them."""
    both = [one if isinstance(one, tuple) else (one, Pairs(one.pairs)) for one in counts.values()]
    pairs, more, less = (
        np.array([[getattr(side, name) for side in own] for own in both], np.int64).reshape(-1, 2)
        for name in ("pairs", "more", "less")
    )
    return Board(list(counts), BOTH, pairs, more, less, plans=begun() if plans is None else plans, round=number)
