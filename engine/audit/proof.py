"""Pairs → e-values → e-BH → what stands confirmed, and who goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Hypothesis
from mothlight.engine.stats import Pairs, e_value, q_values
from mothlight.sql import Store

HALVINGS = {1: 3, 3: 2}
"""After the wave of that number, each label keeps so many descriptions, and those with evidence of their own."""
NO_EVIDENCE = 1.0
SETTLED_EFFECT = 0.1
"""A classifier that shows no more than this needs no further pairs once another one is confirmed."""
DEAD_WAVES, DEAD = 2, 0.5
"""From that wave on, evidence below this ends a hypothesis."""
LATE_WAVES, LATE = 8, 5.0

Test = tuple[str, str]
"""(hypothesis id, classifier)."""
NEW_EVIDENCE = """
    select
        hypothesis_id,
        classifier,
        count(*) filter (both_passed)::integer as pairs,
        count(*) filter (both_passed and event and not plain_event)::integer as more,
        count(*) filter (both_passed and plain_event and not event)::integer as less
    from pair
    where wave = $wave
    group by all
    order by all
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided of one hypothesis and classifier after a wave."""

    confirmed: bool
    live: bool
    e_value: float
    q_value: float
    reason: str
    """Why it stopped, or empty."""


def evidence(store: Store, upto: int) -> dict[Test, Pairs]:
    """All evidence of the waves up to one, that one included."""
    rows = store.rows(
        "select hypothesis_id, classifier, sum(pairs), sum(more), sum(less) "
        "from evidence where wave <= $upto group by all",
        upto=upto,
    )
    return {(key, classifier): Pairs(int(n), int(more), int(less)) for key, classifier, n, more, less in rows}


def count_evidence(store: Store, config: AuditConfig, wave: int, tested: Sequence[Hypothesis]) -> None:
    """Count the pairs of a wave that is whole; pairs of hypotheses that sat it out are not theirs."""
    total = evidence(store, wave - 1)
    rows = []
    ids = {hypothesis.hypothesis_id for hypothesis in tested}
    for key, classifier, *counts in store.rows(NEW_EVIDENCE, wave=wave):
        if key in ids:
            new = Pairs(*counts)
            value = e_value(total.get((key, classifier), Pairs()) + new, config.min_effect)
            rows.append(
                {
                    "hypothesis_id": key,
                    "classifier": classifier,
                    "wave": wave,
                    "pairs": new.pairs,
                    "more": new.more,
                    "less": new.less,
                    "e_value": value,
                }
            )
    store.append("evidence", rows)


def decide(
    config: AuditConfig,
    hypotheses: Sequence[Hypothesis],
    classifiers: Sequence[str],
    counts: Mapping[Test, Pairs],
    before: Mapping[Test, Verdict],
    wave: int,
) -> dict[Test, Verdict]:
    """Decide after the test wave of that number; `before` is what was decided after the one before it."""
    values = {
        (hypothesis.hypothesis_id, classifier): e_value(
            counts.get((hypothesis.hypothesis_id, classifier), Pairs()), config.min_effect
        )
        for hypothesis in hypotheses
        for classifier in classifiers
    }
    q = q_values(values, config.tests)
    best = {h.hypothesis_id: max(values[h.hypothesis_id, c] for c in classifiers) for h in hypotheses}
    live = {h.hypothesis_id: is_live(h, before) for h in hypotheses}
    ranks = _ranks([h for h in hypotheses if live[h.hypothesis_id]], best)
    verdicts = {}
    for hypothesis in hypotheses:
        key = hypothesis.hypothesis_id
        if not live[key]:
            reason = before[key, classifiers[0]].reason
        else:
            settled = _settled({c: q[key, c] <= config.fdr for c in classifiers}, key, counts)
            reason = "settled" if settled else _hopeless(wave, ranks[key], best[key])
        for classifier in classifiers:
            test = (key, classifier)
            verdicts[test] = Verdict(q[test] <= config.fdr, live[key] and not reason, values[test], q[test], reason)
    return verdicts


def is_live(hypothesis: Hypothesis, verdicts: Mapping[Test, Verdict]) -> bool:
    """Whether it takes part in the next wave; before the first decision all do."""
    own = [verdict.live for (key, _), verdict in verdicts.items() if key == hypothesis.hypothesis_id]
    return not own or any(own)


def _ranks(live: Sequence[Hypothesis], best: Mapping[str, float]) -> dict[str, int]:
    """Each live hypothesis' rank by evidence among its label's, from 0."""
    ranks: dict[str, int] = {}
    for label in dict.fromkeys(h.prompt.label for h in live):
        own = sorted((h for h in live if h.prompt.label == label), key=lambda h: (-best[h.hypothesis_id], h.place))
        ranks |= {h.hypothesis_id: rank for rank, h in enumerate(own)}
    return ranks


def _settled(confirmed: Mapping[str, bool], key: str, counts: Mapping[Test, Pairs]) -> bool:
    """Confirmed for one classifier, and for each other one too, or with nothing to be seen there."""
    return any(confirmed.values()) and all(
        sure or counts.get((key, classifier), Pairs()).effect < SETTLED_EFFECT for classifier, sure in confirmed.items()
    )


def _hopeless(wave: int, rank: int, best: float) -> str:
    if wave in HALVINGS and rank >= HALVINGS[wave] and best < NO_EVIDENCE:
        return "behind its label's other descriptions"
    if wave >= DEAD_WAVES and best < DEAD:
        return "evidence against it"
    if wave >= LATE_WAVES and best < LATE:
        return "no evidence after many waves"
    return ""
