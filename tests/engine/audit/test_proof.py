from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mothlight.engine.audit.board import Board
from mothlight.engine.audit.describe import content
from mothlight.engine.audit.proof import Verdicts, judge, pairs_to_go
from mothlight.engine.audit.waves import (
    another_round,
    leads,
    next_look,
    next_reserve,
    next_test,
    planned_images,
    set_aside,
)
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Hypothesis, Plan, Prompt
from mothlight.engine.stats import Pairs
from tests.engine.audit.boards import CONFIG, begun, board_of, hypothesis


def judged(board: Board) -> Verdicts:
    return judge(board, CONFIG.min_effect, CONFIG.fdr)


def to_go(board: Board, optimism: float = 1.0) -> list[float]:
    return [float(one) for one in pairs_to_go(board, judged(board), CONFIG.fdr, CONFIG.min_effect, optimism)]


def with_budget(images: int) -> AuditConfig:
    return AuditConfig.model_validate({**CONFIG.model_dump(), "max_images": images})


def test_strong_evidence_confirms_for_its_classifier_only() -> None:
    verdicts = judged(board_of({hypothesis("it is red."): Pairs(60, 50), hypothesis("it is blue."): Pairs(60, 8)}))
    assert verdicts.confirmed.tolist() == [[True, False], [False, False]]
    assert not verdicts.closed.any()


def test_what_is_refuted_for_all_is_closed_and_says_nothing_of_others() -> None:
    verdicts = judged(board_of({hypothesis("it is red."): Pairs(2000, 40, 40), hypothesis("it is blue."): Pairs()}))
    assert verdicts.refuted.tolist() == [[True, True], [False, False]]
    assert verdicts.closed.tolist() == [True, False]
    assert verdicts.high[0, 0] <= 0.05 < verdicts.high[1, 0]


def test_a_confirmation_is_lost_with_the_partner_that_carried_it() -> None:
    """e-BH: two need half of what one alone does; when the partner's evidence falls, the first is open again."""
    one, two = hypothesis("it is red."), hypothesis("it is blue.", "butterfly")
    together = board_of({one: Pairs(30, 13), two: Pairs(30, 13)})
    apart = board_of({one: Pairs(30, 13), two: Pairs(40, 13, 4)})
    assert judged(together).found.all()
    assert not judged(apart).found.any()
    assert to_go(apart)[0] < 100


def test_wordings_of_one_bug_are_one() -> None:
    net, more = hypothesis("it is in a net."), hypothesis("In nets, the air is clear.")
    other, elsewhere = hypothesis("it is red."), hypothesis("it is in a net.", "butterfly")
    bugs = judged(board_of(dict.fromkeys((net, more, other, elsewhere), Pairs(80, 60)))).bugs
    assert bugs[0] == bugs[1]
    assert len(set(bugs)) == 3


def test_a_conjunction_is_a_wording_of_its_stronger_half_and_no_bridge() -> None:
    night, red, both = hypothesis("it is night."), hypothesis("it is red."), hypothesis("it is night. it is red.")
    counts = {night: Pairs(80, 30), red: Pairs(80, 50), both: Pairs(80, 60)}
    bugs = judged(board_of(counts)).bugs
    assert bugs[1] == bugs[2] != bugs[0]


def test_other_events_are_other_bugs_unless_one_is_any_error() -> None:
    bee, boat = hypothesis("it is red."), hypothesis("it is red.", event="boat")
    anything = hypothesis("it is red.", event="")
    assert len(set(judged(board_of(dict.fromkeys((bee, boat), Pairs(80, 60)))).bugs)) == 2
    assert len(set(judged(board_of(dict.fromkeys((bee, anything), Pairs(80, 60)))).bugs)) == 1


