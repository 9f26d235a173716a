"""The whole executor on the simulated device: the rows of the reference, in every order that events allow."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from mothlight.engine.batch import Batch, Flight, Stage, Work, batches
from mothlight.engine.config import AuditConfig, EngineName, built_in_config, load_config
from mothlight.engine.device import Buffer, Device, Kernel, Spec, Staged, Stream, spec
from mothlight.engine.executor import pipeline as pipeline_module
from mothlight.engine.executor.pipeline import Mark, Pipeline
from mothlight.engine.host import Host
from mothlight.engine.making import generate_stage, judging_stages
from mothlight.engine.models.cache import EngineCache
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.tensorrt import Compiler
from mothlight.engine.opening import Models, load_models
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.stages.caption import GraphCaptioner
from mothlight.engine.stages.encode import EncodeStage
from tests.simulated import Simulated, SimulatedEngines
from tests.standins import OnnxRuntime, SimulatedCuda, Trt, tensorrt

SEEDS = 200
SIZE = 2


@pytest.fixture(scope="module")
def config() -> AuditConfig:
    return load_config(built_in_config(), seed=11).model_copy(update={"steps": 4})


@pytest.fixture(scope="module")
def bundles(config: AuditConfig) -> Models:
    return load_models(config, Path())


def work(config: AuditConfig) -> Iterator[Batch]:
    """Seven batches of three prompts, the last of each a short one."""
    for label in config.labels[:3]:
        yield from batches(Chunk(config.plain_prompt(label), 0, 5 if label == config.labels[0] else 3, 0), SIZE)


def pipeline(config: AuditConfig, bundles: Models, engines: Engines, lanes: int = 2) -> Pipeline:
    stages = [generate_stage(config, bundles, 11, lanes, engines), *judging_stages(config, bundles, engines)]
    return Pipeline(engines.device, stages, SIZE, keep=[EncodeStage()], keepers=2)


def simulated(config: AuditConfig, bundles: Models, seed: int) -> list[Batch]:
    made: list[Batch] = []
    with pipeline(config, bundles, SimulatedEngines(Simulated(seed)), lanes=1 + seed % 2) as whole:
        whole.run(work(config), made.append)
    return made


@pytest.fixture(scope="module")
def reference(config: AuditConfig, bundles: Models) -> list[Batch]:
    made: list[Batch] = []
    with pipeline(config, bundles, Engines(Host())) as whole:
        whole.run_in_order(work(config), made.append)
    return made


def assert_same(made: Sequence[Batch], wanted: Sequence[Batch], seed: int) -> None:
    assert [batch.indices for batch in made] == [batch.indices for batch in wanted], f"seed {seed}"
    for one, other in zip(made, wanted, strict=True):
        assert one.failures == other.failures, f"seed {seed}"
        assert one.arrays.keys() == other.arrays.keys(), f"seed {seed}"
        for name in one.arrays:
            np.testing.assert_array_equal(one.arrays[name], other.arrays[name], err_msg=f"seed {seed}, {name}")


def test_threads_give_what_the_reference_gives(
    config: AuditConfig, bundles: Models, reference: Sequence[Batch]
) -> None:
    made: list[Batch] = []
    with pipeline(config, bundles, Engines(Host())) as whole:
        whole.run(work(config), made.append)
    assert_same(made, reference, -1)


def test_every_seed_gives_what_the_reference_gives(
    config: AuditConfig, bundles: Models, reference: Sequence[Batch]
) -> None:
    for seed in range(SEEDS):
        assert_same(simulated(config, bundles, seed), reference, seed)


def test_images_that_are_drawn_on_the_host_are_sent_to_the_device(
    config: AuditConfig, bundles: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads that draw are told ahead of the device; what sends their images waits until they are drawn."""
    drawn = replace(bundles, generator=None)
    wanted: list[Batch] = []
    with pipeline(config, drawn, Engines(Host())) as whole:
        whole.run_in_order(work(config), wanted.append)
    for seed in range(50):
        assert_same(simulated(config, drawn, seed), wanted, seed)
    monkeypatch.setattr(pipeline_module, "Order", Order)
    for place in ("send waits for generate", "gate waits for send"):
        monkeypatch.setattr(Order, "left_out", place)
        assert first_race(config, drawn, wanted)


def role(stream: Stream) -> str:
    """A stream's name without the number of its lane."""
    return stream.name.rstrip("0123456789").strip()


