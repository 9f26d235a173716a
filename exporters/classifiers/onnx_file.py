"""Any classifier that is an ONNX file, described by a small TOML: its graph stays byte for byte as it came.

What the graph leaves out stands in two graphs beside it: `preprocess` makes its input of images of any size, and
`postprocess` makes scores of its output. torch has no part in it.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import Bundle, Check, Manifest, Source, Thresholds
from mothlight.engine.models.resize import Filter, Resize
from mothlight.engine.models.runner import OrtRunner, in_parts
from mothlight.engine.stages.classify import Classifier
from mothlight.engine.vocabulary import imagenet
from mothlight.exporters.libraries import reason
from mothlight.exporters.publish import Prepared
from mothlight.exporters.verify import BATCHES, compare, require, require_sound

OPSET = 21
TOP_K = 5
TOLERANCE = 2e-2
"""Between scores through Pillow and NumPy and through the graphs, relative: a grey level may round otherwise."""
PILLOW: dict[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class OnnxClassifier(BaseModel):
    """What the graph itself does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """The ONNX file, relative to this TOML."""
    size: int = Field(gt=0)
    """The side of its square input in pixels."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    resize: Literal["shortest", "squash"] = "shortest"
    """Whether the shorter side becomes `edge` and the middle is cut out, or both sides do."""
    edge: int | None = Field(default=None, gt=0)
    """Without it, `size`."""
    filter: Filter = "bilinear"
    range: Literal["0-1", "0-255"] = "0-1"
    """Of the pixels before `mean` and `std` are applied."""
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    output: str | None = None
    """The output that holds a number per label; needed only where there are several."""
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """What makes scores of that output; `none` where the graph does it itself."""
    labels: tuple[str, ...] | Literal["imagenet"] | None = None
    labels_file: str | None = None
    """One label per line, relative to this TOML."""


def read_toml(path: Path) -> OnnxClassifier:
    """The description of an ONNX classifier.

    Raises:
        UserError: it can't be read, or a key is missing, unknown or out of range.
    """
    try:
        return OnnxClassifier.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        faults = error.errors()
        first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        known = f" Known keys: {', '.join(OnnxClassifier.model_fields)}." if first["type"] == "extra_forbidden" else ""
        raise UserError(f"{path}: `{place}`: {first['msg']}.{known}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {reason(error)}") from error


def prepare_onnx_file(path: Path, name: str, thresholds: Thresholds | None) -> Prepared:
    """The ONNX file that a TOML describes; with thresholds as a gate.

    Raises:
        UserError: the TOML or the file is not what it should be.
    """
    told = read_toml(path)
    file = path.parent / told.model
    model = _read_model(file)
    labels = _labels(path, told)
    resize = Resize(size=told.size, edge=told.edge or told.size, mode=told.resize, filter=told.filter, rounding=True)
    (given,) = _inputs(file, model)
    output = _output(file, model, told)
    graphs = {
        "preprocess": _preprocess_graph(told, given),
        "model": model,
        "postprocess": _postprocess_graph(told, output, len(labels)),
    }
    manifest = Manifest(
        role="classifier" if thresholds is None else "gate",
        name=name,
        labels=labels,
        image_size=told.size,
        resize=resize,
        thresholds=thresholds,
        chain=("preprocess", "model", "postprocess"),
        source=Source(library="onnx", version=onnx.__version__, model=model.producer_name or "onnx", origin=path.name),
    )
    return Prepared(manifest, ready=graphs, check=lambda bundle: _verify(told, file, output.name, bundle))


def _read_model(file: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(file))
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise UserError(f"There is no ONNX file {file}.") from error
    except Exception as error:  # protobuf and onnx raise types of their own
        raise UserError(f"{file} is no ONNX graph in order: {reason(error)}") from error
    return model


def _inputs(file: Path, model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    kinds = {value.type.tensor_type.elem_type for value in inputs}
    if len(inputs) != 1 or not kinds <= {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8}:
        names = ", ".join(value.name for value in inputs)
        raise UserError(f"{file} has the inputs {names}; a classifier takes one, of float32, float16 or uint8.")
    return inputs


def _output(file: Path, model: onnx.ModelProto, told: OnnxClassifier) -> onnx.ValueInfoProto:
    outputs = {value.name: value for value in model.graph.output}
    if told.output is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    if told.output not in outputs:
        raise UserError(
            f"{file} has the outputs {', '.join(outputs)}; say which holds the labels' numbers in `output`."
        )
    return outputs[told.output]


def _labels(path: Path, told: OnnxClassifier) -> tuple[str, ...]:
    if (told.labels is None) == (told.labels_file is None):
        raise UserError(f"{path}: give either `labels` or `labels_file`.")
    if told.labels == "imagenet":
        return tuple(word.name for word in imagenet())
    labels = told.labels
    if told.labels_file is not None:
        try:
            text = (path.parent / told.labels_file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: `labels_file` {told.labels_file} can't be read: {reason(error)}") from error
        labels = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not labels or len(set(labels)) != len(labels):
        raise UserError(f"{path}: there are no labels, or one stands twice.")
    return tuple(labels)


def _preprocess_graph(told: OnnxClassifier, given: onnx.ValueInfoProto) -> onnx.ModelProto:
    """(images (B, H, W, 3) uint8, rows, columns) → the graph's own input: the resizing of `Preprocess`, in ONNX."""
    kind = given.type.tensor_type.elem_type
    scale = 255.0 if told.range == "0-1" else 1.0
    order = [2, 1, 0] if told.channels == "BGR" else [0, 1, 2]
    constants: dict[str, NDArray[Any]] = {
        "order": np.array(order, np.int64),
        "zero": np.array(0, np.float32),
        "most": np.array(255, np.float32),
        "scale": np.array(scale, np.float32),
        "mean": np.array(told.mean, np.float32).reshape(1, 3, 1, 1),
        "std": np.array(told.std, np.float32).reshape(1, 3, 1, 1),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["whole"], to=TensorProto.FLOAT),
        node("Transpose", ["whole"], ["rgb"], perm=[0, 3, 1, 2]),
        node("Gather", ["rgb", "order"], ["ordered"], axis=1),
        node("Transpose", ["columns"], ["across"], perm=[1, 0]),
        node("MatMul", ["ordered", "across"], ["narrow"]),
        node("Round", ["narrow"], ["narrow_whole"]),
        node("Clip", ["narrow_whole", "zero", "most"], ["narrow_clipped"]),
        node("MatMul", ["rows", "narrow_clipped"], ["small"]),
        node("Round", ["small"], ["small_whole"]),
        node("Clip", ["small_whole", "zero", "most"], ["pixels"]),
        node("Div", ["pixels", "scale"], ["scaled"]),
        node("Sub", ["scaled", "mean"], ["centred"]),
        node("Div", ["centred", "std"], ["normalised"]),
        node("Transpose", ["normalised"], ["laid_out"], perm=[0, 1, 2, 3] if told.layout == "NCHW" else [0, 2, 3, 1]),
        node("Cast", ["laid_out"], [given.name], to=kind),
    ]
    shape = [3, told.size, told.size] if told.layout == "NCHW" else [told.size, told.size, 3]
    graph = helper.make_graph(
        nodes,
        "preprocess",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3]),
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, [told.size, "height"]),
            helper.make_tensor_value_info("columns", TensorProto.FLOAT, [told.size, "width"]),
        ],
        [helper.make_tensor_value_info(given.name, kind, ["batch", *shape])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _postprocess_graph(told: OnnxClassifier, output: onnx.ValueInfoProto, count: int) -> onnx.ModelProto:
    """(the graph's own output, index (B,)) → (scores (B, k), indices (B, k), score (B,))."""
    node = helper.make_node
    activation = {
        "softmax": node("Softmax", ["flat"], ["all"], axis=-1),
        "sigmoid": node("Sigmoid", ["flat"], ["all"]),
        "none": node("Identity", ["flat"], ["all"]),
    }
    nodes = [
        node("Cast", [output.name], ["float"], to=TensorProto.FLOAT),
        node("Reshape", ["float", "wide"], ["flat"]),
        activation[told.activation],
        node("TopK", ["all", "k"], ["scores", "indices"], axis=-1),
        node("Unsqueeze", ["index", "last"], ["place"]),
        node("GatherElements", ["all", "place"], ["one"], axis=1),
        node("Squeeze", ["one", "last"], ["score"]),
    ]
    top = min(TOP_K, count)
    rest = [f"axis_{axis}" for axis in range(1, len(output.type.tensor_type.shape.dim))]
    graph = helper.make_graph(
        nodes,
        "postprocess",
        [
            # of any shape: the file's own may hold one batch size
            helper.make_tensor_value_info(output.name, output.type.tensor_type.elem_type, ["batch", *rest]),
            helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", top]),
            helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch", top]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
        ],
        [
            numpy_helper.from_array(np.array([-1, count], np.int64), "wide"),
            numpy_helper.from_array(np.array([top], np.int64), "k"),
            numpy_helper.from_array(np.array([1], np.int64), "last"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _verify(told: OnnxClassifier, file: Path, output: str, bundle: Bundle) -> list[Check]:
    """Scores through Pillow, NumPy and the file itself against the bundle's, at several batch sizes."""
    ours, theirs = Classifier(bundle), OrtRunner(file)
    count = len(bundle.manifest.labels)
    (spec,) = bundle.manifest.graphs["model"].inputs
    fixed = spec.shape[0]
    rng = np.random.default_rng(20_260_101)
    checks = []
    for batch in BATCHES:
        images = rng.integers(0, 256, (batch, told.size + 11, told.size + 5, 3), dtype=np.uint8)
        pixels = np.stack([_by_pillow(told, image) for image in images]).astype(spec.dtype)
        try:
            raw = in_parts(theirs, {spec.name: pixels}, fixed if isinstance(fixed, int) else 1)[output]
            got = ours.classify(images, bundle.manifest.labels[-1])
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise BundleError(f"{file} does not run at batch {batch}: {reason(error)}") from error
        if raw[0].size != count:
            raise UserError(f"{file} gives {raw[0].size} numbers an image, but there are {count} labels.")
        scores = _activated(told, raw.reshape(batch, count).astype(np.float64))
        require_sound(f"{file.name}: the output at batch {batch}", scores)
        top = got["scores"].shape[1]
        wanted = -np.sort(-scores, axis=1)[:, :top]
        checks.append(require(compare("classify", "scores", wanted, got["scores"], TOLERANCE)))
        checks.append(require(compare("classify", "score", scores[:, -1], got["score"], TOLERANCE)))
    return checks


def _by_pillow(told: OnnxClassifier, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    edge = told.edge or told.size
    short = min(height, width)
    sides = (edge, edge) if told.resize == "squash" else tuple(int(edge * side / short) for side in (width, height))
    small = Image.fromarray(image).resize((sides[0], sides[1]), PILLOW[told.filter])
    left, top = (round((side - told.size) / 2.0) for side in sides)
    pixels = np.asarray(small.crop((left, top, left + told.size, top + told.size)), dtype=np.float32)
    if told.channels == "BGR":
        pixels = pixels[..., ::-1]
    mean, std = (np.array(values, dtype=np.float32) for values in (told.mean, told.std))
    pixels = (pixels / np.float32(255 if told.range == "0-1" else 1) - mean) / std
    return pixels if told.layout == "NHWC" else pixels.transpose(2, 0, 1)


def _activated(told: OnnxClassifier, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if told.activation == "none":
        return logits
    if told.activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)))
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
