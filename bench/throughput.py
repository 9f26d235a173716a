"""mothlight against the seed script: the same work, in turn, interleaved. Last line: JSON.

The work: so many images of each of some labels are made, judged by three classifiers and the gate, and embedded; those
that pass the gate are captioned; everything is stored. Model loading is in neither time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mothlight.engine.audit.waves import discovery, save
from mothlight.engine.config import AuditConfig, built_in_config, load_config
from mothlight.engine.opening import load_models, open_database
from mothlight.engine.session import Progress, Session

HERE = Path(__file__).parent
SWEEP = (8, 16, 32, 64)


def mothlight(images: int, labels: int, threads: int) -> dict[str, float]:
    """The discovery of an audit with some of the labels: images and captions, committed to a database."""
    whole = load_config(built_in_config(), threads=threads).model_dump()
    settings = {**whole, "labels": whole["labels"][:labels], "discovery_images": images}
    config = AuditConfig.model_validate(settings)
    models = load_models(config, Path())
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(Path(folder) / "audit.duckdb", config, models, Path()) as store,
        Session(config, models, store, Progress()) as session,
    ):
        session.seconds_per_image()
        plans = discovery(config)
        save(store, plans, config.max_images)
        start = time.perf_counter()
        session.make(plans)
        session.caption()
        seconds = time.perf_counter() - start
        ((made,),) = store.rows("select count(*) from image")
    return {"images": made, "seconds": round(seconds, 3)}


def run(script: str, *arguments: str) -> dict[str, float]:
    """One arm in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own scripts
    result: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Sweep the seed script's batch size, then run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=48, help="of each label")
    parser.add_argument("--labels", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arm", action="store_true", help="run mothlight's arm alone, once")
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(mothlight(arguments.images, arguments.labels, arguments.threads)))
        return
    work = ["--images", str(arguments.images), "--labels", str(arguments.labels), "--threads", str(arguments.threads)]
    speeds = {}
    for batch in SWEEP:
        result = run("seed_script.py", *work, "--batch", str(batch))
        speeds[batch] = result["images"] / result["seconds"]
        print(f"seed script at batch {batch}: {speeds[batch]:.2f} images/s", flush=True)
    best = max(speeds, key=lambda batch: speeds[batch])
    seed, ours = [], []
    for number in range(1, arguments.rounds + 1):
        one = run("seed_script.py", *work, "--batch", str(best))
        two = run("throughput.py", *work, "--arm")
        seed.append(one["images"] / one["seconds"])
        ours.append(two["images"] / two["seconds"])
        print(f"round {number}: seed script {seed[-1]:.2f}, mothlight {ours[-1]:.2f} images/s", flush=True)
    print(f"seed script at batch {best}: median {median(seed):.2f}, {min(seed):.2f} to {max(seed):.2f}")
    print(f"mothlight: median {median(ours):.2f}, {min(ours):.2f} to {max(ours):.2f}")
    ratio = median(ours) / median(seed)
    print(
        json.dumps(
            {
                "seed_images_per_s": round(median(seed), 2),
                "mothlight_images_per_s": round(median(ours), 2),
                "ratio": round(ratio, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
