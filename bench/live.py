"""What a reader costs a running audit: `live.py --rounds 3`, the built-in audit with and without one question a second.

The rounds take turns; images per second are those of the audit's own clock. On a machine whose cores are all busy a
reader costs what it takes of them. Last line: JSON, with the share of the processor that the reader's answers took.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread

from mothlight.engine.errors import MothlightError
from mothlight.sql import open_audit

MOTHLIGHT = Path(sys.executable).with_name("mothlight")
QUESTION = "select classifier, verdict, count(*) from outcome group by all"


def ask_until(out: Path, ended: Event, answers: list[tuple[float, bool]]) -> None:
    """One question a second, over one connection each; how long it took, and whether it was answered."""
    while not ended.wait(1.0):
        begun = time.perf_counter()
        try:
            with open_audit(out) as store:
                good = bool(store.is_running and store.rows(QUESTION) is not None)
        except MothlightError:
            continue  # it begins, or ends
        answers.append((time.perf_counter() - begun, good))


def run(folder: Path, images: int, *, read: bool) -> tuple[float, list[tuple[float, bool]]]:
    """Images per second of an audit, and the answers that it gave meanwhile."""
    ended = Event()
    answers: list[tuple[float, bool]] = []
    reader = Thread(target=ask_until, args=(folder, ended, answers))
    if read:
        reader.start()
    words = [str(MOTHLIGHT), "audit", "--max-images", str(images), "--out", str(folder)]
    subprocess.run(words, check=True, capture_output=True)  # noqa: S603  # our own words
    ended.set()
    if read:
        reader.join()
    with open_audit(folder) as store:
        ((made, seconds),) = store.rows(
            "select (select count(*) from image), (select sum(seconds) from timing where work = 'images')"
        )
    return made / seconds, answers


def main() -> None:
    """Run in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1500)
    arguments = parser.parse_args()
    speeds: dict[bool, list[float]] = {False: [], True: []}
    answers: list[tuple[float, bool]] = []
    with TemporaryDirectory() as name:
        for turn in range(arguments.rounds):
            for read in (False, True):
                speed, some = run(Path(name) / f"{turn}-{read}", arguments.images, read=read)
                speeds[read].append(speed)
                answers += some
                print(f"  {'read' if read else 'alone'}: {speed:.2f} images/s, {len(some)} answers", flush=True)
    times = [seconds for seconds, _ in answers]
    print(json.dumps({
        "alone": [round(one, 2) for one in speeds[False]], "read": [round(one, 2) for one in speeds[True]],
        "ratio": round(median(speeds[True]) / median(speeds[False]), 4), "answers": len(answers),
        "unanswered": sum(not good for _, good in answers), "median_seconds": round(median(times), 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
