"""All that is known of the descriptions under test, as arrays: read from the database, written back after a wave."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.records import Hypothesis, Plan, Prompt, Tested
from mothlight.engine.stats import Floats
from mothlight.sql import Store

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Board:
    """Hypotheses (H) and classifiers (C), and the pairs of all test waves so far."""

    hypotheses: Sequence[Hypothesis]
    classifiers: Sequence[str]
    pairs: Counts
    """(H, C): indices at which the described image and the plain one both pass the gate."""
    more: Counts
    """(H, C): pairs with the event under the description only."""
    less: Counts
    """(H, C): pairs with the event under the plain prompt only."""
    plans: Sequence[Plan]
    """Every wave that was ever begun, in order."""
    round: int = 0
    """How often all that was judged has been mined."""
    mined_upto: int = -1
    """The last wave that was mined."""
    own_rounds: int = 0
    """Batches of a person's ideas."""
    photograph_rounds: int = 0
    """Batches of tests on photographs."""
    photograph_waves: int = 0
    """Waves of photographs, which come before all others."""
    empty_rounds: int = 0
    """How many rounds in a row, up to now, found nothing to test."""

    @cached_property
    def weights(self) -> Floats:
        """(H): the share of the level that each of a hypothesis' tests has."""
        return np.array([one.weight for one in self.hypotheses], np.float64)

    @cached_property
    def images(self) -> int:
        """Images that the waves so far take."""
        return sum(plan.images for plan in self.plans)

    @cached_property
    def clock(self) -> dict[str, int]:
        """The next index of each label that no prompt has used: an index that was looked at is not fresh."""
        clock: dict[str, int] = {}
        for plan in self.plans:
            clock[plan.prompt.label] = max(clock.get(plan.prompt.label, 0), plan.first_index + plan.images)
        return clock

    @property
    def next_round(self) -> int:
        """The number of the batch of tests to come, of any kind."""
        return self.round + self.own_rounds + self.photograph_rounds + 1

    @cached_property
    def last(self) -> list[Plan]:
        """The plans of the last wave."""
        return [plan for plan in self.plans if plan.wave == self.plans[-1].wave]

    @property
    def next_wave(self) -> int:
        """The number of the wave to come."""
        return self.plans[-1].wave + 1 if self.plans else self.photograph_waves

    @cached_property
    def measured(self) -> dict[Prompt, int]:
        """Indices of the reserve that each prompt has."""
        images: dict[Prompt, int] = {}
        for plan in self.plans:
            if plan.phase == "reserve":
                images[plan.prompt] = images.get(plan.prompt, 0) + plan.images
        return images


def read_board(store: Store, classifiers: Sequence[str], tested_on: Tested = "generated") -> Board:
    """The board as it stands in the database, of the descriptions that are tested on the ones or on the others."""
    hypotheses = [
        replace(
            Hypothesis(Prompt(label, text, description), *rest),
            tested_on=tested_on,
            others=tuple(Prompt(other["label"], other["text"], description) for other in others or ()),
        )
        for label, text, description, others, *rest in store.step("hypotheses", tested_on=tested_on)
    ]
    counts = np.zeros((3, len(hypotheses), len(classifiers)), np.int64)
    rows = {one.hypothesis_id: row for row, one in enumerate(hypotheses)}
    columns = {name: column for column, name in enumerate(classifiers)}
    for key, classifier, *numbers in store.step("counts", tested_on=tested_on):
        counts[:, rows[key], columns[classifier]] = numbers
    plans = [
        Plan(wave, phase, Prompt(label, text, description), first, images)
        for wave, phase, label, text, description, first, images in store.step("plans", tested_on=tested_on)
    ]
    rounds = store.rows("select wave, tests, kind from round order by round")
    mined = [(wave, tests) for wave, tests, kind in rounds if kind == "mined"]
    own = sum(1 for _, _, kind in rounds if kind == "own")
    ((waves,),) = store.rows("select count(distinct wave) from wave where phase in ('photographs', 'proof')")
    filled = max((number for number, (_, tests) in enumerate(mined, start=1) if tests), default=0)
    return Board(
        hypotheses,
        classifiers,
        pairs=counts[0],
        more=counts[1],
        less=counts[2],
        plans=plans,
        round=len(mined),
        mined_upto=mined[-1][0] if mined else -1,
        own_rounds=own,
        photograph_rounds=len(rounds) - len(mined) - own,
        photograph_waves=waves,
        empty_rounds=len(mined) - filled,
    )
