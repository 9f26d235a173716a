"""How many images a second the host can feed and drain when the device costs nothing. Last line: JSON.

512² images, three classifiers, embeddings of 512 numbers, everything judged, encoded and written to a database, by the
real executor, stages and writer on a device that takes no time; once with all images kept, once with failures only.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from free_device import FreeDevice, FreeEngines, TimedDevice, bundle
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.batch import Batch, batches
from mothlight.engine.config import AuditConfig, built_in_config, load_config
from mothlight.engine.device import Spec
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.executor.writer import Writer
from mothlight.engine.making import judging_stages
from mothlight.engine.opening import load_models, open_database
from mothlight.engine.records import Chunk
from mothlight.engine.stages.encode import EncodeStage, to_jpeg
from mothlight.engine.stages.generate import DiffusionStage

SIDE, BATCH, CHUNK = 512, 64, 256
H200_BYTES = 50e9
"""A second, between host and device."""
FAILING = 0.1
"""Of the images, by all three classifiers."""


def photograph(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Something that compresses as a photograph does: large forms, edges, grain."""
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    large = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    blocks = np.asarray(
        Image.fromarray(rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR
        )
    )
    made: NDArray[np.uint8] = np.clip(large * 0.8 + blocks + rng.normal(0, 3, large.shape), 0, 255).astype(np.uint8)
    return made


class Contents:
    """What the buffers of the device hold when they have come to the host."""

    def __init__(self, config: AuditConfig) -> None:
        self.rng = np.random.default_rng(0)
        self.pictures = np.stack([photograph(self.rng) for _ in range(BATCH)])
        self.labels = len(config.labels)

    def __call__(self, name: str, spec: Spec) -> NDArray[np.generic]:
        """See `free_device.Fill`."""
        if "images" in name:
            return self.pictures
        if "indices_" in name:
            right = np.arange(spec.shape[0]) % round(1 / FAILING) > 0
            indices = self.rng.integers(0, self.labels, spec.shape)
            indices[:, 0] = np.where(right, 0, 1)
            return indices.astype(spec.dtype)
        if np.issubdtype(spec.dtype, np.floating):
            return self.rng.random(spec.shape).astype(spec.dtype)
        return np.zeros(spec.shape, spec.dtype)


def failed(batch: Batch) -> Sequence[bool]:
    """Whether one of the classifiers is wrong: the label that is asked for is the first."""
    wrong = [batch.arrays[f"indices_{k}"][: len(batch.indices), 0] != 0 for k in range(3)]
    return list(np.any(wrong, axis=0))


