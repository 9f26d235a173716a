"""The whole audit on one screen: look, describe, test in waves, and so on in rounds; then the reserve.

Photographs, where there are some, are judged first, and at the end they test what generated images confirmed.

Every step is a function of what is committed and of the budget. So a killed audit that is started again goes the same
way, and one that is given a larger budget goes on from where it stopped.
"""

from collections.abc import Mapping, Sequence

from mothlight.engine.audit import books, photographs, waves
from mothlight.engine.audit.board import Board, read_board
from mothlight.engine.audit.clock import OutOfTimeError
from mothlight.engine.audit.describe import Names
from mothlight.engine.audit.mechanism import Mechanism
from mothlight.engine.audit.proof import Verdicts, judge
from mothlight.engine.audit.rounds import begin_own_round, begin_round, failures_by_label, own_ideas
from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Plan
from mothlight.sql import Store


def run_audit(
    store: Store, config: AuditConfig, classifiers: Mapping[str, Sequence[str]], mechanism: Mechanism
) -> None:
    """Run an audit to its end, or from where it stopped to its end; `classifiers` have the labels that each knows."""
    names = Names({label for own in classifiers.values() for label in own} | {label.name for label in config.labels})
    order = list(classifiers)
    whole, going_on, in_time = config.max_images, config.generator is not None, True
    try:
        if config.images is not None:
            photographs.look(store, config, order, names, mechanism)
        if going_on and not (board := read_board(store, order)).plans:
            waves.save(store, waves.first_look(config, board.next_wave), config.max_images)
        while going_on:
            board = read_board(store, order)
            mechanism.say(_title(board.last), books.confirmed(store))
            mechanism.make(board.last)
            if board.last[0].phase == "test" and not books.is_counted(store, board.last[0].wave):
                board = books.count(store, config, board)
            elif board.last[0].phase == "reserve":
                books.measure(store, board.last[0].wave)
            budget = mechanism.budget(board.images, books.begun_under(store, board))
            config = config.model_copy(update={"max_images": budget})
            verdicts = judge(board, config.min_effect, config.fdr)
            going_on = _begin_next(store, config, board, verdicts, names, mechanism)
        if config.images is not None:
            photographs.look_back(store, config, order, names, mechanism)
    except OutOfTimeError:
        in_time = False
    board = read_board(store, order)
    if not board.plans:
        books.end(store, config, books.NOTHING_LEFT if in_time else books.DEADLINE)
        return
    if not in_time and board.last[0].phase == "reserve":
        books.measure(store, board.last[0].wave)
    verdicts = judge(board, config.min_effect, config.fdr)
    books.finish(store, config, board, verdicts, cut=config.max_images < whole, whole=in_time)


def _begin_next(
    store: Store, config: AuditConfig, board: Board, verdicts: Verdicts, names: Names, mechanism: Mechanism
) -> bool:
    """Write down what comes next, a wave or a round; False if nothing does."""
    if board.last[0].phase == "discovery" and board.last[0].wave > board.mined_upto:
        _describe(store, config, board, verdicts, names, mechanism)
    elif ideas := own_ideas(config, board, photographs.found(store, board.classifiers)):
        begin_own_round(store, config, board, ideas, mechanism)
    elif plans := waves.next_test(config, board, verdicts):
        waves.save(store, plans, config.max_images)
    elif waves.another_round(config, board, verdicts):
        failures = failures_by_label(store, config, board, verdicts)
        if plans := waves.next_look(config, board, verdicts, failures):
            waves.save(store, plans, config.max_images)
        else:
            _describe(store, config, board, verdicts, names, mechanism)
    elif plans := waves.next_reserve(config, board, verdicts):
        waves.save(store, plans, config.max_images)
    else:
        return False
    return True


def _describe(
    store: Store, config: AuditConfig, board: Board, verdicts: Verdicts, names: Names, mechanism: Mechanism
) -> None:
    """Caption what was not, and begin a round."""
    mechanism.say("describing failures", books.confirmed(store))
    mechanism.caption()
    begin_round(store, config, board, verdicts, names, mechanism)


def _title(plans: Sequence[Plan]) -> str:
    count = sum(1 for plan in plans if plan.prompt.description)
    descriptions = f"{count} description{'s' if count > 1 else ''}"
    if plans[0].phase == "discovery":
        return "looking for failures" if plans[0].first_index == 0 else "looking for more failures"
    if plans[0].phase == "reserve":
        return f"measuring {descriptions} on fresh pairs"
    return f"testing {descriptions}, wave {plans[0].wave}"
