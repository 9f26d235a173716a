"""An ONNX file as somebody's tool wrote it: read, mended where ONNX Runtime or onnx stumble over it, and understood."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.runner import OURS, OrtRunner
from mothlight.exporters.libraries import reason
from mothlight.exporters.publish import DTYPES, write_graph
from mothlight.exporters.source import POINTER

INPUT_KINDS = {*DTYPES, TensorProto.BFLOAT16} - {TensorProto.BOOL}
MAPS = ("ZipMap",)
"""Nodes that make maps of scores."""
NEWEST = 21
"""The opset that a file is taken for that does not say which it has."""


@dataclass(frozen=True)
class OnnxFile:
    """A file that ONNX Runtime runs."""

    path: Path
    """As the person named it."""
    model: onnx.ModelProto
    mended: tuple[str, ...] = ()
    """What was changed in the copy, as sentences; empty where the file stays as it is."""
    noted: str = ""
    """What onnx's checker says of a file that ONNX Runtime runs as it is."""

    @property
    def given(self) -> ValueInfoProto:
        """Its one input that is no weight.

        Raises:
            UserError: there is another number of them, or it holds something else than numbers.
        """
        weights = {tensor.name for tensor in self.model.graph.initializer}
        inputs = [value for value in self.model.graph.input if value.name not in weights]
        if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in INPUT_KINDS:
            said = ", ".join(described(value) for value in inputs) or "none"
            raise UserError(f"{self.path} has the inputs: {said}; a classifier takes one, of numbers.")
        return inputs[0]

    @property
    def outputs(self) -> dict[str, ValueInfoProto]:
        """Its outputs by name."""
        return {value.name: value for value in self.model.graph.output}

    def last_node(self, tensor: str) -> str:
        """The kind of the node that makes a tensor, behind those that only reshape or cast it; empty for none."""
        makers = {name: node for node in self.model.graph.node for name in node.output}
        while tensor in makers and makers[tensor].op_type in ("Identity", "Reshape", "Flatten", "Squeeze", "Cast"):
            tensor = makers[tensor].input[0]
        return makers[tensor].op_type if tensor in makers else ""


def dims(value: ValueInfoProto) -> tuple[int | None, ...] | None:
    """A tensor's shape, None for what is symbolic; None as a whole where the file gives no shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)


def described(value: ValueInfoProto) -> str:
    """A tensor as a person reads it: name, kind and shape."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return f"{value.name} ({'a map' if kind in ('map_type', 'sequence_type') else kind or 'of no type'})"
    name = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    shape = dims(value)
    sides = "of any shape" if shape is None else " × ".join("any" if one is None else str(one) for one in shape)
    return f"{value.name} ({name}, {sides or 'a single number'})"


