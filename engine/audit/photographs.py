"""Photographs: half are looked at for descriptions, the other half tests them, once.

A description's pairs are a photograph that shows it and one of the same label that does not, in the order of their
files' hashes, which has nothing to do with what they show. So a pair's difference is an unbiased one, and the e-value
of generated pairs is exact for them too. No description ever depends on a photograph of the proof: it comes from the
other half, or from generated images, and none that comes from there is chosen by what a test on photographs said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mothlight.engine.audit import books, waves
from mothlight.engine.audit.board import Board, read_board
from mothlight.engine.audit.describe import Names, parted
from mothlight.engine.audit.mechanism import Mechanism
from mothlight.engine.audit.mine import Material, read_material
from mothlight.engine.audit.proof import judge
from mothlight.engine.audit.rounds import (
    begin_photograph_round,
    begin_round_on_photographs,
    read_captions,
    readers,
)
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import PHOTOGRAPHS, PROOF, Hypothesis, Plan, photographs_of
from mothlight.sql import Store


def look(store: Store, config: AuditConfig, order: Sequence[str], names: Names, mechanism: Mechanism) -> None:
    """Judge all photographs, describe the failures of the one half, and test that on the other.

    Raises:
        OutOfTimeError: a deadline came first.
    """
    board = read_board(store, order, "photographs")
    if not board.plans:
        waves.save(store, _plans(store, config), config.max_images)
        board = read_board(store, order, "photographs")
    discovery, proof = ([plan for plan in board.plans if plan.phase == phase] for phase in (PHOTOGRAPHS, PROOF))
    if discovery:
        mechanism.say("looking at photographs", books.confirmed(store))
        mechanism.make(discovery)
    if not board.photograph_rounds:
        mechanism.say("describing failures among the photographs", books.confirmed(store))
        mechanism.caption()
        begin_photograph_round(store, config, replace(board, plans=board.plans[:1]), names, mechanism)
    if proof:
        mechanism.say("judging the photographs that test descriptions", books.confirmed(store))
        mechanism.make(proof)
    _test(store, config, order, names, mechanism)


def look_back(store: Store, config: AuditConfig, order: Sequence[str], names: Names, mechanism: Mechanism) -> None:
    """Test on photographs what generated images confirmed, and photographs did not bring up themselves.

    Raises:
        OutOfTimeError: a deadline came first.
    """
    generated, board = read_board(store, order), read_board(store, order, "photographs")
    if not generated.plans:
        return
    verdicts = judge(generated, config.min_effect, config.fdr)
    by_id = {one.hypothesis_id: one for one in generated.hypotheses}
    known = {(one.prompt.prompt_id, one.event) for one in board.hypotheses}
    new = [
        one
        for one, sure in zip(generated.hypotheses, verdicts.found, strict=True)
        if sure and not one.others and not _from_photographs(one, by_id)
        if (one.prompt.prompt_id, one.event) not in known
    ]
    if new:
        begin_round_on_photographs(store, config, replace(board, plans=board.plans[:1]), new, mechanism)
    _test(store, config, order, names, mechanism)


def found(store: Store, order: Sequence[str]) -> Sequence[Hypothesis]:
    """The descriptions that photographs brought up: all of them, whatever the others said."""
    return read_board(store, order, "photographs").hypotheses


def _from_photographs(one: Hypothesis, by_id: Mapping[str, Hypothesis]) -> bool:
    """Whether it was made of one that photographs brought up."""
    while one.origin != "photographs" and one.parent_id is not None and one.parent_id in by_id:
        one = by_id[one.parent_id]
    return one.origin == "photographs"


def _plans(store: Store, config: AuditConfig) -> list[Plan]:
    """Wave 0 is the half for discovery, wave 1 the half for proof."""
    plans = []
    for wave, phase, half in ((0, PHOTOGRAPHS, "discovery"), (1, PROOF, "proof")):
        counted = store.rows(
            "select label, min(index), count(*) from photograph where half = $half group by label", half=half
        )
        ranges = {label: (first, images) for label, first, images in counted}
        plans += [
            Plan(wave, phase, photographs_of(label.name), *ranges[label.name])
            for label in config.labels
            if label.name in ranges
        ]
    return plans


def _test(store: Store, config: AuditConfig, order: Sequence[str], names: Names, mechanism: Mechanism) -> None:
    """Test what waits for it, and decide."""
    board = read_board(store, order, "photographs")
    tested = {key for (key,) in store.rows("select distinct hypothesis_id from evidence where wave = 1")}
    waiting = [row for row, one in enumerate(board.hypotheses) if one.hypothesis_id not in tested]
    if not waiting:
        return
    mechanism.say(f"testing descriptions on photographs ({len(waiting)})", books.confirmed(store))
    mechanism.caption()
    counts: list[dict[str, object]] = []
    pairs: list[dict[str, object]] = []
    read = readers(store, config, names)
    for label in dict.fromkeys(board.hypotheses[row].prompt.label for row in waiting):
        material = read_material(store, label, board.classifiers, (PROOF,))
        material = read_captions(store, config, board, None, read[label], mechanism, material)
        for row in waiting:
            if board.hypotheses[row].prompt.label == label:
                own = board.hypotheses[row]
                shows, others = _sides(material, own)
                counts += _counted(material, own, board, shows, others)
                pairs += [
                    {
                        "hypothesis_id": own.hypothesis_id,
                        "place": place,
                        "image_id": material.ids[one],
                        "plain_image_id": material.ids[other],
                    }
                    for place, (one, other) in enumerate(zip(shows, others, strict=False))
                ]
    books.count_photographs(store, config, board, counts, pa.Table.from_pylist(pairs))


def _sides(material: Material, own: Hypothesis) -> tuple[list[int], list[int]]:
    """The rows of the photographs that show a description, and of those that do not; each in an order of chance."""
    says = material.saying(parted(own.prompt.description))
    return np.flatnonzero(says).tolist(), np.flatnonzero(~says).tolist()


def _counted(
    material: Material, own: Hypothesis, board: Board, shows: Sequence[int], others: Sequence[int]
) -> list[dict[str, object]]:
    """A row of the table `pair_count` for each classifier; the rates are of all photographs, not of the pairs alone."""
    pairs = min(len(shows), len(others))
    rows: list[dict[str, object]] = []
    for column, classifier in enumerate(board.classifiers):
        event = material.failed[:, column]
        if own.event:
            event = event & (material.predicted[:, column] == own.event)
        one, other = event[list(shows)].astype(bool), event[list(others)].astype(bool)
        rows.append(
            {
                "hypothesis_id": own.hypothesis_id,
                "classifier": classifier,
                "wave": 1,
                "images": len(shows),
                "n": len(shows),
                "failures": int(one.sum()),
                "baseline_n": len(others),
                "baseline_failures": int(other.sum()),
                "pairs": pairs,
                "more": int((one[:pairs] & ~other[:pairs]).sum()),
                "less": int((~one[:pairs] & other[:pairs]).sum()),
                "failures_without_gate": int(one.sum()),
                "baseline_failures_without_gate": int(other.sum()),
            }
        )
    return rows
