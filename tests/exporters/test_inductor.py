"""Graphs compiled by torch itself, here for the CPU: the same code compiles them for a GPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mothlight.engine.host import Host
from mothlight.engine.models.cache import EngineCache
from mothlight.engine.models.runner import OrtRunner, Single, infer_once
from mothlight.engine.records import Prompt
from mothlight.engine.world.render import Renderer
from mothlight.exporters.export import export
from mothlight.exporters.inductor import InductorEngine
from mothlight.exporters.options import Options
from tests.exporters import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_classifier_gives_what_its_graph_gives(tmp_path: Path) -> None:
    bundle = export("classifier", str(tiny.timm_classifier(tmp_path / "source")), tmp_path / "out", Options())
    images = Renderer(1).images(Prompt("fly", "a fly."), range(3))
    assert bundle.manifest.resize is not None
    matrices = bundle.manifest.resize.matrices(64, 64)
    inputs: dict[str, NDArray[Any]] = {"images": images, "index": np.zeros(3, np.int64), **matrices}
    engine = InductorEngine(bundle, "classify", Host(), EngineCache(tmp_path / "cache"))
    made = infer_once(Single(engine), inputs)
    wanted = OrtRunner(bundle.graph_path("classify")).infer(**inputs)
    np.testing.assert_allclose(made["scores"], wanted["scores"], atol=1e-5)
    assert len(EngineCache(tmp_path / "cache").entries()) == 1


def test_a_captioner_is_compiled_once_for_all_lengths(tmp_path: Path) -> None:
    bundle = export("captioner", str(tiny.vit_gpt_2(tmp_path / "source")), tmp_path / "out", Options())
    cache = EngineCache(tmp_path / "cache")
    engine = InductorEngine(bundle, "next_token", Host(), cache)
    rng = np.random.default_rng(0)
    for length in (3, 4, 7):
        inputs: dict[str, NDArray[Any]] = {"ids": rng.integers(0, 9, (2, 1))}
        for one in bundle.manifest.graphs["next_token"].inputs[1:]:
            shape = [dim if isinstance(dim, int) else {"batch": 2, "length": length}[dim] for dim in one.shape]
            inputs[one.name] = rng.normal(size=shape).astype(np.float32)
        wanted = OrtRunner(bundle.graph_path("next_token")).infer(**inputs)
        made = infer_once(Single(engine), inputs)
        for name, array in wanted.items():
            np.testing.assert_allclose(made[name], array, atol=1e-4)
    assert len(cache.entries()) == 1
