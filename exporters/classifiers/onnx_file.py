"""Any classifier that is an ONNX file, described by a small TOML (exporters/README.md): its graph stays as it came.

What the graph leaves out stands in two graphs beside it: `preprocess` makes its input of images of any size, and
`postprocess` makes scores of its output. torch has no part in it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle, Check, Manifest, Source, Thresholds
from mothlight.engine.models.resize import pair
from mothlight.engine.models.runner import OURS, OrtRunner, Parts, infer_once
from mothlight.engine.stages.classify import Classifier
from mothlight.engine.vocabulary import imagenet
from mothlight.exporters.labels import BACKGROUND, labels_of, parsed_names, read_label_file
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.onnx_files.description import OnnxClassifier, read_toml
from mothlight.exporters.onnx_files.file import (
    MAPS,
    OnnxFile,
    adapted,
    at_hand,
    described,
    dims,
    read_onnx,
    with_output,
)
from mothlight.exporters.onnx_files.graphs import activated, postprocess_graph, preprocess_graph
from mothlight.exporters.onnx_files.trial import (
    FLOATS,
    Trial,
    as_input,
    by_pillow,
    path_of,
    require_range,
    require_shape,
    try_out,
)
from mothlight.exporters.publish import DTYPES, Prepared, log
from mothlight.exporters.verify import BATCHES, require, require_sound

TOLERANCE = 1e-3
"""Between scores of the file itself and of the bundle on the same pixels."""
GREY_LEVELS = 2.0
"""How far a pixel may be from Pillow's: each of two passes rounds, and a half may go either way."""
MORE_PIXELS = ((11, 5), (0, 0), (37, 90))
"""How much larger the pictures are than the input on which the preprocessing is compared."""


def prepare_onnx_file(path: Path, name: str, thresholds: Thresholds | None) -> Prepared:
    """The ONNX file that a TOML describes; with thresholds as a gate.

    Raises:
        UserError: the TOML or the file is not what it should be.
    """
    told = read_toml(path)
    file = read_onnx(path_of(path, told))
    told, labels = labels_for(path, told, file)
    file, output = chosen_output(file, told)
    for said in file.mended:
        log.info("%s: %s; a copy is used", file.path, said)
    if file.noted:
        log.info("%s runs, though onnx's checker says: %s", file.path, file.noted)
    require_shape(told, file)
    require_range(told, file)
    trial = try_out(told, file, output, len(labels))
    graphs = {
        "preprocess": preprocess_graph(told, file.given),
        "model": file.model,
        "postprocess": postprocess_graph(told, trial.activation, output, len(labels), trial.numbers),
    }
    manifest = Manifest(
        role="classifier" if thresholds is None else "gate",
        name=name,
        labels=labels,
        image_size=told.size,
        resize=told.geometry,
        thresholds=thresholds,
        chain=("preprocess", "model", "postprocess"),
        alone=trial.alone,
        source=Source(
            library="onnx", version=onnx.__version__, model=file.model.producer_name or "onnx", origin=path.name
        ),
    )
    return Prepared(manifest, ready=graphs, check=lambda bundle: verify_onnx(told, file, output, trial, bundle))


def chosen_output(file: OnnxFile, told: OnnxClassifier) -> tuple[OnnxFile, ValueInfoProto]:
    """The file, adapted where its ends need it, and the tensor that holds the labels' numbers.

    Raises:
        UserError: there are several, none, or it is a map.
    """
    outputs = file.outputs
    kinds = {name: value.type.tensor_type.elem_type for name, value in outputs.items()}
    numbers = [name for name, kind in kinds.items() if kind in (*DTYPES, TensorProto.BFLOAT16)]
    floats = [name for name in numbers if kinds[name] in FLOATS]
    if told.output is None:
        only = floats if len(floats) == 1 else numbers
        if len(only) != 1:
            raise UserError(_which(file, list(outputs)))
        name = only[0]
    elif told.output in outputs:
        name = told.output
        if name not in numbers:
            raise UserError(_which(file, [name]))
    elif any(told.output in node.output for node in file.model.graph.node):
        name = told.output
        with library_errors(f"{file.path}: its inner tensor {name} can't be an output"):
            file = with_output(file, name)
    else:
        raise UserError(_which(file, list(outputs), f" `{told.output}` is none of them;"))
    file = adapted(file, name)
    return file, file.outputs.get(name) or file.outputs[f"{OURS}output"]


def _which(file: OnnxFile, names: Sequence[str], more: str = "") -> str:
    """One sentence on outputs among which a person must choose; of a map it names the tensor before it."""
    before = {name: node.input[0] for node in file.model.graph.node if node.op_type in MAPS for name in node.output}
    said = [
        described(file.outputs[name])
        + (f", of which the numbers are the tensor before it, `{before[name]}`" if name in before else "")
        for name in names
    ]
    return f"{file.path} has the outputs {', '.join(said)};{more} say which tensor has the labels' numbers in `output`."


