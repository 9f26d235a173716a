"""torch module → ONNX graph with a batch that is really dynamic, its weights stored in half precision."""

import inspect
import logging
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass
from onnxscript import optimizer
from torch import Tensor, nn

from mothlight.engine.errors import BundleError
from mothlight.engine.models.external_data import EXTERNAL

OPSET = 21
EXAMPLE_BATCH = 2
"""torch freezes an example batch of 1 into the graph."""
HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
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
    core: str = ""
    """The submodule that a lower precision is for, as `get_submodule` names it; empty: the whole."""
    optimize: bool = True
    """Whether torch rewrites the graph, which folds batch normalisation but takes a constant below 1e-8 for zero."""


def round_to_half(module: Any) -> Any:
    """Round a module's weights to what float16 holds, keep float32, and switch to inference.

    A weight that is too large for float16 stays as it is.
    """
    module.eval().float()
    with torch.no_grad():
        for tensor in module.parameters():
            if tensor.numel() > SMALL and tensor.abs().max() <= torch.finfo(torch.float16).max:
                tensor.copy_(tensor.half().float())
    return module


def to_onnx(graph: Graph) -> ir.Model:
    """Export a graph; the weights are stored as float16 with a Cast where that loses nothing.

    Raises:
        BundleError: torch gives no graph, or one that lacks an input or an output.
    """
    inputs = graph.make_inputs(EXAMPLE_BATCH, torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                graph.module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=dynamic_shapes(graph, inputs),
                optimize=graph.optimize,
                verbose=False,
            )
        except Exception as error:  # torch's exporter wraps whatever went wrong in types of its own
            cause = error.__cause__ or error
            reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
            raise BundleError(f"torch can't export {graph.name}: {reason}") from error
    if program is None:
        raise BundleError(f"torch gave no ONNX graph for {graph.name}.")
    _name_outputs(program.model.graph, graph)
    if missing := inputs.keys() - {value.name for value in program.model.graph.inputs}:
        raise BundleError(f"The exported graph {graph.name} lost its inputs {', '.join(sorted(missing))}.")
    # the exporting machine's stack traces and paths would enter the content key
    ClearMetadataAndDocStringPass()(program.model)
    weights_of_one_type(program.model.graph)
    activations_in_float(program.model.graph)
    store_half(program.model.graph)
    concatenate_one_type(program.model.graph)
    if not graph.optimize:
        without_rewriting(program.model)
    constant_shapes(program.model)
    return program.model