def read_onnx(path: Path) -> OnnxFile:
    """A file, mended in a copy where it must be.

    Raises:
        UserError: there is none, or neither ONNX Runtime nor mending makes anything of it.
    """
    if not path.is_file():
        raise UserError(f"There is no ONNX file {path}.")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise UserError(f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` there.")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf and onnx raise types of their own
        raise UserError(f"{path} is no ONNX graph in order: {reason(error)}") from error
    if not model.graph.output:
        raise UserError(f"{path} is no ONNX graph in order: it has no outputs.")
    fault = checker_fault(path, model)
    mended = OnnxFile(path, *_mended(model)) if fault or _empty_dims(model) else OnnxFile(path, model)
    if mended.mended and not runtime_fault(mended):
        return mended
    refusal = runtime_fault(OnnxFile(path, model))
    if refusal:
        raise UserError(f"{path} is no ONNX graph in order: {fault or refusal}")
    return OnnxFile(path, model, noted=fault)


def checker_fault(path: Path, model: onnx.ModelProto) -> str:
    """What onnx's checker says of a file; empty for nothing."""
    try:
        onnx.checker.check_model(model if model.ByteSize() < 1 << 30 else str(path))
    except Exception as error:  # noqa: BLE001  # as above
        return reason(error)
    return ""


def runtime_fault(file: OnnxFile) -> str:
    """Why ONNX Runtime refuses a graph; empty where it loads it."""
    with at_hand(file.model) as path:
        try:
            OrtRunner(path)
        except BundleError as error:
            return str(error).replace(str(path), str(file.path))
    return ""


def _empty_dims(model: onnx.ModelProto) -> list[onnx.TensorShapeProto.Dimension]:
    """Dimensions of 0 of inputs and outputs, by which some exporters mean any number."""
    values = (*model.graph.input, *model.graph.output)
    sides = (dim for value in values for dim in value.type.tensor_type.shape.dim)
    return [dim for dim in sides if dim.HasField("dim_value") and dim.dim_value == 0]


class at_hand:  # noqa: N801  # used as a context manager, like a function
    """A graph as a file, as long as the block lasts."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.folder = tempfile.TemporaryDirectory(prefix="mothlight-onnx-")

    def __enter__(self) -> Path:
        """The path."""
        path = Path(self.folder.name) / "model.onnx"
        write_graph(path, self.model)
        return path

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.folder.cleanup()


def _mended(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy with its nodes sorted, its opset stated, and its shapes known; and what of that was missing."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    said = []
    if not any(entry.domain in ("", "ai.onnx") for entry in copy.opset_import):
        copy.opset_import.append(helper.make_opsetid("", NEWEST))
        said.append(f"it does not say its opset; {NEWEST} was taken")
    if not copy.ir_version:
        copy.ir_version = 8
        said.append("it does not say its IR version; 8 was taken")
    if empty := _empty_dims(copy):
        for place, dim in enumerate(empty):
            dim.dim_param = f"any_{place}"
        said.append("it has dimensions of 0, which were taken for any number")
    if _sort_nodes(copy.graph):
        said.append("its nodes were not in the order in which they are computed")
    if any(
        value.type.WhichOneof("value") in (None, "tensor_type") and dims(value) is None for value in copy.graph.output
    ):
        try:
            inferred = onnx.shape_inference.infer_shapes(copy)
        except Exception:  # noqa: BLE001  # protobuf and onnx raise types of their own; without shapes it may still run
            inferred = copy
        if any(dims(value) is not None for value in inferred.graph.output):
            copy = inferred
            said.append("its outputs had no shapes")
    return copy, tuple(said)


def _sort_nodes(graph: onnx.GraphProto) -> bool:
    """Put the nodes in the order of their data; whether they were not."""
    made = {name for node in graph.node for name in node.output}
    if _in_order(graph, made):
        return False
    known: set[str] = set()
    waiting, sorted_nodes = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if all(name in known or name not in made for name in _reads(node))]
        if not ready:
            return False  # a circle: the checker's words say it better
        for node in ready:
            known |= set(node.output)
        sorted_nodes += ready
        waiting = [node for node in waiting if not any(node is one for one in ready)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in sorted_nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _in_order(graph: onnx.GraphProto, made: set[str]) -> bool:
    known: set[str] = set()
    for node in graph.node:
        if any(name in made and name not in known for name in _reads(node)):
            return False
        known |= set(node.output)
    return True


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, the graphs inside it included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {name for inner in graph.node for name in inner.output}
            for inner in graph.node:
                yield from (name for name in _reads(inner) if name not in own)


def with_output(file: OnnxFile, tensor: str) -> OnnxFile:
    """A copy that gives a tensor of the inside, as a map's numbers are one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(file.model)
    copy.graph.output.append(ValueInfoProto(name=tensor))
    with at_hand(copy) as path:
        kind = next(value.type for value in session_of(path).get_outputs() if value.name == tensor)
    made = helper.make_tensor_value_info(tensor, ELEMENTS[kind], None)
    del copy.graph.output[:]
    copy.graph.output.append(made)
    return OnnxFile(file.path, copy, (*file.mended, f"its inner tensor {tensor} is its output"))


ELEMENTS = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(double)": TensorProto.DOUBLE,
    "tensor(float16)": TensorProto.FLOAT16,
    "tensor(bfloat16)": TensorProto.BFLOAT16,
    "tensor(int32)": TensorProto.INT32,
    "tensor(int64)": TensorProto.INT64,
    "tensor(uint8)": TensorProto.UINT8,
    "tensor(int8)": TensorProto.INT8,
}
"""ONNX Runtime's names of kinds."""


def session_of(path: Path) -> Any:
    """A bare session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def adapted(file: OnnxFile, output: str) -> OnnxFile:
    """A copy whose ends are what a batch of images needs: bfloat16 cast, a batch axis of one put around."""
    given, result = file.given, file.outputs[output]
    shape = dims(given)
    no_batch = shape is not None and len(shape) in (1, 3) and None not in shape
    inner, outer = (value.type.tensor_type.elem_type for value in (given, result))
    said = list(file.mended)
    if no_batch:
        said.append("its input has no batch axis; one was put around it")
    if TensorProto.BFLOAT16 in (inner, outer):
        said.append("its bfloat16 tensors are cast from and to float32")
    if len(said) == len(file.mended):
        return file
    copy = onnx.ModelProto()
    copy.CopyFrom(file.model)
    graph = copy.graph
    sides: list[int | str] = ["batch" if one is None else one for one in shape or ()]
    if no_batch:
        graph.initializer.append(numpy_helper.from_array(np.array(sides, np.int64), f"{OURS}shape"))
        graph.initializer.append(numpy_helper.from_array(np.array([1, -1], np.int64), f"{OURS}row"))
    step = helper.make_node
    around = "Reshape" if no_batch else "Identity"
    front = [
        step(around, [f"{OURS}input", *([f"{OURS}shape"] if no_batch else [])], [f"{OURS}bare"]),
        step("Cast", [f"{OURS}bare"], [given.name], to=inner),
    ]
    back = [
        step("Cast", [output], [f"{OURS}cast"], to=_plain(outer)),
        step(around, [f"{OURS}cast", *([f"{OURS}row"] if no_batch else [])], [f"{OURS}output"]),
    ]
    nodes = [*front, *(onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node), *back]
    weights = [ValueInfoProto.FromString(one.SerializeToString()) for one in graph.input if one.name != given.name]
    rank = dims(result)
    ends: list[int | str] = ["batch", *(f"axis_{axis}" for axis in range(1, len(rank or (0, 0))))]
    info = helper.make_tensor_value_info
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend([info(f"{OURS}input", _plain(inner), [1, *sides] if no_batch else sides), *weights])
    graph.output.append(info(f"{OURS}output", _plain(outer), [1, "numbers"] if no_batch else ends))
    return OnnxFile(file.path, copy, tuple(said))


def _plain(kind: int) -> int:
    """The kind of numbers that goes between graphs: NumPy has no bfloat16."""
    return TensorProto.FLOAT if kind == TensorProto.BFLOAT16 else kind
