"""What the shipped rules of testing confirm, by effect and budget, and how often they are wrong: simulated audits.

No image is made: the outcomes of pairs are drawn; waves, rounds, verdicts and reserve are the audit's own code.
`power.py` prints a table: 12 labels × 6 descriptions × 3 classifiers, one description of each label with an effect
for one classifier, plain rate 10 %, gate 85 %. `--nulls 2000` has no effects at all; `--large` times the bookkeeping of
one wave with 1,000 labels, 6,000 descriptions and 20 classifiers, in memory and in a database. Last line: JSON.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.audit.board import Board, read_board
from mothlight.engine.audit.books import count, save_round
from mothlight.engine.audit.proof import judge
from mothlight.engine.audit.waves import another_round, first_look, next_look, next_reserve, next_test, paired, save
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Hypothesis, Plan
from mothlight.engine.stats import effect_bounds, log_e_values, round_share
from mothlight.sql import Store, open_audit

EFFECTS = (0.1, 0.2, 0.3, 0.5)
BUDGETS = (7_000, 20_000, 50_000, 100_000)


@dataclass(frozen=True)
class Simulated:
    """An audit's end."""

    board: Board
    confirmed: NDArray[np.bool_]
    """(H, C)."""
    bugs: Sequence[str]

    @property
    def used(self) -> int:
        """Images."""
        return self.board.images


def settings(labels: int, budget: int, reserve: int = 100) -> AuditConfig:
    """An audit of so many labels; its models are never loaded."""
    return AuditConfig.model_validate(
        {
            "labels": [f"label {k}" for k in range(labels)],
            "prompt": "a photograph of {a} {label}.",
            "generator": "g",
            "classifiers": ["c"],
            "gate": "gate",
            "embedder": "e",
            "captioner": "p",
            "max_images": budget,
            "reserve_pairs": reserve,
        }
    )


def first_board(config: AuditConfig, descriptions: int, classifiers: int) -> Board:
    """So many descriptions of each label, all of the first round."""
    weight = round_share(1) / (len(config.labels) * descriptions * classifiers)
    hypotheses = [
        Hypothesis(config.plain_prompt(label, f"thing{k}."), "", k, 2.0, "failures", 1, weight, 0)
        for label in config.labels
        for k in range(descriptions)
    ]
    none = np.zeros((len(hypotheses), classifiers), np.int64)
    names = [f"c{k}" for k in range(classifiers)]
    return Board(hypotheses, names, none, none, none, plans=first_look(config), round=1, mined_upto=0)


def grown(board: Board, plans: Sequence[Plan]) -> Board:
    """With a wave more."""
    return replace(board, plans=[*board.plans, *plans], round=board.round)


def simulate(
    config: AuditConfig,
    board: Board,
    effects: NDArray[np.float64],
    rng: np.random.Generator,
    plain: float = 0.1,
    gate: float = 0.85,
) -> Simulated:
    """Go on with an audit to its end; `effects` (H, C) are those of the descriptions."""
    while True:
        verdicts = judge(board, config.min_effect, config.fdr)
        if plans := next_test(config, board, verdicts):
            board = tested(grown(board, plans), plans, effects, rng, plain, gate)
        elif another_round(config, board, verdicts):
            look = next_look(config, board, verdicts, {})
            board = replace(grown(board, look), round=board.round + 1, empty_rounds=board.empty_rounds + 1)
        elif plans := next_reserve(config, board, verdicts):
            board = grown(board, plans)
        else:
            return Simulated(board, verdicts.confirmed, verdicts.bugs)


def tested(
    board: Board,
    plans: Sequence[Plan],
    effects: NDArray[np.float64],
    rng: np.random.Generator,
    plain: float,
    gate: float,
) -> Board:
    """The board with the wave's pairs, which are drawn."""
    images = {plan.prompt: plan.images for plan in plans}
    rows = [row for row, one in enumerate(board.hypotheses) if one.prompt in images]
    sizes = np.array([images[board.hypotheses[row].prompt] for row in rows])
    both = rng.binomial(sizes, gate * gate)
    described = np.clip(plain + effects[rows], 0, 1)
    up, down = described * (1 - plain), plain * (1 - described)
    more = rng.binomial(both[:, None], up)
    less = rng.binomial(both[:, None] - more, np.where(up < 1, down / np.maximum(1 - up, 1e-9), 0))
    counts = [one.copy() for one in (board.pairs, board.more, board.less)]
    for counted, new in zip(counts, (np.broadcast_to(both[:, None], more.shape), more, less), strict=True):
        counted[rows] += new
    return replace(board, pairs=counts[0], more=counts[1], less=counts[2])


