from dataclasses import replace
from pathlib import Path

from mothlight.engine.audit.proof import Test, Verdict, decide, is_live
from mothlight.engine.audit.waves import next_indices, planned_images, reserve_wave
from mothlight.engine.audit.waves import test_wave as plan_test_wave
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Hypothesis, Plan, Prompt
from mothlight.engine.stats import Pairs
from tests.engine.conftest import small_config

CONFIG = small_config(max_images=10_000)
BOTH = ["a", "b"]


def hypothesis(place: int, label: str = "fly") -> Hypothesis:
    config = next(one for one in CONFIG.labels if one.name == label)
    return Hypothesis(CONFIG.plain_prompt(config, f"thing {place}."), "bee", place, 2.0, "cluster")


def counts(own: Hypothesis, pairs: int, more: int, less: int = 0) -> dict[Test, Pairs]:
    return {(own.hypothesis_id, "a"): Pairs(pairs, more, less), (own.hypothesis_id, "b"): Pairs(pairs, 0, 0)}


def verdict(own: Hypothesis, verdicts: dict[Test, Verdict]) -> Verdict:
    return verdicts[own.hypothesis_id, "a"]


def test_strong_evidence_confirms_and_settles() -> None:
    strong, weak = hypothesis(0), hypothesis(1)
    seen = {**counts(strong, 60, 50), **counts(weak, 60, 8)}
    verdicts = decide(CONFIG, [strong, weak], BOTH, seen, {}, 1)
    assert verdict(strong, verdicts).confirmed
    assert verdict(strong, verdicts).reason == "settled"
    assert not verdicts[strong.hypothesis_id, "b"].confirmed
    assert not verdict(weak, verdicts).confirmed
    assert is_live(weak, verdicts)


def test_a_confirmed_hypothesis_goes_on_while_another_classifier_is_open() -> None:
    own = hypothesis(0)
    seen = {(own.hypothesis_id, "a"): Pairs(60, 50, 0), (own.hypothesis_id, "b"): Pairs(60, 9, 0)}
    verdicts = decide(CONFIG, [own], BOTH, seen, {}, 1)
    assert verdict(own, verdicts).confirmed
    assert is_live(own, verdicts)


def test_what_is_hopeless_stops_and_says_why_ever_after() -> None:
    own, other = hypothesis(0), hypothesis(1)
    seen = {**counts(own, 48, 0, 3), **counts(other, 48, 10)}
    first = decide(CONFIG, [own, other], BOTH, counts(own, 24, 0), {}, 1)
    assert is_live(own, first)
    second = decide(CONFIG, [own, other], BOTH, seen, first, 2)
    assert verdict(own, second).reason == "evidence against it"
    assert not is_live(own, second)
    third = decide(CONFIG, [own, other], BOTH, seen, second, 3)
    assert verdict(own, third).reason == "evidence against it"
    assert not verdict(own, third).live


def test_each_label_keeps_three_and_then_two() -> None:
    own = [hypothesis(place) for place in range(5)]
    seen: dict[Test, Pairs] = {}
    for one in own:
        seen |= counts(one, 24, 1)
    after_one = decide(CONFIG, own, BOTH, seen, {}, 1)
    assert [is_live(one, after_one) for one in own] == [True, True, True, False, False]
    after_three = decide(CONFIG, own, BOTH, seen, after_one, 3)
    assert [is_live(one, after_three) for one in own] == [True, True, False, False, False]


def begun() -> list[Plan]:
    return [Plan(0, "discovery", CONFIG.plain_prompt(label), 0, 48) for label in CONFIG.labels]


def test_a_wave_takes_fresh_indices_for_the_baseline_and_each_live_hypothesis() -> None:
    own = [hypothesis(0), hypothesis(1)]
    plans = plan_test_wave(CONFIG, begun(), own, {})
    assert [(plan.prompt.description, plan.first_index, plan.images) for plan in plans] == [
        ("", 48, 12),
        ("thing 0.", 48, 12),
        ("thing 1.", 48, 12),
    ]
    assert next_indices([*begun(), *plans]) == {"fly": 60, "butterfly": 48}


def test_a_wave_that_does_not_fit_is_not_begun() -> None:
    config = AuditConfig.model_validate({**CONFIG.model_dump(), "max_images": 96 + 35})
    own = [hypothesis(0), hypothesis(1)]
    verdicts = decide(config, own, BOTH, {}, {}, 1)
    assert plan_test_wave(config, begun(), own, verdicts) == []
    assert plan_test_wave(config, begun(), own[:1], verdicts) != []


