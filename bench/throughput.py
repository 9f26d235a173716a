"""mothlight against the seed script: the same work, in turn, interleaved. Last line: JSON.

The work: so many images of each of some labels are made, judged by three classifiers and the gate, and embedded; those
that fail are captioned, and some that pass, 48 of a label at least; everything is stored. Model loading is in neither
time. S0 is the seed script at its best batch, S1 our engines one stage after the other in one thread each, P the
pipeline. The efficiency is the time that the stages take by themselves, one after the other on one core, over cores
times P's time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mothlight.engine.audit.waves import first_look, save
from mothlight.engine.config import AuditConfig, built_in_config, load_config
from mothlight.engine.opening import load_models, open_database
from mothlight.engine.session import Progress, Session

HERE = Path(__file__).parent
SWEEP = (8, 16, 32, 64)


def mothlight(images: int, labels: int, threads: int, *, in_order: bool) -> dict[str, float]:
    """The discovery of an audit with some of the labels: images and captions, committed to a database."""
    whole = load_config(built_in_config(), threads=1 if in_order else threads).model_dump()
    settings = {**whole, "labels": whole["labels"][:labels], "discovery_images": images}
    config = AuditConfig.model_validate(settings)
    models = load_models(config, Path())
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(Path(folder) / "audit.duckdb", config, models, Path()) as store,
        Session(config, models, store, Progress()) as session,
    ):
        if in_order:
            session.maker.pipeline.run = session.maker.pipeline.run_in_order  # type: ignore[method-assign]  # that is what S1 is
        session.seconds_left(images * labels)
        plans = first_look(config)
        save(store, plans, config.max_images)
        start, cpu = time.perf_counter(), time.process_time()
        session.make(plans)
        session.caption()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        ((made,),) = store.rows("select count(*) from image")
    return {"images": made, "seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3)}


def run(script: str, *arguments: str) -> dict[str, float]:
    """One arm in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own scripts
    result: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Sweep the seed script's batch size, then run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=48, help="of each label")
    parser.add_argument("--labels", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arm", choices=["P", "S1"], help="run one of mothlight's arms alone, once")
    arguments = parser.parse_args()
    if arguments.arm:
        in_order = arguments.arm == "S1"
        print(json.dumps(mothlight(arguments.images, arguments.labels, arguments.threads, in_order=in_order)))
        return
    work = ["--images", str(arguments.images), "--labels", str(arguments.labels), "--threads", str(arguments.threads)]
    speeds = {}
    for batch in SWEEP:
        result = run("seed_script.py", *work, "--batch", str(batch))
        speeds[batch] = result["images"] / result["seconds"]
        print(f"seed script at batch {batch}: {speeds[batch]:.2f} images/s", flush=True)
    best = max(speeds, key=lambda batch: speeds[batch])
    rates: dict[str, list[float]] = {"S0": [], "S1": [], "P": []}
    efficiency = []
    for number in range(1, arguments.rounds + 1):
        made = {
            "S0": run("seed_script.py", *work, "--batch", str(best)),
            "S1": run("throughput.py", *work, "--arm", "S1"),
            "P": run("throughput.py", *work, "--arm", "P"),
        }
        for arm, one in made.items():
            rates[arm].append(one["images"] / one["seconds"])
        efficiency.append(made["S1"]["seconds"] / arguments.threads / made["P"]["seconds"])
        shown = ", ".join(f"{arm} {rate[-1]:.2f}" for arm, rate in rates.items())
        print(f"round {number}: {shown} images/s, efficiency {efficiency[-1]:.2f}", flush=True)
    for arm, rate in rates.items():
        print(f"{arm}: median {median(rate):.2f}, {min(rate):.2f} to {max(rate):.2f}")
    seed, ours = median(rates["S0"]), median(rates["P"])
    print(
        json.dumps(
            {
                "seed_images_per_s": round(seed, 2),
                "in_order_images_per_s": round(median(rates["S1"]), 2),
                "mothlight_images_per_s": round(ours, 2),
                "ratio": round(ours / seed, 2),
                "efficiency": round(median(efficiency), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