def audit(seed: int, effect: float, budgets: Sequence[int], *, plain: float = 0.1) -> list[tuple[int, int, int, int]]:
    """Confirmed true and false tests, false bugs, and images used, at each budget, each going on from the last."""
    rng = np.random.default_rng(seed)
    board, rows = first_board(settings(12, budgets[0]), 6, 3), []
    effects = np.zeros((72, 3))
    if effect:
        effects[np.arange(12) * 6 + rng.integers(0, 6, 12), rng.integers(0, 3, 12)] = effect
    for budget in budgets:
        end = simulate(settings(12, budget), board, effects, rng, plain)
        board = end.board
        wrong = end.confirmed & (effects <= 0.05)
        true_bugs = {end.bugs[row] for row in np.flatnonzero((end.confirmed & (effects > 0.05)).any(axis=1)).tolist()}
        false_bugs = {end.bugs[row] for row in np.flatnonzero(wrong.any(axis=1)).tolist()} - true_bugs
        rows.append((int((end.confirmed & ~wrong).sum()), int(wrong.sum()), len(false_bugs), end.used))
    return rows


def table(seeds: int, pool: ProcessPoolExecutor) -> dict[str, dict[str, list[float]]]:
    """Share confirmed and share of the budget used, by effect and budget, at once and going on."""
    result: dict[str, dict[str, list[float]]] = {}
    ways = {**{f"{budget}": [budget] for budget in BUDGETS}, "7000 to 20000": [7_000, 20_000]}
    for effect in EFFECTS:
        row = result.setdefault(f"{effect}", {})
        for name, budgets in ways.items():
            ends = [rows[-1] for rows in pool.map(partial(audit, effect=effect, budgets=budgets), range(seeds))]
            found = float(np.mean([end[0] / 12 for end in ends]))
            used = float(np.mean([end[3] / budgets[-1] for end in ends]))
            false = float(np.mean([end[1] / max(end[0] + end[1], 1) for end in ends]))
            row[name] = [round(found, 3), round(used, 3), round(false, 4)]
        print(f"effect {effect}:", row, flush=True)
    return result


def nulls(audits: int, pool: ProcessPoolExecutor) -> dict[str, list[float]]:
    """Share of audits of nothing that confirm something; of tests, and of bugs."""
    shares = {}
    for plain in (0.1, 0.3):
        ends = [rows[-1] for rows in pool.map(partial(audit, effect=0, budgets=[20_000], plain=plain), range(audits))]
        shares[f"{plain}"] = [float(np.mean([end[at] > 0 for end in ends])) for at in (1, 2)]
    return shares


