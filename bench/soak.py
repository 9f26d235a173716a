"""Small audits that are killed, stopped and read all the while: `soak.py --minutes 30`.

Each audit of the built-in world (renderer) is started again and again until it ends: killed at a random moment (SIGKILL
to its whole group, or SIGINT, or SIGTERM; or SIGKILL to its working process, which is replaced), while another process
asks its database. Every second one is captioned by a server that hangs and is busy at times, and the disk is kept busy
meanwhile. At its end what it found must be byte for byte what an undisturbed audit finds. Last line: JSON, with
the bound that so many trials without a fault give (3/N, 95 %), and how the undisturbed ones' memory grows: MiB a
minute, a line through the second half of each.
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
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import linear_regression, median
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
captioner = {captioner}
discovery_images = 96
wave_images = 12
reserve_pairs = 24
labels = [{{ name = "fly", hypernym = "insect" }}, {{ name = "butterfly", hypernym = "insect" }}]
"""
SERVED = '{{ url = "http://127.0.0.1:{port}/v1", model = "m", attempts = 8, first_wait = 0.05, timeout = 2.0 }}'
CAPTIONS = ("a fly on a flower.", "a butterfly in the grass.", "a small fly. it is raining.", "a butterfly at night.")
HANGS, BUSY = 0.02, 0.05
"""The shares of a server's requests that it does not answer in time, and to which it says that it is busy."""
HOG = 64 << 20
"""Bytes that something else writes to the disk again and again, each time to the very disk."""
STOPS = 6
"""Then an audit may end."""
WORKERS = 0.3
"""So often the working process is killed first, and replaced."""
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


class Unreliable(BaseHTTPRequestHandler):
    """A captioner that says the same of the same picture, when it answers."""

    def do_POST(self) -> None:  # http.server's name
        """Hang, be busy, or answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        chance = random.random()  # noqa: S311  # nothing secret
        if chance < HANGS:
            time.sleep(4)
        said = CAPTIONS[sha256(body).digest()[0] % len(CAPTIONS)]
        answer = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        with suppress(OSError):
            self.send_response(503 if chance > 1 - BUSY else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def hog(folder: Path, ended: Event) -> None:
    """Keep the disk busy."""
    while not ended.is_set():
        with (folder / "hog").open("wb") as file:
            file.write(bytes(HOG))
            file.flush()
            os.fsync(file.fileno())


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


def worker(process: "subprocess.Popen[bytes]") -> int | None:
    """The process that works for an audit's."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def resident(process: "subprocess.Popen[bytes]") -> float:
    """Resident MiB of the process that works for an audit's."""
    try:
        status = Path(f"/proc/{worker(process)}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


def undisturbed(toml: Path, out: Path) -> float | None:
    """An audit to its end; MiB a minute by which its memory grows in its second half."""
    process = start(toml, out)
    begun = time.monotonic()
    seen: list[tuple[float, float]] = []
    while process.poll() is None:
        seen.append((time.monotonic() - begun, resident(process)))
        time.sleep(0.2)
    half = [(seconds, mib) for seconds, mib in seen[len(seen) // 2 :] if mib]
    return 60 * linear_regression(*zip(*half, strict=True)).slope if len(half) > 2 else None


def disturbed(toml: Path, out: Path, rng: random.Random, ends: Counter[str], memory: list[int]) -> None:
    """Start an audit, and stop it somehow, until it ends."""
    for attempt in itertools.count():
        process = start(toml, out)
        until = time.monotonic() + (600 if attempt == STOPS else rng.choice([rng.uniform(1, 3), rng.uniform(1, 9)]))
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        memory.append(round(resident(process)))
        if process.poll() is None and rng.random() < WORKERS and (pid := worker(process)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                ends["worker replaced"] += 1
            time.sleep(rng.uniform(0, 4))
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
    slopes: list[float | None] = []
    audits, different = 0, 0
    end = time.monotonic() + 60 * arguments.minutes
    with TemporaryDirectory() as name:
        folder = Path(name)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Unreliable)
        Thread(target=server.serve_forever, daemon=True).start()
        over = Event()
        Thread(target=hog, args=(folder, over), daemon=True).start()
        while time.monotonic() < end:
            audits += 1
            toml = folder / f"{audits}.toml"
            served = SERVED.format(port=server.server_address[1])
            captioner = served if audits % 2 else '"tinyworld:captioner"'
            toml.write_text(SETTINGS.format(seed=rng.randrange(1000), captioner=captioner))
            whole, out = folder / f"whole-{audits}", folder / f"out-{audits}"
            slopes.append(undisturbed(toml, whole))
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
        over.set()
    disturbances = ends["killed"] + ends["stopped"] + ends["worker replaced"]
    growth = sorted(one for one in slopes if one is not None)
    bound = 3 / disturbances if disturbances and not different else None
    print(json.dumps({
        "audits": audits, "different": different, "ends": ends, "reads": reads, "bound": bound,
        "mib_a_minute": [round(one, 1) for one in (growth[0], median(growth), growth[-1])] if growth else None,
        "largest_mib": max(memory), "smallest_mib": min(one for one in memory if one),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
