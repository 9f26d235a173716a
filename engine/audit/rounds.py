"""A round: all that was judged so far is looked at again, and what it says becomes a batch of tests."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mothlight.engine.audit import books
from mothlight.engine.audit.board import Board
from mothlight.engine.audit.describe import Names, Reader, content, parted, proposals, style_of
from mothlight.engine.audit.discover import discover
from mothlight.engine.audit.mechanism import Helpers
from mothlight.engine.audit.mine import (
    Candidate,
    Lean,
    Material,
    as_shown,
    failures_left,
    leaning,
    mine,
    pooled,
    read_material,
    unexplained,
    with_proposals,
    with_said,
)
from mothlight.engine.audit.proof import Verdicts, judge
from mothlight.engine.config import AuditConfig, ServedDescriber
from mothlight.engine.records import PHOTOGRAPHS, Hypothesis, Origin, identify
from mothlight.engine.stats import Floats, round_share
from mothlight.sql import Store

SHOWN = 20
"""Captions of failures, and as many of passes, that a language model is shown at once."""
SHOWINGS = 3
"""How often it is shown others (VisDiff, CVPR 2024: three times 20 against 20)."""


def begin_round(
    store: Store, config: AuditConfig, board: Board, verdicts: Verdicts, names: Names, helpers: Helpers
) -> None:
    """Group all failures, describe those that nothing confirmed explains, and write down what is to be tested."""
    clusters = discover(store, config, board.next_round)
    chosen: list[tuple[int, Candidate, str]] = []
    leans: list[Lean] = []
    read = readers(store, config, names)
    for label in config.labels:
        material = read_material(store, label.name, board.classifiers)
        material = read_captions(store, config, board, verdicts, read[label.name], helpers, material)
        own = [cluster for cluster in clusters if cluster.label == label.name]
        best = mine(material, board, verdicts, own, config.min_group)[: config.max_hypotheses_per_label]
        chosen += [(place, candidate, label.name) for place, candidate in enumerate(best)]
        leans += leaning(material, board, verdicts)
    chosen += [(place, candidate, candidate.labels[0]) for place, candidate in enumerate(pooled(leans, board))]
    hypotheses = _hypotheses(config, board, chosen)
    books.save_round(store, config, board, clusters, hypotheses, _vectors(hypotheses, helpers))


def _vectors(hypotheses: Sequence[Hypothesis], helpers: Helpers) -> Floats | None:
    return helpers.embed_texts([one.prompt.description for one in hypotheses]) if hypotheses else None


def own_ideas(
    config: AuditConfig, board: Board, in_photographs: Sequence[Hypothesis] = ()
) -> list[tuple[int, Candidate, str]]:
    """What a person asks, and what was found in photographs, that is not under test yet."""
    known = {
        (one.prompt.label, content(one.prompt.description), one.event): one.prompt.description
        for one in board.hypotheses
        if not one.others
    }
    new: list[tuple[int, Candidate, str]] = []
    asked: list[tuple[str, str, str, Origin]] = [
        (idea.label, idea.description, idea.event, "own") for idea in config.hypotheses
    ]
    found = [one for one in in_photographs if one.origin not in ("own", "generated")]
    asked += [(one.prompt.label, one.prompt.description, one.event, "photographs") for one in found]
    for label, description, event, origin in asked:
        key = (label, content(description), event)
        if key not in known:
            # the same words are the same prompt, whatever their spelling and event
            worded = [said for (one, words, _), said in known.items() if (one, words) == key[:2]]
            known[key] = worded[0] if worded else description
            new.append((len(new), Candidate(0.0, parted(known[key]), event, origin), label))
    return new


def begin_own_round(
    store: Store, config: AuditConfig, board: Board, ideas: Sequence[tuple[int, Candidate, str]], helpers: Helpers
) -> None:
    """Write down ideas that no generated image gave as a round of their own, with its own share of the level."""
    hypotheses = _hypotheses(config, board, ideas)
    books.save_round(store, config, board, (), hypotheses, _vectors(hypotheses, helpers), "own")


def begin_photograph_round(store: Store, config: AuditConfig, board: Board, names: Names, helpers: Helpers) -> None:
    """Group and describe the failures among the photographs for discovery, and write down what the others are to test.

    A person's ideas are tested on them too. `board` is that of the photographs, without a hypothesis so far.
    """
    clusters = discover(store, config, board.next_round, (PHOTOGRAPHS,))
    verdicts = judge(board, config.min_effect, config.fdr)
    ideas = own_ideas(config, board)
    chosen = list(ideas)
    for label, reader in readers(store, config, names).items():
        material = read_material(store, label, board.classifiers, (PHOTOGRAPHS,))
        material = read_captions(store, config, board, verdicts, reader, helpers, material)
        own = [cluster for cluster in clusters if cluster.label == label]
        known = {(content(one.description), one.event) for _, one, about in ideas if about == label}
        best = [
            one
            for one in mine(material, board, verdicts, own, config.min_group)
            if (content(one.description), one.event) not in known
        ][: config.max_hypotheses_per_label]
        chosen += [(place, candidate, label) for place, candidate in enumerate(best, start=len(known))]
    hypotheses = _on_photographs(_hypotheses(config, board, chosen))
    books.save_round(store, config, board, clusters, hypotheses, _vectors(hypotheses, helpers), "photographs")


def begin_round_on_photographs(
    store: Store, config: AuditConfig, board: Board, found: Sequence[Hypothesis], helpers: Helpers
) -> None:
    """Write down what generated images confirmed, to be tested on photographs."""
    chosen = [
        (place, Candidate(one.score, parted(one.prompt.description), one.event, "generated"), one.prompt.label)
        for place, one in enumerate(found)
    ]
    hypotheses = _on_photographs(_hypotheses(config, board, chosen))
    books.save_round(store, config, board, (), hypotheses, _vectors(hypotheses, helpers), "photographs")


def _on_photographs(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    return [replace(one, tested_on="photographs") for one in hypotheses]


def readers(store: Store, config: AuditConfig, names: Names) -> dict[str, Reader]:
    """One for each label, all of the style that the settings say, or that the first images' captions have."""
    style = config.describer if isinstance(config.describer, str) else "phrases"
    if style == "auto":
        style = style_of([text for (text,) in store.step("first_captions")])
    return {label.name: Reader(label.name, names, style, config.phrase_template) for label in config.labels}