def save(model: ir.Model, path: Path) -> None:
    """Write a graph; large weights into a file of the same name with `.data` beside it."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}.data" if size >= EXTERNAL else None)


def dynamic_shapes(graph: Graph, inputs: Iterable[str], only: Collection[str] | None = None) -> tuple[Any, ...]:
    """The symbolic dimensions in the shape of the module's own arguments; all, or only those of some names."""
    names = {"batch", *(name for axes in graph.dynamic.values() for name in axes.values())}
    dims = {name: torch.export.Dim(name, min=1) for name in sorted(names) if only is None or name in only}
    shapes = []
    for name in inputs:
        axes = {**({} if name in graph.shared else {0: "batch"}), **graph.dynamic.get(name, {})}
        shapes.append({axis: dims[dim] for axis, dim in axes.items() if dim in dims})
    kinds = [parameter.kind for parameter in inspect.signature(graph.module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        fixed = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        return (*shapes[:fixed], tuple(shapes[fixed:]))
    return tuple(shapes)


def _name_outputs(inner: ir.Graph, graph: Graph) -> None:
    """Name the outputs; torch's own option repeats names that are in use inside the graph."""
    if len(inner.outputs) != len(graph.outputs):
        raise BundleError(f"The graph {graph.name} has {len(inner.outputs)} outputs, not {len(graph.outputs)}.")
    for node in inner.all_nodes():
        for value in node.outputs:
            if value.name in graph.outputs:
                value.name = f"{value.name}__inner"
    for value, name in zip(inner.outputs, graph.outputs, strict=True):
        value.name = name


def weights_of_one_type(graph: ir.Graph) -> None:
    """Give weights the half type of what they are multiplied with: torch folds batch norm into bfloat16 as float32."""
    for node in list(graph.all_nodes()):
        kind = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or kind not in HALF:
            continue
        for place, value in enumerate(node.inputs[1:], start=1):
            if value is not None and value.const_value is not None and value.dtype == ir.DataType.FLOAT:
                name = f"{value.name}__{node.name}"
                weight = ir.tensor(value.const_value.numpy().astype(kind.numpy()), dtype=kind, name=name)
                typed = ir.Value(name=name, shape=value.shape, type=ir.TensorType(kind), const_value=weight)
                graph.register_initializer(typed)
                node.replace_input_with(place, typed)


def activations_in_float(graph: ir.Graph) -> None:
    """Compute in float32 what TensorRT has in bfloat16 no kernel for."""
    for node in list(graph):
        given = node.inputs[0] if node.inputs else None
        if node.op_type not in ("HardSwish", "HardSigmoid") or given is None or given.dtype != ir.DataType.BFLOAT16:
            continue
        made = node.outputs[0]
        before = ir.Node("", "Cast", [given], [ir.AttrInt64("to", ir.DataType.FLOAT)], name=f"{node.name}_before")
        after = ir.Node("", "Cast", [made], [ir.AttrInt64("to", ir.DataType.BFLOAT16)], name=f"{node.name}_after")
        for one, kind in ((before, ir.DataType.FLOAT), (after, ir.DataType.BFLOAT16)):
            one.outputs[0].name = one.name
            one.outputs[0].type, one.outputs[0].shape = ir.TensorType(kind), given.shape
        for user, place in list(made.uses()):
            if user is not after:
                user.replace_input_with(place, after.outputs[0])
        made.type = ir.TensorType(ir.DataType.FLOAT)
        node.replace_input_with(0, before.outputs[0])
        graph.insert_before(node, [before])
        graph.insert_after(node, [after])


def without_rewriting(model: ir.Model) -> None:
    """What torch's optimisation does, but for its rewriting: sequences become splits, constants are folded."""
    optimizer.inline(model)
    optimizer.fold_constants(model, onnx_shape_inference=True)
    optimizer.remove_unused_nodes(model)


def constant_shapes(model: ir.Model) -> None:
    """Give every Reshape whose result has at most one dimension unknown a constant for its shape.

    torch computes such shapes in the graph, and shape operators keep ONNX Runtime from capturing it. No tensor of ours
    is empty, so `allowzero` goes too.
    """
    for node in list(model.graph.all_nodes()):
        if node.op_type != "Reshape":
            continue
        node.attributes.pop("allowzero", None)
        shape = node.outputs[0].shape
        dims = [] if shape is None else [dim if isinstance(dim, int) and dim > 0 else -1 for dim in shape]
        if shape is None or dims.count(-1) > 1 or node.graph is not model.graph:
            continue
        name = f"{node.name}_shape"
        given = ir.Value(name=name, const_value=ir.tensor(np.array(dims, np.int64), name=name))
        given.shape, given.type = ir.Shape([len(dims)]), ir.TensorType(ir.DataType.INT64)
        model.graph.register_initializer(given)
        node.replace_input_with(1, given)
    RemoveUnusedNodesPass()(model)


def concatenate_one_type(graph: ir.Graph) -> None:
    """Cast what a Concat joins to the type of its output: torch joins float16 with float32, ONNX does not."""
    for node in list(graph):
        output = node.outputs[0]
        if node.op_type != "Concat" or output.dtype is None:
            continue
        for place, value in enumerate(node.inputs):
            if value is not None and value.dtype not in (None, output.dtype):
                cast = ir.Node(
                    "", "Cast", [value], [ir.AttrInt64("to", output.dtype)], name=f"{node.name}_{place}_cast"
                )
                cast.outputs[0].name = f"{value.name}_{place}_cast"
                cast.outputs[0].type = ir.TensorType(output.dtype)
                cast.outputs[0].shape = value.shape
                node.replace_input_with(place, cast.outputs[0])
                graph.insert_before(node, [cast])


def store_half(graph: ir.Graph) -> None:
    """Make the float32 weights of a graph float16, cast back inside it, wherever that loses nothing.

    The arithmetic stays float32. A weight that float16 can't hold exactly is left as it is.
    """
    casts = []
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or not _is_half(tensor):
            continue
        del graph.initializers[name]
        half = ir.Value(
            name=f"{name}__half",
            shape=value.shape,
            type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=_as_half(tensor, f"{name}__half"),
        )
        graph.register_initializer(half)
        value.const_value = None
        attributes = [ir.AttrInt64("to", ir.DataType.FLOAT)]
        casts.append(ir.Node("", "Cast", [half], attributes, outputs=[value], name=f"{name}__cast"))
    if casts:
        graph.insert_before(graph[0], casts)


def _is_half(tensor: ir.TensorProtocol) -> bool:
    """Whether float16 holds a float32 weight exactly."""
    if tensor.dtype != ir.DataType.FLOAT or tensor.size <= SMALL:
        return False
    values = tensor.numpy()
    with np.errstate(over="ignore"):
        return np.array_equal(values.astype(np.float16).astype(np.float32), values)


def _as_half(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    """Rounded when it is written, so that a large model is not in memory twice."""
    return ir.LazyTensor(
        lambda: ir.tensor(tensor.numpy().astype(np.float16), name=name),
        dtype=ir.DataType.FLOAT16,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
    )
