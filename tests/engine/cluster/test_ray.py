"""Several workers on Ray: they make what one machine makes, whoever dies meanwhile."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from mothlight.engine.cluster import pool as pools
from mothlight.engine.cluster.pool import Pool, difference
from mothlight.engine.cluster.ray import connect
from mothlight.engine.config import AuditConfig
from mothlight.engine.errors import UserError
from mothlight.engine.opening import Models, load_models, open_database
from mothlight.engine.session import Progress, Session, open_pool
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import run_audit_in, small_config

TOKEN = secrets.token_hex(32)
"""One for all clusters: Ray reads it once in a process."""
CANONICAL = (Path(__file__).parents[3] / "sql" / "queries" / "canonical.sql").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def config() -> AuditConfig:
    return small_config(threads=1, max_images=400)


@pytest.fixture(scope="module")
def models(config: AuditConfig) -> Models:
    return load_models(config, Path())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, config: AuditConfig, models: Models) -> Any:
    """What one machine makes."""
    folder = tmp_path_factory.mktemp("alone")
    run_audit_in(folder, models, config)
    with open_audit(folder / DATABASE) as store:
        return store.rows(CANONICAL)


@contextmanager
def cluster(nodes: int) -> Iterator[Any]:
    """So many machines of one core each, on this one."""
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()  # type: ignore[no-untyped-call]  # as Ray has it


class Interrupts(Progress):
    """Does something when so many images are committed; None kills the first worker's process."""

    def __init__(self, after: int, what: Any) -> None:
        self.left, self.what = after, what

    def advance(self, images: int) -> None:
        before, self.left = self.left, self.left - images
        if before > 0 >= self.left:
            self.what()


def run(
    folder: Path, config: AuditConfig, models: Models, address: str, progress: Progress | None = None
) -> tuple[Pool, list[str]]:
    """An audit to its end on a cluster."""
    folder.mkdir(exist_ok=True)
    said: list[str] = []
    with open_database(folder / DATABASE, config, models, Path()) as store:
        pool = open_pool(address, config, models, store, Progress(), Event())
        pool.say = said.append
        try:
            pool.wait()
            first = pool.ray.get(pool.ready[0].actor.__ray_call__.remote(process_of))
            with Session(config, models, store, progress or Progress(), pool=pool) as session:
                if isinstance(progress, Interrupts) and progress.what is None:
                    progress.what = lambda: os.kill(first, signal.SIGKILL)
                session.run()
        finally:
            pool.close()
    return pool, said


def process_of(_worker: Any) -> int:
    return os.getpid()


def test_a_killed_worker_and_a_lost_machine_change_nothing(
    tmp_path: Path, config: AuditConfig, models: Models, alone: Any
) -> None:
    """One process is killed, then one of the two machines is gone, and another comes."""
    with cluster(2) as machines:
        address = machines.address
        _, said = run(tmp_path / "killed", config, models, address, Interrupts(60, None))
        with open_audit(tmp_path / "killed" / DATABASE) as store:
            assert store.rows(CANONICAL) == alone
            made = store.rows("select worker, count(*) from chunk_worker group by all")
            ((chunks,),) = store.rows("select count(*) from chunk")
            assert sum(count for _, count in made) == chunks
            assert len(made) >= 2
            judged = store.rows("select difference, refused from worker")
            assert set(judged) == {(0.0, None)}
        assert any("is gone" in line for line in said)

        def lose() -> None:
            machines.remove_node(next(iter(machines.worker_nodes)), allow_graceful=False)
            machines.add_node(num_cpus=1)

        _, said = run(tmp_path / "lost", config, models, address, Interrupts(60, lose))
        with open_audit(tmp_path / "lost" / DATABASE) as store:
            assert store.rows(CANONICAL) == alone
        assert any("is gone" in line for line in said)


def test_what_is_stopped_goes_on_alone_and_ends_the_same(
    tmp_path: Path, config: AuditConfig, models: Models, alone: Any
) -> None:
    """The process that decides is interrupted; one machine goes on from what is committed."""

    def stop() -> None:
        raise KeyboardInterrupt

    with cluster(1) as machines, pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, models, machines.address, Interrupts(100, stop))
    with open_audit(tmp_path / DATABASE) as store:
        assert store.rows("select count(*) > 0, count(*) < 400 from image") == [(True, True)]
    run_audit_in(tmp_path, models, config)
    with open_audit(tmp_path / DATABASE) as store:
        assert store.rows(CANONICAL) == alone


def test_who_makes_something_else_is_found() -> None:
    rng = np.random.default_rng(1)
    same = {"scores_0": rng.random((6, 5)), "embedding": rng.normal(size=(6, 8)), "pictures": rng.random((6, 8, 8, 3))}
    assert difference(same, same) == (0.0, 0.0)
    rounded = {name: array + 1e-6 for name, array in same.items()}
    far, grey = difference(rounded, same)
    assert 0 < far < pools.CLOSE
    assert 0 < grey < pools.CLOSE_GREY
    other = {**same, "embedding": rng.normal(size=(6, 8))}
    assert difference(other, same)[0] > pools.CLOSE
    assert difference({**same, "embedding": same["embedding"] * np.nan}, same)[0] == np.inf
    assert difference({**same, "embedding": same["embedding"][:, :4]}, same)[0] == np.inf
    assert pools._most_agree([other, same, rounded]) is not other


def test_without_a_token_no_cluster_is_joined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="There is no token for Ray") as caught:
        connect("10.0.0.1:6379")
    assert "\n" not in str(caught.value)
