"""A batch in pieces gives what the whole gives; the best size is found once and remembered."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mothlight.engine.config import AuditConfig, built_in_config, bundle_path, load_config
from mothlight.engine.device import Buffer, Kernel, Spec, Stream, spec
from mothlight.engine.errors import ConfigError
from mothlight.engine.executor.pipeline import images_of
from mothlight.engine.models.bundle import Bundle, load_bundle
from mothlight.engine.models.cache import EngineCache
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.pieces import Calibrated, InPieces
from mothlight.engine.models.runner import OrtRunner, Single, infer_once
from mothlight.engine.records import Prompt
from mothlight.engine.stages.generate import DiffusionStage
from tests.simulated import Simulated

PROMPT = Prompt("butterfly", "a realistic photograph of a butterfly (insect).")


@pytest.fixture(scope="module")
def generator() -> Bundle:
    return load_bundle(bundle_path("tinyworld:generator", Path()))


def test_a_batch_in_pieces_gives_the_same_within_a_grey_level(generator: Bundle) -> None:
    whole = images_of(DiffusionStage(generator, seed=1, steps=4), PROMPT, range(4))
    engines = Engines(pieces={"denoise": 2, "decode": 1})
    made = images_of(DiffusionStage(generator, seed=1, steps=4, engines=engines), PROMPT, range(4))
    assert np.abs(made.astype(int) - whole).max() <= 1


def test_pieces_go_through_one_after_the_other(generator: Bundle) -> None:
    decode = OrtRunner(generator.graph_path("decode"))
    latent = np.random.default_rng(0).normal(size=(6, *generator.manifest.latent)).astype(np.float32)
    cut = infer_once(Single(InPieces(decode, [], 2)), {"latent": latent})["images"]
    parts = [decode.infer(latent=latent[start : start + 2])["images"] for start in (0, 2, 4)]
    np.testing.assert_array_equal(cut, np.concatenate(parts))
    with pytest.raises(ValueError, match="a batch of 6 can't be cut into pieces of 4"):
        infer_once(Single(InPieces(decode, [], 4)), {"latent": latent})


class Slow:
    """An engine on the simulated device that needs so many operations for a batch, by its size."""

    inputs = ("latent",)

    def __init__(self, device: Simulated, operations: Mapping[int, int]) -> None:
        self.device, self.operations, self.calls = device, operations, 0
        self.kernel = Kernel("copy", lambda given, made: np.copyto(made, given), "")

    def outputs(self, given: Mapping[str, Spec]) -> Mapping[str, Spec]:
        return {"images": given["latent"]}

    def enqueue(self, given: Mapping[str, Buffer], made: Mapping[str, Buffer], stream: Stream) -> None:
        self.calls += 1
        for _ in range(self.operations[given["latent"].spec.shape[0]]):
            self.device.launch(self.kernel, [given["latent"]], [made["images"]], [], 1, stream)


@pytest.mark.parametrize(
    ("operations", "best"), [({32: 100, 16: 60, 8: 30, 4: 20}, 32), ({32: 100, 16: 30, 8: 20, 4: 9}, 16)]
)
def test_the_best_size_is_found_and_remembered(
    operations: Mapping[int, int], best: int, generator: Bundle, tmp_path: Path
) -> None:
    cache, given = EngineCache(tmp_path), {"latent": spec([32, 3], np.float32)}

    def calibrated(target: str) -> tuple[Calibrated, Simulated, list[Slow]]:
        device, opened = Simulated(1), list[Slow]()

        def open_engine() -> Slow:
            opened.append(Slow(device, operations))
            return opened[-1]

        return Calibrated(open_engine, generator, "decode", device, {"device": target}, cache), device, opened

    first, device, opened = calibrated("one")
    left = device.memory_left
    assert first.outputs(given)["images"].shape == (32, 3)
    assert sum(one.calls for one in opened) > 0
    assert device.memory_left == left
    again, device, opened = calibrated("one")
    again.outputs(given)
    assert sum(one.calls for one in opened) == 0
    source, target = (device.buffer(name, given["latent"]) for name in ("source", "target"))
    again.enqueue({"latent": source}, {"images": target}, device.stream("x"))
    assert sum(one.calls for one in opened) == 32 // best
    other, _, opened = calibrated("another")
    other.outputs(given)
    assert sum(one.calls for one in opened) > 0


def test_a_piece_that_does_not_divide_the_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        settings(batches={"decode": 5})
    with pytest.raises(ConfigError, match="`batches` knows denoise, decode"):
        settings(batches={"decoder": 4})


def settings(**changes: object) -> AuditConfig:
    return load_config(built_in_config(), **changes)


def test_pieces_belong_to_the_audit_and_nothing_changes_without_them() -> None:
    assert "batches" not in settings().canonical()
    assert settings(batches={"decode": 4}).canonical() != settings().canonical()
    assert settings(engine="onnxruntime").canonical() == settings().canonical()
