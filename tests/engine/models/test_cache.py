import logging
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mothlight.engine.errors import UserError
from mothlight.engine.models.cache import SUFFIX, EngineCache, key_of

ABOUT = {"bundle": "b", "graph": "g", "builder": "tensorrt 11", "device": "GPU"}
KEY = key_of({"content": "abc", "shapes": [1, 2]})


def build() -> tuple[bytes, Mapping[str, str]]:
    return b"engine", ABOUT


def never() -> tuple[bytes, Mapping[str, str]]:
    raise AssertionError


def test_an_engine_is_built_once(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    assert cache.engine(KEY, build) == (b"engine", True)
    assert EngineCache(tmp_path).engine(KEY, never) == (b"engine", False)
    (entry,) = cache.entries()
    assert (entry.key, entry.graph, entry.size) == (KEY, "g", 6)


def test_everything_that_an_engine_depends_on_is_in_its_key() -> None:
    assert key_of({"content": "abd", "shapes": [1, 2]}) != KEY
    assert key_of({"shapes": [1, 2], "content": "abc"}) == KEY


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "deep" / "er")
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["cut", "changed", "no note", "foreign note", "no engine", "link"])
def test_what_is_damaged_is_built_again_and_said_so(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path)
    cache.engine(KEY, build)
    engine, note = cache.folder / f"{KEY}{SUFFIX}", cache.folder / f"{KEY}.json"
    match damage:
        case "cut":
            engine.write_bytes(b"eng")
        case "changed":
            engine.write_bytes(b"enginE")
        case "no note":
            note.unlink()
        case "foreign note":
            note.write_text('{"key": 3}')
        case "no engine":
            engine.unlink()
        case "link":
            engine.rename(tmp_path / "elsewhere")
            engine.symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING, "mothlight.engine"):
        assert cache.engine(KEY, build) == (b"engine", True)
    assert "built again" in caplog.text
    assert cache.engine(KEY, never) == (b"engine", False)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    with pytest.raises(AssertionError):
        cache.engine(KEY, never)
    assert cache.entries() == []
    assert cache.engine(KEY, build) == (b"engine", True)


COMPETE = """
import sys, time
from pathlib import Path
from mothlight.engine.models.cache import EngineCache

def build():
    with open(sys.argv[2], "a") as file:
        file.write("built\\n")
    time.sleep(0.2)
    return b"engine", {"bundle": "b", "graph": "g", "builder": "tensorrt 11", "device": "GPU"}

assert EngineCache(Path(sys.argv[1])).engine(sys.argv[3], build)[0] == b"engine"
"""


def test_several_processes_build_it_once(tmp_path: Path) -> None:
    builds = tmp_path / "builds"
    command = [sys.executable, "-P", "-c", COMPETE, str(tmp_path), str(builds), KEY]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert builds.read_text() == "built\n"


def test_clearing_counts_what_goes(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.engine(KEY, build)
    cache.keep_side("timing", b"1234")
    assert cache.side("timing") == b"1234"
    count, size = cache.clear()
    assert count == 1
    assert size > 10
    assert (cache.entries(), cache.side("timing")) == ([], b"")


def test_a_folder_that_can_not_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="MOTHLIGHT_CACHE"):
        EngineCache(tmp_path / "file")
