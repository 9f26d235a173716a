"""Library against graph, on tinyworld's own weights: one graph per role here, whole bundles as `slow`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.models.runner import OrtRunner
from mothlight.exporters import captioner, classifier, embedder, generator
from mothlight.exporters.export import export
from mothlight.exporters.generators.stable_diffusion import StableDiffusion
from mothlight.exporters.graphs import Graph, save, to_onnx
from mothlight.exporters.libraries import quiet
from mothlight.exporters.options import Options
from mothlight.exporters.sampler import sampler_table
from mothlight.exporters.source import locate
from mothlight.exporters.verify import BATCHES, compare, require, verify_graph
from tests.exporters import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))
ROLES = ("generator", "classifier", "gate", "embedder", "captioner")
quiet()
DPM: Any = diffusers.DPMSolverMultistepScheduler
DDIM: Any = diffusers.DDIMScheduler


@pytest.fixture(scope="module")
def weights(root: Path) -> Path:
    return root / "bench" / "tinyworld"


def shipped(root: Path, name: str, graph: str) -> OrtRunner:
    return OrtRunner(load_bundle(root / "engine" / "world" / "bundles" / name).graph_path(graph))


def graphs(role: str, weights: Path, root: Path) -> tuple[Graph, OrtRunner]:
    """One graph of a role, and the shipped one."""
    bundles = root / "engine" / "world" / "bundles"
    if role == "generator":
        found = locate(str(weights / "generator"))
        diffusion = StableDiffusion(generator.load_pipeline(found, Options()))
        table = load_bundle(bundles / "generator").manifest.samplers[0]
        return generator.generator_graphs(diffusion, table, None)[0], shipped(root, "generator", "encode_text")
    name = {"classifier": "planted-convnext", "gate": "gate", "embedder": "clip", "captioner": "captioner"}[role]
    if role in ("classifier", "gate"):
        source = locate(str(weights / ("gate" if role == "gate" else "classifier_planted_convnext")))
        return classifier.classify_graph(classifier.load(source, Options())), shipped(root, name, "classify")
    if role == "embedder":
        clip = embedder.load(locate(str(weights / "clip")))
        return embedder.embedder_graphs(clip)[1], shipped(root, name, "embed_text")
    captions = captioner.load(locate(str(weights / "captioner")))
    return captioner.captioner_graphs(captions)[2], shipped(root, name, "next_token")


@pytest.mark.parametrize("role", ROLES)
def test_a_graph_of_each_role_equals_the_library_and_the_shipped_one(
    role: str, weights: Path, root: Path, tmp_path: Path
) -> None:
    graph, before = graphs(role, weights, root)
    save(to_onnx(graph), tmp_path / "graph.onnx")
    checks = verify_graph(graph, tmp_path / "graph.onnx")
    assert {check.batch for check in checks} == set(BATCHES)
    assert len(checks) == len(BATCHES) * len(graph.outputs)
    inputs = graph.make_inputs(2, torch.Generator().manual_seed(4))
    with torch.no_grad():
        given = graph.module(*inputs.values())
    wanted = [value.numpy() for value in (given if isinstance(given, tuple) else (given,))]
    got = before.infer(**{name: value.numpy() for name, value in inputs.items()})
    for name, value in zip(graph.outputs, wanted, strict=True):
        require(compare(graph.name, name, value, got[name], graph.tolerance))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_sampler_rows_follow_the_library(order: int, steps: int, weights: Path) -> None:
    """The whole loop in float32 on a stand-in model, against the scheduler's own."""
    original = DPM.from_pretrained(weights / "generator" / "scheduler")
    scheduler = DPM.from_config(original.config, solver_order=order)
    table = sampler_table(scheduler, steps)
    assert len(table.rows) == steps
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    library: Any = DPM.from_config(scheduler.config)
    library.set_timesteps(steps)
    x = start * library.init_noise_sigma
    for t in library.timesteps:
        x = library.step(torch.tanh(x + t / 500), t, x).prev_sample
    np.testing.assert_allclose(tiny.sampled(table, lambda _: start.numpy()), x.numpy(), atol=2e-4)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIM(clip_sample=True),
        DPM(thresholding=True),
        DPM(solver_order=3),
    ],
    ids=["clip_sample", "thresholding", "order 3"],
)
def test_a_scheduler_that_is_not_linear_is_refused(scheduler: Any) -> None:
    with pytest.raises(UserError, match="linear"):
        sampler_table(scheduler, 20)


def test_a_difference_is_found() -> None:
    a = np.ones((2, 3), np.float32)
    assert require(compare("g", "o", a, a, 1e-4)).difference == 0
    with pytest.raises(BundleError, match="g: o at batch 2"):
        require(compare("g", "o", a, a + 1e-3, 1e-4))
    with pytest.raises(BundleError):
        require(compare("g", "o", a, np.full_like(a, np.nan), 1e-4))
    with pytest.raises(BundleError, match="shape"):
        compare("g", "o", a, a[:1], 1e-4)
    with pytest.raises(BundleError, match="grey levels"):
        require(compare("g", "o", np.zeros((1, 2), np.uint8), np.full((1, 2), 3, np.uint8), 1.0))
    with pytest.raises(BundleError, match="absolute"):
        require(compare("g", "o", np.array([1]), np.array([2]), 0.5))


@pytest.mark.parametrize("role", ROLES)
def test_a_source_that_is_none_is_one_sentence(role: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = [MOTHLIGHT, "export", role, str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr.startswith("mothlight: ")
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_stands_there_is_not_overwritten(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        export("classifier", str(weights / "gate"), tmp_path, Options())


@pytest.mark.slow
def test_whole_bundles_are_exported_and_equal_the_library(tmp_path: Path, weights: Path) -> None:
    """Every graph of every role, and the generator image by image through diffusers and through the bundle."""
    steps = Options(steps=(6, 4), order=2)
    made = export("generator", str(weights / "generator"), tmp_path / "generator", steps)
    psnr = [check.difference for check in made.manifest.checks if check.unit == "PSNR dB"]
    assert len(psnr) == 2
    assert min(psnr) >= generator.PSNR
    export("embedder", str(weights / "clip"), tmp_path / "clip", Options())
    export("captioner", str(weights / "captioner"), tmp_path / "captioner", Options())
    for kind in ("resnet", "mobilenet", "convnext"):
        for how in ("planted", "clean"):
            export("classifier", str(weights / f"classifier_{how}_{kind}"), tmp_path / f"{how}-{kind}", Options())