def test_a_small_budget_tests_the_best_of_the_discovery_twice() -> None:
    weak, strong = hypothesis(0), replace(hypothesis(1), score=9.0)
    for budget, descriptions in ((96 + 47, []), (96 + 48, ["thing 1."])):
        config = AuditConfig.model_validate({**CONFIG.model_dump(), "max_images": budget, "wave_images": 12})
        many = [weak, strong, *(hypothesis(place) for place in range(2, 6))]
        plans = plan_test_wave(config, begun(), many, {})
        assert [plan.prompt.description for plan in plans if plan.prompt.description] == descriptions


def test_the_last_images_go_to_those_with_evidence() -> None:
    promising, hopeless = hypothesis(0), hypothesis(1)
    seen = {**counts(promising, 30, 6), **counts(hopeless, 30, 0)}
    verdicts = decide(CONFIG, [promising, hopeless], BOTH, seen, {}, 1)
    assert is_live(promising, verdicts)
    assert is_live(hopeless, verdicts)
    for budget, descriptions in ((96 + 36, 2), (96 + 35, 1), (96 + 23, 0)):
        config = AuditConfig.model_validate({**CONFIG.model_dump(), "max_images": budget})
        plans = plan_test_wave(config, begun(), [promising, hopeless], verdicts)
        assert sum(bool(plan.prompt.description) for plan in plans) == descriptions


def test_a_reserve_is_set_aside_for_what_looks_real() -> None:
    own = hypothesis(0)
    verdicts = decide(CONFIG, [own], BOTH, counts(own, 30, 10), {}, 1)
    assert verdict(own, verdicts).e_value > 20
    assert is_live(own, verdicts)
    exact = 96 + 24 + 40
    for budget, fits in ((exact, True), (exact - 1, False)):
        config = AuditConfig.model_validate({**CONFIG.model_dump(), "max_images": budget})
        assert bool(plan_test_wave(config, begun(), [own], verdicts)) == fits


def test_the_reserve_goes_as_far_as_the_budget_strongest_first() -> None:
    strong, weaker = hypothesis(0), hypothesis(0, "butterfly")
    verdicts = decide(CONFIG, [strong, weaker], BOTH, {**counts(strong, 60, 50), **counts(weaker, 60, 40)}, {}, 1)
    assert planned_images(reserve_wave(CONFIG, begun(), [strong, weaker], verdicts)) == 80
    config = AuditConfig.model_validate({**CONFIG.model_dump(), "max_images": 96 + 79})
    plans = reserve_wave(config, begun(), [strong, weaker], verdicts)
    assert {plan.prompt.label for plan in plans} == {"fly"}
    assert {plan.phase for plan in plans} == {"reserve"}


def test_a_larger_budget_does_not_measure_again_what_is_measured() -> None:
    strong, late = hypothesis(0), hypothesis(0, "butterfly")
    verdicts = decide(CONFIG, [strong, late], BOTH, {**counts(strong, 60, 50), **counts(late, 60, 40)}, {}, 1)
    first = reserve_wave(CONFIG, begun(), [strong], verdicts)
    assert planned_images(first) == 40
    before = [*begun(), *first]
    assert reserve_wave(CONFIG, before, [strong], verdicts) == []
    assert {plan.prompt.label for plan in reserve_wave(CONFIG, before, [strong, late], verdicts)} == {"butterfly"}
    tested_again = [*before, Plan(2, "test", strong.prompt, 200, 12)]
    assert {plan.prompt.label for plan in reserve_wave(CONFIG, tested_again, [strong], verdicts)} == {"fly"}


def test_ids_say_what_a_thing_is() -> None:
    prompt = Prompt("fly", "a fly.")
    assert prompt.prompt_id != Prompt("fly", "a fly!").prompt_id
    (chunk, *rest) = Plan(1, "test", prompt, 48, 30).chunks(24)
    assert [(one.first_index, one.images) for one in (chunk, *rest)] == [(48, 24), (72, 6)]
    assert chunk.image_id(50) == Plan(2, "test", prompt, 50, 1).chunks(24).__next__().image_id(50)
    assert Path(chunk.chunk_id).name == chunk.chunk_id
