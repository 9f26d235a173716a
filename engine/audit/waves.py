"""The clocks: which fresh indices a wave takes, and whether it fits the budget."""

from collections.abc import Iterable, Mapping, Sequence

from mothlight.engine.audit.proof import Test, Verdict, is_live
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Hypothesis, Plan, Prompt
from mothlight.sql import Store

LIKELY = 20.0
"""Evidence from which on a hypothesis is expected to be confirmed, so that its reserve is set aside."""
PROMISING = 1.0
"""Evidence above this is evidence at all."""
STORED = """
    select wave.wave, wave.phase, prompt.label, prompt.text, prompt.description, wave.first_index, wave.images
    from wave join prompt using (prompt_id)
    order by wave.wave, wave.place
"""


def stored_plans(store: Store) -> list[Plan]:
    """Every wave that was ever begun, in order."""
    return [
        Plan(wave, phase, Prompt(label, text, description), first, images)
        for wave, phase, label, text, description, first, images in store.rows(STORED)
    ]


def save(store: Store, plans: Sequence[Plan], max_images: int) -> None:
    """Write a wave's plan, and the prompts that are new, before its first image is made."""
    known = {prompt_id for (prompt_id,) in store.rows("select prompt_id from prompt")}
    prompts = {plan.prompt.prompt_id: plan.prompt for plan in plans if plan.prompt.prompt_id not in known}
    with store.transaction():
        store.append(
            "prompt",
            [
                {"prompt_id": key, "label": p.label, "text": p.text, "description": p.description}
                for key, p in prompts.items()
            ],
        )
        store.append(
            "wave",
            [
                {
                    "wave": plan.wave,
                    "phase": plan.phase,
                    "place": place,
                    "prompt_id": plan.prompt.prompt_id,
                    "first_index": plan.first_index,
                    "images": plan.images,
                    "max_images": max_images,
                }
                for place, plan in enumerate(plans)
            ],
        )


def discovery(config: AuditConfig) -> list[Plan]:
    """Wave 0: each label's plain prompt."""
    return [Plan(0, "discovery", config.plain_prompt(label), 0, config.discovery_images) for label in config.labels]


def planned_images(plans: Iterable[Plan]) -> int:
    """How many images they take."""
    return sum(plan.images for plan in plans)


def next_indices(plans: Iterable[Plan]) -> dict[str, int]:
    """The next index of each label that no prompt has used: an index that was looked at is not fresh."""
    clock: dict[str, int] = {}
    for plan in plans:
        clock[plan.prompt.label] = max(clock.get(plan.prompt.label, 0), plan.first_index + plan.images)
    return clock


def test_wave(
    config: AuditConfig, before: Sequence[Plan], hypotheses: Sequence[Hypothesis], verdicts: Mapping[Test, Verdict]
) -> list[Plan]:
    """The next test wave of the hypotheses that go on.

    Where all of them would not fit the budget, those with evidence of their own; where these would not either, those
    that are nearly there. A first wave that would not fit takes the best that the discovery found, so few that a second
    wave of them fits too. Empty where there are none, or where no such wave fits.
    """
    live = [h for h in hypotheses if is_live(h, verdicts)]
    needed = [h for h in hypotheses if _best(h, verdicts) > LIKELY and (h in live or not _is_measured(h, before))]
    aside = planned_images(_paired(config, before, "reserve", needed, config.reserve_pairs))
    room = config.max_images - planned_images(before) - aside
    for bar in (0.0, PROMISING, LIKELY):
        chosen = [h for h in live if _best(h, verdicts) > bar]
        plans = _paired(config, before, "test", chosen, config.wave_images)
        if plans and planned_images(plans) <= room:
            return plans
    if not verdicts:
        return _paired(config, before, "test", _best_scored(config, before, live, room // 2), config.wave_images)
    return []


def _best_scored(
    config: AuditConfig, before: Sequence[Plan], hypotheses: Sequence[Hypothesis], room: int
) -> list[Hypothesis]:
    """The hypotheses that set the discovery's failures apart best, as many as fit."""
    chosen: set[str] = set()
    for best in sorted(hypotheses, key=lambda h: (-h.score, h.hypothesis_id)):
        more = [h for h in hypotheses if h.hypothesis_id in {*chosen, best.hypothesis_id}]
        if planned_images(_paired(config, before, "test", more, config.wave_images)) <= room:
            chosen.add(best.hypothesis_id)
    return [h for h in hypotheses if h.hypothesis_id in chosen]


def reserve_wave(
    config: AuditConfig, before: Sequence[Plan], hypotheses: Sequence[Hypothesis], verdicts: Mapping[Test, Verdict]
) -> list[Plan]:
    """Fresh pairs for what is confirmed and has none yet, the strongest evidence first, as far as the budget goes."""
    confirmed = {key for (key, _), verdict in verdicts.items() if verdict.confirmed}
    sure = [h for h in hypotheses if h.hypothesis_id in confirmed and not _is_measured(h, before)]
    sure.sort(key=lambda h: (-_best(h, verdicts), h.hypothesis_id))
    plans: list[Plan] = []
    for count in range(1, len(sure) + 1):
        chosen = {h.hypothesis_id for h in sure[:count]}
        wanted = [h for h in hypotheses if h.hypothesis_id in chosen]
        more = _paired(config, before, "reserve", wanted, config.reserve_pairs)
        if planned_images(before) + planned_images(more) > config.max_images:
            break
        plans = more
    return plans


def _is_measured(hypothesis: Hypothesis, plans: Iterable[Plan]) -> bool:
    """Whether a reserve came after its last test wave: an earlier budget's, which still holds."""
    phases = [plan.phase for plan in plans if plan.prompt == hypothesis.prompt]
    return bool(phases) and phases[-1] == "reserve"


def _best(hypothesis: Hypothesis, verdicts: Mapping[Test, Verdict]) -> float:
    own = (verdict.e_value for (key, _), verdict in verdicts.items() if key == hypothesis.hypothesis_id)
    return max(own, default=1.0)


def _paired(
    config: AuditConfig, before: Sequence[Plan], phase: str, hypotheses: Sequence[Hypothesis], images: int
) -> list[Plan]:
    """Each label's plain prompt and the prompts of its hypotheses on the same next indices."""
    if not hypotheses or not images:
        return []
    clock = next_indices(before)
    wave = max(plan.wave for plan in before) + 1
    plans = []
    for label in config.labels:
        prompts = dict.fromkeys(h.prompt for h in hypotheses if h.prompt.label == label.name)
        if prompts:
            first = clock[label.name]
            plans += [Plan(wave, phase, p, first, images) for p in (config.plain_prompt(label), *prompts)]
    return plans
