"""An audit that is killed at the worst of moments, or has no home and no network, ends as any other does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mothlight.engine.errors import CorruptError
from mothlight.engine.opening import Models
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import run_audit_in, small_config, toml_of

KILLED = """
import os, pathlib, signal, sys
from importlib import import_module
from mothlight.engine.audit_command import Choices, audit_command

toml, out, point, calls = sys.argv[1:]
module, _, path = point.partition(":")
*holders, name = path.split(".")
holder = import_module(module)
for one in holders:
    holder = getattr(holder, one)
whole, left = getattr(holder, name), [int(calls)]

def killed(*arguments, **words):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments, **words)

setattr(holder, name, killed)
sys.exit(audit_command(pathlib.Path(toml), Choices(out=pathlib.Path(out))))
"""
SMALL = {"max_images": 250}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    out = tmp_path_factory.mktemp("whole")
    run_audit_in(out, models, small_config(**SMALL))
    return out


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(toml_of(small_config(**SMALL)))
    return path


def canonical(folder: Path) -> list[tuple[str, str, str]]:
    with open_audit(folder) as store:
        return store.query("canonical")


def audit(toml: Path, out: Path, *point: str) -> int:
    words = [sys.executable, "-P", "-c", KILLED, str(toml), str(out), *point]
    return subprocess.run(words, check=False, capture_output=True).returncode


NOWHERE = ("mothlight.engine.audit_command:print_result", "1000")


@pytest.mark.parametrize(
    ("point", "calls"),
    [
        pytest.param("mothlight.sql.store:Store.append_all", 3, id="made, before it is written"),
        pytest.param("mothlight.sql.store:Store.append", 30, id="within a flush"),
        pytest.param("mothlight.sql.store:_apply", 7, id="between two migrations", marks=pytest.mark.slow),
        pytest.param(
            "mothlight.engine.audit.books:_decide", 1, id="counted, before it is decided", marks=pytest.mark.slow
        ),
        pytest.param(
            "mothlight.engine.audit.rounds:discover", 0, id="before the failures are grouped", marks=pytest.mark.slow
        ),
        pytest.param(
            "mothlight.engine.audit.books:_save_vectors", 0, id="within a round's writing", marks=pytest.mark.slow
        ),
        pytest.param("mothlight.engine.audit.books:measure", 0, id="the reserve made, before it is counted"),
        pytest.param("mothlight.engine.audit_command:read_report", 0, id="before the report"),
        pytest.param("mothlight.reports.build:_document", 3, id="within the report", marks=pytest.mark.slow),
    ],
)
def test_killed_at_a_named_point_it_goes_on_to_the_same_end(
    whole: Path, toml: Path, tmp_path: Path, point: str, calls: int
) -> None:
    out = tmp_path / "audit"
    assert audit(toml, out, point, str(calls)) == -signal.SIGKILL
    assert audit(toml, out, *NOWHERE) == 0
    assert canonical(out) == canonical(whole)
    assert (out / "report" / "index.html").is_file()


def test_a_damaged_log_of_what_was_last_committed_is_never_read_as_something_else(tmp_path: Path) -> None:
    path = tmp_path / DATABASE
    open_audit(path, read_only=False).close()
    child = os.fork()
    if child == 0:  # killed before its last commits are in the file itself
        store = open_audit(path, read_only=False)
        for place in range(50):
            store.append("label", [{"label": f"label {place}", "place": place, "plain_prompt_id": "p"}])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    log = tmp_path / f"{DATABASE}.wal"
    sound, whole = path.read_bytes(), log.read_bytes()
    refused = 0
    for place in range(len(whole) // 40, len(whole), len(whole) // 20):
        path.write_bytes(sound)
        log.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            with open_audit(path, read_only=False) as store:
                labels = store.rows("select label, place, plain_prompt_id from label order by place")
            assert labels == [(f"label {number}", number, "p") for number in range(len(labels))]
        except CorruptError:
            refused += 1
    assert refused


def test_no_home_and_no_network(whole: Path, toml: Path, tmp_path: Path) -> None:
    alone = KILLED.replace(
        "import os,",
        "import socket\n"
        "def refuse(self, address):\n"
        "    if self.family != socket.AF_UNIX:\n"
        "        raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "import os,",
        1,
    )
    words = [sys.executable, "-P", "-c", alone, str(toml), str(tmp_path / "audit"), *NOWHERE]
    nowhere = {**os.environ, "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere/cache", "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=nowhere)
    assert done.returncode == 0, done.stderr
    assert canonical(tmp_path / "audit") == canonical(whole)
