"""Small audits of the built-in world, each a few seconds long."""

from pathlib import Path

import pytest

from mothlight.engine.batch import Batch, Stage
from mothlight.engine.config import AuditConfig, built_in_config, load_config
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.host import Host
from mothlight.engine.opening import Models, load_models, open_database
from mothlight.engine.session import Progress, Session
from mothlight.sql.store import DATABASE

SMALL = {
    "generator": "renderer",
    "steps": None,
    "labels": [{"name": "fly", "hypernym": "insect"}, {"name": "butterfly", "hypernym": "insect"}],
    "discovery_images": 48,
    "wave_images": 12,
    "reserve_pairs": 20,
    "chunk_images": 12,
    "batch": 6,
    "max_hypotheses_per_label": 2,
    "max_images": 460,
    "threads": 2,
}


def small_config(**changes: object) -> AuditConfig:
    """The built-in audit with two labels, the renderer and a small budget."""
    whole = load_config(built_in_config()).model_dump()
    return AuditConfig.model_validate({**whole, **SMALL, **changes})


def run_audit_in(folder: Path, models: Models, config: AuditConfig, progress: Progress | None = None) -> None:
    """An audit to its end, in a folder."""
    folder.mkdir(exist_ok=True)
    with (
        open_database(folder / DATABASE, config, models, Path()) as store,
        Session(config, models, store, progress or Progress()) as session,
    ):
        session.run()


def toml_of(config: AuditConfig) -> str:
    """The settings as a file says them."""
    lines = []
    for key, value in config.model_dump(exclude_none=True, exclude={"labels"}).items():
        shown = list(value) if isinstance(value, tuple) else value
        lines.append(f"{key} = {str(shown).lower() if isinstance(shown, bool) else repr(shown)}")
    labels = ", ".join(f'{{ name = "{label.name}", hypernym = "{label.hypernym}" }}' for label in config.labels)
    return "\n".join((*lines, f"labels = [{labels}]", ""))


def through(stage: Stage, batch: Batch) -> Batch:
    """A batch through one stage that reads nothing."""
    with Pipeline(Host(), [stage], batch.size) as pipeline:
        return pipeline.once(batch)


@pytest.fixture(scope="session")
def models() -> Models:
    """The bundles of the small audit."""
    return load_models(small_config(), Path())


@pytest.fixture
def small_toml(tmp_path: Path) -> Path:
    """The small audit as a file."""
    path = tmp_path / "small.toml"
    path.write_text(toml_of(small_config()))
    return path
