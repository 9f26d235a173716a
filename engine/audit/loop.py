"""The whole audit on one screen: discover → describe → test in waves → reserve.

Every step is a function of what is committed, and is made only where the database lacks it. So a killed audit that is
started again goes the same way, and one that is given a larger budget goes on from where it stopped.
"""

from collections.abc import Sequence
from typing import Protocol

from mothlight.engine.audit import waves
from mothlight.engine.audit.describe import describe
from mothlight.engine.audit.discover import discover
from mothlight.engine.audit.proof import Test, Verdict, count_evidence, decide, evidence, is_live
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Cluster, Hypothesis, Plan, Prompt
from mothlight.sql import Store

OUT_OF_BUDGET = "the budget ran out"
HYPOTHESES = """
    select
        prompt.label, prompt.text, prompt.description, event,
        hypothesis.place, score, cluster_id, parent_id, born_wave
    from hypothesis join prompt using (prompt_id)
    join label on label.label = hypothesis.label
    order by label.place, hypothesis.place
"""


class Mechanism(Protocol):
    """What the audit needs done; how it is done is none of its business."""

    def make(self, plans: Sequence[Plan]) -> None:
        """Make and judge every image of the plans that the database lacks."""
        ...

    def caption(self) -> None:
        """Caption every image of wave 0 that passes the gate and has no caption yet."""
        ...

    def say(self, phase: str, found: int) -> None:
        """Tell the person what begins, and how much is confirmed so far."""
        ...


def run_audit(store: Store, config: AuditConfig, classifiers: Sequence[str], mechanism: Mechanism) -> None:
    """Run an audit to its end, or from where it stopped to its end."""
    plans = waves.stored_plans(store) or _begin(store, config)
    mechanism.say("looking for failures", 0)
    mechanism.make([plan for plan in plans if plan.phase == "discovery"])
    mechanism.say("describing failures", 0)
    mechanism.caption()
    hypotheses = _hypotheses(store, config, plans)
    verdicts: dict[Test, Verdict] = {}
    for wave in sorted({plan.wave for plan in plans} - {0}):
        own = [plan for plan in plans if plan.wave == wave]
        mechanism.say(_title(own), _confirmed(verdicts))
        verdicts = _make(store, config, classifiers, mechanism, own, hypotheses, verdicts)
    if plans[-1].phase == "reserve" and _was_given(store, plans[-1].wave) == config.max_images:
        _finish(store, config, verdicts)
        return
    while more := waves.test_wave(config, plans, hypotheses, verdicts):
        waves.save(store, more, config.max_images)
        plans += more
        mechanism.say(_title(more), _confirmed(verdicts))
        verdicts = _make(store, config, classifiers, mechanism, more, hypotheses, verdicts)
    if more := waves.reserve_wave(config, plans, hypotheses, verdicts):
        waves.save(store, more, config.max_images)
        mechanism.say(_title(more), _confirmed(verdicts))
        mechanism.make(more)
    _finish(store, config, verdicts)


def _begin(store: Store, config: AuditConfig) -> list[Plan]:
    plans = waves.discovery(config)
    waves.save(store, plans, config.max_images)
    return plans


def _title(plans: Sequence[Plan]) -> str:
    count = sum(1 for plan in plans if plan.prompt.description)
    descriptions = f"{count} description{'s' if count > 1 else ''}"
    if plans[0].phase == "reserve":
        return f"measuring {descriptions} on fresh pairs"
    return f"testing {descriptions}, wave {plans[0].wave}"


def _hypotheses(store: Store, config: AuditConfig, plans: Sequence[Plan]) -> list[Hypothesis]:
    """Those in the database once a test has begun; before that they are drawn from the discovery, always the same."""
    if plans[-1].wave == 0:
        found = discover(store, config)
        _save(store, found.clusters, describe(store, config, found.clusters))
    return [
        Hypothesis(Prompt(label, text, description), event, place, score, cluster_id, parent_id, born_wave)
        for label, text, description, event, place, score, cluster_id, parent_id, born_wave in store.rows(HYPOTHESES)
    ]


