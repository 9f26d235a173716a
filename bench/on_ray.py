"""How many workers one writer feeds, what the driver costs, how work scales, and how long a lost worker is missed.

    python bench/on_ray.py

Workers are real Ray actors whose stages are sleeps, so that two cores can hold eight of them; rows, object store,
spreading and writer are those of an audit.
"""

import argparse
import os
import signal
import statistics
import tempfile
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

from mothlight.engine.batch import Batch, batches
from mothlight.engine.cluster.ray import connect
from mothlight.engine.cluster.spread import Hand, Spread, Work
from mothlight.engine.cluster.worker import Made
from mothlight.engine.executor.rows import Rows
from mothlight.engine.executor.writer import Writer
from mothlight.engine.records import Chunk, Prompt
from mothlight.sql import open_audit

LABELS = [f"label {number}" for number in range(1000)]
CHUNK, BATCH = 24, 12
NAMES = [("one", LABELS), ("two", LABELS), ("three", LABELS)]


def judged(chunk: Chunk, picture: int) -> list[Batch]:
    """A chunk as the executor gives it: three classifiers, an embedding of 512, pictures of so many bytes."""
    rng = np.random.default_rng(chunk.first_index)
    made = []
    for batch in batches(chunk, BATCH):
        size = batch.size
        arrays: dict[str, Any] = {"gate": np.full(size, 0.9, np.float32), "jpeg": np.empty(size, object)}
        arrays["embedding"] = rng.normal(size=(size, 512)).astype(np.float32)
        arrays["jpeg"][:] = [rng.bytes(picture) if picture else None for _ in range(size)]
        for place in range(3):
            arrays[f"indices_{place}"] = rng.integers(0, 1000, (size, 5))
            arrays[f"scores_{place}"] = np.sort(rng.random((size, 5)).astype(np.float32))[:, ::-1]
            arrays[f"score_{place}"] = rng.random(size).astype(np.float32)
        made.append(batch.with_arrays(**arrays))
    return made


class Sleeper:
    """A worker whose stages take so many seconds an image."""

    def __init__(self, seconds: float, picture: int) -> None:
        self.seconds, self.picture = seconds, picture
        self.rows = Rows(NAMES, frozenset({(LABELS[0], LABELS[0])}), [0.0, 0.5])

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def make(self, chunks: list[Chunk]) -> Made:
        """See `Worker`."""
        start = perf_counter()
        sleep(self.seconds * sum(chunk.images for chunk in chunks))
        tables = self.rows.of([judged(chunk, self.picture) for chunk in chunks])
        return Made(chunks, tables, (), (), perf_counter() - start, "sleeper")


class Team:
    """So many of them."""

    def __init__(self, ray: Any, workers: int, seconds: float, picture: int) -> None:
        self.ray = ray
        remote = ray.remote(Sleeper).options(num_cpus=0)
        actors = [remote.remote(seconds, picture) for _ in range(workers)]
        self.pids = ray.get([actor.pid.remote() for actor in actors])
        self.hands = [Hand(str(number), "here", actor, is_ready=True) for number, actor in enumerate(actors)]

    @property
    def ready(self) -> list[Hand]:
        """See `Hands`."""
        return self.hands

    def look(self) -> None:
        """Nobody comes."""

    def forget(self, hand: Hand, why: str) -> None:
        """See `Hands`."""
        del why
        self.hands = [one for one in self.hands if one is not hand]

    def run(self, count: int, *, kill_at: int = 0) -> dict[str, float]:
        """So many chunks through the object store into a database; one worker is killed after `kill_at` of them."""
        chunks = [Chunk(Prompt(LABELS[0], "x"), CHUNK * place, CHUNK, 0) for place in range(count)]
        work = Work(
            iter(chunks), count, lambda one: one.images, lambda to, some: to.actor.make.remote(list(some)), lambda: True
        )
        with tempfile.TemporaryDirectory() as folder, open_audit(Path(folder) / "a.duckdb", read_only=False) as store:
            writer = Writer(store, 1, NAMES)
            start, cpu, done = perf_counter(), process_time(), 0
            for _, made in Spread(self, work).results():
                writer.take(made)
                done += len(made.chunks)
                if kill_at and done >= kill_at:
                    os.kill(self.pids[0], signal.SIGKILL)
                    kill_at = 0
            writer.flush()
            seconds = perf_counter() - start
            ((images,),) = store.rows("select count(*) from image")
        if images != count * CHUNK:
            raise SystemExit(f"{images:,} images of {count * CHUNK:,} came.")
        return {"seconds": seconds, "images": images, "driver": (process_time() - cpu) / images, "writer": writer.busy}

    def close(self) -> None:
        """Let go of them."""
        for hand in self.hands:
            self.ray.kill(hand.actor)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=30, help="of 24 images, for each worker")
    parser.add_argument("--times", type=int, default=3)
    chosen = parser.parse_args()
    ray = connect("local")
    for picture in (0, 20_000, 100_000):
        rates, costs, writing = [], [], []
        for _ in range(chosen.times):
            team = Team(ray, 2, 0.0, picture)
            found = team.run(2 * chosen.chunks)
            team.close()
            rates.append(found["images"] / found["seconds"])
            costs.append(1e3 * found["driver"])
            writing.append(found["images"] / found["writer"])
        alone = statistics.median(writing)
        print(
            f"pictures of {picture:,} bytes, a generator that costs nothing, 2 workers: "
            f"{statistics.median(rates):,.0f} images/s ({min(rates):,.0f} to {max(rates):,.0f}); driver "
            f"{statistics.median(costs):.2f} ms of processor an image; the writer alone {alone:,.0f}/s",
            flush=True,
        )
    for workers in (1, 2, 4, 8):
        shares = []
        for _ in range(chosen.times):
            team = Team(ray, workers, 0.05, 0)
            found = team.run(workers * chosen.chunks)
            team.close()
            shares.append(chosen.chunks * CHUNK * 0.05 / found["seconds"])
        print(
            f"{workers} workers of 20 images/s: efficiency {statistics.median(shares):.3f} "
            f"({min(shares):.3f} to {max(shares):.3f})",
            flush=True,
        )
    team = Team(ray, 4, 0.05, 0)
    whole = team.run(4 * chosen.chunks)
    lost = team.run(4 * chosen.chunks, kill_at=2 * chosen.chunks)
    team.close()
    ideal = whole["seconds"] * (0.5 + 0.5 * 4 / 3)
    took = f"{lost['seconds']:.1f} s, {whole['seconds']:.1f} s with all, {ideal:.1f} s at best"
    print(f"4 workers, one killed at half: {took}")
    ray.shutdown()


if __name__ == "__main__":
    main()
