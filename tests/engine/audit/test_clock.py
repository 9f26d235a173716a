"""A deadline becomes a budget, and an audit that it cuts short is a whole one that can go on."""

from datetime import datetime
from pathlib import Path

import pytest

from mothlight.engine.audit import books
from mothlight.engine.audit.books import DEADLINE
from mothlight.engine.audit.clock import Clock, seconds_until
from mothlight.engine.config import AuditConfig
from mothlight.engine.errors import ConfigError
from mothlight.engine.opening import Models, open_database
from mothlight.engine.session import Progress, Session
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import small_config

NOW = datetime(2026, 11, 26, 22, 30)  # noqa: DTZ001  # an hour is local
SECONDS = 0.1
"""For an image, on the clock of these tests."""


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [
        ("06:00", 7.5 * 3600),
        ("22:31", 60),
        ("22:30", 86400),
        ("6:05", 7 * 3600 + 35 * 60),
        ("8h30m", 8.5 * 3600),
        ("90m", 5400),
        ("45s", 45),
        ("1h1s", 3601),
        ("100h", 360_000),
    ],
)
def test_hours_and_times(deadline: str, seconds: float) -> None:
    assert seconds_until(deadline, NOW) == seconds


@pytest.mark.parametrize("deadline", ["", "25:00", "6:5", "h", "8h30", "30m8h", "-5m", "0m", "tomorrow", "06:00:00"])
def test_what_is_neither_is_refused(deadline: str) -> None:
    with pytest.raises(ConfigError, match="give an hour, as 06:00"):
        seconds_until(deadline, NOW)


def test_without_a_deadline_all_of_the_budget_is_left() -> None:
    clock = Clock(1000)
    clock.start()
    clock.advance(10)
    assert clock.budget(10) == 1000
    assert not clock.is_over


def test_what_is_left_follows_the_speed() -> None:
    time = 0.0
    clock = Clock(100_000, end=1000.0, now=lambda: time)
    clock.start()
    time = 100.0
    clock.advance(200)  # half a second each, 900 seconds left
    assert clock.budget(200) == pytest.approx(200 + 900 / 0.5, rel=0.05)
    assert clock.budget(200) < 200 + 900 / 0.5
    clock.report_seconds = 100.0
    assert clock.budget(200) == pytest.approx(200 + 700 / 0.5, rel=0.05)
    time = 1001.0
    assert clock.budget(200) == 200
    assert clock.is_over


class _StoppedError(Exception):
    pass


class _Stops(Progress):
    """Stops when a phase begins whose title starts so."""

    def __init__(self, title: str) -> None:
        self.title, self.stops = title, False

    def phase(self, title: str, images: int, found: int) -> None:
        del images, found
        self.stops = title.startswith(self.title)

    def advance(self, images: int) -> None:
        del images
        if self.stops:
            raise _StoppedError


def run(
    folder: Path, config: AuditConfig, models: Models, seconds: float | None, progress: Progress | None = None
) -> list[tuple[object, ...]]:
    """An audit under a clock that counts images; what it exports."""
    clock = Clock(config.max_images, None if seconds is None else seconds)
    clock.now = lambda: clock.made * SECONDS
    folder.mkdir(exist_ok=True)
    with (
        open_database(folder / DATABASE, config, models, Path()) as store,
        Session(config, models, store, progress or Progress(), clock=clock) as session,
    ):
        session.run()
        return store.query("canonical")


@pytest.fixture
def config() -> AuditConfig:
    return small_config(max_images=2000)


def facts(folder: Path) -> tuple[int, str, int]:
    """The budget and why it ended, and the images that were made."""
    with open_audit(folder) as store:
        ((budget, why),) = store.rows("select finished_budget, ended from audit")
        ((images,),) = store.rows("select count(*) from image")
        return budget, why, images


def test_at_the_hour_there_is_a_whole_audit_that_goes_on(tmp_path: Path, config: AuditConfig, models: Models) -> None:
    run(tmp_path, config, models, 60.0)
    budget, why, images = facts(tmp_path)
    assert why == DEADLINE
    assert 300 < images <= budget < 600
    with open_audit(tmp_path) as store:
        assert store.rows("select count(*) from decision where status = 'testing'") == [(0,)]
        assert store.rows("select count(*) > 0 from wave where phase = 'reserve'") == [(True,)]
    run(tmp_path, config, models, None)
    assert facts(tmp_path)[0] == 2000
    assert facts(tmp_path)[1] != DEADLINE
    assert facts(tmp_path)[2] > images


def test_killed_in_the_reserve_it_ends_the_same(tmp_path: Path, config: AuditConfig, models: Models) -> None:
    whole = run(tmp_path / "whole", config, models, 60.0)
    with pytest.raises(_StoppedError):
        run(tmp_path / "killed", config, models, 60.0, _Stops("measuring"))
    assert run(tmp_path / "killed", config, models, 30.0) == whole


def test_an_hour_that_comes_within_a_wave_ends_it_there(tmp_path: Path, models: Models) -> None:
    config = small_config(max_images=1000, discovery_images=240)
    run(tmp_path, config, models, 15.0)
    _, why, images = facts(tmp_path)
    assert why == DEADLINE
    assert 0 < images < 2 * config.discovery_images
    assert run(tmp_path, config, models, None) == run(tmp_path / "other", config, models, None)


def test_an_hour_that_comes_within_the_reserve_leaves_it_to_be_gone_on_with(
    tmp_path: Path, config: AuditConfig, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nothing is left to ask: what was to be measured must be."""
    monkeypatch.setattr(books, "nothing_left", lambda *_: True)
    run(tmp_path, config, models, None)
    with open_audit(tmp_path / DATABASE, read_only=False) as store:
        ((last,),) = store.rows("select max(wave) from wave where phase = 'reserve'")
        ((chunk,),) = store.rows("select any_value(chunk_id) from chunk where wave = $wave", wave=last)
        whole = store.rows("select count(*) from image")
        for table in ("prediction", "embedding", "caption"):
            lost = f"delete from {table} where image_id in (select image_id from image where chunk_id = $id)"  # noqa: S608  # our own names
            store.rows(lost, id=chunk)
        store.rows("delete from image where chunk_id = $id", id=chunk)
        store.rows("delete from chunk where chunk_id = $id", id=chunk)
    run(tmp_path, config, models, 1.0)
    assert facts(tmp_path)[1] == DEADLINE
    run(tmp_path, config, models, None)
    with open_audit(tmp_path) as store:
        assert store.rows("select count(*) from image") == whole
        assert facts(tmp_path)[1] != DEADLINE
