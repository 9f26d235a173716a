"""Every family of the table, on a small model of its true class: saved by its library → exported → verified → audited.

The weights are random, so the audits find nothing worth a look; that they run to their end is the point.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mothlight.engine.config import AuditConfig
from mothlight.engine.models.bundle import Bundle, load_bundle
from mothlight.engine.opening import load_models, open_database
from mothlight.engine.session import Progress, Session
from mothlight.exporters import table
from mothlight.exporters.backends import load_backend
from mothlight.exporters.export import export
from mothlight.exporters.families import FAMILIES, Family
from mothlight.exporters.libraries import quiet
from mothlight.exporters.options import Options
from mothlight.exporters.verify import BATCHES
from tests.engine.conftest import small_config
from tests.exporters import test_onnx_file, tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
quiet()
ROLE_SETTING = {"classifier": "classifiers"}


@dataclass(frozen=True)
class Small:
    """How a small model of a family is made, and exported."""

    make: Callable[[Path], Path]
    options: Options = field(default_factory=Options)


def onnx_file(folder: Path) -> Path:
    folder.mkdir()
    test_onnx_file.hand_made(folder)
    return Path(test_onnx_file.described(folder))


SMALL: dict[str, tuple[Small, ...]] = {
    "generators.stable_diffusion:StableDiffusion": (Small(tiny.stable_diffusion, Options(steps=(1,))),),
    "generators.stable_diffusion_xl:StableDiffusionXL": (
        Small(tiny.stable_diffusion_xl, Options(steps=(2,), sampler="euler-ancestral", guidance=5.0)),
    ),
    "generators.stable_diffusion_3:StableDiffusion3": (
        Small(tiny.stable_diffusion_3, Options(steps=(2,), guidance=4.0, negative_prompt="blurry")),
    ),
    "generators.flux:Flux": (Small(tiny.flux, Options(steps=(2,), size=tiny.SIZE)),),
    "generators.sana_sprint:SanaSprint": (Small(tiny.sana_sprint, Options(steps=(2,))),),
    "generators.flux_2_klein:Flux2Klein": (
        Small(tiny.flux_2_klein, Options(steps=(2,), size=tiny.SIZE, text_encoder="library")),
    ),
    "classifiers.timm_model:load_classifier": (Small(tiny.timm_classifier),),
    "classifiers.torchvision_model:load_classifier": (
        Small(tiny.torchvision_classifier, Options(architecture="torchvision/mobilenet_v3_small")),
    ),
    "classifiers.transformers_model:load_classifier": (
        Small(tiny.transformers_classifier),
        Small(tiny.convnext),
    ),
    "classifiers.onnx_file:prepare_onnx_file": (Small(onnx_file),),
    "embedders.open_clip_model:load_embedder": (Small(tiny.open_clip_embedder), Small(tiny.open_clip_siglip)),
    "embedders.transformers_model:load_joint": (Small(tiny.siglip), Small(tiny.clip)),
    "embedders.transformers_model:load_images_only": (
        Small(tiny.dino),
        Small(tiny.dino_with_registers),
        Small(tiny.dino_3),
    ),
    "embedders.timm_model:load_embedder": (Small(tiny.timm_embedder),),
    "captioners.blip:load_captioner": (Small(tiny.blip),),
    "captioners.git:load_captioner": (Small(tiny.git),),
    "captioners.florence_2:load_captioner": (Small(tiny.florence_2),),
    "captioners.vision_encoder_decoder:load_captioner": (Small(tiny.vit_gpt_2),),
    "captioners.vision_language:prepare_vision_language": (Small(tiny.qwen_vl),),
}
"""By a family's loader. A latent consistency model goes through test_generator.py."""
CASES = [(family, small) for family in FAMILIES for small in SMALL[family.loader]]


def audited(config: AuditConfig, folder: Path) -> dict[str, int]:
    """Run an audit to its end; rows by table."""
    models = load_models(config, Path(), load_backend)
    folder.mkdir()
    with open_database(folder / "audit.duckdb", config, models, Path()) as store:
        with Session(config, models, store, Progress()) as session:
            session.run()
        tables = ("image", "prediction", "embedding", "caption", "item_failure", "model_check")
        return {table: store.rows(f"select count(*) from {table}")[0][0] for table in tables}  # noqa: S608


def with_bundle(bundle: Bundle, **changes: object) -> AuditConfig:
    """A tiny audit in which one model is this one."""
    role = bundle.manifest.role
    value: object = [str(bundle.folder)] if role == "classifier" else str(bundle.folder)
    small = {"max_images": 16, "discovery_images": 4, "wave_images": 4, "chunk_images": 4, "batch": 4}
    labels = [{"name": "fly", "hypernym": "insect"}, {"name": "butterfly", "hypernym": "insect"}]
    return small_config(**{**small, "labels": labels, ROLE_SETTING.get(role, role): value, **changes})


@pytest.mark.parametrize(("family", "small"), CASES, ids=[small.make.__name__ for _, small in CASES])
def test_a_family_goes_all_the_way(family: Family, small: Small, tmp_path: Path) -> None:
    options = small.options
    if "torchvision" in family.loader:
        (tmp_path / "labels.txt").write_text("\n".join(tiny.LABELS))
        options = replace(options, labels=str(tmp_path / "labels.txt"))
    source = small.make(tmp_path / "source")
    bundle = export(family.role, str(source), tmp_path / "bundle", options)
    assert load_bundle(tmp_path / "bundle") == bundle
    assert bundle.manifest.role == family.role
    checks = bundle.manifest.checks
    tolerances = {check.tolerance for check in checks if check.unit == "relative"}
    assert ", ".join(sorted(bundle.manifest.graphs)) == ", ".join(sorted(_graphs_in_table(family, bundle)))
    if bundle.manifest.graphs:
        assert set(BATCHES) <= {check.batch for check in checks}
        assert {f"{tolerance:g}" for tolerance in tolerances} <= set(re.findall(r"[\d.e-]+", table.row(family)))
    if family.role == "generator":
        assert sum(check.unit == "PSNR dB" for check in checks) == len(bundle.manifest.samplers) == 1
    rows = audited(with_bundle(bundle), tmp_path / "audit")
    assert rows["image"] == 8
    assert rows["item_failure"] == 0
    assert rows["model_check"] >= len(checks)
    assert all(rows[table] == 8 for table in ("prediction", "embedding")[1:])


def _graphs_in_table(family: Family, bundle: Bundle) -> list[str]:
    """What the README says of a family; a text encoder that stays with its library is no graph."""
    stays = bundle.manifest.backend is not None and bundle.manifest.backend.part == "encode_text"
    return [name for name in family.graphs if not (stays and name == "encode_text")]


def test_the_readme_has_the_table() -> None:
    """Made by `python -m mothlight.exporters.table`."""
    readme = (Path(__file__).parents[2] / "exporters" / "README.md").read_text(encoding="utf-8")
    assert table.table() in readme


def test_the_table_and_the_small_models_are_the_same_families() -> None:
    assert set(SMALL) == {family.loader for family in FAMILIES}
