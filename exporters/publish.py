"""Writes a bundle: graphs exported and verified, files beside the target, synced, sealed, renamed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import onnx
from onnx import TensorProto

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import (
    MANIFEST,
    Bundle,
    Check,
    FileEntry,
    GraphSpec,
    Manifest,
    TensorSpec,
    load_bundle,
)
from mothlight.exporters.graphs import OPSET, Graph, to_onnx
from mothlight.exporters.verify import verify_graph

DTYPES: dict[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.INT64: "int64",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.BOOL: "bool",
}


def export_bundle(
    out: Path, manifest: Manifest, graphs: Sequence[Graph], files: Mapping[str, bytes], *, replace: bool
) -> Bundle:
    """Export and verify each graph, then publish the folder.

    Raises:
        UserError: `out` exists and `replace` is false.
        BundleError: a graph differs from the library.
    """
    if out.exists() and not replace:
        raise_exists(out)
    models, checks = {}, list(manifest.checks)
    for graph in graphs:
        models[graph.name] = to_onnx(graph)
        checks += verify_graph(graph, models[graph.name])
    return publish(out, manifest.model_copy(update={"checks": tuple(checks)}), models, files)


def raise_exists(out: Path) -> NoReturn:
    """Refuse to write over what stands there.

    Raises:
        UserError: always.
    """
    raise UserError(f"{out} exists already; choose another --out, or say --replace.")


def publish(out: Path, manifest: Manifest, graphs: Mapping[str, onnx.ModelProto], files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle folder atomically, in place of what stood there, and return it verified.

    Files, graphs, opset and the content key of `manifest` are filled in here.
    """
    contents = dict(files)
    specs = {}
    for name, model in graphs.items():
        contents[f"{name}.onnx"] = model.SerializeToString(deterministic=True)
        specs[name] = graph_spec(f"{name}.onnx", model)
    entries = {
        name: FileEntry(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw)) for name, raw in sorted(contents.items())
    }
    update = {"files": entries, "graphs": specs, "opset": OPSET, "weights": "float16"}
    contents[MANIFEST] = manifest.model_copy(update=update).sealed().to_json()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, raw in contents.items():
            _write(work / name, raw)
        work.chmod(0o755)
        load_bundle(work)
        if out.exists():
            shutil.rmtree(out)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return load_bundle(out)


def add_checks(bundle: Bundle, checks: Sequence[Check]) -> Bundle:
    """The bundle with more checks in its manifest, sealed again."""
    manifest = bundle.manifest.model_copy(update={"checks": (*bundle.manifest.checks, *checks)}).sealed()
    beside = bundle.folder / f"{MANIFEST}.new"
    _write(beside, manifest.to_json())
    beside.replace(bundle.folder / MANIFEST)
    return load_bundle(bundle.folder)


def graph_spec(file: str, model: onnx.ModelProto) -> GraphSpec:
    """The inputs and outputs of a graph as the manifest states them."""
    return GraphSpec(
        file=file,
        inputs=tuple(_tensor_spec(value) for value in model.graph.input),
        outputs=tuple(_tensor_spec(value) for value in model.graph.output),
    )


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec.model_validate({"name": value.name, "dtype": DTYPES[tensor.elem_type], "shape": shape})


def _write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
