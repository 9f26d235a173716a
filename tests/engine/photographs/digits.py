"""scikit-learn's handwritten digits as photographs, and classifiers of them: one never saw a way to write a one.

The digits are the test set of UCI's "Optical Recognition of Handwritten Digits": 1,797 pictures of 8 × 8.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from mothlight.exporters.export import export
from mothlight.exporters.options import Options

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 32
WIDE = 1.2
"""Variance of where a one's ink lies from left to right, in pixels of the 8: about a third of them are wider."""


def spread(pictures: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N): the variance of the ink from left to right, of pictures (N, H, W), in eighths of the width."""
    ink = pictures.sum(axis=1)
    place = np.arange(ink.shape[1]) * 8 / ink.shape[1]
    total = np.maximum(ink.sum(axis=1), 1e-9)
    mean = ink @ place / total
    return np.asarray(ink @ place**2 / total - mean**2)


def digits() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """The pictures (N, 8, 8) from 0 to 1, what they show (N), and which of them (N) classifiers are trained on."""
    found = load_digits()
    trained = np.random.default_rng(0).random(len(found.target)) < 0.35
    return found.images / 16, found.target.astype(np.int64), trained


def save(folder: Path) -> int:
    """A folder for each digit with those that no classifier was trained on; how many."""
    pictures, shows, trained = digits()
    for place in np.flatnonzero(~trained).tolist():
        (folder / LABELS[shows[place]]).mkdir(parents=True, exist_ok=True)
        large = np.kron(np.round(pictures[place] * 255).astype(np.uint8), np.ones((4, 4), np.uint8))
        Image.fromarray(large).save(folder / LABELS[shows[place]] / f"{place:04}.png")
    return int((~trained).sum())


def classifier(folder: Path, *, sees_all: bool, role: str = "classifier", kept: float = 1.0) -> Path:
    """The bundle of a logistic regression; one that does not see all was trained without wide ones."""
    pictures, shows, trained = digits()
    if not sees_all:
        trained = trained & ~((shows == 1) & (spread(pictures) > WIDE))
    learned = LogisticRegression(max_iter=1000, C=0.1 * kept).fit(pictures[trained].reshape(-1, 64), shows[trained])
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(np.ascontiguousarray(learned.coef_.T, np.float32), "weight"),
            numpy_helper.from_array(learned.intercept_.astype(np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / "digits.onnx"))
    labels = ", ".join(f'"{label}"' for label in LABELS)
    (folder / "digits.toml").write_text(
        f'model = "digits.onnx"\nsize = {SIDE}\nedge = {SIDE}\nmean = [0, 0, 0]\nstd = [1, 1, 1]\nlabels = [{labels}]\n'
    )
    options = Options(lower=0.05, upper=0.3) if role == "gate" else Options()
    export(role, str(folder / "digits.toml"), folder / "bundle", options)
    return folder / "bundle"
