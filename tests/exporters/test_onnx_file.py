"""A classifier that no exporter of ours made: an ONNX file and a TOML."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.stages.classify import Classifier
from mothlight.exporters.export import export
from mothlight.exporters.options import Options

LABELS = ("fly", "butterfly", "goldfish")
SETTINGS = """
model = "mine.onnx"
size = 24
edge = 28
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.3, 0.4]
labels = ["fly", "butterfly", "goldfish"]
"""


def hand_made(path: Path, *, batch: int | str = "n", layout: str = "NCHW", broken: bool = False) -> None:
    """As somebody else's tool might have written it: an older opset, odd names, perhaps one batch size only."""
    rng = np.random.default_rng(5)
    convolution = rng.normal(size=(6, 3, 5, 5)).astype(np.float32)
    linear = rng.normal(size=(6, 3)).astype(np.float32) * (np.inf if broken else 1.0)
    shape = [batch, 3, 24, 24] if layout == "NCHW" else [batch, 24, 24, 3]
    nodes = [] if layout == "NCHW" else [helper.make_node("Transpose", ["data"], ["x"], perm=[0, 3, 1, 2])]
    nodes += [
        helper.make_node("Conv", ["data" if layout == "NCHW" else "x", "w1"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w2"], ["prob_logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "somebody's",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("prob_logits", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(convolution, "w1"), numpy_helper.from_array(linear.astype(np.float32), "w2")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    model.producer_name = "elsewhere"
    onnx.save(model, str(path / "mine.onnx"))


def described(folder: Path, text: str = SETTINGS) -> str:
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_it_becomes_a_bundle_whatever_its_batch_and_layout(tmp_path: Path, batch: int | str, layout: str) -> None:
    hand_made(tmp_path, batch=batch, layout=layout)
    source = described(tmp_path, SETTINGS + f'layout = "{layout}"\n')
    bundle = export("gate", source, tmp_path / "out", Options(lower=0.1, upper=0.3))
    assert bundle.manifest.labels == LABELS
    assert {check.batch for check in bundle.manifest.checks} == {1, 2, 5}
    assert (bundle.folder / "model.onnx").read_bytes() == (tmp_path / "mine.onnx").read_bytes()
    images = np.random.default_rng(1).integers(0, 256, (5, 40, 33, 3), dtype=np.uint8)
    whole = Classifier(load_bundle(tmp_path / "out")).classify(images, "goldfish")
    assert whole["scores"].shape == (5, 3)
    np.testing.assert_allclose(whole["scores"].sum(axis=1), 1, atol=1e-5)
    place = np.argmax(whole["indices"] == 2, axis=1)
    np.testing.assert_array_equal(whole["score"], whole["scores"][np.arange(5), place])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("size = 24", "sizes = 24"), "`sizes`"),
        (('"goldfish"]', '"fly"]'), "stands twice"),
        (('labels = ["fly", "butterfly", "goldfish"]', 'labels = ["fly"]'), "gives 3 numbers an image"),
        (('labels = ["fly", "butterfly", "goldfish"]', ""), "either `labels` or `labels_file`"),
        (("mine.onnx", "theirs.onnx"), "There is no ONNX file"),
        (("size = 24", "size = -1"), "`size`"),
        (("size = 24", "size = = 24"), "can't be read"),
        (("mean = [0.5", 'output = "other"\nmean = [0.5'), "has the outputs prob_logits"),
    ],
)
def test_what_is_wrong_with_the_toml_is_one_sentence(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    hand_made(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        export("classifier", described(tmp_path, SETTINGS.replace(*change)), tmp_path / "out", Options())
    assert "\n" not in str(caught.value)


def test_scores_that_are_not_finite_are_caught(tmp_path: Path) -> None:
    hand_made(tmp_path, broken=True)
    with pytest.raises(BundleError, match="not finite"):
        export("classifier", described(tmp_path), tmp_path / "out", Options())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.onnx", "mine.toml"]


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"\x80\x04\x95 a pickle, perhaps")
    with pytest.raises(UserError, match="no ONNX graph in order"):
        export("classifier", described(tmp_path), tmp_path / "out", Options())
    with pytest.raises(UserError, match="describe it in a TOML"):
        export("classifier", str(tmp_path / "mine.onnx"), tmp_path / "out", Options())


def test_weights_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    hand_made(tmp_path)
    (tmp_path / "secret").write_bytes(b"0" * 4 * 18)
    (tmp_path / "inner").mkdir()
    model = onnx.load(str(tmp_path / "mine.onnx"))
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret")
    (tmp_path / "inner" / "mine.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="no ONNX graph in order"):
        export("classifier", described(tmp_path / "inner"), tmp_path / "out", Options())