def _save(store: Store, clusters: Sequence[Cluster], hypotheses: Sequence[Hypothesis]) -> None:
    """Write both in one transaction, in place of what an earlier run drew."""
    known = {prompt_id for (prompt_id,) in store.rows("select prompt_id from prompt")}
    prompts = {h.prompt.prompt_id: h.prompt for h in hypotheses if h.prompt.prompt_id not in known}
    with store.transaction():
        for table in ("cluster", "cluster_member", "hypothesis"):
            store.rows(f"delete from {table}")  # noqa: S608  # our own names
        store.append(
            "cluster",
            [
                {
                    "cluster_id": c.cluster_id,
                    "classifier": c.classifier,
                    "label": c.label,
                    "predicted": c.predicted,
                    "place": c.place,
                }
                for c in clusters
            ],
        )
        store.append(
            "cluster_member",
            [{"cluster_id": c.cluster_id, "image_id": image_id} for c in clusters for image_id in c.members],
        )
        store.append(
            "prompt",
            [
                {"prompt_id": key, "label": p.label, "text": p.text, "description": p.description}
                for key, p in prompts.items()
            ],
        )
        store.append("hypothesis", [_hypothesis_row(h) for h in hypotheses])


def _hypothesis_row(hypothesis: Hypothesis) -> dict[str, object]:
    return {
        "hypothesis_id": hypothesis.hypothesis_id,
        "label": hypothesis.prompt.label,
        "prompt_id": hypothesis.prompt.prompt_id,
        "event": hypothesis.event,
        "description": hypothesis.prompt.description,
        "place": hypothesis.place,
        "score": hypothesis.score,
        "cluster_id": hypothesis.cluster_id,
        "parent_id": hypothesis.parent_id,
        "born_wave": hypothesis.born_wave,
    }


def _make(
    store: Store,
    config: AuditConfig,
    classifiers: Sequence[str],
    mechanism: Mechanism,
    plans: Sequence[Plan],
    hypotheses: Sequence[Hypothesis],
    verdicts: dict[Test, Verdict],
) -> dict[Test, Verdict]:
    """Make a wave; after a test wave count its pairs and decide, once."""
    mechanism.make(plans)
    if plans[0].phase != "test":
        return verdicts
    wave = plans[0].wave
    done = store.rows("select 1 from decision where wave = $wave limit 1", wave=wave)
    with store.transaction():
        if not done:
            count_evidence(store, config, wave, [h for h in hypotheses if is_live(h, verdicts)])
        upto = evidence(store, wave)
        number = len({plan.wave for plan in waves.stored_plans(store) if plan.phase == "test" and plan.wave <= wave})
        decided = decide(config, hypotheses, classifiers, upto, verdicts, number)
        if not done:
            store.append("decision", [_decision_row(test, verdict, wave) for test, verdict in decided.items()])
    return decided


def _decision_row(test: Test, verdict: Verdict, wave: int) -> dict[str, object]:
    going_on = "testing" if verdict.live else "not confirmed"
    return {
        "hypothesis_id": test[0],
        "classifier": test[1],
        "wave": wave,
        "status": "confirmed" if verdict.confirmed else going_on,
        "live": verdict.live,
        "e_value": verdict.e_value,
        "q_value": verdict.q_value,
        "reason": verdict.reason,
    }


def _confirmed(verdicts: dict[Test, Verdict]) -> int:
    return sum(verdict.confirmed for verdict in verdicts.values())


def _was_given(store: Store, wave: int) -> int:
    ((budget,),) = store.rows("select any_value(max_images) from wave where wave = $wave", wave=wave)
    return int(budget)


def _finish(store: Store, config: AuditConfig, verdicts: dict[Test, Verdict]) -> None:
    """Note under which budget the audit came to its end; what still waits for a wave is not confirmed."""
    with store.transaction():
        if verdicts:
            store.rows(
                "update decision set status = 'not confirmed', reason = $reason "
                "where status = 'testing' and wave = (select max(wave) from decision)",
                reason=OUT_OF_BUDGET,
            )
        store.rows("update audit set finished_budget = $budget", budget=config.max_images)
