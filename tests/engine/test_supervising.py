"""The process that works is replaced when it dies or loses its device; what kills three of them is set aside."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mothlight.engine.audit.clock import Clock, OutOfTimeError
from mothlight.engine.audit.waves import first_look
from mothlight.engine.device import raise_if_lost
from mothlight.engine.errors import DeviceLostError
from mothlight.engine.opening import Models, open_database
from mothlight.engine.records import Chunk
from mothlight.engine.session import Progress, Session
from mothlight.engine.supervising import FRUITLESS, SET_ASIDE, SUSPECT, Flights
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import run_audit_in, small_config, toml_of

BROKEN = """
import ctypes, os, pathlib, sys
from mothlight.engine import cli

toml, out, wanted, fault = sys.argv[1:]
once = pathlib.Path(out).with_suffix(".once")
supervised = cli.supervised

def broken():
    flights = supervised()
    from mothlight.engine.errors import DeviceLostError
    from mothlight.engine.making import image_ids
    from mothlight.engine.stages.encode import EncodeStage

    whole = EncodeStage.__call__

    def encode(self, batch):
        if wanted in image_ids(batch):
            if fault == "die":
                ctypes.string_at(0)  # in this thread, at once
            if not once.exists():
                once.touch()
                raise DeviceLostError("the device is lost, encoding: CUDA_ERROR_ILLEGAL_ADDRESS")
        return whole(self, batch)

    EncodeStage.__call__ = encode
    return flights

cli.supervised = broken
sys.argv = ["mothlight", "audit", toml, "--out", out]
cli.main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    out = tmp_path_factory.mktemp("whole")
    run_audit_in(out, models, small_config(max_images=150))
    return out


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(toml_of(small_config(max_images=150)))
    return path


def canonical(folder: Path) -> list[tuple[str, str, str]]:
    with open_audit(folder) as store:
        return store.query("canonical")


def audit(toml: Path, out: Path, fault: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-P", "-c", BROKEN, str(toml), str(out), wanted(), fault]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def wanted() -> str:
    """An image of the first look."""
    config = small_config(max_images=150)
    return Chunk(config.plain_prompt(config.labels[0]), 0, config.chunk_images, 0).image_id(4)


def test_a_lost_device_costs_only_time(whole: Path, toml: Path, tmp_path: Path) -> None:
    done = audit(toml, tmp_path / "lost", "lose the device")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("The working process lost its device, with ") == 1
    assert canonical(tmp_path / "lost") == canonical(whole)


def test_an_image_that_kills_three_processes_is_set_aside(whole: Path, toml: Path, tmp_path: Path) -> None:
    done = audit(toml, tmp_path / "killed", "die")
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("The working process died of SIGSEGV") == 3
    assert "with 1 images in flight" in done.stderr
    outcomes = [row for row in canonical(whole) if row[0] == "prediction" and f"{wanted()}/" not in row[1]]
    found = [row for row in canonical(tmp_path / "killed") if row[0] == "prediction"]
    first = {key for what, key, content in found if "|0|" in content}
    assert {row for row in found if row[1] in first} == {row for row in outcomes if row[1] in first}
    assert [row[2] for row in canonical(tmp_path / "killed") if row[0] == "failed_item"] == [
        "the process that made it died, three times"
    ]


def children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def begun(toml: Path, out: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-c", BROKEN, str(toml), str(out), "none", "none"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not children(process.pid) or not (out / "audit.sock").exists():
        assert process.poll() is None
        time.sleep(0.05)
    return process


def test_a_worker_that_is_killed_is_replaced(whole: Path, toml: Path, tmp_path: Path) -> None:
    process = begun(toml, tmp_path / "killed")
    time.sleep(1.0)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "died of SIGKILL" in said
    assert canonical(tmp_path / "killed") == canonical(whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_to_the_parent_ends_both(toml: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = begun(toml, tmp_path / "stopped")
    (worker,) = children(process.pid)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    for _ in range(100):
        with suppress(ProcessLookupError):
            os.kill(worker, 0)
            time.sleep(0.05)
            continue
        return
    pytest.fail("the worker lives on")


def test_a_deadline_among_what_is_made_alone_leaves_the_chunk_to_be_made(tmp_path: Path, models: Models) -> None:
    config = small_config(max_images=150)
    plans = first_look(config)
    images = [
        image_id for chunk in plans[0].chunks(config.chunk_images) for image_id in map(chunk.image_id, chunk.indices)
    ]
    flights = Flights()
    flights.deaths.update(dict.fromkeys(images, SUSPECT))
    flights.deaths[images[-1]] = SET_ASIDE
    flights.reasons[images[-1]] = "it died"
    clock = Clock(config.max_images, end=0.0)
    with (
        open_database(tmp_path / DATABASE, config, models, Path()) as store,
        Session(config, models, store, Progress(), clock=clock, flights=flights) as session,
    ):
        with pytest.raises(OutOfTimeError):
            session.make(plans)
        assert store.rows("select count(*) from chunk") == [(0,)]
        session.clock.end, session._too_late = None, False
        session.make(plans)
        assert store.rows("select count(*) from image") == [(sum(plan.images for plan in plans) - 1,)]
        assert store.rows("select reason, asked_again from item_failure") == [("it died", True)]


def test_who_is_suspected() -> None:
    flights = Flights()
    flights.begin(["a", "b"])
    flights.begin(["c"])
    flights.end(["c"])
    assert flights.count_death() == (2, True)
    assert not flights.is_suspect("a")
    assert flights.count_death() == (0, False)  # it died before it began
    flights.begin(["a"])
    assert flights.count_death()[0] == 1
    assert flights.is_suspect("a")
    assert not flights.is_set_aside("a")


def test_what_has_no_room_is_made_alone_and_then_not_at_all() -> None:
    flights = Flights()
    assert not flights.blame("none is in flight")
    flights.begin(["a", "b"])
    assert flights.blame("no room")
    assert flights.is_suspect("a")
    flights.begin(["a"])
    assert flights.blame("no room")
    assert flights.is_set_aside("a")
    assert not flights.is_set_aside("b")
    for item in range(FRUITLESS):
        flights.begin([str(item)])
        flights.blame("no room")
    assert not flights.blame("no room")  # none has room: it is not the images


@pytest.mark.parametrize(
    "said", ["CUDA_ERROR_LAUNCH_FAILED", "CUDA failure 700: an illegal memory access was encountered"]
)
def test_what_a_broken_context_says_is_a_lost_device(said: str) -> None:
    with pytest.raises(DeviceLostError, match="the device is lost, running unet"):
        raise_if_lost(RuntimeError(said), "running unet")
    raise_if_lost(RuntimeError("CUDA_ERROR_INVALID_VALUE"), "running unet")
