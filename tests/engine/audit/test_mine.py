from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mothlight.engine.audit.mine import Candidate, Material, as_shown, contrast, failures_left, mine
from mothlight.engine.audit.proof import judge
from mothlight.engine.records import Cluster
from mothlight.engine.stats import Pairs
from tests.engine.audit.boards import CONFIG, board_of, hypothesis

DAY, RED, NIGHT, NET = "it is day.", "it is red.", "it is night.", "it is in a net."


def material(rows: Sequence[tuple[str, str, int]], *, asked: str = "", weight: float = 1.0) -> Material:
    """Images that say something and are seen as something by classifier a (b is always right), so many of each."""
    each = [(said, seen) for said, seen, count in rows for _ in range(count)]
    predicted = np.array([[seen, "fly"] for _, seen in each], object).reshape(-1, 2)
    failed = predicted != "fly"
    return Material(
        "fly",
        [f"{asked}{row}" for row in range(len(each))],
        [frozenset(one for one in (*said.split("|"), asked) if one) for said, _ in each],
        [asked] * len(each),
        predicted,
        failed,
        np.where(failed.any(axis=1), 1.0, weight),
    )


def both(one: Material, two: Material) -> Material:
    return Material(
        "fly",
        [*one.ids, *two.ids],
        [*one.said, *two.said],
        [*one.asked, *two.asked],
        np.concatenate([one.predicted, two.predicted]),
        np.concatenate([one.failed, two.failed]),
        np.concatenate([one.weights, two.weights]),
    )


def found(own: Material, board: object = None, clusters: Sequence[Cluster] = ()) -> list[Candidate]:
    known = board or board_of({})
    return mine(own, known, judge(known, CONFIG.min_effect, CONFIG.fdr), clusters, 1)  # type: ignore[arg-type]  # a board


def test_contrast_is_the_test_of_mantel_and_haenszel() -> None:
    """Two strata by hand: cases with the word against what was expected, over its hypergeometric spread."""
    said = np.array([1, 1, 0, 1, 0, 0, 1, 0, 1, 0], bool)[:, None]
    group = np.array([1, 1, 0, 0, 0, 0, 1, 0, 0, 0], bool)
    strata = np.array([0] * 6 + [1] * 4)
    expected = 2 * 3 / 6 + 1 * 2 / 4
    spread = 2 * 4 * 3 * 3 / (36 * 5) + 1 * 3 * 2 * 2 / (16 * 3)
    z = contrast(said, strata, group, (~group).astype(float))
    assert z == pytest.approx([(3 - expected - 0.5) / np.sqrt(spread)])


def test_a_word_that_a_whole_prompt_says_sets_nothing_apart() -> None:
    said = np.ones((8, 1), bool)
    group = np.array([1, 1, 0, 0, 0, 0, 0, 0], bool)
    assert contrast(said, np.zeros(8, np.int64), group, (~group).astype(float)) == [0]


def test_controls_that_stand_for_many_count_as_what_they_are() -> None:
    said = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)[:, None]
    group = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    light, heavy = np.where(group, 0, 1.0), np.where(group, 0, 7.0)
    strata = np.zeros(8, np.int64)
    assert contrast(said, strata, group, heavy) == pytest.approx(contrast(said, strata, group, light))


def test_the_sentence_of_the_failures_is_found() -> None:
    best, *_ = found(
        material([(f"{NET}|{DAY}", "bee", 5), (DAY, "bee", 1), (DAY, "fly", 40), (f"{NET}|{DAY}", "fly", 3)])
    )
    assert (best.description, best.event, best.origin) == (NET, "bee", "failures")


def test_failures_that_scatter_over_predictions_are_one_group() -> None:
    rows = [(NET, name, 1) for name in ("bee", "boat", "car", "snail", "spider")]
    best, *_ = found(material([*rows, (DAY, "fly", 40), (NET, "fly", 3)]))
    assert (best.description, best.event) == (NET, "")


def test_a_single_failure_is_described_by_what_passes_seldom_say() -> None:
    (best, *_) = found(material([(f"{NET}|{DAY}", "bee", 1), (DAY, "fly", 60), (NET, "fly", 1)]))
    assert best.description == NET


def test_two_together_where_one_alone_leaves_much_unexplained() -> None:
    own = material([(f"{RED}|{NIGHT}", "bee", 6), (RED, "fly", 30), (NIGHT, "fly", 30), ("", "fly", 60)])
    assert f"{NIGHT} {RED}" in {one.description for one in found(own)}
    alone = material([(f"{NET}|{DAY}", "bee", 9), (f"{NET}|{DAY}", "fly", 2), (DAY, "fly", 20), ("", "fly", 20)])
    assert all(one.description.count(".") == 1 for one in found(alone))


def test_images_of_a_description_under_test_make_it_longer() -> None:
    red = hypothesis(RED)
    described = material([(NIGHT, "bee", 6), (NIGHT, "fly", 2), (DAY, "fly", 20)], asked=RED)
    every = found(both(described, material([(DAY, "fly", 20)])), board_of({red: Pairs(24, 4)}))
    assert (f"{NIGHT} {RED}", "longer", red.hypothesis_id) in {
        (one.description, one.origin, one.parent_id) for one in every
    }


