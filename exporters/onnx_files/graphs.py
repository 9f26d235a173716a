"""Our two graphs around an ONNX file: images of any size → its input, its output → scores."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from mothlight.engine.models.runner import OURS
from mothlight.exporters.onnx_files.description import Activation, OnnxClassifier

OPSET = 21
TOP_K = 5
GREY = (19595, 38470, 7471)
"""Pillow's weights of red, green and blue for a grey level, in parts of 65,536."""
ORDER = {"RGB": [0, 1, 2], "BGR": [2, 1, 0], "RGBA": [0, 1, 2], "BGRA": [2, 1, 0]}


class _Graph:
    """Nodes and constants as they are written down; every name gets our prefix."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def __call__(self, kind: str, inputs: list[str], output: str, **more: Any) -> str:
        self.nodes.append(helper.make_node(kind, [_ours(one) for one in inputs], [_ours(output)], **more))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), _ours(name)))
        return name

    def model(self, name: str, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _ours(name: str) -> str:
    """A name with our prefix; one that begins with `=` is somebody else's."""
    return name[1:] if name.startswith("=") else f"{OURS}{name}"


def preprocess_graph(told: OnnxClassifier, given: ValueInfoProto) -> onnx.ModelProto:
    """(images (B, H, W, 3) uint8, the matrices of `Resize`) → the file's own input: what `Preprocess` does, in ONNX."""
    graph, resize = _Graph(), told.geometry
    graph("Cast", ["images"], "whole", to=TensorProto.FLOAT)
    graph("Transpose", ["whole"], "rgb", perm=[0, 3, 1, 2])
    x = _coloured(graph, told)
    if resize.order == "pillow":
        x = _rounded(graph, graph("MatMul", ["rows_first", x], "high"))
        graph("MatMul", ["rows", "rows_first"], "covering_rows")
    else:
        graph("Identity", ["rows"], "covering_rows")
    graph("Transpose", ["columns"], "across", perm=[1, 0])
    x = graph("MatMul", [x, "across"], "narrow")
    if resize.antialias:
        x = _rounded(graph, x)
    x = _rounded(graph, graph("MatMul", ["rows", x], "small"))
    if resize.fill:
        x = _filled(graph, x, float(resize.fill if isinstance(resize.fill, int) else resize.fill[0]))
    if told.channels in ("RGBA", "BGRA"):
        graph.constant("one_channel", [0], np.int64)
        graph("Gather", [x, "one_channel"], "any", axis=1)
        graph("Mul", ["any", graph.constant("nothing", 0)], "none")
        graph("Add", ["none", graph.constant("opaque", 255)], "alpha")
        x = graph("Concat", [x, "alpha"], "with_alpha", axis=1)
    graph("Div", [x, graph.constant("scale", 255 if told.range == "0-1" else 1)], "scaled")
    for name, values in (("mean", told.means), ("std", told.stds)):
        graph.constant(name, np.reshape(values, (1, -1, 1, 1)))
    graph("Sub", ["scaled", "mean"], "centred")
    x = graph("Div", ["centred", "std"], "normalised")
    if told.layout == "NHWC":
        x = graph("Transpose", [x], "channels_last", perm=[0, 2, 3, 1])
    kind = given.type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
        x = graph("Round", [x], "counted")
    shape: list[int | str] = list(told.shape)
    if len(given.type.tensor_type.shape.dim) == 2:
        graph.constant("flat", [-1, int(np.prod(told.shape))], np.int64)
        x, shape = graph("Reshape", [x, "flat"], "flattened"), [int(np.prod(told.shape))]
    graph("Cast", [x], f"={given.name}", to=kind)
    info = helper.make_tensor_value_info
    first = [info(_ours("rows_first"), TensorProto.FLOAT, ["between", "height"])] if resize.order == "pillow" else []
    matrices = [
        *first,
        info(_ours("rows"), TensorProto.FLOAT, [resize.height, "between" if first else "height"]),
        info(_ours("columns"), TensorProto.FLOAT, [resize.width, "width"]),
    ]
    images = info(_ours("images"), TensorProto.UINT8, ["batch", "height", "width", 3])
    return graph.model("preprocess", [images, *matrices], [info(given.name, kind, ["batch", *shape])])


