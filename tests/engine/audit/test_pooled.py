"""Descriptions that several labels share, from captions to a finding on all of them together."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mothlight.engine.audit.board import Board, read_board
from mothlight.engine.audit.books import count, finish, measure, save_round
from mothlight.engine.audit.mine import Candidate, Lean, leaning, pooled
from mothlight.engine.audit.proof import judge, together
from mothlight.engine.audit.waves import next_reserve, next_test, save
from mothlight.engine.config import AuditConfig
from mothlight.engine.opening import Models, open_database
from mothlight.engine.records import Hypothesis, Plan
from mothlight.engine.stages.encode import to_jpeg
from mothlight.engine.stats import Pairs, round_share
from mothlight.reports.build import render
from mothlight.sql import Store
from tests.engine.audit.boards import BOTH, board_of, hypothesis
from tests.engine.conftest import small_config

NIGHT = "it is night."
THREE = ("fly", "bee", "car")
WIDE = small_config(labels=[{"name": name} for name in THREE], max_images=10_000, reserve_pairs=40)


def leans(z: Mapping[str, float], sentence: str = NIGHT, column: int = 0) -> list[Lean]:
    return [Lean(column, label, sentence, own) for label, own in z.items()]


def on_all(config: AuditConfig = WIDE, weight: float = 0.1) -> Hypothesis:
    first, *others = (config.plain_prompt(label, NIGHT) for label in config.labels)
    return Hypothesis(first, "", 0, 3.0, "pooled", 1, weight, 0, others=tuple(others))


def words(candidates: list[Candidate]) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.description, one.labels) for one in candidates]


def test_what_many_labels_say_a_little_is_pooled() -> None:
    none = board_of({})
    weak = {"fly": 1.6, "bee": 1.4, "car": 1.5, "snail": 1.2}
    (found,) = pooled(leans(weak), none)
    assert (found.description, found.event, found.origin) == (NIGHT, "", "pooled")
    assert found.labels == ("bee", "car", "fly", "snail")
    assert found.score == pytest.approx(5.7 / 2)
    assert not pooled(leans({"fly": 4.0, "bee": 0.5, "car": 0.4}), none)  # one label's own affair
    assert not pooled(leans({"fly": 2.6, "bee": 2.6}), none)  # two labels are no many
    assert not pooled(leans({**weak, "apple": -2.0, "boat": -2.0}), none)  # others say the contrary
    assert words(pooled([*leans(weak), *leans({"boat": 1.5}, "It is NIGHT.")], none)) == [
        (NIGHT, ("bee", "boat", "car", "fly", "snail"))
    ]
    many = {f"label {k}": 1.5 + k / 100 for k in range(9)}
    assert pooled(leans(many), none)[0].labels == tuple(f"label {k}" for k in range(3, 9))


def test_what_was_pooled_before_is_not_again() -> None:
    known = board_of({on_all(): Pairs()})
    assert not pooled(leans({"fly": 1.6, "bee": 1.4, "car": 1.5, "snail": 1.2}), known)
    alone = board_of({hypothesis(NIGHT): Pairs()})
    assert pooled(leans({"fly": 1.6, "bee": 1.4, "car": 1.5, "snail": 1.2}), alone)


def test_a_label_s_lean_is_that_of_all_its_failures() -> None:
    from tests.engine.audit.test_mine import RED, material

    own = material([(NIGHT, "bee", 2), (NIGHT, "car", 2), (RED, "fly", 20), (NIGHT, "fly", 2)])
    board = board_of({})
    found = {one.sentence: one.z for one in leaning(own, board, judge(board, 0.05, 0.05)) if one.column == 0}
    assert found[NIGHT] > 2
    assert found[RED] < 0
    assert not [one for one in leaning(own, board, judge(board, 0.05, 0.05)) if one.column == 1]  # it never fails


def test_it_is_one_bug_with_a_label_s_own_and_not_with_another_s() -> None:
    both = [on_all(), hypothesis(NIGHT, "fly"), hypothesis(NIGHT, "butterfly"), hypothesis("it is red.", "fly")]
    board = board_of({one: Pairs() for one in both})
    bugs = together(board, np.ones(4, bool))
    assert bugs[0] == bugs[1]
    assert len(set(bugs)) == 3


def test_its_waves_and_its_reserve_take_every_label() -> None:
    begun = [Plan(0, "discovery", WIDE.plain_prompt(label), 0, 48) for label in WIDE.labels]
    board = board_of({on_all(): Pairs(60, 12, 1)}, begun)
    plans = next_test(WIDE, board, judge(board, 0.05, 0.05))
    assert {(plan.prompt.label, plan.prompt.description) for plan in plans} == {
        (label, text) for label in THREE for text in ("", NIGHT)
    }
    assert len({plan.images for plan in plans}) == 1
    sure = board_of({on_all(): Pairs(120, 60, 0)}, begun)
    reserve = next_reserve(WIDE, sure, judge(sure, 0.05, 0.05))
    assert {plan.prompt.label for plan in reserve if plan.prompt.description} == set(THREE)


@pytest.fixture
def store(tmp_path: Path, models: Models) -> Store:
    return open_database(tmp_path / "audit.duckdb", WIDE, models, Path())


def judged(store: Store, wave: int, wrong: float) -> None:
    """Images of a wave, all through the gate: described ones wrong in a share, plain ones never; b is always right."""
    store.ask(f"""
    insert into chunk (chunk_id, prompt_id, wave, first_index, images, run_id)
        select prompt_id || '{wave}', prompt_id, wave, first_index, images, 1 from wave where wave = {wave};
    insert into image
        select chunk_id || '/' || i, chunk_id, prompt_id, wave, first_index + i, 0.9, 1, 0, null
        from chunk, range(24) t(i) where wave = {wave};
    insert into prediction
        select image_id, classifier, prompt_id, wave, index, gate_score, predicted, predicted <> label, 0.9, 0.9, null,
            [], []
        from image join prompt using (prompt_id), (values ('a'), ('b')) t(classifier), lateral (
            select if(classifier = 'a' and description <> '' and index % 24 < {24 * wrong}, 'snail', label) as predicted
        )
        where wave = {wave};
    """)  # noqa: S608  # numbers of the test


def board(store: Store) -> Board:
    return read_board(store, BOTH)


def test_it_is_counted_whole_or_not_at_all(store: Store) -> None:
    with store:
        save(store, [Plan(0, "discovery", WIDE.plain_prompt(label), 0, 24) for label in WIDE.labels], 10_000)
        together_, alone = on_all(weight=round_share(1) / 4), hypothesis(NIGHT, event="", tests=4)
        alone = replace(alone, prompt=WIDE.plain_prompt(WIDE.labels[0], NIGHT))
        save_round(store, WIDE, board(store), (), [together_, alone], None)
        assert set(board(store).hypotheses) == {together_, alone}
        one_label = [Plan(1, "test", prompt, 24, 24) for prompt in (WIDE.plain_prompt(WIDE.labels[0]), alone.prompt)]
        save(store, one_label, 10_000)
        judged(store, 1, 0.5)
        counted = count(store, WIDE, board(store))
        by_id = {one.hypothesis_id: counted.pairs[row].tolist() for row, one in enumerate(counted.hypotheses)}
        assert by_id == {together_.hypothesis_id: [0, 0], alone.hypothesis_id: [24, 24]}
        plain = [WIDE.plain_prompt(label) for label in WIDE.labels]
        save(store, [Plan(2, "test", prompt, 48, 24) for prompt in (*plain, *together_.prompts)], 10_000)
        judged(store, 2, 0.5)
        counted = count(store, WIDE, board(store))
        row = next(row for row, one in enumerate(counted.hypotheses) if one.others)
        assert (counted.pairs[row].tolist(), counted.more[row].tolist()) == ([72, 72], [36, 0])
        again = board(store)
        assert (again.pairs[row].tolist(), again.more[row].tolist()) == ([72, 72], [36, 0])
        finish(store, WIDE, again, judge(again, WIDE.min_effect, WIDE.fdr))
        ((label, labels, pairs, effect),) = store.rows(
            "select label, labels, pairs, effect from findings where origin = 'pooled' and finding is not null"
        )
        assert (label, labels, pairs, effect) == ("fly, bee, car", ["fly", "bee", "car"], 72, 0.5)
        store.rows("update image set jpeg = $jpeg", jpeg=to_jpeg(np.full((8, 8, 3), 90, np.uint8)))
        assert "fly, bee, car" in render(store)


def test_a_reserve_of_some_of_its_labels_is_none_of_it(store: Store) -> None:
    with store:
        save(store, [Plan(0, "discovery", WIDE.plain_prompt(label), 0, 24) for label in WIDE.labels], 10_000)
        one = on_all()
        save_round(store, WIDE, board(store), (), [one], None)
        plain = [WIDE.plain_prompt(label) for label in WIDE.labels]
        save(store, [Plan(1, "test", prompt, 24, 24) for prompt in (*plain, *one.prompts)], 10_000)
        judged(store, 1, 0.5)
        counted = count(store, WIDE, board(store))
        where = "select provenance, pairs from findings where finding is not null and classifier = 'a'"
        for wave, prompts in ((2, [plain[0], one.prompt]), (3, [*plain[1:], *one.others])):
            save(store, [Plan(wave, "reserve", prompt, 24 * wave, 24) for prompt in prompts], 10_000)
            judged(store, wave, 0.25)
            measure(store, wave)
            finish(store, WIDE, board(store), judge(counted, WIDE.min_effect, WIDE.fdr))
            assert store.rows(where) == [("test waves", 72) if wave == 2 else ("reserve", 72)]
        assert store.rows("select effect from findings where finding is not null") == [(0.25,)]
