"""Every family in every precision: held to its tolerance, and compiled by TensorRT for RTX, which needs no GPU."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mothlight.engine.config import bundle_path
from mothlight.engine.device import Spec
from mothlight.engine.errors import UserError
from mothlight.engine.models import tensorrt
from mothlight.engine.models.bundle import Bundle, Manifest, Precision, Source, load_bundle
from mothlight.engine.models.runner import Specs
from mothlight.exporters.export import export
from mothlight.exporters.families import FAMILIES, Family
from mothlight.exporters.graphs import Graph
from mothlight.exporters.options import INSTEAD, Options
from mothlight.exporters.precision import PSNR, RELATIVE, typed
from mothlight.exporters.publish import Prepared, export_bundle
from tests.exporters import tiny
from tests.exporters.test_families import SMALL, Small

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
BUILT_IN = ["generator", "planted-resnet", "planted-mobilenet", "planted-convnext", "gate", "clip", "captioner"]
CASES = [
    (family, small)
    for family in FAMILIES
    if not family.backend and family.library != "onnx"
    for small in SMALL[family.loader]
]
QUICK = {"timm_classifier", "clip", "vit_gpt_2"}
SIZES = {"batch": (1, 2, 4)}


def build_all(bundle: Bundle) -> None:
    """Parse and compile every graph, as an audit on an RTX card would."""
    library = tensorrt.find()
    assert library is not None
    manifest = bundle.manifest
    first = next((one.shape[2] for one in _first(manifest) if one.name == "key_0"), 1)
    assert isinstance(first, int)
    lengths = (first, first + 1, first - len(manifest.start_ids) + (manifest.max_tokens or 1) - 1)
    side = manifest.image_size if isinstance(manifest.image_size, int) else 64

    def size(dim: int | str, which: int) -> int:
        if isinstance(dim, int):
            return dim
        return {"batch": SIZES["batch"], "length": lengths}.get(dim, (side,) * 3)[which]

    for graph, told in manifest.graphs.items():
        shapes: dict[str, Specs] = {}
        for which, name in enumerate(("min", "opt", "max")):
            shapes[name] = {
                one.name: Spec(tuple(size(dim, which) for dim in one.shape), np.dtype(one.dtype)) for one in told.inputs
            }
        assert len(library.build(bundle.graph_path(graph), shapes).engine) > 1000, graph


def _first(manifest: Manifest) -> tuple[Any, ...]:
    return manifest.graphs["first_token"].outputs if "first_token" in manifest.graphs else ()


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "generator"])
def test_the_built_in_graphs_are_compiled_by_tensorrt(name: str) -> None:
    build_all(load_bundle(bundle_path(f"tinyworld:{name}", Path())))


@pytest.mark.slow
def test_the_built_in_generator_is_compiled_by_tensorrt() -> None:
    build_all(load_bundle(bundle_path("tinyworld:generator", Path())))


def exported(small: Small, family: Family, precision: Precision, folder: Path) -> Bundle:
    options = replace(small.options, precision=precision)
    if "torchvision" in family.loader:
        (folder / "labels.txt").write_text("\n".join(tiny.LABELS))
        options = replace(options, labels=str(folder / "labels.txt"))
    return export(family.role, str(small.make(folder / "source")), folder / "bundle", options)


def check_family(family: Family, small: Small, precision: Precision, folder: Path) -> None:
    bundle = exported(small, family, precision, folder)
    assert bundle.manifest.precision == precision
    for graph, told in bundle.manifest.graphs.items():
        assert told.precision in INSTEAD[precision]
        own = [check for check in bundle.manifest.checks if check.graph == graph]
        assert own, graph
        if told.precision != "fp32":
            bounds = {check.unit: check.tolerance for check in own}
            assert bounds in ({"relative": RELATIVE[told.precision]}, {"PSNR dB": PSNR[told.precision]})
    build_all(bundle)


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_family_in_half_precision(name: str, tmp_path: Path) -> None:
    family, small = next(case for case in CASES if case[1].make.__name__ == name)
    check_family(family, small, "fp16", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(("family", "small"), CASES, ids=[small.make.__name__ for _, small in CASES])
def test_every_family_in_every_precision(family: Family, small: Small, precision: Precision, tmp_path: Path) -> None:
    check_family(family, small, precision, tmp_path)


class Overflowing(nn.Module):
    """Squares of large numbers: beyond float16, within bfloat16."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.model = nn.Linear(4, 4)
        nn.init.eye_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x) * self.size
        return y / self.size


def prepared(size: float, precision: Precision) -> Prepared:
    def make(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"x": torch.rand(batch, 4, generator=generator) + 0.5}

    manifest = Manifest(
        role="embedder", name="x", precision=precision, source=Source(library="torch", version="2", model="x")
    )
    return Prepared(manifest, [Graph("embed_image", Overflowing(size), make, ("y",), 1e-4)])


@pytest.mark.parametrize(("size", "kept"), [(10.0, "fp16"), (1e6, "bf16")])
def test_what_overflows_is_kept_in_a_type_that_holds_it(
    size: float, kept: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mothlight.export"):
        bundle = export_bundle(tmp_path / "out", prepared(size, "fp16"), replace=False)
    assert bundle.manifest.precision == "fp16"
    assert bundle.manifest.graphs["embed_image"].precision == kept
    assert ("does not hold in fp16" in caplog.text) == (kept != "fp16")


def test_the_content_key_covers_the_precision(tmp_path: Path) -> None:
    keys = {export_bundle(tmp_path / p, prepared(10.0, p), replace=False).manifest.content_key for p in INSTEAD}
    assert len(keys) == 3


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y


def test_norms_compute_in_float32_and_the_module_itself_stays_as_it_is() -> None:
    module = Normed()
    graph = Graph("embed_image", module, lambda batch, _: {"x": torch.ones(batch, 4)}, ("y",), 1e-4, core="model")
    half = typed(graph, "fp16")
    inner: Any = half.module.get_submodule("model.core")
    assert [one.weight.dtype for one in inner] == [torch.float16, torch.float32, torch.float16]
    assert module.model[0].weight.dtype == torch.float32
    seen: list[torch.dtype] = []
    inner[1].register_forward_hook(lambda _, given, made: seen.extend((given[0].dtype, made.dtype)))
    assert half.module(torch.ones(2, 4)).dtype == torch.float32
    assert seen == [torch.float16, torch.float16]


def test_an_onnx_file_keeps_its_own_precision(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keeps its own precision"):
        export("classifier", str(tmp_path / "model.toml"), tmp_path / "out", Options(precision="fp16"))
