"""ONNX files that judge by colour, so that the true answer is known: red, green or blue, or bright or dark.

Each is a file as somebody's tool may have written it. What they expect of their input is built into their weights:
they undo the normalisation that they are described with, and average the picture.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LABELS = ("red", "green", "blue")
FLOAT = TensorProto.FLOAT


@dataclass(frozen=True)
class Colours:
    """One file."""

    size: tuple[int, int] = (24, 24)
    layout: str = "NCHW"
    channels: str = "RGB"
    batch: int | str | None = "n"
    """None: no batch axis at all."""
    flat: bool = False
    kind: int = FLOAT
    """Of its input."""
    out_kind: int = FLOAT
    range: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    steep: float = 20.0
    name: str = "data"
    output: str = "logits"
    opset: int = 17
    ending: str = ""
    """The kind of the last node: Softmax, Sigmoid, LogSoftmax."""
    one: bool = False
    """Whether it gives one number: red or not."""
    background: str = ""
    outputs: tuple[str, ...] = field(default=())
    """Further outputs: `text`, `map`, `class`."""

    @property
    def count(self) -> int:
        return {"grey": 1, "RGBA": 4, "BGRA": 4}.get(self.channels, 3)

    def model(self) -> onnx.ModelProto:
        """The graph."""
        high, wide = self.size
        image = [self.count, high, wide] if self.layout == "NCHW" else [high, wide, self.count]
        inner = [int(np.prod(image))] if self.flat else image
        shape = inner if self.batch is None else [self.batch, *inner]
        weights: dict[str, NDArray[Any]] = {}
        nodes = []

        def step(kind: str, inputs: list[str], output: str, **more: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [output], **more))
            return output

        def weight(name: str, value: Any, dtype: Any = np.float32) -> str:
            weights[name] = np.asarray(value, dtype)
            return name

        x = step("Cast", [self.name], "x0", to=FLOAT)
        if self.flat or self.batch is None:
            x = step("Reshape", [x, weight("image", [-1, *image], np.int64)], "x1")
        if self.layout == "NHWC":
            x = step("Transpose", [x], "x2", perm=[0, 3, 1, 2])
        x = step("GlobalAveragePool", [x], "x3")
        x = step("Flatten", [x], "means", axis=1)
        step("Mul", [x, weight("w_std", np.resize(self.std, self.count))], "scaled_back")
        step("Add", ["scaled_back", weight("w_mean", np.resize(self.mean, self.count))], "moved_back")
        step("Div", ["moved_back", weight("w_range", self.range)], "levels")
        x = step("MatMul", ["levels", weight("w_label", self._judge())], "judged")
        x = step("Add", [x, weight("w_bias", self._bias())], "scores_")
        if self.ending:
            more = {"axis": 1} if "oftmax" in self.ending else {}
            x = step(self.ending, [x], "ended", **more)
        if self.batch is None:
            x = step("Reshape", [x, weight("row", [-1], np.int64)], "bare")
        step("Cast", [x], self.output, to=self.out_kind)
        width = self._judge().shape[1]
        ends = [width] if self.batch is None else [self.batch, width]
        given = [helper.make_tensor_value_info(self.name, self.kind, shape)]
        results = [helper.make_tensor_value_info(self.output, self.out_kind, ends)]
        domains = [helper.make_opsetid("", self.opset)]
        for more_ in self.outputs:
            results.insert(0, self._further(more_, step))
            domains = [domains[0], helper.make_opsetid("ai.onnx.ml", 3)]
        if "map" in self.outputs:
            results = [one for one in results if one.name != self.output]
        tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "somebody's", given, results, tensors)
        return helper.make_model(graph, opset_imports=domains, ir_version=8)

    def _judge(self) -> NDArray[np.float64]:
        """(channels, outputs): each label is its colour's level."""
        rows = {"BGR": [2, 1, 0], "BGRA": [2, 1, 0, 3]}.get(self.channels, list(range(self.count)))
        table = np.array([[1.0, -1.0]]) * self.steep if self.count == 1 else np.eye(4, 3)[rows] * self.steep
        if self.one:
            table = (table[:, :1] - table[:, 1:2] / 2 - table[:, 2:] / 2) if self.count > 1 else table[:, :1]
        extra = np.zeros((len(table), 1))
        return np.concatenate({"first": [extra, table], "last": [table, extra]}.get(self.background, [table]), axis=1)

    def _bias(self) -> NDArray[np.float64]:
        bias = np.zeros(self._judge().shape[1])
        if self.count == 1:
            bias[-1] = self.steep
        if self.one and self.count == 1:
            bias[:] = -self.steep / 2
        return bias

    def _further(self, kind: str, step: Any) -> onnx.ValueInfoProto:
        if kind == "map":
            step("ZipMap", [self.output], "map", domain="ai.onnx.ml", classlabels_strings=list(LABELS))
            item = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, None))
            return helper.make_value_info("map", helper.make_sequence_type_proto(item))
        step("ArgMax", [self.output], "best", axis=1, keepdims=0)
        if kind == "class":
            step("Identity", ["best"], "class")
            return helper.make_tensor_value_info("class", TensorProto.INT64, [self.batch])
        step("LabelEncoder", ["best"], "text", domain="ai.onnx.ml", keys_int64s=[0, 1, 2], values_strings=list(LABELS))
        return helper.make_tensor_value_info("text", TensorProto.STRING, [self.batch])

    def toml(self, **more: Any) -> str:
        """What describes it rightly."""
        told: dict[str, Any] = {"model": "mine.onnx"}
        told["size"] = self.size[0] if self.size[0] == self.size[1] else list(self.size)
        told |= {"layout": self.layout, "channels": self.channels, "resize": "squash", "labels": list(self.labels)}
        told |= {"range": "0-1" if self.range == 1 else "0-255", "mean": list(self.mean), "std": list(self.std)}
        if self.background:
            told["background"] = self.background
        return toml_text({**told, **more})

    @property
    def labels(self) -> tuple[str, ...]:
        if self.count == 1:
            return ("dark", "bright") if self.one else ("bright", "dark")
        return ("other", "red") if self.one else LABELS

    def save(self, folder: Path, **more: Any) -> str:
        """Write file and description; the description's path."""
        onnx.save(self.model(), str(folder / "mine.onnx"))
        (folder / "mine.toml").write_text(self.toml(**more))
        return str(folder / "mine.toml")

    def truth(self, images: NDArray[np.uint8]) -> list[str]:
        """The right label of each image."""
        means = images.reshape(len(images), -1, 3).mean(axis=1)
        if self.count == 1:
            return ["bright" if mean.mean() > 127.5 else "dark" for mean in means]
        names = [LABELS[int(np.argmax(mean))] for mean in means]
        return [("red" if name == "red" else "other") if self.one else name for name in names]

    def but(self, **changes: Any) -> "Colours":
        """The same with changes."""
        return replace(self, **changes)


def toml_text(told: dict[str, Any]) -> str:
    """A flat TOML."""
    import json

    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items() if value is not None)


def coloured(height: int = 50, width: int = 40, count: int = 12) -> NDArray[np.uint8]:
    """Noisy pictures that lean to one colour, in turn red, green, blue, and are dark or bright in turn."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 60, (count, height, width, 3))
    for place in range(count):
        images[place, ..., place % 3] += 90
        if place % 2:
            images[place] += 100
    return images.clip(0, 255).astype(np.uint8)
