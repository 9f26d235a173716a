"""Writes a bundle: graphs exported and verified, files beside the target, synced, sealed, renamed."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import onnx
from onnx import TensorProto

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import (
    MANIFEST,
    Bundle,
    Check,
    FileEntry,
    GraphSpec,
    Manifest,
    Precision,
    TensorSpec,
    load_bundle,
)
from mothlight.engine.models.external_data import EXTERNAL

if TYPE_CHECKING:  # an ONNX file is exported without torch
    from mothlight.exporters.graphs import Graph

log = logging.getLogger("mothlight.export")
DTYPES: dict[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.UINT16: "uint16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.BOOL: "bool",
}


@dataclass(frozen=True)
class Prepared:
    """A model that is loaded and taken apart: all that a bundle is made of, or compared with."""

    manifest: Manifest
    graphs: Sequence["Graph"] = ()
    ready: Mapping[str, onnx.ModelProto] = field(default_factory=dict)
    """Graphs that are ONNX already."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    fill: Callable[[Path], None] = lambda _: None
    """Writes further files into the bundle."""
    check: Callable[[Bundle], Iterable[Check]] = lambda _: ()
    """Compares the whole bundle with the library; raises BundleError where they differ."""


def export_bundle(out: Path, prepared: Prepared, *, replace: bool) -> Bundle:
    """Export and verify each graph, then the whole, then publish the folder.

    Raises:
        UserError: `out` exists and `replace` is false.
        BundleError: a graph differs from the library.
    """
    if out.exists() and not replace:
        raise_exists(out)
    checks = list(prepared.manifest.checks)
    precisions: dict[str, Precision] = {}
    with staged(out) as work:
        for name, model in prepared.ready.items():
            write_graph(work / f"{name}.onnx", model)
        for number, graph in enumerate(prepared.graphs, start=1):
            log.info("%s (%d of %d): exporting", graph.name, number, len(prepared.graphs))
            precisions[graph.name], made = _write_verified(graph, work, prepared.manifest.precision)
            checks += made
        for name, raw in prepared.files.items():
            write(work / name, raw)
        prepared.fill(work)
        log.info("hashing")
        seal(
            work,
            prepared.manifest.model_copy(update={"checks": tuple(checks)}),
            {**dict.fromkeys(prepared.ready, "fp32"), **precisions},
        )
        log.info("comparing the whole with %s", prepared.manifest.source.library)
        add_checks(work, prepared.check)
    return load_bundle(out)


def _write_verified(graph: "Graph", work: Path, wanted: Precision) -> tuple[Precision, list[Check]]:
    """Export a graph in the precision that is wanted, or the next higher one that holds; which, and its checks.

    Raises:
        BundleError: it differs from the library even in float32.
    """
    from mothlight.exporters.graphs import save, to_onnx
    from mothlight.exporters.options import INSTEAD
    from mothlight.exporters.precision import typed
    from mothlight.exporters.verify import verify_graph

    path = work / f"{graph.name}.onnx"
    for precision in INSTEAD[wanted]:
        try:
            save(to_onnx(typed(graph, precision)), path)
            size = sum(file.stat().st_size for file in work.glob(f"{path.name}*"))
            log.info("%s: %s written in %s, verifying", graph.name, readable(size), precision)
            return precision, verify_graph(graph, path, precision)
        except BundleError as error:
            if precision == "fp32":
                raise
            log.warning("%s does not hold in %s: %s", graph.name, precision, error)
            for file in work.glob(f"{path.name}*"):
                file.unlink()
    raise AssertionError(wanted)


def verify_bundle(bundle: Bundle, prepared: Prepared) -> list[Check]:
    """Compare a bundle with its library again, as when it was exported.

    Raises:
        BundleError: an output differs.
    """
    checks = list(prepared.manifest.checks)
    for graph in prepared.graphs:
        from mothlight.exporters.verify import verify_graph

        log.info("%s: verifying", graph.name)
        precision = bundle.manifest.graphs[graph.name].precision
        checks += verify_graph(graph, bundle.graph_path(graph.name), precision)
    log.info("comparing the whole with %s", prepared.manifest.source.library)
    return [*checks, *prepared.check(bundle)]


def readable(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def raise_exists(out: Path) -> NoReturn:
    """Refuse to write over what stands there.

    Raises:
        UserError: always.
    """
    raise UserError(f"{out} exists already; choose another --out, or say --replace.")


def publish(out: Path, manifest: Manifest, graphs: Mapping[str, onnx.ModelProto], files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle of graphs at hand atomically, in place of what stood there, and return it verified."""
    return export_bundle(out, Prepared(manifest, ready=graphs, files=files), replace=True)


def write_graph(path: Path, model: onnx.ModelProto) -> None:
    """Write a graph; large weights into a file beside it."""
    if model.ByteSize() < EXTERNAL:
        write(path, model.SerializeToString(deterministic=True))
    else:
        onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")


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


def seal(work: Path, manifest: Manifest, graphs: Mapping[str, Precision]) -> None:
    """Write the manifest of a folder whose files are all there; `graphs` are those it holds, in which precision.

    Files, graphs, opset and the content key of `manifest` are filled in here.
    """
    entries, specs, opset = {}, {}, 0
    for path in sorted(path for path in work.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        entries[path.relative_to(work).as_posix()] = FileEntry(sha256=digest, size=path.stat().st_size)
    for name, precision in graphs.items():
        model = onnx.load(str(work / f"{name}.onnx"), load_external_data=False)
        specs[name] = graph_spec(f"{name}.onnx", model).model_copy(update={"precision": precision})
        opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    update = {"files": entries, "graphs": specs, "opset": opset}
    write(work / MANIFEST, manifest.model_copy(update=update).sealed().to_json())


def add_checks(work: Path, check: Callable[[Bundle], Iterable[Check]]) -> None:
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
    weights = {tensor.name for tensor in model.graph.initializer}  # files of IR version 3 list them as inputs
    return GraphSpec(
        file=file,
        inputs=tuple(_tensor_spec(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(
            _tensor_spec(value)
            for value in model.graph.output
            if value.type.tensor_type.elem_type in DTYPES  # a file may give texts and maps as well
        ),
    )


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.dim_value > 0 else dim.dim_param or f"{value.name}_{axis}"
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