def paths(number: int, rng: np.random.Generator, pairs: int = 960) -> dict[str, float]:
    """Share of e-processes at the null's edge that ever reach 20, and of confidence sequences that ever miss."""
    alarms = missed = 0
    looks = np.arange(24, pairs + 1, 24)
    for _ in range(number // 1000):
        draws = rng.choice(np.array([1, 0, -1], np.int8), p=(0.14, 0.77, 0.09), size=(1000, pairs))  # mean 0.05
        more, less = (np.cumsum(draws == sign, axis=1)[:, looks - 1] for sign in (1, -1))
        alarms += int((log_e_values(looks[None, :], more, less, 0.05).max(axis=1) >= np.log(20)).sum())
        low, high = effect_bounds(looks[None, :], more, less)
        missed += int(((low > 0.05) | (high < 0.05)).any(axis=1).sum())
    return {"paths": number, "ever_20": alarms / number, "sequence_missed": missed / number}


def intervals(number: int, rng: np.random.Generator) -> dict[str, dict[str, list[float]]]:
    """Least and mean coverage of the database's 95 % intervals over plain rates and effects, by the number of pairs."""
    result: dict[str, dict[str, list[float]]] = {}
    with open_audit() as store:
        for n in (50, 100, 400):
            rates, effects = [], []
            for plain in (0.02, 0.1, 0.3):
                for effect in (0.05, 0.2, 0.4):
                    up, down = (plain + effect) * (1 - plain), plain * (1 - plain - effect)
                    more, less, _ = rng.multinomial(n, (up, down, 1 - up - down), number).T
                    hits = rng.binomial(n, plain + effect, number)
                    given = {"more": more.tolist(), "less": less.tolist(), "hits": hits.tolist(), "n": n}
                    ((rate, paired),) = store.rows(COVERED, rate=plain + effect, effect=effect, **given)
                    rates.append(rate)
                    effects.append(paired)
            result[str(n)] = {
                "rate": [round(min(rates), 3), round(float(np.mean(rates)), 3)],
                "effect": [round(min(effects), 3), round(float(np.mean(effects)), 3)],
            }
    return result


COVERED = """
    with drawn as (select unnest($more) as more, unnest($less) as less, unnest($hits) as hits)
    select
        avg((wilson_low(hits, $n) <= $rate and $rate <= wilson_high(hits, $n))::integer),
        avg((bonett_price_low(more, less, $n) <= $effect and $effect <= bonett_price_high(more, less, $n))::integer)
    from drawn
"""


def large(labels: int = 1000, descriptions: int = 6, classifiers: int = 20) -> float:
    """Seconds to judge a board of that size and plan its next wave."""
    config = settings(labels, 100_000_000)
    board = first_board(config, descriptions, classifiers)
    rng = np.random.default_rng(0)
    board = tested(board, [Plan(1, "test", one.prompt, 0, 24) for one in board.hypotheses],
                   np.zeros(board.pairs.shape), rng, 0.1, 0.85)  # fmt: skip
    start = perf_counter()
    next_test(config, board, judge(board, config.min_effect, config.fdr))
    return perf_counter() - start


def large_database(folder: Path, labels: int = 1000, descriptions: int = 6, classifiers: int = 20) -> dict[str, float]:
    """Seconds that a wave of that size takes in a database on the disk: to save, to count and to read back."""
    config = settings(labels, 100_000_000)
    board = first_board(config, descriptions, classifiers)
    seconds: dict[str, float] = {}

    def timed(what: str, start: float) -> None:
        seconds[what] = round(perf_counter() - start, 2)

    with open_audit(folder / "audit.duckdb", read_only=False) as store:
        _fill(store, config, board)
        plans = paired(config, board, "test", [one.prompt for one in board.hypotheses], 24)
        start = perf_counter()
        save(store, plans, config.max_images)
        timed("save the wave", start)
        store.ask(DRAWN.format(classifiers=classifiers))
        start = perf_counter()
        board = count(store, config, replace(board, plans=[*board.plans, *plans]))
        timed("count it", start)
        start = perf_counter()
        board = replace(read_board(store, board.classifiers), round=1)
        timed("read the board", start)
        start = perf_counter()
        next_test(config, board, judge(board, config.min_effect, config.fdr))
        timed("judge it and plan the next", start)
    return seconds


def _fill(store: Store, config: AuditConfig, board: Board) -> None:
    """An audit up to its first wave of tests, and nothing that its bookkeeping does not read."""
    first = {"audit_id": "a", "name": "a", "seed": 0, "generator": "g", "settings": config.canonical(), "folder": ""}
    store.append("audit", [{**first, "gate_lower": 0.1, "gate_upper": 0.15}])
    store.append(
        "label",
        [
            {"label": label.name, "place": place, "plain_prompt_id": config.plain_prompt(label).prompt_id}
            for place, label in enumerate(config.labels)
        ],
    )
    store.rows("insert into accepted_label select label, label from label")
    save(store, board.plans, config.max_images)
    save_round(store, config, replace(board, round=0), (), board.hypotheses, None)


DRAWN = """
begin;
insert into chunk (chunk_id, prompt_id, wave, first_index, images, run_id)
    select prompt_id, prompt_id, wave, first_index, images, 1 from wave where wave = 1;
insert into image
    select prompt_id || '/' || i, prompt_id, prompt_id, wave, first_index + i, random(), 1, 0, null
    from chunk, range(24) t(i);
insert into prediction
    select image_id, 'c' || k, prompt_id, wave, index, gate_score, if(error, 'another', label), error, 0.9, 0.9, null,
        [], []
    from image join prompt using (prompt_id), range({classifiers}) t(k),
        lateral (select random() < 0.1 + 0 * k as error);
commit;
"""


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--nulls", type=int, default=0)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--paths", type=int, default=0, help="e-processes and confidence sequences at the null's edge")
    parser.add_argument("--intervals", type=int, default=0, help="samples on which the intervals are tried")
    arguments = parser.parse_args()
    result: dict[str, object] = {}
    with ProcessPoolExecutor() as pool:
        if arguments.large:
            with TemporaryDirectory() as folder:
                result["large_seconds"] = {"in memory": round(large(), 2), **large_database(Path(folder))}
        elif arguments.paths:
            result["paths"] = paths(arguments.paths, np.random.default_rng(1))
        elif arguments.intervals:
            result["intervals"] = intervals(arguments.intervals, np.random.default_rng(1))
        elif arguments.nulls:
            result["nulls"] = nulls(arguments.nulls, pool)
        else:
            result["power"] = table(arguments.seeds, pool)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