class Order(pipeline_module.Order):
    """Notes where somebody waits and where an event is recorded; leaves out one of these places."""

    left_out: ClassVar[str] = ""
    places: ClassVar[dict[str, None]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, Mark] = {}

    def wait(self, stream: Stream, mark: Mark) -> None:
        if self.known(stream, mark):
            return
        place = f"{role(stream)} waits for {role(mark.event.stream)}"
        self.places.setdefault(place)
        if place != self.left_out:
            super().wait(stream, mark)

    def record(self, stream: Stream) -> Mark:
        """Left out: whoever waits for the mark waits for the one before, which is too little."""
        place = f"{role(stream)} records"
        self.places.setdefault(place)
        made = super().record(stream)
        before, self.before[stream.name] = self.before.get(stream.name), made
        return Mark(before.event, made.clock) if place == self.left_out and before is not None else made


@pytest.fixture
def places(config: AuditConfig, bundles: Models, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everywhere that the executor waits, and everywhere that it records an event."""
    monkeypatch.setattr(pipeline_module, "Order", Order)
    Order.places.clear()
    simulated(config, bundles, 1)
    return list(Order.places)


def first_race(config: AuditConfig, bundles: Models, wanted: Sequence[Batch]) -> str:
    """What the first seed says that shows something to be wrong; empty if none does."""
    for seed in range(SEEDS):
        try:
            assert_same(simulated(config, bundles, seed), wanted, seed)
        except AssertionError as error:
            return " ".join((f"seed {seed}:", str(error), *getattr(error, "__notes__", ())))
    return ""


def test_every_wait_and_every_event_matters(
    config: AuditConfig,
    bundles: Models,
    reference: Sequence[Batch],
    places: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len([place for place in places if "waits for" in place]) >= 8
    shown = {}
    for place in places:
        monkeypatch.setattr(Order, "left_out", place)
        shown[place] = first_race(config, bundles, reference)
    assert [place for place in places if not shown[place]] == []
    # the stage and the buffer are named
    assert "embed, prompt" in shown["embed waits for generate"]
    assert "reads images[" in shown["embed waits for generate"]
    assert "reads embedding[" in shown["fetch waits for embed"]
    assert "reads mirrored" in shown["keep waits for fetch"]


def test_a_batch_more_than_there_are_slots_is_too_many(
    config: AuditConfig, bundles: Models, reference: Sequence[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "in_flight", property(lambda whole: whole.slots + 1))
    shown = first_race(config, bundles, reference)
    assert "writes" in shown
    assert "[0]" in shown


def test_a_seed_replays(config: AuditConfig, bundles: Models) -> None:
    """The same operations in the same order, and another seed another order."""
    orders = []
    for seed in (5, 5, 6):
        device = Simulated(seed)
        with pipeline(config, bundles, SimulatedEngines(device)) as whole:
            whole.run(work(config), lambda _: None)
        orders.append(device.history)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("number", "fault"),
    [(3, MemoryError("no room for a launch")), (50, RuntimeError("an illegal address: the context is lost"))],
)
def test_what_breaks_on_the_device_is_raised_and_says_where(
    config: AuditConfig, bundles: Models, reference: Sequence[Batch], number: int, fault: BaseException
) -> None:
    for seed in range(20):
        made: list[Batch] = []
        device = Simulated(seed, failing={number: fault})
        fault.__notes__ = []
        whole = pipeline(config, bundles, SimulatedEngines(device))
        with pytest.raises(type(fault)) as caught:
            whole.run(work(config), made.append)
        assert caught.value is fault
        assert "prompt 'a realistic photograph of" in caught.value.__notes__[0]
        assert_same(made, reference[: len(made)], seed)  # what the sink was given stays right


def test_a_device_that_is_too_small_says_so(config: AuditConfig, bundles: Models) -> None:
    with pytest.raises(MemoryError, match="bytes left for "):
        pipeline(config, bundles, SimulatedEngines(Simulated(0, memory=100_000)))


ROLES = ("generator", "classifier", "gate", "embedder", "captioner")


def gpu_engines(simulated: Simulated, engine: EngineName, cache: Path, *, graphs: bool = False) -> Engines:
    """The real `Cuda`, and the real engine, on stand-ins for NVIDIA's libraries."""
    device = SimulatedCuda(simulated, graphs=graphs)
    compiler = None
    if engine == "tensorrt":
        compiler = Compiler(tensorrt(simulated), device, device.target(), EngineCache(cache))
    return Engines(device, dict.fromkeys(ROLES, engine), compiler, onnxruntime=OnnxRuntime(simulated))


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime"])
def test_the_engines_of_a_gpu_give_what_the_reference_gives(
    config: AuditConfig, bundles: Models, reference: Sequence[Batch], tmp_path: Path, engine: EngineName
) -> None:
    Trt.builds.clear()
    for seed in range(20):
        made: list[Batch] = []
        engines = gpu_engines(Simulated(seed), engine, tmp_path)
        with pipeline(config, bundles, engines, lanes=1) as whole:
            whole.run(work(config), made.append)
        assert_same(made, reference, seed)
    # each graph was compiled once and came from the cache for all later seeds; the text encoder for one text alone
    assert len(Trt.builds) == (8 if engine == "tensorrt" else 0)


def test_captured_graphs_give_what_the_reference_gives(
    config: AuditConfig, bundles: Models, reference: Sequence[Batch], tmp_path: Path
) -> None:
    """Slots come round, so that buffers are the same again: the third time is a launch of what was captured."""
    for seed in range(10):
        engines = gpu_engines(Simulated(seed), "tensorrt", tmp_path, graphs=True)
        with pipeline(config, bundles, engines, lanes=1) as whole:
            for _ in range(3):
                made: list[Batch] = []
                whole.run(work(config), made.append)
                assert_same(made, reference, seed)
        assert isinstance(engines.device, SimulatedCuda)
        assert sum(one is not None for one in engines.device._captured.values()) > 8


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime"])
def test_captions_on_a_gpu_are_those_on_a_cpu(
    bundles: Models, reference: Sequence[Batch], tmp_path: Path, engine: EngineName
) -> None:
    """Their state stays on the device and grows there, in two buffers that take turns."""
    assert bundles.captioner is not None
    images = reference[0].arrays["images"]
    wanted = GraphCaptioner(bundles.captioner).tokens(images)
    assert wanted.shape[1] > 20
    for seed in range(5):
        made = GraphCaptioner(bundles.captioner, gpu_engines(Simulated(seed), engine, tmp_path))
        for _ in range(2):
            np.testing.assert_array_equal(made.tokens(images), wanted)


class Sum:
    """Adds up what it reads, on the device."""

    on_host = False

    def __init__(self, name: str, reads: Sequence[str], lanes: int) -> None:
        self.name, self.reads, self.lanes = name, reads, lanes

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        assert set(given) == set(self.reads)
        return Summed(self, device, Staged(device, f"{self.name} told", spec((size,), np.int64), slots), size)

    def finish(self, batch: Batch) -> Batch:
        return batch


class Summed:
    def __init__(self, stage: Sum, device: Device, told: Staged, size: int) -> None:
        self.stage, self.device, self.told = stage, device, told
        self.makes = {stage.name: spec((size,), np.int64)}
        self.kernel = Kernel("sum", self._sum, "")

    @staticmethod
    def _sum(*arrays: NDArray[np.int64]) -> None:
        arrays[-1][...] = sum(arrays[:-1], start=np.int64(1))

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        told = self.told.put(flight.slot, np.array(flight.batch.padded), stream)
        given = [told, *(arrays[name] for name in self.stage.reads)]
        self.device.launch(self.kernel, given, [arrays[self.stage.name]], [], 1, stream)


def graph_of(rng: random.Random) -> list[Stage]:
    """Some stages that read some of those before."""
    names = "abcdefg"[: rng.randint(1, 7)]
    return [
        Sum(name, sorted(rng.sample(names[:k], rng.randint(0, min(k, 3)))), rng.randint(1, 3))
        for k, name in enumerate(names)
    ]


@pytest.mark.slow
def test_ten_thousand_small_graphs_give_what_the_reference_gives() -> None:
    for seed in range(10_000):
        rng = random.Random(seed)
        stages, items = graph_of(rng), list(batches(Chunk(Prompt("a", "b"), 0, rng.randint(1, 20), 0), SIZE))
        made: list[Batch] = []
        wanted: list[Batch] = []
        with Pipeline(Simulated(seed), stages, SIZE, keepers=rng.randint(1, 3)) as whole:
            whole.run(items, made.append)
        with Pipeline(Host(), stages, SIZE) as whole:
            whole.run_in_order(items, wanted.append)
        assert_same(made, wanted, seed)
