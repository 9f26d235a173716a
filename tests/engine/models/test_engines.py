"""Which engine is chosen where, and the parts of a GPU on the stand-ins for NVIDIA's libraries."""

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda.core
import numpy as np
import pytest

from mothlight.engine.config import EngineTable, bundle_path
from mothlight.engine.cuda import Cuda, compiled, missing
from mothlight.engine.device import constant, spec
from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models import engines as engines_module
from mothlight.engine.models import tensorrt as tensorrt_module
from mothlight.engine.models.bundle import Bundle, load_bundle
from mothlight.engine.models.cache import EngineCache
from mothlight.engine.models.engines import Engines, choose
from mothlight.engine.models.noise import NORMAL, noise, noise_key, noise_scalars
from mothlight.engine.models.onnxruntime_cuda import OrtCudaEngine
from mothlight.engine.models.runner import HostedEngine, OrtRunner
from mothlight.engine.models.tensorrt import Compiler, TensorRtEngine
from tests.simulated import Simulated
from tests.standins import Core, OnnxRuntime, SimulatedCuda, Trt, tensorrt

ROLES = ["generator", "classifier", "gate", "embedder"]


class DynamicLibNotFoundError(RuntimeError):
    """As cuda-core raises where there is no driver."""


def no_driver() -> Any:
    raise DynamicLibNotFoundError


NOTHING = SimpleNamespace(Device=no_driver)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Core:
    """A simulated GPU with TensorRT."""
    simulated = Simulated(0)
    monkeypatch.setenv("MOTHLIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(tensorrt_module, "find", lambda: tensorrt(simulated))
    return Core(simulated)


@pytest.fixture(scope="module")
def clip() -> Bundle:
    return load_bundle(bundle_path("tinyworld:clip", Path()))


def test_without_a_driver_everything_runs_on_the_cpu() -> None:
    made = choose("auto", ROLES, core=NOTHING)
    assert made.where == "cpu"
    assert missing(NOTHING) == "there is no NVIDIA driver: install it, and see that nvidia-smi lists a GPU"


@pytest.mark.parametrize("setting", ["tensorrt", "inductor", EngineTable(gate="tensorrt")])
def test_an_engine_that_needs_a_gpu_says_so_where_there_is_none(setting: Any) -> None:
    with pytest.raises(UserError, match="needs a GPU: there is no NVIDIA driver"):
        choose(setting, ROLES, core=NOTHING)


def test_auto_takes_the_fastest_that_is_there(gpu: Core) -> None:
    made = choose("auto", ROLES, core=gpu)
    assert made.where == "Simulated GPU"
    assert set(made.chosen.values()) == {"tensorrt"}


def test_a_table_chooses_for_each_role(gpu: Core, clip: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_module, "_onnxruntime", lambda _: engines_module.Found("onnxruntime", "", ""))
    made = choose(EngineTable(embedder="onnxruntime"), ROLES, core=gpu)
    assert made.chosen == {
        "generator": "tensorrt",
        "classifier": "tensorrt",
        "gate": "tensorrt",
        "embedder": "onnxruntime",
    }
    assert made.name_of(clip) == "onnxruntime"
    assert isinstance(made.open(clip, "embed_image"), OrtCudaEngine)
    gate = load_bundle(bundle_path("tinyworld:gate", Path()))
    assert isinstance(made.open(gate, "classify"), TensorRtEngine)


def test_an_engine_that_is_not_there_is_refused_by_name(gpu: Core) -> None:
    with pytest.raises(UserError, match="onnxruntime of the generator can't run here: it is the build for CPUs"):
        choose("onnxruntime", ROLES, core=gpu)


def test_a_gpu_without_an_engine_is_not_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tensorrt_module, "find", lambda: None)
    with caplog.at_level(logging.WARNING, "mothlight.engine"):
        assert choose("auto", ROLES, core=Core(Simulated(0))).where == "cpu"
    assert "no engine for it" in caplog.text


def test_rtx_is_not_for_every_gpu() -> None:
    library = tensorrt_module.find()
    assert library is not None
    assert library.rtx
    assert library.serves((8, 9))
    assert not library.serves((9, 0))


def test_a_cpu_runs_float32(clip: Bundle) -> None:
    manifest = clip.manifest.model_copy(update={"precision": "fp16"})
    with pytest.raises(UserError, match="a CPU runs fp32"):
        Engines().require_precision([Bundle(clip.folder, manifest)])


def test_the_noise_compiles_for_a_gpu() -> None:
    assert len(bytes(compiled(cuda.core, NORMAL, (9, 0)).code)) > 1000


def test_the_noise_of_a_device_is_the_noise_of_the_host() -> None:
    device = SimulatedCuda(Simulated(3))
    stream = device.stream("noise")
    target, here = device.buffer("noise", spec([2, 4, 3], np.float32)), device.pinned("here", spec([2, 4, 3], "f4"))
    indices = constant(device, "indices", np.array([7, 1 << 40], np.uint64))
    scalars = noise_scalars(noise_key(1, "fly", "latent"), 2, (2, 4, 3), 0.5)
    device.launch(NORMAL, [indices], [target], scalars, 24, stream)
    device.copy(target, here, stream)
    stream.record().synchronize()
    np.testing.assert_array_equal(here.array, noise(1, "fly", [7, 1 << 40], 2, "latent", (4, 3)) * np.float32(0.5))


