"""One night in which everything goes wrong, and the audit and the report that stand in the morning."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mothlight.engine import disk
from mothlight.engine.audit.books import DEADLINE
from mothlight.engine.audit.clock import Clock
from mothlight.engine.batch import Batch
from mothlight.engine.config import AuditConfig
from mothlight.engine.errors import DiskFullError
from mothlight.engine.opening import load_models, open_database
from mothlight.engine.session import Progress, Session
from mothlight.engine.stages.classify import ClassifyStage
from mothlight.reports.build import build_report
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import small_config
from tests.engine.test_disk import Usage
from tests.engine.test_served import Server, captioner, running


class _PowerCutError(Exception):
    pass


class _Cut(Progress):
    """Something happens after so many images."""

    def __init__(self, images: int, happens: Callable[[], None]) -> None:
        self.left, self.happens = images, happens

    def advance(self, images: int) -> None:
        self.left -= images
        if self.left <= 0:
            self.happens()


def power_cut() -> None:
    raise _PowerCutError


def no_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("shutil.disk_usage", lambda _: Usage(1 << 40, 1 << 40, disk.FLOOR - 1))


def fails_on_some(stage: ClassifyStage, batch: Batch) -> Batch:
    """A classifier that gives no number for every 29th index."""
    if stage.classifier.name == "planted-resnet":
        scores = batch.arrays[stage.names["scores"]]
        scores[[row for row, index in enumerate(batch.padded) if index % 29 == 3]] = np.nan
    return batch


class Night:
    """Runs of one audit, each under other circumstances."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.path = folder / DATABASE
        self.config: AuditConfig = small_config(max_images=900, captioner=captioner(server, timeout=300.0))
        self.models = load_models(self.config, Path())

    def run(
        self, progress: Progress | None = None, seconds: float | None = None, stop: threading.Event | None = None
    ) -> None:
        clock = Clock(self.config.max_images, seconds)
        clock.now = lambda: clock.made * 0.1  # a tenth of a second for an image
        with (
            open_database(self.path, self.config, self.models, Path()) as store,
            Session(self.config, self.models, store, progress or Progress(), clock=clock, stop=stop) as session,
        ):
            session.run()


def test_a_night_in_which_everything_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassifyStage, "finish", fails_on_some)
    folder, other = tmp_path / "night", tmp_path / "undisturbed"
    folder.mkdir()
    other.mkdir()
    with running() as server:
        night = Night(folder, server)
        with pytest.raises(_PowerCutError):
            night.run(_Cut(30, power_cut))
        with monkeypatch.context() as patch, pytest.raises(DiskFullError):
            night.run(_Cut(10, lambda: no_room(patch)))
        server.hangs.clear()
        stop = threading.Event()
        threading.Timer(4.0, stop.set).start()
        with pytest.raises(KeyboardInterrupt):
            night.run(stop=stop)
        server.hangs.set()
        night.run(seconds=40.0)
        Night(other, server).run()
    with open_audit(folder) as store, open_audit(other) as undisturbed:
        assert store.rows("select ended from audit") == [(DEADLINE,)]
        assert store.rows("select count(*), count(ended_at) from run") == [(4, 1)]
        assert store.rows("select count(*) from decision where status = 'testing'") == [(0,)]
        ((images, planned),) = store.rows("select (select count(*) from image), (select sum(images) from chunk)")
        assert images == planned
        failed = store.rows("select count(*) from model_failure where model = 'planted-resnet'")[0][0]
        assert failed == store.rows("select count(*) from image where index % 29 = 3")[0][0] > 0
        by_classifier = dict(store.rows("select classifier, count(*) from prediction group by all"))
        assert by_classifier.pop("planted-resnet") == images - failed
        assert set(by_classifier.values()) == {images}
        asked = "select image_id, classifier, predicted, verdict from outcome where wave = 0 order by all"
        assert store.rows(asked) == undisturbed.rows(asked)
        page = build_report(store, folder / "report").read_text(encoding="utf-8")
    assert "the deadline came" in page
    assert f"and which count for the others: {failed:,}." in page
