"""Ctrl-C and SIGTERM: the work in hand ends, within seconds, and what is committed stands.

The work runs in a thread and asks now and then whether to stop. A signal that raised an exception wherever it happened
to strike would leave locks held and transactions open.
"""

import os
import signal
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

GRACE = 8.0
"""Seconds that the work has to end after a signal; then the process ends without it."""
LOOK = 0.1
"""Seconds between two looks at the thread."""


def check(stop: Event) -> None:
    """Whether to go on.

    Raises:
        KeyboardInterrupt: no.
    """
    if stop.is_set():
        raise KeyboardInterrupt


def stoppable(work: Callable[[Event], int], say: Callable[[], None]) -> int:
    """The exit code of `work`, or of the signal that came first; `say` is called when one comes.

    A second signal ends the process at once, and so does the first after `GRACE` seconds. That does no harm: what is
    committed stands, as after `kill -9`. Raises what `work` raises.
    """
    stop = Event()
    received: list[int] = []
    since = [0.0]

    def hear(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        since[0] = monotonic()
        stop.set()
        say()

    outcome: list[int] = []
    fault: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work(stop))
        except BaseException as error:  # noqa: BLE001  # raised again below, in the thread that waits
            fault.append(error)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = Thread(target=run, name="audit", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LOOK)
            if received and monotonic() - since[0] > GRACE:
                os._exit(128 + received[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received and (not fault or isinstance(fault[0], KeyboardInterrupt)):
        return outcome[0] if outcome else 128 + received[0]
    if fault:
        raise fault[0]
    return outcome[0]