def test_six_wordings_do_not_carry_each_other_over_the_bar_of_a_bug() -> None:
    """A bug of six weak rows is one bug: its rows together have six times the evidence, but one place among bugs."""
    words = ["it is in a net.", *(f"it is in a net. thing {k}." for k in range(5))]
    rows = dict.fromkeys((hypothesis(one) for one in words), Pairs(40, 13))
    apart = [hypothesis(f"thing {k}.", label) for k in range(3) for label in ("fly", "butterfly")]
    assert judged(board_of(dict.fromkeys(apart, Pairs(30, 11)))).found.all()
    verdicts = judged(board_of(rows))
    assert len(set(verdicts.bugs)) == 1
    assert (verdicts.q[:, 0] >= 1 / np.exp(verdicts.log_e[:, 0]).sum() / hypothesis("x.").weight - 1e-9).all()


def test_content_is_words_without_case_order_and_plain_ones() -> None:
    assert content("It is in a Net. There are flowers!") == content("flower, in nets") == {"net", "flower"}
    assert content("it is. the") == frozenset()
    assert content("glass") == {"glass"}


def test_what_is_nearer_its_answer_needs_fewer_pairs_and_what_is_answered_none() -> None:
    near, far, fresh = hypothesis("near."), hypothesis("far."), hypothesis("fresh.")
    board = board_of({near: Pairs(24, 9), far: Pairs(24, 2, 2), fresh: Pairs()})
    a, b, c = to_go(board)
    assert a < c < b
    assert to_go(board, optimism=3.0)[1] < b
    done = board_of({near: (Pairs(60, 50), Pairs(2000, 40, 40))})
    assert to_go(done) == [np.inf]


def test_a_wave_takes_fresh_indices_for_the_baseline_and_each_description() -> None:
    plans = next_test(CONFIG, *_judged({hypothesis(f"thing {k}."): Pairs() for k in range(9)}))
    assert [(plan.prompt.description, plan.first_index, plan.images) for plan in plans] == [
        ("", 48, 12),
        *((f"thing {k}.", 48, 12) for k in range(9)),
    ]
    assert {plan.wave for plan in plans} == {1}


def test_a_small_wave_takes_more_indices_while_the_answer_is_far() -> None:
    near, far = ({hypothesis("thing."): Pairs(24, more)} for more in (10, 4))
    assert {plan.images for plan in next_test(CONFIG, *_judged(near))} == {12}
    assert {plan.images for plan in next_test(CONFIG, *_judged(far))} == {24}


def _judged(
    counts: Mapping[Hypothesis, Pairs | tuple[Pairs, Pairs]], plans: Sequence[Plan] | None = None, number: int = 1
) -> tuple[Board, Verdicts]:
    board = board_of(counts, plans, number)
    return board, judged(board)


def test_two_events_of_one_prompt_share_its_images() -> None:
    plans = next_test(CONFIG, *_judged({hypothesis("x."): Pairs(), hypothesis("x.", event=""): Pairs()}))
    assert [plan.prompt.description for plan in plans] == ["", "x."]


def test_a_wave_that_does_not_fit_is_made_smaller_or_not_begun() -> None:
    for room, tested in ((36, 2), (35, 1), (24, 1), (23, 0)):
        own = {hypothesis("weak.", score=1.0): Pairs(24, 8), hypothesis("strong.", score=9.0): Pairs(24, 9)}
        plans = next_test(with_budget(96 + room + 24), *_judged(own))  # of the room 24 are for a reserve
        assert sum(bool(plan.prompt.description) for plan in plans) <= max(tested, 2)
        assert planned_images(plans) <= room + 24


def test_a_small_budget_goes_to_the_best_of_the_discovery() -> None:
    many = {hypothesis(f"thing {k}.", score=float(k)): Pairs() for k in range(20)}
    small = next_test(with_budget(96 + 400), *_judged(many))
    large = next_test(CONFIG, *_judged(many))
    assert [p.prompt.description for p in small[1:]] == [
        "thing 19.",
        "thing 18.",
        "thing 17.",
        "thing 16.",
        "thing 15.",
    ]
    assert len(large) == 21


def test_what_is_put_aside_comes_back_in_a_later_round() -> None:
    own = {hypothesis("slow."): (Pairs(72, 5, 2), Pairs(72, 5, 2))}
    assert next_test(CONFIG, *_judged(own, number=1)) == []
    assert next_test(CONFIG, *_judged(own, number=4)) != []


