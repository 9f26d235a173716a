"""torch module → ONNX graph with a batch that is really dynamic, its weights stored in half precision."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mothlight.engine.errors import BundleError

OPSET = 21
EXAMPLE_BATCH = 2
"""torch freezes an example batch of 1 into the graph."""
SMALL = 256
"""Tensors of at most so many elements keep float32: they cost nothing and are scales and biases more often than not."""

MakeInputs = Callable[[int, torch.Generator], dict[str, Tensor]]
"""(batch, generator) → random inputs by name, in the order in which the module takes them."""


@dataclass(frozen=True)
class Graph:
    """One graph to export: the module, how to make inputs for it, and what its outputs are called."""

    name: str
    module: nn.Module
    make_inputs: MakeInputs
    outputs: tuple[str, ...]
    tolerance: float
    """How far an output may be from the library's, relative to its largest magnitude (images: in grey levels)."""
    shared: frozenset[str] = frozenset()
    """Inputs that have no batch dimension."""
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    """Further symbolic dimensions, input → axis → name."""


def round_to_half(module: Any) -> Any:
    """Round a module's weights to what float16 holds, keep float32, and switch to inference."""
    with torch.no_grad():
        for tensor in module.parameters():
            if tensor.numel() > SMALL:
                tensor.copy_(tensor.half().float())
    return module.eval().float()


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """Export a graph; the weights are stored as float16 with a Cast where that loses nothing.

    Raises:
        BundleError: torch gives no graph, or one that lacks an input or an output.
    """
    inputs = graph.make_inputs(EXAMPLE_BATCH, torch.Generator().manual_seed(0))
    names = {"batch", *(name for axes in graph.dynamic.values() for name in axes.values())}
    dims = {name: torch.export.Dim(name, min=1) for name in sorted(names)}
    shapes = tuple(
        {
            **({} if name in graph.shared else {0: dims["batch"]}),
            **{axis: dims[dim] for axis, dim in graph.dynamic.get(name, {}).items()},
        }
        for name in inputs
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise BundleError(f"torch gave no ONNX graph for {graph.name}.")
    _name_outputs(program, graph)
    model = store_half(_without_notes(program.model_proto))
    if missing := inputs.keys() - {value.name for value in model.graph.input}:
        raise BundleError(f"The exported graph {graph.name} lost its inputs {', '.join(sorted(missing))}.")
    return model


def _name_outputs(program: torch.onnx.ONNXProgram, graph: Graph) -> None:
    """Name the outputs; torch's own option repeats names that are in use inside the graph."""
    inner = program.model.graph
    if len(inner.outputs) != len(graph.outputs):
        raise BundleError(f"The graph {graph.name} has {len(inner.outputs)} outputs, not {len(graph.outputs)}.")
    for node in inner.all_nodes():
        for value in node.outputs:
            if value.name in graph.outputs:
                value.name = f"{value.name}__inner"
    for value, name in zip(inner.outputs, graph.outputs, strict=True):
        value.name = name


def _without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporting machine's stack traces and paths, which would enter the content key."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    return model


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float32 weights are float16 and cast back in the graph, wherever that loses nothing.

    The arithmetic stays float32. A weight that float16 can't hold exactly is left as it is.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    kept: list[TensorProto] = []
    casts: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        half = _as_half(tensor)
        if half is None:
            kept.append(tensor)
            continue
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], f"{half.name}__cast", to=TensorProto.FLOAT))
    del stored.graph.initializer[:]
    del stored.graph.node[:]
    stored.graph.initializer.extend(kept)
    stored.graph.node.extend([*casts, *model.graph.node])
    return stored


def _as_half(tensor: TensorProto) -> TensorProto | None:
    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if values.size <= SMALL or not np.array_equal(half.astype(np.float32), values):
        return None
    return numpy_helper.from_array(half, f"{tensor.name}__half")
