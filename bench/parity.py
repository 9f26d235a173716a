"""The graphs of bundles on ONNX Runtime's CUDA provider against the CPU: difference and speed, graph by graph.

`python bench/parity.py bundles/sd-turbo bundles/resnet50 …` (without names: the built-in world's). Needs the extra
`gpu` instead of `cpu`; on a machine without a GPU it says so and stops.
"""

import argparse
import json
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mothlight.engine.models.bundle import Bundle, GraphSpec, load_bundle
from mothlight.engine.models.resize import pair
from mothlight.engine.models.runner import CPU, OrtRunner
from mothlight.engine.models.tokenizer import BundleTokenizer

CUDA = "CUDAExecutionProvider"
BUILT_IN = Path(__file__).parents[1] / "engine" / "world" / "bundles"
SENTENCE = "a realistic photograph of a goldfish (fish). it is night."


def random_inputs(bundle: Bundle, spec: GraphSpec, batch: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Inputs that the graph might meet: its own matrices, tokens and sampler row, and noise."""
    manifest = bundle.manifest
    side = max(pair(manifest.image_size or 64)) + 8
    known: dict[str, NDArray[Any]] = {} if manifest.resize is None else dict(manifest.resize.matrices(side, side))
    if manifest.tokenizers:
        for name, value in BundleTokenizer(bundle).encode([SENTENCE] * batch).items():
            known[name] = value[:, : len(manifest.start_ids) or None] if manifest.role == "captioner" else value
    if manifest.samplers:
        row = manifest.samplers[0].rows[0]
        known["timestep"] = np.array([row.timestep], np.float32)
        known["coefficients"] = row.coefficients()
        known["guidance"] = np.array([manifest.guidance or 1.0], np.float32)
    known["index"] = np.zeros(batch, np.int64)
    inputs = {}
    for tensor in spec.inputs:
        shape = [batch if one == "batch" else side if isinstance(one, str) else one for one in tensor.shape]
        if tensor.name in known:
            inputs[tensor.name] = known[tensor.name]
        elif tensor.dtype == "uint8":
            inputs[tensor.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            inputs[tensor.name] = rng.normal(size=shape).astype(tensor.dtype)
    return inputs


def seconds(runner: OrtRunner, inputs: dict[str, NDArray[Any]], rounds: int) -> float:
    """Median of a call, the first aside."""
    runner.infer(**inputs)
    times = []
    for _ in range(rounds):
        start = perf_counter()
        runner.infer(**inputs)
        times.append(perf_counter() - start)
    return statistics.median(times)


def compared(bundle: Bundle, name: str, batch: int, rounds: int, providers: tuple[str, ...]) -> dict[str, Any]:
    """One graph on both."""
    inputs = random_inputs(bundle, bundle.manifest.graphs[name], batch, np.random.default_rng(1))
    path = bundle.graph_path(name)
    cpu, other = OrtRunner(path), OrtRunner(path, providers=providers)
    wanted, got = cpu.infer(**inputs), other.infer(**inputs)
    worst = 0.0
    for key, value in wanted.items():
        if np.issubdtype(value.dtype, np.floating):
            scale = float(np.abs(value).max()) or 1.0
            worst = max(worst, float(np.abs(value.astype(np.float64) - got[key]).max()) / scale)
    return {
        "bundle": bundle.manifest.name,
        "graph": name,
        "batch": batch,
        "worst_relative_difference": worst,
        "cpu_per_second": batch / seconds(cpu, inputs, rounds),
        "other_per_second": batch / seconds(other, inputs, rounds),
    }


def main() -> None:
    """Compare, and print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--provider", default=CUDA, help="another provider, to try this script without a GPU")
    arguments = parser.parse_args()
    if arguments.provider == CUDA and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    if arguments.provider not in onnxruntime.get_available_providers():
        print(f"No GPU here: ONNX Runtime {onnxruntime.__version__} has no {arguments.provider}.")
        return
    providers = (arguments.provider,) if arguments.provider == CPU[0] else (arguments.provider, *CPU)
    folders = arguments.bundles or sorted(path for path in BUILT_IN.iterdir() if path.is_dir())
    rows = []
    print(f"{platform.machine()}, onnxruntime {version('onnxruntime')}, {arguments.provider}")
    print("| bundle | graph | worst relative difference | CPU per second | provider per second |")
    print("| --- | --- | --- | --- | --- |")
    for folder in folders:
        bundle = load_bundle(folder)
        for name in bundle.manifest.graphs:
            row = compared(bundle, name, arguments.batch, arguments.rounds, providers)
            rows.append(row)
            print(
                f"| {row['bundle']} | {name} | {row['worst_relative_difference']:.2g} "
                f"| {row['cpu_per_second']:.1f} | {row['other_per_second']:.1f} |"
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
