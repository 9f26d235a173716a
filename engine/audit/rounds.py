"""A round: all that was judged so far is looked at again, and what it says becomes a batch of tests."""

from collections.abc import Sequence

from mothlight.engine.audit import books
from mothlight.engine.audit.board import Board
from mothlight.engine.audit.describe import Said, sentences
from mothlight.engine.audit.discover import discover
from mothlight.engine.audit.mine import Candidate, Material, failures_left, mine, read_material
from mothlight.engine.audit.proof import Verdicts
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Hypothesis
from mothlight.engine.stats import round_share
from mothlight.sql import Store


def begin_round(store: Store, config: AuditConfig, board: Board, verdicts: Verdicts) -> None:
    """Group all failures, describe those that nothing confirmed explains, and write down what is to be tested."""
    clusters = discover(store, config, board.round + 1)
    chosen: list[tuple[int, Candidate, str]] = []
    for label in config.labels:
        material = _material(store, config, board, label.name)
        own = [cluster for cluster in clusters if cluster.label == label.name]
        best = mine(material, board, verdicts, own, config.min_group)[: config.max_hypotheses_per_label]
        chosen += [(place, candidate, label.name) for place, candidate in enumerate(best)]
    books.save_round(store, config, board, clusters, _hypotheses(config, board, chosen))


def _hypotheses(config: AuditConfig, board: Board, chosen: Sequence[tuple[int, Candidate, str]]) -> list[Hypothesis]:
    """The round's share of the level goes evenly over its tests, whose number is known before an image is made."""
    labels = {label.name: label for label in config.labels}
    number = board.round + 1
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
        )
        for place, candidate, label in chosen
    ]


def failures_by_label(store: Store, config: AuditConfig, board: Board, verdicts: Verdicts) -> dict[str, int]:
    """How many plain images of each label show a failure that nothing confirmed explains."""
    return {
        label.name: failures_left(_material(store, config, board, label.name), board, verdicts)
        for label in config.labels
    }


def _material(store: Store, config: AuditConfig, board: Board, label: str) -> Material:
    names = [one.name for one in config.labels]

    def read(caption: str) -> Said:
        return sentences(caption, names)

    return read_material(store, label, board.classifiers, read)