def test_a_gpu_without_memory_says_so() -> None:
    device = SimulatedCuda(Simulated(0, memory=1000))
    with pytest.raises(MemoryError, match="no memory left, allocating 4,000 bytes for x"):
        device.buffer("x", spec([1000], np.float32))


@pytest.mark.gpu
def test_the_noise_of_a_real_gpu_is_the_noise_of_the_host() -> None:
    if (reason := missing()) is not None:
        pytest.skip(f"no GPU here: {reason}")
    device = Cuda()
    stream = device.stream("noise")
    shape = (8, 4, 64, 64)
    target, here = device.buffer("noise", spec(shape, np.float32)), device.pinned("here", spec(shape, np.float32))
    numbers = range(1 << 33, (1 << 33) + 8)
    indices = constant(device, "indices", np.array(numbers, np.uint64))
    scalars = noise_scalars(noise_key(1, "fly", "latent"), 2, shape, 1.0)
    device.launch(NORMAL, [indices], [target], scalars, 8 * 4096, stream)
    device.copy(target, here, stream)
    stream.record().synchronize()
    # the bits are the same; log and cosine may differ in the last place before rounding to float32
    np.testing.assert_allclose(here.array, noise(1, "fly", list(numbers), 2, "latent", shape[1:]), rtol=3e-7, atol=1e-7)
    device.close()


def test_what_can_not_be_captured_runs_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    device = SimulatedCuda(Simulated(2), graphs=True)
    stream = device.stream("x")
    source, target = (device.pinned(name, spec([2], np.int64)) for name in ("source", "target"))
    device.write(np.array([3, 4]), source)
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        device.copy(source, target, stream)
        if calls == 2:
            raise RuntimeError("operation not permitted when stream is capturing")

    for _ in range(4):
        device.repeat("key", work, stream)
    stream.record().synchronize()
    assert calls == 5  # warmed up, captured in vain, and then as ever
    assert target.array.tolist() == [3, 4]
    assert "can't be captured as a CUDA graph: operation not permitted" in caplog.text


def compiler(simulated: Simulated, folder: Path) -> Compiler:
    device = SimulatedCuda(simulated)
    return Compiler(tensorrt(simulated), device, device.target(), EngineCache(folder))


def test_an_engine_of_another_version_is_built_again(
    tmp_path: Path, clip: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    ids = {"ids": spec([1, clip.manifest.graphs["embed_text"].inputs[0].shape[1]], np.int64)}  # type: ignore[list-item]
    TensorRtEngine(compiler(Simulated(0), tmp_path), clip, "embed_text").outputs(ids)
    cache = EngineCache(tmp_path)
    (entry,) = cache.entries()
    stale = b"of another version"
    cache.forget(entry.key)
    cache.engine(
        entry.key, lambda: (stale, {name: getattr(entry, name) for name in ("bundle", "graph", "builder", "device")})
    )
    Trt.builds.clear()
    with caplog.at_level(logging.WARNING, "mothlight.engine"):
        made = TensorRtEngine(compiler(Simulated(0), tmp_path), clip, "embed_text").outputs(ids)
    assert len(Trt.builds) == 1
    assert "so it is built again" in caplog.text
    assert made["vector"].shape == (1, clip.manifest.embedding_dim)


def test_a_graph_that_is_refused_is_one_sentence(tmp_path: Path, clip: Bundle) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in clip.manifest.files:
        (broken / name).write_bytes((clip.folder / name).read_bytes()[:-9])
    engine = TensorRtEngine(compiler(Simulated(0), tmp_path), Bundle(broken, clip.manifest), "embed_text")
    with pytest.raises(BundleError, match=r"tensorrt 11\.3\.0 can't read .*embed_text\.onnx"):
        engine.outputs({"ids": spec([1, 24], np.int64)})


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime"])
def test_arrays_go_there_and_back(tmp_path: Path, clip: Bundle, engine: str) -> None:
    simulated = Simulated(4)
    there = compiler(simulated, tmp_path)
    made: Any = TensorRtEngine(there, clip, "embed_text")
    if engine == "onnxruntime":
        made = OrtCudaEngine(clip, "embed_text", None, 0, OnnxRuntime(simulated))
    hosted = HostedEngine(made, there.device)
    length = clip.manifest.graphs["embed_text"].inputs[0].shape[1]
    rng = np.random.default_rng(0)
    for _ in range(3):
        ids = rng.integers(0, 40, (2, int(length)))
        wanted = OrtRunner(clip.graph_path("embed_text")).infer(ids=ids)
        np.testing.assert_array_equal(hosted.infer(ids=ids)["vector"], wanted["vector"])


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MOTHLIGHT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "mothlight" / "engines"
    assert EngineCache().folder.stat().st_uid == os.getuid()