def arm(images: int, threads: int, *, keep_all: bool, profile: Mapping[str, float] | None = None) -> dict[str, float]:
    """One run: images a second, and where the host's time went; on a device that takes the times of a profile."""
    config = load_config(built_in_config())
    models = load_models(config, Path())
    contents = Contents(config)
    device = FreeDevice(contents) if profile is None else TimedDevice(contents, H200_BYTES)
    engines = FreeEngines(device, SIDE, profile)
    generate = DiffusionStage(bundle("generator"), seed=1, steps=4, engines=engines)
    stages = [generate, *judging_stages(config, models, engines)]
    chunks = [Chunk(config.plain_prompt(config.labels[0]), k * CHUNK, CHUNK, 0) for k in range(images // CHUNK)]
    generate.prepare([chunks[0].prompt])
    names = [(one.manifest.name, one.manifest.labels) for one in models.classifiers]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(Path(folder) / "audit.duckdb", config, models, Path()) as store,
        Pipeline(
            engines.device,
            stages,
            BATCH,
            keep=[EncodeStage(None if keep_all else failed)],
            keepers=threads,
            without=["images"],
        ) as pipeline,
    ):
        writer = Writer(store, 1, names)
        work = (batch for chunk in chunks for batch in batches(chunk, BATCH))
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        stats = pipeline.run(work, writer)
        writer.flush()
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        ((stored,),) = store.rows("select count(*) from image")
    assert stored == len(chunks) * CHUNK  # noqa: S101  # a rate of lost images would be none
    count = len(chunks) * CHUNK // BATCH
    encode = next(stat for stat in stats if stat.stage == "encode")
    return {
        "images_per_s": stored / seconds,
        "efficiency": device.busy / seconds if isinstance(device, TimedDevice) else 0.0,
        "encode_ms_per_batch": 1000 * encode.busy / count,
        "write_ms_per_batch": 1000 * writer.busy / count,
        "cpu_ms_per_batch": 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count,
        "memory_mib": after.ru_maxrss / 1024,
        "grown_mib": (after.ru_maxrss - before.ru_maxrss) / 1024,
    }


def h200(decoder: float) -> dict[str, float]:
    """Seconds for an image on an H200, counted: GFLOP at 790 TFLOP/s; four steps of a denoiser stand for one."""
    gflop = {
        "denoise": 804.0 / 4,
        "decode": decoder,
        "planted-resnet": 8.2,
        "planted-mobilenet": 9.0,
        "planted-convnext": 35.0,
        "gate": 35.0,
        "embed_image": 8.8,
    }
    return {name: one / 790_000 for name, one in gflop.items()}


def encoding_limit(threads: int, rounds: int) -> float:
    """JPEGs a second on so many threads that do nothing else."""
    rng = np.random.default_rng(0)
    pictures = [photograph(rng) for _ in range(BATCH)]
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(to_jpeg, pictures * 4))
        rates.append(4 * BATCH / (time.perf_counter() - start))
    return median(rates)


def main() -> None:
    """The limit, then both arms in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--h200", action="store_true", help="only the simulated profile of an H200")
    parser.add_argument("--memory", type=int, default=0, help="also run so many images with failures kept")
    arguments = parser.parse_args()
    if arguments.h200:
        predicted: dict[str, object] = {"simulated": True}
        for name, decoder in (("tiny decoder", 141.0), ("full decoder", 2515.0)):
            runs = [
                arm(arguments.images, arguments.threads, keep_all=False, profile=h200(decoder))
                for _ in range(arguments.rounds)
            ]
            predicted[name] = {
                "images_per_s": round(median(one["images_per_s"] for one in runs)),
                "efficiency": round(median(one["efficiency"] for one in runs), 3),
            }
        print(json.dumps(predicted))
        return
    limits, kept, failures = [], [], []
    for number in range(1, arguments.rounds + 1):
        limits.append(encoding_limit(arguments.threads, 1))
        kept.append(arm(arguments.images, arguments.threads, keep_all=True))
        failures.append(arm(arguments.images, arguments.threads, keep_all=False))
        print(
            f"round {number}: encoding alone {limits[-1]:.0f}, all kept {kept[-1]['images_per_s']:.0f}, "
            f"failures kept {failures[-1]['images_per_s']:.0f} images/s",
            flush=True,
        )
    print(f"host's time for a batch of {BATCH}, ms (median): all kept / failures kept")
    for name in ("encode_ms_per_batch", "write_ms_per_batch", "cpu_ms_per_batch"):
        print(f"  {name}: {median(r[name] for r in kept):.1f} / {median(r[name] for r in failures):.1f}")
    limit, all_kept, some = (
        median(limits),
        median(r["images_per_s"] for r in kept),
        median(r["images_per_s"] for r in failures),
    )
    result = {
        "encoding_limit": round(limit),
        "all_kept": round(all_kept),
        "share_of_limit": round(all_kept / limit, 3),
        "failures_kept": round(some),
    }
    if arguments.memory:
        flat = arm(arguments.memory, arguments.threads, keep_all=False)
        result |= {
            "images": arguments.memory,
            "memory_mib": round(flat["memory_mib"]),
            "grown_mib": round(flat["grown_mib"]),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
