"""The clocks: which fresh indices a wave takes, whom it tests, and whether it fits the budget."""

from collections.abc import Iterable, Mapping, Sequence
from math import log, sqrt

import numpy as np

from mothlight.engine.audit.board import Board
from mothlight.engine.audit.describe import content
from mothlight.engine.audit.proof import Verdicts, pairs_to_go
from mothlight.engine.config import AuditConfig, LabelConfig
from mothlight.engine.records import Hypothesis, Plan, Prompt
from mothlight.sql import Store

PATIENCE = 200
"""Pairs that an answer may take in the first round, those so far included; twice as many in each round after."""
FULL_WAVE = 12
"""Prompts of a wave; one of fewer takes more indices, if no test is nearer to its answer."""
LIKELY = log(20.0)
"""Log evidence from which on a hypothesis is expected to be confirmed, so that its reserve is set aside."""
RESERVE_SHARE = 0.25
"""Of the budget, what is set aside for the reserve at most."""
RESERVE_CUTS = (1.0, 0.75, 0.5, 0.25)
"""Where the reserve does not fit, it is made smaller for all by these steps, and only then for fewer."""
EMPTY_ROUNDS = 2
"""So many rounds in a row that find nothing new are the end, if nothing is left to ask of what is known."""
SMALLEST_ROUND = 8
"""Waves of one prompt that a round must have room for."""
LOOKED_FOR = 1 / 3
"""Of what is left of the budget, what a round's plain images take at most."""
KEPT_EFFECT = 0.8
"""A shorter description stands for a longer one if it has so much of its effect."""


def save(store: Store, plans: Sequence[Plan], max_images: int) -> None:
    """Write a wave's plan, and the prompts that are new, before its first image is made."""
    with store.transaction():
        save_prompts(store, [plan.prompt for plan in plans])
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


def save_prompts(store: Store, prompts: Iterable[Prompt]) -> None:
    """Write those that the database lacks."""
    known = {prompt_id for (prompt_id,) in store.rows("select prompt_id from prompt")}
    new = {prompt.prompt_id: prompt for prompt in prompts if prompt.prompt_id not in known}
    store.append(
        "prompt",
        [{"prompt_id": key, "label": p.label, "text": p.text, "description": p.description} for key, p in new.items()],
    )


def planned_images(plans: Iterable[Plan]) -> int:
    """How many images they take."""
    return sum(plan.images for plan in plans)


def first_look(config: AuditConfig, wave: int = 0) -> list[Plan]:
    """The first wave of generated images: each label's plain prompt."""
    prompts = [config.plain_prompt(label) for label in config.labels]
    return [Plan(wave, "discovery", prompt, 0, config.discovery_images) for prompt in prompts]


def another_round(config: AuditConfig, board: Board, verdicts: Verdicts) -> bool:
    """Whether a round more is worth beginning: there is room for its tests, and something may be left to find."""
    return not nothing_left(board, verdicts) and _room(config, board, verdicts) >= SMALLEST_ROUND * config.wave_images


def nothing_left(board: Board, verdicts: Verdicts) -> bool:
    """Whether every question is answered, and looking again raised none."""
    return bool(verdicts.closed.all()) and board.empty_rounds >= EMPTY_ROUNDS


def _room(config: AuditConfig, board: Board, verdicts: Verdicts) -> int:
    """Images that are left to look and test with."""
    return config.max_images - board.images - set_aside(config, board, verdicts)


