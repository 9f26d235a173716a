"""ONNX files of the kinds that people bring, each with the known right answer, and the sentences on what can't be."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torchvision.models import ResNet50_Weights

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.stages.classify import Classifier
from mothlight.engine.vocabulary import imagenet
from mothlight.exporters.classifiers.onnx_file import labels_for
from mothlight.exporters.export import export, plan
from mothlight.exporters.labels import labels_of, read_label_file
from mothlight.exporters.onnx_files.description import read_toml
from mothlight.exporters.onnx_files.draft import draft
from mothlight.exporters.onnx_files.file import read_onnx
from mothlight.exporters.options import Options
from tests.exporters.colours import LABELS, Colours, coloured

IMAGES = coloured()
OUR_NAMES = [
    *("images", "rgb", "pixels", "mean", "scaled", "columns", "rows", "rows_first", "scores", "score", "index"),
    *("indices", "flat", "all", "float", "self", "std", "x", "small", "whole", "place", "half", "mothlight"),
]
KINDS: dict[str, Colours] = {
    "plain": Colours(),
    "blue first": Colours(channels="BGR"),
    "channels last": Colours(layout="NHWC"),
    "not square": Colours(size=(20, 32)),
    "not square, channels last": Colours(size=(20, 32), layout="NHWC"),
    "grey": Colours(channels="grey"),
    "four channels": Colours(channels="RGBA"),
    "flat": Colours(flat=True),
    "flat, one at a time": Colours(flat=True, batch=1),
    "no batch": Colours(batch=None),
    "flat, no batch": Colours(batch=None, flat=True),
    "batch of four": Colours(batch=4),
    "uint8": Colours(kind=TensorProto.UINT8, range=255.0),
    "int8": Colours(kind=TensorProto.INT8, range=255.0, mean=(128.0,)),
    "int32": Colours(kind=TensorProto.INT32, range=255.0),
    "double": Colours(kind=TensorProto.DOUBLE, out_kind=TensorProto.DOUBLE),
    "half": Colours(kind=TensorProto.FLOAT16, out_kind=TensorProto.FLOAT16),
    "int32 out": Colours(out_kind=TensorProto.INT32),
    "bfloat16 out": Colours(out_kind=TensorProto.BFLOAT16),
    "normalised": Colours(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "normalised, 0-255": Colours(range=255.0, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4)),
    "one logit": Colours(one=True),
    "one logit of grey": Colours(one=True, channels="grey"),
    "one sigmoid": Colours(one=True, ending="Sigmoid"),
    "softmax inside": Colours(ending="Softmax"),
    "sigmoid inside": Colours(ending="Sigmoid"),
    "logarithms": Colours(ending="LogSoftmax"),
    "background first": Colours(background="first"),
    "background last": Colours(background="last"),
    "text beside": Colours(outputs=("text",)),
    "class beside": Colours(outputs=("class",)),
    "steep": Colours(steep=5000.0),
}


def right(source: str, truth: list[str], folder: Path) -> Classifier:
    """Export, and see that every picture gets its label."""
    made = Classifier(load_bundle(export("classifier", source, folder / "bundle", Options()).folder))
    got = made.classify(IMAGES, made.labels[0])
    assert [made.labels[place] for place in got["indices"][:, 0]] == truth
    assert (got["scores"] >= -1e-6).all()
    assert (got["scores"] <= 1 + 1e-6).all()
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_label_of_every_kind(kind: str, tmp_path: Path) -> None:
    colours = KINDS[kind]
    right(colours.save(tmp_path), colours.truth(IMAGES), tmp_path)
    same = (tmp_path / "bundle" / "model.onnx").read_bytes() == (tmp_path / "mine.onnx").read_bytes()
    assert same == (colours.batch is not None and colours.out_kind != TensorProto.BFLOAT16)


@pytest.mark.parametrize("name", OUR_NAMES)
def test_tensors_may_be_called_as_ours_are(name: str, tmp_path: Path) -> None:
    given, output = Colours(name=name), Colours(output=name)
    (tmp_path / "given").mkdir()
    right(given.save(tmp_path / "given"), given.truth(IMAGES), tmp_path / "given")
    right(output.save(tmp_path), output.truth(IMAGES), tmp_path)


def changed(model: onnx.ModelProto, change: Callable[[onnx.ModelProto], None], folder: Path) -> str:
    """A plain file with a change, and its description."""
    change(model)
    source = Colours().save(folder)
    (folder / "mine.onnx").write_bytes(model.SerializeToString())
    return source


def weights_as_inputs(model: onnx.ModelProto) -> None:
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def unsorted_nodes(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def no_shapes(model: onnx.ModelProto) -> None:
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def no_type(model: onnx.ModelProto) -> None:
    for value in model.graph.output:
        value.ClearField("type")


def minus_one(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1


def no_number(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 0


def no_input_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def claims_a_batch(model: onnx.ModelProto) -> None:
    """A reshape to one row inside, under a symbolic batch."""
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    flatten.op_type = "Reshape"
    del flatten.attribute[:]
    flatten.input.append("one_row")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "one_row"))


def quantised_by_the_batch(model: onnx.ModelProto) -> None:
    """What a tensor is scaled by is found over the whole batch."""
    place = next(place for place, node in enumerate(model.graph.node) if "judged" in node.input)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    nodes[place:place] = [
        helper.make_node("DynamicQuantizeLinear", ["judged"], ["q", "q_scale", "q_zero"]),
        helper.make_node("DequantizeLinear", ["q", "q_scale", "q_zero"], ["back"]),
    ]
    nodes[place + 2].input[0] = "back"
    del model.graph.node[:]
    model.graph.node.extend(nodes)


ODD: dict[str, tuple[Callable[[onnx.ModelProto], None], bool]] = {
    "weights listed as inputs": (weights_as_inputs, False),
    "nodes out of order": (unsorted_nodes, True),
    "no opset": (no_opset, True),
    "no shapes": (no_shapes, True),
    "no type": (no_type, True),
    "dimension -1": (minus_one, False),
    "dimension 0": (no_number, True),
    "no shape of the input": (no_input_shape, False),
    "a reshape to one": (claims_a_batch, False),
    "quantised by the batch": (quantised_by_the_batch, False),
}
"""By kind: what makes it, and whether a mended copy is used."""


@pytest.mark.parametrize("kind", ODD)
def test_what_onnx_runtime_runs_is_run(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    change, mended = ODD[kind]
    with caplog.at_level("INFO", "mothlight.export"):
        right(changed(Colours().model(), change, tmp_path), Colours().truth(IMAGES), tmp_path)
    assert ("a copy is used" in caplog.text) == mended


def test_a_file_that_onnx_runtime_refuses_is_one_sentence_with_its_own_path(tmp_path: Path) -> None:
    def foreign(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type, model.graph.node[0].domain = "Twist", "somebody.else"
        model.opset_import.append(helper.make_opsetid("somebody.else", 1))

    source = changed(Colours().model(), foreign, tmp_path)
    with pytest.raises(UserError, match="Twist") as caught:
        export("classifier", source, tmp_path / "bundle", Options())
    assert str(tmp_path / "mine.onnx") in str(caught.value)
    assert "mothlight-onnx-" not in str(caught.value)


@pytest.mark.parametrize("kind", ["a reshape to one", "quantised by the batch"])
def test_answers_that_depend_on_the_batch_are_asked_one_by_one(kind: str, tmp_path: Path) -> None:
    made = right(changed(Colours().model(), ODD[kind][0], tmp_path), Colours().truth(IMAGES), tmp_path)
    assert load_bundle(tmp_path / "bundle").manifest.alone
    alone = [made.classify(image[None], "red")["scores"][0] for image in IMAGES]
    np.testing.assert_array_equal(made.classify(IMAGES, "red")["scores"], alone)


def test_of_a_map_the_tensor_before_it_is_taken(tmp_path: Path) -> None:
    colours = Colours(outputs=("map",), ending="Softmax")
    source = colours.save(tmp_path)
    with pytest.raises(UserError, match=r"map \(a map\), of which the numbers are the tensor before it, `logits`"):
        export("classifier", source, tmp_path / "bundle", Options())
    right(colours.save(tmp_path, output="logits"), colours.truth(IMAGES), tmp_path)


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [
        ({}, {"size": 32}, r"3 × 24 × 24.*3 × 32 × 32.*likely size = 24"),
        ({}, {"layout": "NHWC"}, r'likely layout = "NCHW"'),
        ({"layout": "NHWC"}, {"layout": "NCHW"}, r'likely layout = "NHWC"'),
        ({"channels": "grey"}, {"channels": "RGB"}, r'likely channels = "grey"'),
        ({"flat": True}, {"size": 25}, r"1728.*1875"),
        ({"background": "first"}, {"background": None}, r'4 numbers.*3 labels.*background = "first"'),
        ({}, {"background": "first"}, r"3 numbers.*one number more is due"),
        ({}, {"labels": ["a", "b"]}, r"3 numbers an image.*2 labels"),
        ({"one": True}, {"labels": ["red"]}, r"1 number an image.*two labels"),
        ({"one": True}, {"activation": "softmax"}, r'likely activation = "sigmoid"'),
        ({"ending": "Softmax"}, {"activation": "softmax"}, r'shares already.*likely activation = "none"'),
        ({"ending": "Sigmoid"}, {"activation": "sigmoid"}, r'ends in a Sigmoid.*likely activation = "none"'),
        ({}, {"activation": "none"}, r'likely activation = "softmax"'),
        ({"kind": TensorProto.UINT8, "range": 255.0}, {"range": "0-1"}, r'likely range = "0-255"'),
        ({}, {"mean": [123.7, 116.3, 103.5]}, r'likely range = "0-255"'),
        ({}, {"mean": [0.5] * 3, "std": [0.5] * 3, "range": "0-255"}, r'likely range = "0-1"'),
        ({"steep": 0.0}, {}, r"the same numbers for black, white"),
        ({}, {"mean": [0.5, 0.5]}, r"`mean` has 2 numbers"),
        ({}, {"std": [0.0]}, r"`std` can't be 0"),
        ({}, {"filter": "lanczos", "antialias": False}, r"needs `antialias`"),
        ({}, {"size": [24, 24, 24]}, r"`size`"),
        ({"outputs": ("class",), "out_kind": TensorProto.INT64}, {}, r"has the outputs class \(int64.*`output`"),
        ({}, {"labels": ["a", "b", "a"]}, r"`a` stands twice"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_with_the_likely_setting(
    kind: dict[str, Any], told: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = Colours(**kind).save(tmp_path, **told)
    with pytest.raises(UserError, match=said) as caught:
        export("classifier", source, tmp_path / "bundle", Options())
    assert "\n" not in str(caught.value)
    assert not re.search(r"mothlight-onnx-|/\.bundle\.", str(caught.value))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.onnx", "mine.toml"]


def test_a_size_that_only_running_shows_is_said_in_full(tmp_path: Path) -> None:
    model = Colours(size=(24, 24)).model()
    flatten = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    flatten.op_type = "Conv"
    flatten.input.append("kernel")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 3, 24, 24), np.float32), "kernel"))
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side_{axis}"
    source = Colours().save(tmp_path, size=32)
    (tmp_path / "mine.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"does not run on images of 3 × 32 × 32: .*(243|3).*(3|243)"):
        export("classifier", source, tmp_path / "bundle", Options())


def test_a_model_that_is_always_sure_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = Colours(steep=3000.0).model()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "w_bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([1e5, 0, 0], np.float32), "w_bias"))
    source = Colours().save(tmp_path)
    (tmp_path / "mine.onnx").write_bytes(model.SerializeToString())
    export("classifier", source, tmp_path / "bundle", Options())
    assert "sure of one and the same label" in caplog.text


@pytest.mark.parametrize("resize", ["shortest", "squash", "letterbox", "none"])
@pytest.mark.parametrize("kind", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_every_way_to_resize_is_verified(resize: str, kind: str, tmp_path: Path) -> None:
    colours = Colours(size=(20, 32))
    export("classifier", colours.save(tmp_path, resize=resize, filter=kind), tmp_path / "bundle", Options())


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("more", [{"resize": "squash"}, {"resize": "letterbox", "fill": 30}, {"edge": 30}])
def test_resizing_without_antialiasing_is_verified(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    source = Colours().save(tmp_path, **{"resize": "shortest", "filter": kind, "antialias": False, **more})
    export("classifier", source, tmp_path / "bundle", Options())


LISTS: dict[str, str] = {
    "lines": "red\ngreen\nblue\n",
    "BOM and CRLF": "\ufeffred\r\ngreen\r\nblue\r\n",
    "numbered, comma": "0,red\n1,green\n2,blue\n",
    "numbered, colon": "0: red\n1: green\n2: blue\n",
    "numbered, space, from 1": "1 red\n2 green\n3 blue\n",
    "out of order": "2: blue\n0: red\n1: green\n",
    "Python's dictionary": "{0: 'red', 1: 'green', 2: 'blue'}",
    "Python's dictionary on lines": "{0: 'red',\n 1: 'green',\n 2: 'blue'}\n",
    "JSON list": '["red", "green", "blue"]',
    "JSON list on lines": '[\n  "red",\n  "green",\n  "blue"\n]\n',
    "JSON dictionary": '{"0": "red", "1": "green", "2": "blue"}',
    "JSON, name to number": '{"red": 0, "green": 1, "blue": 2}',
    "JSON of pairs": '{"0": ["n1", "red"], "1": ["n2", "green"], "2": ["n3", "blue"]}',
    "JSON within": '{"labels": ["red", "green", "blue"]}',
    "CSV": "index,name\n0,red\n1,green\n2,blue\n",
    "CSV, names first, quoted": 'label;id\n"red";0\n"green";1\n"blue";2\n',
}


@pytest.mark.parametrize("kind", LISTS)
def test_labels_come_as_people_have_them(kind: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text(LISTS[kind], encoding="utf-8", newline="")
    source = Colours().save(tmp_path, labels=None, labels_file="labels")
    assert right(source, Colours().truth(IMAGES), tmp_path).labels == LABELS


def lists_of_imagenet() -> dict[str, str]:
    """As libraries and gists have the 1,000 classes."""
    words = imagenet()
    plain = [word.name.split(" (")[0] for word in words]
    assert len(set(plain)) < 1000  # crane and maillot stand twice
    pairs = list(zip(words, plain, strict=True))
    underscored = {str(place): [word.wordnet_id, name.replace(" ", "_")] for place, (word, name) in enumerate(pairs)}
    return {
        "lines, two names twice": "\n".join(plain),
        "WordNet ids": "\n".join(word.wordnet_id for word in words),
        "ids and synonyms": "\n".join(f"{word.wordnet_id} {name}, Latin name" for word, name in pairs),
        "Keras' JSON": json.dumps(underscored),
        "Python's dictionary": str(dict(enumerate(name.replace("-", " ") for name in plain))),
        "torchvision's": "\n".join(ResNet50_Weights.IMAGENET1K_V2.value.meta["categories"]),
    }


@pytest.mark.parametrize("kind", lists_of_imagenet())
def test_the_lists_of_imagenet_are_recognised(kind: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text(lists_of_imagenet()[kind], encoding="utf-8")
    names = read_label_file(tmp_path / "labels")
    assert labels_of("labels", names, len(names)) == tuple(word.name for word in imagenet())


def test_a_background_before_imagenet_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("background\n" + lists_of_imagenet()["lines, two names twice"])
    Colours().save(tmp_path, labels=None, labels_file="labels")
    told = read_toml(tmp_path / "mine.toml")
    changed_, labels = labels_for(tmp_path / "mine.toml", told, read_onnx(tmp_path / "mine.onnx"))
    assert changed_.background == "first"
    assert labels == tuple(word.name for word in imagenet())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no labels"),
        ("0: red\n1: green\n3: blue\n", "2 is missing"),
        ('{"a": "b"}', "no list of names"),
        ("{1, 2", "no list of names"),
        ("red\ngreen\nred\n", "`red` stands twice"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        export("classifier", Colours().save(tmp_path, labels=None, labels_file="labels"), tmp_path / "b", Options())
    assert str(tmp_path / "labels") in str(caught.value)


def test_a_draft_is_filled_from_the_file(tmp_path: Path) -> None:
    model = Colours(name="images", ending="Softmax", size=(20, 32)).model()
    for key, value in {"names": str(dict(enumerate(LABELS))), "author": "Ultralytics", "imgsz": "[20, 32]"}.items():
        model.metadata_props.add(key=key, value=value)
    (tmp_path / "mine.onnx").write_bytes(model.SerializeToString())
    text = draft(tmp_path / "mine.onnx")
    assert "size = [20, 32]" in text
    assert 'activation = "none"' in text
    (tmp_path / "mine.toml").write_text(text)
    right(str(tmp_path / "mine.toml"), Colours().truth(IMAGES), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_draft_is_a_description(kind: str, tmp_path: Path) -> None:
    colours = KINDS[kind]
    colours.save(tmp_path)
    text = draft(tmp_path / "mine.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(colours.labels))
    (tmp_path / "mine.toml").write_text(text)
    assert "# ?" in text
    assert f"describes {tmp_path / 'mine.onnx'}" in next(
        iter(plan("classifier", str(tmp_path / "mine.toml"), tmp_path / "out", Options()))
    )


MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MOTHLIGHT, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_three_lines_lead_from_a_file_to_a_bundle(tmp_path: Path) -> None:
    model = Colours(ending="Softmax").model()
    model.metadata_props.add(key="names", value=str(dict(enumerate(LABELS))))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    printed = run("export", "classifier", "model.onnx", folder=tmp_path)
    assert printed.returncode == 0
    assert 'model = "model.onnx"' in printed.stdout
    assert run("export", "classifier", "model.onnx", "--write", folder=tmp_path).returncode == 0
    assert (tmp_path / "model.toml").read_text() == printed.stdout
    again = run("export", "classifier", "model.onnx", "--write", folder=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    dry = run("export", "classifier", "model.toml", "--out", "bundles/mine", "--dry-run", folder=tmp_path)
    assert "images become 3 × 24 × 24" in dry.stdout
    made = run("export", "classifier", "model.toml", "--out", "bundles/mine", folder=tmp_path)
    assert made.returncode == 0
    assert load_bundle(tmp_path / "bundles" / "mine").manifest.labels == LABELS
    missing = run("export", "classifier", "none.toml", "--out", "bundles/none", folder=tmp_path)
    assert (missing.returncode, missing.stderr) == (2, "mothlight: There is no file none.toml.\n")


def test_an_onnx_file_is_exported_without_torch(tmp_path: Path) -> None:
    """And without any other library of the extra `models`."""
    source = Colours().save(tmp_path)
    code = (
        "import sys\n"
        "for name in ('torch', 'diffusers', 'transformers', 'timm', 'open_clip', 'safetensors', 'huggingface_hub'):\n"
        "    sys.modules[name] = None\n"
        "from mothlight.engine.cli import main\n"
        f"sys.argv = ['mothlight', 'export', 'classifier', {source!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load_bundle(tmp_path / "out").manifest.labels == LABELS
