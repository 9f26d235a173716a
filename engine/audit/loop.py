"""The whole audit on one screen: look, describe, test in waves, and so on in rounds; then the reserve.

Every step is a function of what is committed and of the budget. So a killed audit that is started again goes the same
way, and one that is given a larger budget goes on from where it stopped.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mothlight.engine.audit import books, waves
from mothlight.engine.audit.board import read_board
from mothlight.engine.audit.describe import Names
from mothlight.engine.audit.proof import judge
from mothlight.engine.audit.rounds import Helpers, begin_own_round, begin_round, failures_by_label, own_ideas
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Plan
from mothlight.sql import Store


class Mechanism(Helpers, Protocol):
    """What the audit needs done; how it is done is none of its business."""

    def make(self, plans: Sequence[Plan]) -> None:
        """Make and judge every image of the plans that the database lacks."""
        ...

    def caption(self) -> None:
        """Caption every image of the view `to_caption`."""
        ...

    def say(self, phase: str, found: int) -> None:
        """Tell the person what begins, and how much is confirmed so far."""
        ...


def run_audit(
    store: Store, config: AuditConfig, classifiers: Mapping[str, Sequence[str]], mechanism: Mechanism
) -> None:
    """Run an audit to its end, or from where it stopped to its end; `classifiers` have the labels that each knows."""
    names = Names({label for own in classifiers.values() for label in own} | {label.name for label in config.labels})
    order = list(classifiers)
    if not read_board(store, order).plans:
        waves.save(store, waves.first_look(config), config.max_images)
    while True:
        board = read_board(store, order)
        mechanism.say(_title(board.last), books.confirmed(store))
        mechanism.make(board.last)
        if board.last[0].phase == "test" and not books.is_counted(store, board.last[0].wave):
            board = books.count(store, config, board)
        verdicts = judge(board, config.min_effect, config.fdr)
        if board.last[0].phase == "discovery" and board.last[0].wave > board.mined_upto:
            mechanism.say("describing failures", books.confirmed(store))
            mechanism.caption()
            begin_round(store, config, board, verdicts, names, mechanism)
        elif ideas := own_ideas(config, board):
            begin_own_round(store, config, board, ideas, mechanism)
        elif plans := waves.next_test(config, board, verdicts):
            waves.save(store, plans, config.max_images)
        elif waves.another_round(config, board, verdicts):
            failures = failures_by_label(store, config, board, verdicts)
            if plans := waves.next_look(config, board, verdicts, failures):
                waves.save(store, plans, config.max_images)
            else:
                mechanism.say("describing failures", books.confirmed(store))
                mechanism.caption()
                begin_round(store, config, board, verdicts, names, mechanism)
        elif plans := waves.next_reserve(config, board, verdicts):
            waves.save(store, plans, config.max_images)
        else:
            break
    books.finish(store, config, board, verdicts)


def _title(plans: Sequence[Plan]) -> str:
    count = sum(1 for plan in plans if plan.prompt.description)
    descriptions = f"{count} description{'s' if count > 1 else ''}"
    if plans[0].phase == "discovery":
        return "looking for failures" if plans[0].wave == 0 else "looking for more failures"
    if plans[0].phase == "reserve":
        return f"measuring {descriptions} on fresh pairs"
    return f"testing {descriptions}, wave {plans[0].wave}"
