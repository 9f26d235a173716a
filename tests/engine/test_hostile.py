"""Bundles that were damaged or made to do harm: one sentence and exit code 6, and nothing is begun."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from mothlight.engine.config import built_in_config, bundle_path
from mothlight.engine.models.bundle import FileEntry, Manifest
from tests.engine.conftest import small_config, toml_of

MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))


def damaged(bundle: Path) -> None:
    raw = bytearray((bundle / "classify.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (bundle / "classify.onnx").write_bytes(raw)


def hard_linked(bundle: Path) -> None:
    os.link(bundle / "classify.onnx", bundle.parent / "another.onnx")


def linked_out(bundle: Path) -> None:
    (bundle / "classify.onnx").rename(bundle.parent / "elsewhere.onnx")
    (bundle / "classify.onnx").symlink_to(bundle.parent / "elsewhere.onnx")


def with_weights_outside(bundle: Path) -> None:
    """As a hostile publisher would: every hash is right."""
    model = onnx.load(str(bundle / "classify.onnx"))
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    (bundle.parent / "secret").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    raw = model.SerializeToString()
    (bundle / "classify.onnx").write_bytes(raw)
    manifest = Manifest.model_validate_json((bundle / "manifest.json").read_bytes())
    entry = FileEntry(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))
    sealed = manifest.model_copy(update={"files": {**manifest.files, "classify.onnx": entry}}).sealed()
    (bundle / "manifest.json").write_bytes(sealed.to_json())


def pickled(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"\x80\x04\x95 a pickle, perhaps")


def of_another_format(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (damaged, "classify.onnx was changed: its SHA-256 is"),
        (hard_linked, "has 2 hard links; a bundle's file has one"),
        (linked_out, "is not a regular file"),
        (with_weights_outside, "reads external data from '../secret', which the manifest does not list"),
        (pickled, "manifest.json is no manifest"),
        (of_another_format, "format: Input should be 1"),
    ],
)
def test_a_hostile_bundle_is_refused(harm: Callable[[Path], None], sentence: str, tmp_path: Path) -> None:
    bundle = tmp_path / "hostile"
    shutil.copytree(bundle_path("tinyworld:planted-convnext", built_in_config().parent), bundle)
    harm(bundle)
    (tmp_path / "small.toml").write_text(toml_of(small_config(classifiers=["hostile"])))
    command = [MOTHLIGHT, "audit", str(tmp_path / "small.toml"), "--out", str(tmp_path / "audit")]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == 6
    assert sentence in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "audit").exists()