def test_a_reserve_is_set_aside_for_what_looks_real() -> None:
    strong, weak = hypothesis("a thing."), hypothesis("another.")
    board, verdicts = _judged({strong: Pairs(30, 12), weak: Pairs(30, 3)})
    assert set_aside(CONFIG, board, verdicts) == 40
    assert set_aside(with_budget(120), board, verdicts) == 30  # a quarter of it at most


def test_the_reserve_goes_as_far_as_the_budget_the_strongest_first() -> None:
    strong, weaker = hypothesis("a thing."), hypothesis("a thing.", "butterfly")
    board, verdicts = _judged({strong: Pairs(60, 50), weaker: Pairs(60, 40)})
    images = {room: next_reserve(with_budget(96 + room), board, verdicts) for room in (80, 79, 40, 19, 9)}
    assert [planned_images(plans) for plans in images.values()] == [80, 60, 40, 10, 0]
    assert {plan.prompt.label for plan in images[19]} == {"fly"}
    assert {plan.phase for plans in images.values() for plan in plans} == {"reserve"}


def test_a_prompt_is_measured_once_and_topped_up_by_a_larger_budget() -> None:
    own = hypothesis("a thing.")
    half = [Plan(1, "reserve", prompt, 48, 12) for prompt in (CONFIG.plain_prompt(CONFIG.labels[0]), own.prompt)]
    board, verdicts = _judged({own: Pairs(60, 50)}, plans=[*begun(), *half])
    assert [(plan.first_index, plan.images) for plan in next_reserve(CONFIG, board, verdicts)] == [(60, 8), (60, 8)]
    full = [*half, *(Plan(2, "reserve", plan.prompt, 60, 8) for plan in half)]
    board, verdicts = _judged({own: Pairs(60, 50)}, plans=[*begun(), *full])
    assert next_reserve(CONFIG, board, verdicts) == []


def test_the_shortest_wording_with_most_of_the_effect_stands_for_its_bug() -> None:
    short, long = hypothesis("it is in a net."), hypothesis("it is in a net. it is day.")
    assert leads(*_judged({long: Pairs(100, 62), short: Pairs(100, 60)})) == [1]
    assert leads(*_judged({long: Pairs(100, 95), short: Pairs(100, 60)})) == [0]


def test_wordings_are_measured_only_after_every_bug_is() -> None:
    short, long = hypothesis("it is in a net."), hypothesis("it is in a net. it is day.")
    board, verdicts = _judged({long: Pairs(100, 62), short: Pairs(100, 60)})
    for room, descriptions in (
        (59, ["", "it is in a net."]),
        (60, ["", "it is in a net.", "it is in a net. it is day."]),
    ):
        plans = next_reserve(with_budget(96 + room), board, verdicts)
        assert sorted(plan.prompt.description for plan in plans) == descriptions


def test_a_round_looks_at_more_plain_images_where_failures_are_unexplained() -> None:
    board, verdicts = _judged({hypothesis("x."): Pairs(48, 2, 2)})
    plans = next_look(CONFIG, board, verdicts, {"fly": 9, "butterfly": 0})
    images = {plan.prompt.label: plan.images for plan in plans}
    assert sum(images.values()) <= 96
    assert images["fly"] > images["butterfly"] > 0
    assert {plan.first_index for plan in plans} == {48}


@pytest.mark.parametrize(("room", "begun_"), [(96, True), (95, False)])
def test_a_round_needs_room_for_its_tests(room: int, *, begun_: bool) -> None:
    board, verdicts = _judged({hypothesis("x."): Pairs(48, 2, 2)})
    assert another_round(with_budget(96 + room), board, verdicts) == begun_


def test_ids_say_what_a_thing_is() -> None:
    prompt = Prompt("fly", "a fly.")
    assert prompt.prompt_id != Prompt("fly", "a fly!").prompt_id
    (chunk, *rest) = Plan(1, "test", prompt, 48, 30).chunks(24)
    assert [(one.first_index, one.images) for one in (chunk, *rest)] == [(48, 24), (72, 6)]
    assert chunk.image_id(50) == Plan(2, "test", prompt, 50, 1).chunks(24).__next__().image_id(50)
    assert Path(chunk.chunk_id).name == chunk.chunk_id
