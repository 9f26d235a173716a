"""A signal ends the work within seconds, whatever it waits for, and never as a traceback."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from threading import Event, Timer
from time import monotonic

import numpy as np
import pytest

from mothlight.engine.config import ServedCaptioner as CaptionerConfig
from mothlight.engine.errors import UserError
from mothlight.engine.stages.served import ServedCaptioner
from mothlight.engine.stopping import check, stoppable


def ends_when_told(stop: Event) -> int:
    """Work that looks now and then."""
    os.kill(os.getpid(), signal.SIGTERM)
    stop.wait(10)
    check(stop)
    return 0


def test_the_exit_code_is_the_work_s() -> None:
    assert stoppable(lambda _: 4, lambda: None) == 4


def test_what_the_work_raises_is_raised() -> None:
    def fails(_stop: Event) -> int:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        stoppable(fails, lambda: None)


def test_a_signal_ends_the_work_and_is_said() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    assert stoppable(ends_when_told, lambda: said.append("stopping")) == 128 + signal.SIGTERM
    assert said == ["stopping"]
    assert signal.getsignal(signal.SIGTERM) is before


DEAF = """
import signal, sys, time
from mothlight.engine import stopping
stopping.GRACE = {grace}
def deaf(stop):
    print("begun", flush=True)
    time.sleep(60)
    return 0
sys.exit(stopping.stoppable(deaf, lambda: print("heard", flush=True)))
"""


@pytest.mark.parametrize(("grace", "signals"), [(0.5, 1), (30.0, 2)])
def test_work_that_does_not_hear_is_left(grace: float, signals: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", DEAF.format(grace=grace)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            if signals > 1:
                process.stdout.readline()
        assert process.wait(timeout=20) == 128 + signal.SIGTERM


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def test_a_silent_server_is_not_waited_for(silent_port: int) -> None:
    stop = Event()
    config = CaptionerConfig(url=f"http://127.0.0.1:{silent_port}/v1", model="silent", concurrency=2)
    images = np.zeros((8, 16, 16, 3), np.uint8)
    Timer(0.5, stop.set).start()
    begun = monotonic()
    with pytest.raises(KeyboardInterrupt):
        ServedCaptioner(config, stop).caption(images)
    assert monotonic() - begun < 10


def test_a_silent_server_does_not_keep_the_process(silent_port: int) -> None:
    code = f"""
import numpy as np
from threading import Event, Timer
from mothlight.engine.config import ServedCaptioner as Config
from mothlight.engine.stages.served import ServedCaptioner
stop = Event()
Timer(0.5, stop.set).start()
try:
    config = Config(url="http://127.0.0.1:{silent_port}/v1", model="m")
    ServedCaptioner(config, stop).caption(np.zeros((20, 8, 8, 3), np.uint8))
except KeyboardInterrupt:
    print("left")
"""
    answer = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout == "left\n"
