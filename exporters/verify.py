"""Library against ONNX, output by output, on fresh random inputs and at several batch sizes."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Check, Precision
from mothlight.engine.models.runner import OrtRunner, Runner

if TYPE_CHECKING:  # an ONNX file is exported, and compared, without torch
    from mothlight.exporters.graphs import Graph

log = logging.getLogger("mothlight.export")
BATCHES = (1, 2, 5)
SEED = 20_260_101
"""Of the fresh inputs; the export itself used another."""
SMALL = 8_000_000
"""Bytes of a graph that onnx's evaluator is asked to run."""


def verify_graph(graph: "Graph", path: Path, precision: Precision = "fp32") -> list[Check]:
    """One check per output and batch size of a graph that was written to `path`, against the library in float32.

    bfloat16 does not run in ONNX Runtime on a CPU: there the module is compared in torch, and a small graph with the
    module through onnx's own evaluator.

    Raises:
        BundleError: an output's shape is not the library's, it is not finite, an image is of one colour, or it is off
            by more than the tolerance.
    """
    import torch

    runner: Runner
    if precision == "bf16":
        from mothlight.exporters.precision import ModuleEngine, typed

        module = ModuleEngine(typed(graph, precision), list(graph.make_inputs(1, torch.Generator().manual_seed(0))))
        evaluate(graph, module, path)
        runner = module
    else:
        runner = OrtRunner(path)
    checks = []
    for batch in BATCHES:
        inputs = graph.make_inputs(batch, torch.Generator().manual_seed(SEED + batch))
        with torch.no_grad():
            given = graph.module(*inputs.values())
        wanted = [value.numpy() for value in (given if isinstance(given, tuple) else (given,))]
        try:
            got = runner.infer(**{name: value.numpy() for name, value in inputs.items()})
        except Exception as error:  # onnxruntime's own exceptions share no public base
            reason = str(error).splitlines()[0]
            raise BundleError(f"The exported graph {graph.name} does not run at batch {batch}: {reason}") from error
        for name, value in zip(graph.outputs, wanted, strict=True):
            require_sound(f"{graph.name}: the library's {name} at batch {batch}", value)
            if precision == "fp32":
                checks.append(require(compare(graph.name, name, value, got[name], graph.tolerance)))
            elif not np.issubdtype(value.dtype, np.integer) or value.dtype == np.uint8:  # ranks move where scores tie
                require_sound(f"{graph.name} in {precision}: its {name} at batch {batch}", got[name])
                checks.append(require(compare_typed(graph.name, name, value, got[name], precision), ""))
    return checks


def compare_typed(
    graph: str, output: str, wanted: NDArray[np.generic], got: NDArray[np.generic], precision: Precision
) -> Check:
    """How far an output in half precision is from the library's in float32: images in dB, the worst; else relative."""
    from mothlight.exporters.precision import PSNR, RELATIVE

    if wanted.dtype != np.uint8:
        return compare(graph, output, wanted, got, RELATIVE[precision])
    error = (wanted.astype(np.float64) - got.astype(np.float64)).reshape(len(got), -1)
    worst = float((10 * np.log10(255**2 / np.maximum((error**2).mean(axis=1), 1e-3))).min())
    return Check(
        graph=graph, output=output, batch=len(got), difference=worst, tolerance=PSNR[precision], unit="PSNR dB"
    )


def evaluate(graph: "Graph", module: Runner, path: Path) -> None:
    """A small graph in bfloat16 through onnx's reference evaluator, against the module that it was exported of.

    Raises:
        BundleError: they differ.
    """
    import torch
    from onnx.reference import ReferenceEvaluator

    if sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) > SMALL:
        return
    inputs = graph.make_inputs(1, torch.Generator().manual_seed(SEED))
    given = {name: value.numpy() for name, value in inputs.items()}
    wanted = module.infer(**given)
    try:
        values = ReferenceEvaluator(str(path)).run(list(wanted), given)
    except Exception as error:  # noqa: BLE001  # the evaluator lacks some operators, and says so in many ways
        log.info("%s: onnx's evaluator can't run it (%s)", graph.name, type(error).__name__)
        return
    for name, value in zip(wanted, values, strict=True):
        if not np.issubdtype(wanted[name].dtype, np.integer) or wanted[name].dtype == np.uint8:
            require(compare_typed(graph.name, name, wanted[name], np.asarray(value), "bf16"), "")


def require_sound(what: str, values: NDArray[np.generic]) -> None:
    """Refuse what no model in order gives: NaN, infinity, an image of one single colour.

    Raises:
        BundleError: it is one of these; the message says what to do.
    """
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise BundleError(f"{what} is not finite; the weights overflow or are damaged: get them again, or in float32.")
    if values.dtype == np.uint8 and values.ndim == 4:
        flat = values.reshape(len(values), -1)
        if (flat == flat[:, :1]).all(axis=1).any():
            raise BundleError(
                f"{what} has an image of one single colour; a decoder that overflows gives black images: "
                f"export with another decoder or with its weights in float32."
            )


def compare(graph: str, output: str, wanted: NDArray[np.generic], got: NDArray[np.generic], tolerance: float) -> Check:
    """How far `got` is from `wanted`: images in grey levels, indices absolutely, the rest relative to the largest.

    Raises:
        BundleError: the shapes differ.
    """
    if wanted.shape != got.shape:
        raise BundleError(f"{graph}: {output} has the shape {got.shape}, the library's has {wanted.shape}.")
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    difference = float(np.max(np.abs(a - b), initial=0.0))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        difference = float(np.finfo(np.float64).max)
    if wanted.dtype == np.uint8:
        return Check(
            graph=graph, output=output, batch=len(got), difference=difference, tolerance=tolerance, unit="grey levels"
        )
    if np.issubdtype(wanted.dtype, np.integer):
        return Check(graph=graph, output=output, batch=len(got), difference=difference, tolerance=0.0, unit="absolute")
    scale = float(np.max(np.abs(a), initial=0.0)) or 1.0
    return Check(
        graph=graph, output=output, batch=len(got), difference=difference / scale, tolerance=tolerance, unit="relative"
    )


def require(check: Check, advice: str = "try another release of the library or of torch") -> Check:
    """The check again.

    Raises:
        BundleError: it failed; the message ends with the advice.
    """
    bad = check.difference < check.tolerance if check.unit == "PSNR dB" else check.difference > check.tolerance
    if bad:
        raise BundleError(
            f"{check.graph}: {check.output} at batch {check.batch} is {check.difference:.3g} ({check.unit}) away from "
            f"the library's, and {check.tolerance:.3g} is the bound{f': {advice}' if advice else ''}."
        )
    return check