def read_captions(
    store: Store,
    config: AuditConfig,
    board: Board,
    verdicts: Verdicts | None,
    reader: Reader,
    helpers: Helpers,
    material: Material,
) -> Material:
    """A label's images with what is said of them, in the words of what is under test where it is the same.

    With `verdicts` a language model may say more of what they leave unexplained.
    """
    tested = [one.prompt.description for one in board.hypotheses if reader.label in one.labels]
    known = [sentence for description in tested for sentence in sorted(parted(description))]
    if isinstance(config.describer, ServedDescriber):
        material = with_proposals(material, known)
        if verdicts is not None:
            material = with_proposals(material, _proposed(material, board, verdicts, reader, helpers))
    else:
        material = with_said(material, reader.read(material.captions, known))
    if reader.style == "sentences":
        return material
    return _with_likeness(store, material, helpers)


def _proposed(material: Material, board: Board, verdicts: Verdicts, reader: Reader, helpers: Helpers) -> list[str]:
    """What a language model says of each classifier's failures that nothing confirmed explains."""
    left = unexplained(material, board, verdicts)
    found: list[str] = []
    for column in range(len(board.classifiers)):
        failing = np.flatnonzero(material.failed[:, column] & left[:, column]).tolist()
        passing = np.flatnonzero(~material.failed[:, column]).tolist()
        if not failing or not passing:
            continue
        for showing in range(SHOWINGS):
            one, two = (_sample(material, rows, board.round, showing) for rows in (failing, passing))
            found += proposals(helpers.propose(one, two, showing), reader.names, reader.template)
    return list(dict.fromkeys(found))


def _sample(material: Material, rows: Sequence[int], number: int, showing: int) -> list[str]:
    """Captions in an order of chance that is the same every time."""
    order = sorted(rows, key=lambda row: identify("shown", number, showing, material.ids[row]))
    return [material.captions[row] for row in order[:SHOWN]]


def _with_likeness(store: Store, material: Material, helpers: Helpers) -> Material:
    """With how like each image is to each sentence, and what it shows in place of what its caption says."""
    words = sorted(frozenset().union(*material.said)) if material.said else []
    texts = helpers.embed_texts(words) if words else None
    if texts is None:
        return material
    vectors = dict(store.step("vectors", images=list(material.ids)))
    images = np.array([vectors[image_id] for image_id in material.ids], np.float64)
    likeness = images @ texts.T
    return as_shown(replace(material, likeness={word: likeness[:, at] for at, word in enumerate(words)}))


def _hypotheses(config: AuditConfig, board: Board, chosen: Sequence[tuple[int, Candidate, str]]) -> list[Hypothesis]:
    """The round's share of the level goes evenly over its tests, whose number is known before an image is made."""
    labels = {label.name: label for label in config.labels}
    number = board.next_round
    tests = len(chosen) * len(board.classifiers)
    return [
        Hypothesis(
            prompt=config.plain_prompt(labels[label], candidate.description),
            event=candidate.event,
            place=place,
            score=candidate.score,
            origin=candidate.origin,
            round=number,
            weight=round_share(number) / tests,
            born_wave=board.last[0].wave,
            cluster_id=candidate.cluster_id,
            parent_id=candidate.parent_id,
            others=tuple(config.plain_prompt(labels[other], candidate.description) for other in candidate.labels[1:]),
        )
        for place, candidate, label in chosen
    ]


def failures_by_label(store: Store, config: AuditConfig, board: Board, verdicts: Verdicts) -> dict[str, int]:
    """How many plain images of each label show a failure of which no caption says what a confirmed finding does."""
    found = {}
    for label in config.labels:
        material = read_material(store, label.name, board.classifiers)
        tested = [one.prompt.description for one in board.hypotheses if label.name in one.labels]
        known = {sentence for description in tested for sentence in parted(description)}
        found[label.name] = failures_left(with_proposals(material, sorted(known)), board, verdicts)
    return found