def test_images_of_all_prompts_say_something_of_a_sentence() -> None:
    plain = material([(NIGHT, "bee", 2), (NIGHT, "fly", 6), (DAY, "fly", 20), (DAY, "bee", 1)])
    described = material([(NIGHT, "bee", 5), (NIGHT, "fly", 10), (DAY, "fly", 30), (DAY, "bee", 1)], asked=RED)
    assert NIGHT not in {one.description for one in found(plain)}
    assert NIGHT in {one.description for one in found(both(plain, described))}


def test_what_is_known_is_not_proposed_again_whatever_its_plain_words() -> None:
    own = material([(NET, "bee", 5), (DAY, "fly", 40)])
    assert [one.description for one in found(own)] == [NET]
    tested = board_of({hypothesis("in a net"): Pairs(24, 1, 1)})
    assert [(one.description, one.event) for one in found(own, tested)] == [(NET, "")]


def test_what_a_finding_explains_is_left_out_for_its_classifier() -> None:
    own = material([(f"{NET}|{NIGHT}", "bee", 9), (NET, "fly", 1), (NIGHT, "fly", 6), (DAY, "fly", 40)])
    confirmed = board_of({hypothesis(NET): Pairs(80, 60)})
    assert found(own, confirmed) == []
    verdicts = judge(confirmed, CONFIG.min_effect, CONFIG.fdr)
    assert failures_left(own, confirmed, verdicts) == 0
    assert failures_left(own, board_of({}), judge(board_of({}), 0.05, 0.05)) == 9


def test_a_confirmed_description_is_tried_with_less() -> None:
    own = hypothesis(f"{NET} {DAY}")
    shorter = found(material([(DAY, "fly", 9)]), board_of({own: Pairs(80, 60)}))
    assert {(one.description, one.origin, one.parent_id) for one in shorter} == {
        (NET, "shorter", own.hypothesis_id),
        (DAY, "shorter", own.hypothesis_id),
    }


def test_two_confirmed_ones_are_tried_together_if_they_occur_together() -> None:
    known = board_of({hypothesis(NET): Pairs(80, 60), hypothesis(NIGHT): Pairs(80, 50)})
    assert [one.origin for one in found(material([(f"{NET}|{NIGHT}", "fly", 2)]), known)] == ["joined"]
    assert found(material([(NET, "fly", 2), (NIGHT, "fly", 2)]), known) == []


def test_equal_scores_are_not_decided_by_the_alphabet() -> None:
    firsts = set()
    for label in ("aaa", "bbb"):
        words = [f"{label} {k}." for k in range(6)]
        rows = [(word, "bee", 3) for word in words]
        best = found(material([*rows, (DAY, "fly", 40)]))
        firsts.add(words.index(best[0].description))
    assert firsts != {0}


def test_nothing_said_nothing_proposed() -> None:
    assert found(material([])) == []
    assert found(material([("", "bee", 3), (DAY, "fly", 3)])) == []
    assert found(material([(DAY, "bee", 3)])) == []  # nothing to compare with


def test_parts_by_embedding_are_groups_too() -> None:
    own = material([(NET, "bee", 3), (RED, "bee", 9), (DAY, "fly", 40), (RED, "fly", 9)])
    part = Cluster(1, "a", "fly", "bee", 1, ("0", "1", "2"))
    assert part.cluster_id in {one.cluster_id for one in found(own, clusters=[part])}
    assert replace(part, round=2).cluster_id != part.cluster_id


def test_a_rare_conjunction_is_found_by_two_failures_with_the_same_prediction() -> None:
    noise = [(f"{RED}|{DAY}", "boat", 2), (NIGHT, "car", 2), (DAY, "snail", 3)]
    passes = [(f"{RED}|{DAY}", "fly", 14), (NIGHT, "fly", 14), (f"{RED}|{NIGHT}", "fly", 1), (DAY, "fly", 60)]
    own = material([(f"{RED}|{NIGHT}", "bee", 2), (DAY, "bee", 1), *noise, *passes])
    best = found(own)[0]
    assert (best.description, best.event) == (f"{NIGHT} {RED}", "bee")


def test_what_captions_leave_out_the_embedder_sees() -> None:
    own = material([(NET, "bee", 6), (DAY, "bee", 4), (DAY, "fly", 20), (NET, "fly", 2)])
    seen = np.array([0.9] * 10 + [0.1] * 20 + [0.8] * 2) + np.linspace(0, 0.01, 32)
    assert sum(NET in said for said in own.said) == 8
    shown = as_shown(replace(own, likeness={NET: seen, DAY: np.zeros(32)}))
    assert [NET in said for said in shown.said] == [True] * 10 + [False] * 20 + [True] * 2
    assert [DAY in said for said in shown.said] == [DAY in said for said in own.said]  # it does not tell these apart


def test_what_a_prompt_asks_for_is_shown_whatever_the_likeness() -> None:
    own = material([(NET, "bee", 6), (DAY, "fly", 6)], asked=NET)
    assert all(NET in said for said in as_shown(replace(own, likeness={NET: np.zeros(12)})).said)
