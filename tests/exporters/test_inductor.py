"""Graphs compiled by torch itself, here for the CPU: the same code compiles them for a GPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mothlight.engine.device import Host
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
