"""Small audits that are killed, stopped and read all the while: `soak.py --minutes 30`.

Each audit of the built-in world (renderer) is started again and again until it ends: killed at a random moment (SIGKILL
to its whole group, or SIGINT, or SIGTERM), while another process asks its database. At its end what it found must be
byte for byte what an undisturbed audit finds. Last line: JSON, with the bound that so many trials without a fault give
(3/N, 95 %).
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

from mothlight.engine.errors import MothlightError
from mothlight.sql import open_audit

MOTHLIGHT = Path(sys.executable).with_name("mothlight")
SETTINGS = """
name = "soak"
seed = {seed}
max_images = 700
prompt = "a realistic photograph of {{a}} {{label}} ({{hypernym}})."
generator = "renderer"
classifiers = ["tinyworld:planted-resnet", "tinyworld:planted-mobilenet"]
gate = "tinyworld:gate"
embedder = "tinyworld:clip"
captioner = "tinyworld:captioner"
discovery_images = 96
wave_images = 12
reserve_pairs = 24
labels = [{{ name = "fly", hypernym = "insect" }}, {{ name = "butterfly", hypernym = "insect" }}]
"""
STOPS = 6
"""Then an audit may end."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
ENDS = {
    -signal.SIGKILL: "killed",
    -signal.SIGINT: "stopped",
    -signal.SIGTERM: "stopped",
    130: "stopped",
    143: "stopped",
    5: "locked by a reader",
    0: "ended",
    4: "ended",
}


def start(toml: Path, out: Path) -> "subprocess.Popen[bytes]":
    """An audit in a process group of its own."""
    words = [str(MOTHLIGHT), "audit", str(toml), "--out", str(out)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)  # noqa: S603  # our own words


def found(out: Path) -> str:
    """A digest of all that an audit found."""
    with open_audit(out) as store:
        return sha256(repr(store.query("canonical")).encode()).hexdigest()


def read_until(out: Path, ended: Event, reads: Counter[str]) -> None:
    """Ask an audit twice a second; sums must fit together whatever it is doing."""
    while not ended.wait(0.5):
        try:
            with open_audit(out) as store:
                ((images, predictions, classifiers),) = store.rows(
                    "select (select count(*) from image), (select count(*) from prediction), "
                    "(select count(*) from model where role = 'classifier')"
                )
                reads["inconsistent" if predictions != images * classifiers else "consistent"] += 1
                reads["while it ran"] += store.is_running
        except MothlightError as error:
            reads[type(error).__name__] += 1


def peak(process: "subprocess.Popen[bytes]") -> int:
    """Resident MiB of a process."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024
    except (OSError, IndexError):
        return 0


def disturbed(toml: Path, out: Path, rng: random.Random, ends: Counter[str], memory: list[int]) -> None:
    """Start an audit, and stop it somehow, until it ends."""
    for attempt in itertools.count():
        process = start(toml, out)
        until = time.monotonic() + (600 if attempt == STOPS else rng.choice([rng.uniform(1, 3), rng.uniform(1, 9)]))
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        memory.append(peak(process))
        if process.poll() is None:
            how = rng.choice(SIGNALS)
            if how is signal.SIGKILL:
                os.killpg(process.pid, how)
            else:
                process.send_signal(how)
        begun = time.monotonic()
        code = process.wait(timeout=60)
        ends[ENDS.get(code, f"exit {code}")] += 1
        ends["slow to stop"] += code in (130, 143) and time.monotonic() - begun > 10
        if code in (0, 4):
            return


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)  # noqa: S311  # nothing secret
    ends: Counter[str] = Counter()
    reads: Counter[str] = Counter()
    memory: list[int] = []
    audits, different = 0, 0
    end = time.monotonic() + 60 * arguments.minutes
    with TemporaryDirectory() as name:
        folder = Path(name)
        while time.monotonic() < end:
            audits += 1
            toml = folder / f"{audits}.toml"
            toml.write_text(SETTINGS.format(seed=rng.randrange(1000)))
            whole, out = folder / f"whole-{audits}", folder / f"out-{audits}"
            start(toml, whole).wait()
            ended = Event()
            reader = Thread(target=read_until, args=(out, ended, reads))
            reader.start()
            try:
                disturbed(toml, out, rng, ends, memory)
            finally:
                ended.set()
                reader.join()
            different += found(out) != found(whole)
            print(f"  {audits} audits, {different} different; {dict(ends)}; reads {dict(reads)}", flush=True)
    disturbances = ends["killed"] + ends["stopped"]
    bound = 3 / disturbances if disturbances and not different else None
    print(json.dumps({
        "audits": audits, "different": different, "ends": ends, "reads": reads, "bound": bound,
        "largest_mib": max(memory), "smallest_mib": min(one for one in memory if one),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