def next_look(config: AuditConfig, board: Board, verdicts: Verdicts, unexplained: Mapping[str, int]) -> list[Plan]:
    """More plain images, before a round: in all twice as many as before the last one, with those of tests.

    Half of them are spread evenly, half by the failures of each label that no finding explains. Empty where the plain
    images are that many already.
    """
    room = _room(config, board, verdicts)
    made = {label.name: 0 for label in config.labels}
    for plan in board.plans:
        if not plan.prompt.description:
            made[plan.prompt.label] += plan.images
    wanted = len(config.labels) * config.discovery_images * 2**board.round - sum(made.values())
    more = min(wanted, int(room * LOOKED_FOR))
    even = more / 2 / len(config.labels)
    total = sum(unexplained.values())
    plans = []
    for label in config.labels:
        share = unexplained.get(label.name, 0) / total if total else 1 / len(config.labels)
        images = int((even + more / 2 * share) // config.chunk_images) * config.chunk_images
        if images > 0:
            first = board.clock[label.name]
            plans.append(Plan(board.next_wave, "discovery", config.plain_prompt(label), first, images))
    return plans


def next_test(config: AuditConfig, board: Board, verdicts: Verdicts) -> list[Plan]:
    """The next test wave: of those nearest to an answer, as many as the budget can bring to one; empty if none."""
    if not board.hypotheses:
        return []
    to_go = pairs_to_go(board, verdicts, config.fdr, config.min_effect, sqrt(board.round))
    scores = np.array([one.score for one in board.hypotheses])
    found = np.array([one.origin != "own" for one in board.hypotheses])  # a person's ideas come first
    order = np.lexsort((np.arange(len(scores)), -scores, to_go, found))
    spent = board.pairs.max(axis=1)
    room = _room(config, board, verdicts)
    chosen: list[Hypothesis] = []
    longest: dict[str, float] = {}
    expected = 0.0
    for row in order[spent[order] + to_go[order] <= PATIENCE * 2 ** (board.round - 1)]:
        labels = board.hypotheses[row].labels
        own = float(to_go[row]) / len(labels)
        plain = sum(max(own - longest.get(label, 0.0), 0.0) for label in labels)
        if chosen and expected + own * len(labels) + plain > room:
            break
        expected += own * len(labels) + plain
        longest |= {label: max(own, longest.get(label, 0.0)) for label in labels}
        chosen.append(board.hypotheses[row])
    nearest = float(to_go.min(initial=np.inf))
    while chosen:
        prompts = [prompt for one in chosen for prompt in one.prompts]
        plans = paired(config, board, "test", prompts, config.wave_images)
        if planned_images(plans) <= room:
            return _full(config, board, prompts, plans, room, nearest)
        chosen = chosen[: -max(1, len(chosen) // 8)]
    return []


def _full(
    config: AuditConfig, board: Board, prompts: Sequence[Prompt], plans: list[Plan], room: int, nearest: float
) -> list[Plan]:
    """The wave with twice and twice again as many indices, as long as it is small and every answer far."""
    images = config.wave_images
    while len(plans) * 2 * images <= min(room, FULL_WAVE * config.wave_images) and 4 * images <= nearest:
        images *= 2
    return paired(config, board, "test", prompts, images)


def leads(board: Board, verdicts: Verdicts) -> list[int]:
    """The hypotheses that stand for their confirmed bugs, each of most labels, then the shortest."""
    rows = [int(row) for row in np.flatnonzero(verdicts.found)]
    effects = (board.more - board.less) / np.maximum(board.pairs, 1)
    best = {row: float(np.where(verdicts.confirmed[row], effects[row], -1).max()) for row in rows}
    largest: dict[str, float] = {}
    for row in rows:
        largest[verdicts.bugs[row]] = max(best[row], largest.get(verdicts.bugs[row], -1.0))

    def rank(row: int) -> tuple[bool, int, int, float, int]:
        one = board.hypotheses[row]
        words = len(content(one.prompt.description))
        return (best[row] < KEPT_EFFECT * largest[verdicts.bugs[row]], -len(one.labels), words, -best[row], row)

    first: dict[str, int] = {}
    for row in sorted(rows, key=rank):
        first.setdefault(verdicts.bugs[row], row)
    return sorted(first.values(), key=lambda row: (-verdicts.log_e[row].max(), row))


def set_aside(config: AuditConfig, board: Board, verdicts: Verdicts) -> int:
    """Images that the reserve of what is confirmed, or likely to be, will take."""
    likely = np.flatnonzero((verdicts.log_e.max(axis=1, initial=0) > LIKELY) & ~verdicts.found)
    rows = [*leads(board, verdicts), *(int(row) for row in likely)]
    plans = _reserve(config, board, _prompts(board, rows), config.reserve_pairs)
    return min(planned_images(plans), int(config.max_images * RESERVE_SHARE))


def next_reserve(config: AuditConfig, board: Board, verdicts: Verdicts) -> list[Plan]:
    """Fresh pairs for the prompts of what is confirmed, once for each prompt, as far as the budget goes.

    What stands for a bug comes first. If there is no room for all of those, all get fewer pairs, then fewer get any;
    if there is room left, the bugs' other wordings get theirs.
    """
    first = leads(board, verdicts)
    others = [row for row in map(int, np.flatnonzero(verdicts.found)) if row not in set(first)]
    others.sort(key=lambda row: (-verdicts.log_e[row].max(), row))
    room = config.max_images - board.images
    rows = list(first)
    plans: list[Plan] = []
    for cut in RESERVE_CUTS:
        plans = _reserve(config, board, _prompts(board, rows), int(config.reserve_pairs * cut))
        if planned_images(plans) <= room:
            break
    while rows and planned_images(plans) > room:
        rows.pop()
        plans = _reserve(config, board, _prompts(board, rows), int(config.reserve_pairs * RESERVE_CUTS[-1]))
    for row in others if rows == first else ():
        more = _reserve(config, board, _prompts(board, [*rows, row]), config.reserve_pairs)
        if planned_images(more) <= room:
            rows.append(row)
            plans = more
    return plans


def _prompts(board: Board, rows: Iterable[int]) -> list[Prompt]:
    return list(dict.fromkeys(prompt for row in rows for prompt in board.hypotheses[row].prompts))


def _reserve(config: AuditConfig, board: Board, prompts: Sequence[Prompt], pairs: int) -> list[Plan]:
    """So many pairs for each prompt, less those that it has; a label's prompts share their plain images."""
    plans: list[Plan] = []
    for label in config.labels:
        wanting = [p for p in prompts if p.label == label.name and pairs - board.measured.get(p, 0) > 0]
        if wanting:
            images = max(pairs - board.measured.get(p, 0) for p in wanting)
            plans += _of_label(config, board, "reserve", label, wanting, images)
    return plans


def paired(config: AuditConfig, board: Board, phase: str, prompts: Iterable[Prompt], images: int) -> list[Plan]:
    """Each label's plain prompt and the described ones on the same next indices."""
    by_label: dict[str, dict[Prompt, None]] = {}
    for prompt in prompts:
        by_label.setdefault(prompt.label, {})[prompt] = None
    return [
        plan
        for label in config.labels
        if label.name in by_label
        for plan in _of_label(config, board, phase, label, list(by_label[label.name]), images)
    ]


def _of_label(
    config: AuditConfig, board: Board, phase: str, label: LabelConfig, prompts: Sequence[Prompt], images: int
) -> list[Plan]:
    first = board.clock[label.name]
    return [Plan(board.next_wave, phase, prompt, first, images) for prompt in (config.plain_prompt(label), *prompts)]
