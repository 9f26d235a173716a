"""The work in a process of its own, which is replaced when it dies, or when its device is lost.

What a driver, a graph or the system's memory killer does to a process can't be caught in it. So a parent that does
nothing but wait forks the one that works; the database has what was committed, and the next one goes on from there, as
after any `kill -9`. What was in flight is noted in memory that both share. What was in flight twice at a death is made
again one by one, and what is alone in flight at a third death is the cause: it is set aside, as a failed item.
"""

import json
import mmap
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock
from typing import NoReturn

from mothlight.engine.errors import DeviceLostError
from mothlight.engine.streams import finish

LOST = 75
"""The exit code of a process whose device is lost (EX_TEMPFAIL of sysexits.h)."""
SUSPECT, SET_ASIDE = 2, 3
"""Deaths after which what was in flight is made alone, and not at all."""
FRUITLESS = 5
"""Deaths in a row in which nothing was made; then whatever it is, another process does not mend it."""
NOTED = 1 << 20
"""Bytes for what is in flight; what has no room is not noted."""


class Flights:
    """What is in flight, where a parent sees it after a death; and how many deaths each item has seen."""

    def __init__(self) -> None:
        self.deaths: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        """Why an item is set aside."""
        self._lock = Lock()
        self._memory = mmap.mmap(-1, 1 + 2 * NOTED)  # anonymous: shared with the processes that are forked from here
        self._now: dict[str, None] = {}
        self._ended = 0
        self._in_a_row, self._ended_at_blame = 0, 0

    def begin(self, items: Iterable[str]) -> None:
        """These are made from now on."""
        with self._lock:
            self._now |= dict.fromkeys(items)
            self._note()

    def end(self, items: Iterable[str]) -> None:
        """These are made."""
        with self._lock:
            for item in items:
                self._now.pop(item, None)
            self._ended += 1
            self._note()

    def blame(self, reason: str) -> bool:
        """What is in flight, for which there is no room, is made alone from now on, and what was alone not at all.

        False if nothing is in flight, or it is not the item's fault: several in a row had no room.
        """
        with self._lock:
            items = list(self._now)
            self._in_a_row = self._in_a_row + 1 if self._ended == self._ended_at_blame else 1
            self._ended_at_blame = self._ended
            if self._in_a_row >= FRUITLESS:
                return False
            for item in items:
                self.deaths[item] = SET_ASIDE if len(items) == 1 else SUSPECT
                self.reasons[item] = reason
            self._now = {}
            self._note()
        return bool(items)

    def is_suspect(self, item: str) -> bool:
        """Whether it is to be made alone."""
        return self.deaths[item] >= SUSPECT

    def is_set_aside(self, item: str) -> bool:
        """Whether it is not to be made."""
        return self.deaths[item] >= SET_ASIDE

    def count_death(self) -> tuple[int, bool]:
        """Count the death of the process that noted; how much was in flight, and whether it led anywhere."""
        start = 1 + self._memory[0] * NOTED
        size = int.from_bytes(self._memory[start : start + 8], "little")
        ended, items = json.loads(self._memory[start + 8 : start + 8 + size]) if size else (0, [])
        pinned = len(items) == 1
        for item in items:
            # only what was alone in flight is surely the cause
            self.deaths[item] = self.deaths[item] + 1 if pinned else min(self.deaths[item] + 1, SUSPECT)
            self.reasons[item] = "the process that made it died, three times"
        self._now, self._ended = {}, 0
        self._note()
        return len(items), ended > 0 or any(self.deaths[item] < SUSPECT for item in items)

    def _note(self) -> None:
        text = json.dumps([self._ended, list(self._now)]).encode()
        if len(text) > NOTED - 8:
            return
        # in the half that does not count, which then does: a death in between finds the note of before
        other = 1 - self._memory[0]
        start = 1 + other * NOTED
        self._memory[start : start + 8 + len(text)] = len(text).to_bytes(8, "little") + text
        self._memory[0] = other


def supervised() -> Flights:
    """Go on in a child process, with what is in flight; the parent ends with its exit code, once one comes to its end.

    Where processes can't be forked, or threads run already, it goes on in this one.
    """
    flights = Flights()
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return flights
    signals = _Signals()
    fruitless = 0
    while True:
        sys.stdout.flush()
        sys.stderr.flush()
        alive, held = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(held)
            os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the parent, which hands it on: once
            signals.restore()
            threading.Thread(target=_die_with_parent, args=(alive,), name="parent", daemon=True).start()
            return flights
        os.close(alive)
        code = signals.wait(child)
        os.close(held)
        if code >= 0 and code != LOST:
            _end(code)
        if signals.asked:
            _end(128 + signals.asked)
        how = "lost its device" if code == LOST else f"died of {signal.Signals(-code).name}"
        in_flight, led_somewhere = flights.count_death()
        fruitless = 0 if led_somewhere else fruitless + 1
        if fruitless == FRUITLESS:
            _say(f"The working process {how}, {FRUITLESS} times before it made anything; what was committed is kept.")
            _end(1)
        _say(f"The working process {how}, with {in_flight} images in flight; another goes on from what is committed.")


class _Signals:
    """What the parent does with signals, to its end: it hands them on."""

    def __init__(self) -> None:
        self.child = 0
        self.asked = 0
        """The signal by which it was asked to stop."""
        hear = {signal.SIGINT: self._hand_on, signal.SIGTERM: self._hand_on, signal.SIGTSTP: self._pause}
        self.before = {number: signal.signal(number, handler) for number, handler in hear.items()}

    def restore(self) -> None:
        """In the child, as it was before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def wait(self, child: int) -> int:
        """A child's exit code, negative for the signal that it died of."""
        self.child = child
        if self.asked:
            self._hand_on(self.asked, None)  # it came in between
        _, status = os.waitpid(child, 0)
        self.child = 0
        return os.waitstatus_to_exitcode(status)

    def _hand_on(self, number: int, _frame: object) -> None:
        self.asked = number
        self._tell(number)

    def _pause(self, _number: int, _frame: object) -> None:
        self._tell(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._tell(signal.SIGCONT)

    def _tell(self, number: int) -> None:
        if self.child:
            with suppress(ProcessLookupError):
                os.kill(self.child, number)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _die_with_parent(alive: int) -> None:
    """End this process when the parent's end of a pipe closes: there is nobody any more to stop it."""
    os.read(alive, 1)
    os._exit(128 + signal.SIGKILL)


def leave(error: DeviceLostError) -> NoReturn:
    """End this process so that another one takes its place; what is committed stands."""
    _say(str(error))
    _end(LOST)


def _end(code: int) -> NoReturn:
    """At once: while Python winds itself up, a signal more would make another exit code."""
    finish()
    os._exit(code)