def labels_for(path: Path, told: OnnxClassifier, file: OnnxFile) -> tuple[OnnxClassifier, tuple[str, ...]]:
    """The labels, and the description again, which says where a background stands if the list says so.

    Raises:
        UserError: there are none, too many ways to know them, or one stands twice.
    """
    if told.labels is not None and told.labels_file is not None:
        raise UserError(f"{path}: give either `labels` or `labels_file`, not both.")
    if told.labels == "imagenet":
        return told, tuple(word.name for word in imagenet())
    if told.labels_file is not None:
        where = path.parent / told.labels_file
        names: Sequence[str] = read_label_file(where)
    else:
        where, names = path, told.labels or own_names(file)
        if not names:
            raise UserError(f"{path}: give either `labels` or `labels_file`: the file itself names none.")
    if len(names) == len(imagenet()) + 1 and names[0].lower() in BACKGROUND:
        told, names = told.model_copy(update={"background": "first"}), names[1:]
    try:
        return told, labels_of(str(where), names, len(names))
    except UserError as error:
        raise UserError(f"{where}: {_twice(names)}") from error


def _twice(names: Sequence[str]) -> str:
    twice = next((name for name in names if list(names).count(name) > 1), "")
    return f"the label `{twice}` stands twice: give each label a name of its own."


def own_names(file: OnnxFile) -> tuple[str, ...]:
    """The names that an exporter wrote into the file's metadata, as Ultralytics does; empty for none."""
    for entry in file.model.metadata_props:
        if entry.key in ("names", "labels", "classes", "class_names", "id2label"):
            named = parsed_names(entry.value)
            if named and set(named) == set(range(len(named))):
                return tuple(named[place] for place in range(len(named)))
    return ()


def verify_onnx(
    told: OnnxClassifier,
    file: OnnxFile,
    output: ValueInfoProto,
    trial: Trial,
    bundle: Bundle,
) -> list[Check]:
    """The preprocessing against Pillow's and NumPy's, and the scores against the file's own on the same pixels."""
    before = OrtRunner(bundle.graph_path("preprocess"))
    rng = np.random.default_rng(20_260_101)
    height, width = pair(told.size)
    checks = [_verify_pixels(told, file, before, rng)]
    classifier, count = Classifier(bundle), len(bundle.manifest.labels)
    fixed = (dims(file.given) or (None,))[0]
    with at_hand(file.model) as path:
        theirs = OrtRunner(path, outputs=[output.name])
        for batch in BATCHES:
            images = rng.integers(0, 256, (batch, height + 11, width + 5, 3), dtype=np.uint8)
            pixels = _pixels(told, before, images)
            with library_errors(f"{file.path} does not run at batch {batch}"):
                raw = infer_once(Parts(theirs, fixed or 1, alone=True), {file.given.name: pixels})[output.name]
                got = classifier.classify(images, bundle.manifest.labels[-1])
            scores = scores_of(told, trial, raw.reshape(batch, -1).astype(np.float64), count)
            require_sound(f"{file.path}: the output at batch {batch}", scores)
            top = got["scores"].shape[1]
            wanted = {"scores": -np.sort(-scores, axis=1)[:, :top], "score": scores[:, -1]}
            for name, value in wanted.items():
                difference = float(np.abs(value - got[name]).max())
                checks.append(
                    require(
                        Check(
                            graph="model",
                            output=name,
                            batch=batch,
                            difference=difference,
                            tolerance=TOLERANCE,
                            unit="absolute",
                        ),
                        f"{file.path} answers otherwise in a batch than alone",
                    )
                )
    return checks


def scores_of(told: OnnxClassifier, trial: Trial, numbers: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """A score for each label, of the numbers that the file gives: (B, numbers) → (B, count)."""
    if trial.numbers == count + 1:
        numbers = numbers[:, 1:] if told.background == "first" else numbers[:, :-1]
    scores = activated(numbers, trial.activation)
    return np.concatenate([1 - scores, scores], axis=1) if trial.numbers == 1 else scores


def _pixels(told: OnnxClassifier, before: OrtRunner, images: NDArray[np.uint8]) -> NDArray[np.generic]:
    """What the graph `preprocess` makes of images."""
    matrices = told.geometry.matrices(*images.shape[1:3])
    given: dict[str, Any] = {f"{OURS}{name}": value for name, value in {"images": images, **matrices}.items()}
    (pixels,) = before.infer(**given).values()
    return pixels


def _verify_pixels(told: OnnxClassifier, file: OnnxFile, before: OrtRunner, rng: np.random.Generator) -> Check:
    """The worst pixel of pictures of several shapes, in grey levels."""
    height, width = pair(told.size)
    # of a value, per channel
    levels = np.array(told.stds).reshape((-1, 1, 1) if told.layout == "NCHW" else (1, 1, -1))
    levels = np.abs(levels) * (255.0 if told.range == "0-1" else 1.0)
    worst = 0.0
    for more in (*MORE_PIXELS, (-(height // 3), -(width // 4))):
        shape = (height + more[0], width + more[1], 3)
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        wanted = as_input(file, by_pillow(told, image)[None]).astype(np.float64)
        got = _pixels(told, before, image[None]).astype(np.float64)
        worst = max(worst, float((np.abs(got - wanted).reshape(told.shape) * levels).max()))
    half = file.given.type.tensor_type.elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    allowed = GREY_LEVELS + (1.0 if half else 0.0)  # of 255 levels, float16 has 2,048 parts
    return require(
        Check(
            graph="preprocess",
            output="pixels",
            batch=1,
            difference=round(worst, 3),
            tolerance=allowed,
            unit="grey levels",
        ),
        "the installed Pillow resizes otherwise than the bundle's graph",
    )