def _coloured(graph: _Graph, told: OnnxClassifier) -> str:
    if told.channels == "grey":
        graph.constant("grey_weights", np.reshape(GREY, (1, 3, 1, 1)))
        graph("Mul", ["rgb", "grey_weights"], "weighted")
        graph("ReduceSum", ["weighted", graph.constant("channel_axis", [1], np.int64)], "sum")
        graph("Add", ["sum", graph.constant("half_of_it", 32768)], "sum_up")
        graph("Div", ["sum_up", graph.constant("parts", 65536)], "grey_exact")
        return graph("Floor", ["grey_exact"], "grey")
    return graph("Gather", ["rgb", graph.constant("order", ORDER[told.channels], np.int64)], "ordered", axis=1)


def _rounded(graph: _Graph, x: str) -> str:
    """Half up, and clipped, as Pillow does."""
    if not any(tensor.name == _ours("half") for tensor in graph.constants):
        for name, value in (("half", 0.5), ("least", 0), ("most", 255)):
            graph.constant(name, value)
    graph("Add", [x, "half"], f"{x}_up")
    graph("Floor", [f"{x}_up"], f"{x}_whole")
    return graph("Clip", [f"{x}_whole", "least", "most"], f"{x}_clipped")


def _filled(graph: _Graph, x: str, level: float) -> str:
    """The grey level wherever no row and no column of the image reaches."""
    axis = graph.constant("last_axis", [1], np.int64)
    for side in ("covering_rows", "columns"):
        graph("ReduceSum", [side, axis], f"{side}_sum", keepdims=1)
        graph("Round", [f"{side}_sum"], f"{side}_inside")
    graph("Transpose", ["columns_inside"], "inside_across", perm=[1, 0])
    graph("MatMul", ["covering_rows_inside", "inside_across"], "inside")
    graph("Sub", [graph.constant("all_of_it", 1), "inside"], "outside")
    graph("Mul", ["outside", graph.constant("level", level)], "padding")
    return graph("Add", [x, "padding"], "padded")


def postprocess_graph(
    told: OnnxClassifier, activation: Activation, output: ValueInfoProto, count: int, numbers: int
) -> onnx.ModelProto:
    """(the file's own output, index (B,)) → (scores (B, k), indices (B, k), score (B,)).

    `numbers` of an output become `count` labels: all, or all but the background, or two of one.
    """
    graph = _Graph()
    graph("Cast", [f"={output.name}"], "float", to=TensorProto.FLOAT)
    x = graph("Reshape", ["float", graph.constant("wide", [-1, numbers], np.int64)], "rows")
    if numbers == count + 1:
        start = 1 if told.background == "first" else 0
        for name, value in (("start", start), ("end", start + count), ("axis", 1)):
            graph.constant(name, [value], np.int64)
        x = graph("Slice", [x, "start", "end", "axis"], "without_background")
    kind = {"softmax": "Softmax", "sigmoid": "Sigmoid", "none": "Identity"}[activation]
    x = graph(kind, [x], "activated", **({"axis": -1} if kind == "Softmax" else {}))
    if numbers == 1:
        graph("Sub", [graph.constant("certain", 1), x], "other")
        x = graph("Concat", ["other", x], "both", axis=1)
    top = min(TOP_K, count)
    graph.nodes.append(
        helper.make_node(
            "TopK",
            [_ours(x), _ours(graph.constant("k", [top], np.int64))],
            [_ours("scores"), _ours("indices")],
            axis=-1,
        )
    )
    graph("Unsqueeze", ["index", graph.constant("last", [1], np.int64)], "place")
    graph("GatherElements", [x, "place"], "one", axis=1)
    graph("Squeeze", ["one", "last"], "score")
    info = helper.make_tensor_value_info
    rest = [f"axis_{axis}" for axis in range(1, len(output.type.tensor_type.shape.dim))]
    has_shape = output.type.tensor_type.HasField("shape")
    inputs = [
        # of any shape: the file's own may hold one batch size
        info(output.name, output.type.tensor_type.elem_type, ["batch", *rest] if has_shape else None),
        info(_ours("index"), TensorProto.INT64, ["batch"]),
    ]
    outputs = [
        info(_ours("scores"), TensorProto.FLOAT, ["batch", top]),
        info(_ours("indices"), TensorProto.INT64, ["batch", top]),
        info(_ours("score"), TensorProto.FLOAT, ["batch"]),
    ]
    return graph.model("postprocess", inputs, outputs)


def activated(logits: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    """The same activation in NumPy."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)))
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
