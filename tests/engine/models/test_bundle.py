"""Loading a bundle: what is whole loads, everything else is refused with one sentence."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Manifest, Source, load_bundle
from mothlight.engine.models.resize import Resize
from mothlight.engine.models.runner import OrtRunner
from mothlight.engine.models.tokenizer import BundleTokenizer
from mothlight.exporters.graphs import store_half
from mothlight.exporters.publish import publish

WEIGHT = np.linspace(-1, 1, 24 * 32, dtype=np.float32).astype(np.float16).astype(np.float32).reshape(24, 32)


def toy_graph() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = ir.from_proto(model)
    store_half(copy.graph)
    return ir.to_proto(copy)


def toy_manifest() -> Manifest:
    source = Source(library="timm", version="1", model="toy")
    return Manifest(role="classifier", name="toy", source=source, labels=("fly", "bee"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish(tmp_path / "toy", toy_manifest(), {"classify": toy_graph()}, {"extra/notes.txt": b"hello"}).folder


def reseal(folder: Path, **changes: object) -> None:
    """Rewrite the manifest with a right content key, as a hostile publisher would."""
    fields = {**json.loads((folder / "manifest.json").read_text()), **changes}
    (folder / "manifest.json").write_bytes(Manifest.model_validate_json(json.dumps(fields)).sealed().to_json())


def refused(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_loads_and_runs(folder: Path) -> None:
    bundle = load_bundle(folder, "classifier")
    x = np.ones((3, 24), np.float32)
    runner = OrtRunner(bundle.graph_path("classify"))
    np.testing.assert_allclose(runner.infer(x=x)["y"], x @ WEIGHT, atol=1e-5)
    assert bundle.manifest.graphs["classify"].inputs[0].shape == ("batch", 24)
    assert bundle.manifest.content_key == bundle.manifest.key()
    with pytest.raises(BundleError, match="no graph `decode`"):
        bundle.graph_path("decode")
    with pytest.raises(BundleError, match="no tokenizer"):
        BundleTokenizer(bundle)
    with pytest.raises(BundleError, match="is a classifier, but a gate is wanted"):
        load_bundle(folder, "gate")
    with pytest.raises(ValueError, match="takes x; it was given z"):
        runner.infer(z=x)


def test_the_same_content_has_the_same_key_elsewhere(folder: Path, tmp_path: Path) -> None:
    other = publish(tmp_path / "b", toy_manifest(), {"classify": toy_graph()}, {"extra/notes.txt": b"hello"})
    assert other.manifest.content_key == load_bundle(folder).manifest.content_key


@pytest.mark.parametrize("name", ["classify.onnx", "extra/notes.txt", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damage_is_refused(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(raw), "truncate": bytes(raw[:-3]), "empty": b""}[damage])
    assert name in refused(folder)


def test_every_flipped_bit_of_a_manifest_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        refused(folder)


def test_links_are_refused(folder: Path, tmp_path: Path) -> None:
    target = folder / "classify.onnx"
    os.link(target, tmp_path / "second")
    assert "2 hard links" in refused(folder)
    target.unlink()
    target.symlink_to(tmp_path / "second")
    assert "not a regular file" in refused(folder)
    target.unlink()
    os.mkfifo(target)
    assert "not a regular file" in refused(folder)


def test_linked_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "extra").rename(tmp_path / "away")
    (folder / "extra").symlink_to(tmp_path / "away")
    assert "behind a symbolic link" in refused(folder)
    (tmp_path / "link").symlink_to(folder)
    assert "not a folder" in refused(tmp_path / "link")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../b", "a\\b", "a\0b", "", "."])
def test_names_outside_are_refused(folder: Path, name: str) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    reseal(folder, files={**files, name: {"sha256": "0" * 64, "size": 0}})
    assert "outside itself" in refused(folder)


def test_what_is_no_manifest_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "on_load": "import os"}))
    assert "on_load" in refused(folder)
    path.write_text("[" * 100_000)
    assert "is no manifest" in refused(folder)


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret", "unlisted.bin"])
def test_external_data_outside_the_manifest_is_refused(folder: Path, location: str) -> None:
    model = toy_graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    in_node = toy_graph()
    del in_node.graph.initializer[:]
    in_node.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    for hostile in (model, in_node):
        with pytest.raises(BundleError, match="does not list"):
            publish(folder.parent / "hostile", toy_manifest(), {"classify": hostile}, {})
    assert [p.name for p in folder.parent.iterdir()] == ["toy"]


def test_what_is_not_onnx_is_refused(folder: Path) -> None:
    raw = b"\x80\x04\x95 a pickle, perhaps"
    (folder / "classify.onnx").write_bytes(raw)
    reseal(folder, files={"classify.onnx": {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}})
    assert "is no ONNX graph" in refused(folder)


def test_half_precision_halves_the_weights_and_changes_nothing(folder: Path) -> None:
    stored = halved(toy_graph())
    onnx.checker.check_model(stored)
    assert stored.ByteSize() < 0.7 * toy_graph().ByteSize()
    bundle = publish(folder.parent / "half", toy_manifest(), {"classify": stored}, {})
    x = np.random.default_rng(0).normal(size=(2, 24)).astype(np.float32)
    whole, half = (OrtRunner(b.graph_path("classify")).infer(x=x)["y"] for b in (load_bundle(folder), bundle))
    np.testing.assert_array_equal(whole, half)


def test_a_weight_that_half_precision_cannot_hold_stays(folder: Path) -> None:
    model = toy_graph()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT + 1e-6, "w"))
    assert halved(model).graph.initializer[0].data_type == TensorProto.FLOAT
    assert folder.exists()


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(64, 64), (97, 64), (31, 200), (40, 44)])
def test_resize_matrices_equal_pillow(kind: str, mode: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    edge = 32 if mode == "squash" else 40
    resize = Resize.model_validate({"size": 32, "edge": edge, "mode": mode, "filter": kind, "rounding": True})
    rows, columns = resize.matrices(*size).values()
    across = np.clip(np.rint(np.einsum("cw,hwk->hck", columns, image.astype(np.float32))), 0, 255)
    ours = np.clip(np.rint(np.einsum("rh,hck->rck", rows, across)), 0, 255)
    sides = [32, 32] if mode == "squash" else [40 if side == min(size) else int(40 * side / min(size)) for side in size]
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[kind]
    theirs = np.asarray(Image.fromarray(image).resize((sides[1], sides[0]), resample))
    top, left = round((sides[0] - 32) / 2), round((sides[1] - 32) / 2)
    assert np.abs(ours - theirs[top : top + 32, left : left + 32].astype(np.float32)).max() <= 2
