"""Writes a bundle: graphs exported and verified, files beside the target, synced, sealed, renamed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from mothlight.exporters.graphs import EXTERNAL, Graph, save, to_onnx
from mothlight.exporters.verify import verify_graph

CheckWhole = Callable[[Bundle], Iterable[Check]]
"""Compares a whole bundle with its library; raises BundleError where they differ."""
DTYPES: dict[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.INT64: "int64",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.BOOL: "bool",
}


def export_bundle(
    out: Path,
    manifest: Manifest,
    graphs: Sequence[Graph],
    files: Mapping[str, bytes],
    *,
    replace: bool,
    fill: Callable[[Path], None] = lambda _: None,
    check: CheckWhole = lambda _: (),
) -> Bundle:
    """Export and verify each graph, then publish the folder.

    `fill` may write further files into it; `check` compares the whole bundle with the library before it is published.

    Raises:
        UserError: `out` exists and `replace` is false.
        BundleError: a graph differs from the library.
    """
    if out.exists() and not replace:
        raise_exists(out)
    checks = list(manifest.checks)
    with staged(out) as work:
        for graph in graphs:
            path = work / f"{graph.name}.onnx"
            save(to_onnx(graph), path)
            checks += verify_graph(graph, path)
        for name, raw in files.items():
            write(work / name, raw)
        fill(work)
        seal(work, manifest.model_copy(update={"checks": tuple(checks)}), [graph.name for graph in graphs])
        add_checks(work, check)
    return load_bundle(out)


def raise_exists(out: Path) -> NoReturn:
    """Refuse to write over what stands there.

    Raises:
        UserError: always.
    """
    raise UserError(f"{out} exists already; choose another --out, or say --replace.")


def publish(
    out: Path,
    manifest: Manifest,
    graphs: Mapping[str, onnx.ModelProto],
    files: Mapping[str, bytes],
    check: CheckWhole = lambda _: (),
) -> Bundle:
    """Write a bundle of graphs at hand atomically, in place of what stood there, and return it verified."""
    with staged(out) as work:
        for name, model in graphs.items():
            if model.ByteSize() < EXTERNAL:
                write(work / f"{name}.onnx", model.SerializeToString(deterministic=True))
            else:
                onnx.save(model, str(work / f"{name}.onnx"), save_as_external_data=True, location=f"{name}.onnx.data")
        for name, raw in files.items():
            write(work / name, raw)
        seal(work, manifest, list(graphs))
        add_checks(work, check)
    return load_bundle(out)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `out` if all goes well, and else leaves no trace."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield work
        work.chmod(0o755)
        load_bundle(work)
        if out.exists():
            shutil.rmtree(out)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def seal(work: Path, manifest: Manifest, graphs: Sequence[str]) -> None:
    """Write the manifest of a folder whose files are all there.

    Files, graphs, opset and the content key of `manifest` are filled in here.
    """
    entries, specs, opset = {}, {}, 0
    for path in sorted(path for path in work.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        entries[path.relative_to(work).as_posix()] = FileEntry(sha256=digest, size=path.stat().st_size)
    for name in graphs:
        model = onnx.load(str(work / f"{name}.onnx"), load_external_data=False)
        specs[name] = graph_spec(f"{name}.onnx", model)
        opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    update = {"files": entries, "graphs": specs, "opset": opset}
    write(work / MANIFEST, manifest.model_copy(update=update).sealed().to_json())


def add_checks(work: Path, check: CheckWhole) -> None:
    """Run further checks on a sealed folder and seal it again with them."""
    bundle = load_bundle(work)
    checks = tuple(check(bundle))
    if checks:
        manifest = bundle.manifest.model_copy(update={"checks": (*bundle.manifest.checks, *checks)}).sealed()
        beside = work / f"{MANIFEST}.new"
        write(beside, manifest.to_json())
        beside.replace(work / MANIFEST)


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


def write(path: Path, raw: bytes) -> None:
    """Write a new file and sync it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
