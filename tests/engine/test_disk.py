"""An audit stops before the disk is full, says what it will need, and goes on when there is room."""

from collections import namedtuple
from pathlib import Path

import pytest

from mothlight.engine import disk
from mothlight.engine.errors import DiskFullError
from mothlight.engine.opening import Models, open_database
from mothlight.engine.session import Progress, Session
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import run_audit_in, small_config

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024  # as shutil's own


class _Shrinks(Progress):
    """Lets the disk have no room after so many images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, images: int) -> None:
        self.monkeypatch, self.left = monkeypatch, images

    def advance(self, images: int) -> None:
        self.left -= images
        if self.left <= 0:
            self.monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(1 << 40, 1 << 40, disk.FLOOR - 1))


def test_it_stops_before_the_disk_is_full_and_goes_on(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(max_images=200)
    with monkeypatch.context() as patch, pytest.raises(DiskFullError, match="537 MB must stay free"):
        run_audit_in(tmp_path / "small", models, config, _Shrinks(patch, 48))
    with open_audit(tmp_path / "small") as store:
        ((images,),) = store.rows("select count(*) from image")
        assert 0 < images < 200
    run_audit_in(tmp_path / "small", models, config)
    run_audit_in(tmp_path / "large", models, config)
    with open_audit(tmp_path / "small") as one, open_audit(tmp_path / "large") as other:
        assert one.query("canonical") == other.query("canonical")


def test_what_it_will_need_is_near_what_it_takes(tmp_path: Path, models: Models) -> None:
    config = small_config(max_images=2000, discovery_images=480)
    path = tmp_path / DATABASE
    with open_database(path, config, models, Path()) as store, Session(config, models, store, Progress()) as session:
        session.run()
        ((images,),) = store.rows("select count(*) from image")
        needed = session.bytes_left(images)
    assert path.stat().st_size / 2 < needed < 2 * path.stat().st_size


@pytest.mark.parametrize(
    ("size", "words"), [(12, "12 bytes"), (1500, "1.5 kB"), (2_340_000, "2.34 MB"), (5.25e10, "52.5 GB")]
)
def test_sizes_in_words(size: float, words: str) -> None:
    assert disk.in_words(size) == words
