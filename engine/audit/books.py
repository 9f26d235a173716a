"""What the audit writes down: rounds, evidence, and what stands decided."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mothlight.engine.audit.board import Board
from mothlight.engine.audit.proof import Verdicts, judge
from mothlight.engine.audit.waves import nothing_left, save_prompts
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Cluster, Hypothesis
from mothlight.engine.stats import LARGEST_LOG, Floats
from mothlight.sql import Store

SPENT = "the budget is spent"
DEADLINE = "the deadline came"
NOTHING_LEFT = "nothing is left to ask"
SETTLED = "settled"
TOO_SMALL = "its effect is too small to count"
STOPPED = "the audit ended before there was an answer"
UNTESTED = "the audit ended before its first test"


def confirmed(store: Store) -> int:
    """How many tests stand confirmed."""
    ((count,),) = store.rows("select count(*) from decision where status = 'confirmed'")
    return int(count)


def begun_under(store: Store, board: Board) -> int | None:
    """The budget under which a reserve was chosen that has not come to its end; None if there is none."""
    if board.last[0].phase != "reserve":
        return None
    ((budget,),) = store.rows("select max_images from wave where wave = $wave limit 1", wave=board.last[0].wave)
    ((finished,),) = store.rows("select coalesce(finished_budget, 0) from audit")
    return int(budget) if budget > finished else None


def is_counted(store: Store, wave: int) -> bool:
    """Whether the pairs of a test wave are counted."""
    return bool(store.rows("select 1 from evidence where wave = $wave limit 1", wave=wave))


def count(store: Store, config: AuditConfig, board: Board) -> Board:
    """Count the pairs of the last wave, which is whole, and decide; the board with them."""
    wave = board.last[0].wave
    prompts = {plan.prompt for plan in board.last}
    rows = {
        one.hypothesis_id: row
        for row, one in enumerate(board.hypotheses)
        if prompts.issuperset(one.prompts) and one.born_wave < wave
    }
    columns = {name: column for column, name in enumerate(board.classifiers)}
    new = np.zeros((3, *board.pairs.shape), np.int64)
    # a wave of only some of a description's labels says nothing of all of them
    counts = [one for one in store.step_records("new_pairs", wave=wave) if one["hypothesis_id"] in rows]
    for one in counts:
        numbers = one["pairs"], one["more"], one["less"]
        new[:, rows[one["hypothesis_id"]], columns[one["classifier"]]] = numbers
    board = replace(board, pairs=board.pairs + new[0], more=board.more + new[1], less=board.less + new[2])
    verdicts = judge(board, config.min_effect, config.fdr)
    tested = np.repeat(np.array(sorted(rows.values()), np.int64), len(board.classifiers))
    classifier = np.tile(np.arange(len(board.classifiers)), len(rows))
    ids = [one.hypothesis_id for one in board.hypotheses]
    with store.transaction():
        store.append(
            "evidence",
            pa.table(
                {
                    "hypothesis_id": [ids[row] for row in tested],
                    "classifier": [board.classifiers[column] for column in classifier],
                    "wave": pa.array(np.full(len(tested), wave, np.int32)),
                    **{
                        name: pa.array(numbers[tested, classifier].astype(np.int32))
                        for name, numbers in zip(("pairs", "more", "less"), new, strict=True)
                    },
                    "e_value": _e_values(verdicts)[tested, classifier],
                    "low": verdicts.low[tested, classifier],
                    "high": verdicts.high[tested, classifier],
                }
            ),
        )
        _save_counts(store, wave, counts)
        _decide(store, board, verdicts)
    return board


def count_photographs(
    store: Store, config: AuditConfig, board: Board, counts: Sequence[Mapping[str, Any]], pairs: pa.Table
) -> None:
    """Write what photographs said of descriptions, rows of `pair_count` and `photograph_pair`, and decide."""
    rows = {one.hypothesis_id: row for row, one in enumerate(board.hypotheses)}
    columns = {name: column for column, name in enumerate(board.classifiers)}
    now = [array.copy() for array in (board.pairs, board.more, board.less)]
    places = [(rows[str(one["hypothesis_id"])], columns[str(one["classifier"])]) for one in counts]
    for place, one in zip(places, counts, strict=True):
        for array, name in zip(now, ("pairs", "more", "less"), strict=True):
            array[place] = one[name]
    board = replace(board, pairs=now[0], more=now[1], less=now[2])
    verdicts = judge(board, config.min_effect, config.fdr)
    e_values = _e_values(verdicts)
    evidence = [
        {
            **{name: one[name] for name in ("hypothesis_id", "classifier", "wave", "pairs", "more", "less")},
            "e_value": float(e_values[place]),
            "low": float(verdicts.low[place]),
            "high": float(verdicts.high[place]),
        }
        for place, one in zip(places, counts, strict=True)
    ]
    with store.transaction():
        store.append("photograph_pair", pairs)
        store.append("evidence", evidence)
        store.append("pair_count", counts)
        _decide(store, board, verdicts, ended=True)


def measure(store: Store, wave: int) -> None:
    """Count the pairs of a wave of the reserve, or of the part of it that there was time for."""
    with store.transaction():
        _save_counts(store, wave, store.step_records("new_pairs", wave=wave))


def _save_counts(store: Store, wave: int, counts: Sequence[Mapping[str, object]]) -> None:
    for table in ("pair_count", "drawn_count"):
        store.rows(f"delete from {table} where wave = $wave", wave=wave)  # noqa: S608  # our names
    store.append("pair_count", [{**one, "wave": wave} for one in counts])
    store.step("new_drawn", wave=wave)


def _e_values(verdicts: Verdicts) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.exp(np.minimum(verdicts.log_e, LARGEST_LOG))


def _decide(store: Store, board: Board, verdicts: Verdicts, *, ended: bool = False) -> None:
    """Replace what stands decided by what the pairs say now."""
    hypotheses, classifiers = board.pairs.shape
    going_on = "not confirmed" if ended else "testing"
    status = np.where(verdicts.confirmed, "confirmed", np.where(verdicts.refuted, "not confirmed", going_on))
    ids = [one.hypothesis_id for one in board.hypotheses]
    mine = "delete from {} where hypothesis_id in (select unnest($ids::varchar[]))"
    store.rows(mine.format("decision"), ids=ids)
    store.append(
        "decision",
        pa.table(
            {
                "hypothesis_id": [one for one in ids for _ in range(classifiers)],
                "classifier": list(board.classifiers) * hypotheses,
                "status": [str(one) for one in status.ravel()],
                "e_value": _e_values(verdicts).ravel(),
                "q_value": verdicts.q.ravel(),
            }
        ),
    )
    reasons = [
        _reason(closed=bool(closed), found=bool(found), tested=bool(tested), ended=ended)
        for closed, found, tested in zip(
            verdicts.closed, verdicts.found, np.asarray(board.pairs.any(axis=1)), strict=True
        )
    ]
    store.rows(mine.format("standing"), ids=ids)
    store.append(
        "standing",
        pa.table(
            {
                "hypothesis_id": ids,
                "bug": list(verdicts.bugs),
                "live": [not closed for closed in verdicts.closed.tolist()],
                "reason": reasons,
            }
        ),
    )


def _reason(*, closed: bool, found: bool, tested: bool, ended: bool) -> str:
    if closed:
        return SETTLED if found else TOO_SMALL
    if not ended:
        return ""
    return STOPPED if tested else UNTESTED


def save_round(
    store: Store,
    config: AuditConfig,
    board: Board,
    clusters: Iterable[Cluster],
    hypotheses: Sequence[Hypothesis],
    vectors: Floats | None,
    kind: Literal["mined", "own", "photographs"] = "mined",
) -> None:
    """Write a round, what it grouped and what it puts to the test, in one transaction.

    `vectors` (H, D): where the descriptions lie among the images, if the embedder reads text.
    """
    with store.transaction():
        store.append(
            "round",
            [
                {
                    "round": board.next_round,
                    "kind": kind,
                    "wave": board.last[0].wave,
                    "tests": len(hypotheses) * len(board.classifiers),
                    "weight": hypotheses[0].weight if hypotheses else None,
                    "max_images": config.max_images,
                }
            ],
        )
        groups = list(clusters)
        store.append(
            "cluster",
            [
                {
                    "cluster_id": c.cluster_id,
                    "round": c.round,
                    "classifier": c.classifier,
                    "label": c.label,
                    "predicted": c.predicted,
                    "place": c.place,
                }
                for c in groups
            ],
        )
        store.append(
            "cluster_member",
            [{"cluster_id": c.cluster_id, "image_id": image_id} for c in groups for image_id in c.members],
        )
        save_prompts(store, [prompt for one in hypotheses for prompt in one.prompts])
        _save_vectors(store, hypotheses, vectors)
        store.append("hypothesis", [_row(one) for one in hypotheses])
        store.append(
            "further_prompt",
            [
                {"hypothesis_id": one.hypothesis_id, "place": place, "prompt_id": prompt.prompt_id}
                for one in hypotheses
                for place, prompt in enumerate(one.others, start=1)
            ],
        )


def _save_vectors(store: Store, hypotheses: Sequence[Hypothesis], vectors: Floats | None) -> None:
    """Where their descriptions lie among the images; (H, D), or None if nothing reads text."""
    if vectors is None:
        return
    known = {prompt_id for (prompt_id,) in store.rows("select prompt_id from text_embedding")}
    rows = {prompt.prompt_id: row for row, one in enumerate(hypotheses) for prompt in one.prompts}
    new = {key: row for key, row in rows.items() if key not in known}
    store.append("text_embedding", [{"prompt_id": key, "vector": vectors[row].tolist()} for key, row in new.items()])


def _row(hypothesis: Hypothesis) -> dict[str, object]:
    return {
        "hypothesis_id": hypothesis.hypothesis_id,
        "label": ", ".join(hypothesis.labels),
        "prompt_id": hypothesis.prompt.prompt_id,
        "event": hypothesis.event,
        "description": hypothesis.prompt.description,
        "place": hypothesis.place,
        "score": hypothesis.score,
        "origin": hypothesis.origin,
        "round": hypothesis.round,
        "weight": hypothesis.weight,
        "born_wave": hypothesis.born_wave,
        "cluster_id": hypothesis.cluster_id,
        "parent_id": hypothesis.parent_id,
    }


def finish(
    store: Store, config: AuditConfig, board: Board, verdicts: Verdicts, *, cut: bool = False, whole: bool = True
) -> None:
    """Note under which budget the audit came to its end, and why; what still waits for a wave is not confirmed.

    `cut` says that a deadline left no more of the budget, `whole` that the last wave was made to its end before it.
    """
    with store.transaction():
        _decide(store, board, verdicts, ended=True)
        why = NOTHING_LEFT if whole and nothing_left(board, verdicts) else DEADLINE if cut or not whole else SPENT
        end(store, config, why)


def end(store: Store, config: AuditConfig, why: str) -> None:
    """Note that the audit came to its end, under which budget, and why."""
    store.rows("update audit set finished_budget = $budget, ended = $why", budget=config.max_images, why=why)
