"""The settings in examples/: each is read, and said to be makable; one's own ONNX file is audited from TOML alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mothlight.engine.config import load_config
from mothlight.engine.vocabulary import imagenet
from mothlight.sql import open_audit
from tests.exporters import test_onnx_file, tiny
from tests.exporters.hub import mothlight, serving

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
STAND_INS: dict[str, Callable[[Path], Path]] = {
    "stabilityai/sd-turbo": tiny.stable_diffusion,
    "stabilityai/sdxl-turbo": tiny.stable_diffusion_xl,
    "madebyollin/": tiny.tiny_autoencoder,
    "timm/": tiny.timm_classifier,
    "google/siglip": tiny.siglip,
    "laion/CLIP": tiny.open_clip_embedder,
    "facebook/dinov2": tiny.dino,
    "Salesforce/blip": tiny.blip,
}
"""Small models of the same classes, under the names that the examples use."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_and_says_what_it_takes(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    made = {bundle.path for bundle in config.bundle}
    used = {config.generator, *config.classifiers, config.gate, config.embedder, config.captioner}
    assert {name for name in used if isinstance(name, str) and not name.startswith("tinyworld:")} == made
    if path.stem == "own-onnx":
        return  # its models are the user's; audited below
    repositories = {}
    sources = [one.source for one in config.bundle]
    for name in [*sources, *(str(one.options["decoder"]) for one in config.bundle if "decoder" in one.options)]:
        make = next(make for start, make in STAND_INS.items() if name.startswith(start))
        repositories[name] = make(tmp_path / name.replace("/", "--"))
    with serving(repositories) as hub:
        code, words = mothlight("export", "all", str(path), "--dry-run", home=tmp_path / "home", hub=hub.url)
    assert code == 0, words
    assert not any(name.endswith(".safetensors") for name in hub.fetched)
    for one in config.bundle:
        assert f"{one.source} (hub, at " in words
        assert f"→ {path.parent / one.path}" in words
    assert words.count("family: ") == len(config.bundle)
    assert words.count("million parameters: a bundle of about") == len(config.bundle)


def test_an_onnx_file_is_audited_from_toml_alone(tmp_path: Path) -> None:
    """The example, with a smaller budget, and a network that no exporter made."""
    text = next(path for path in EXAMPLES if path.stem == "own-onnx").read_text(encoding="utf-8")
    smaller = "max_images = 200\ndiscovery_images = 24\nwave_images = 12\nreserve_pairs = 6\nchunk_images = 12"
    (tmp_path / "own.toml").write_text(text.replace("max_images = 4000", smaller), encoding="utf-8")
    test_onnx_file.hand_made(tmp_path)
    test_onnx_file.described(tmp_path)
    code, words = mothlight("export", "all", str(tmp_path / "own.toml"), home=tmp_path)
    assert code == 0, words
    code, words = mothlight("audit", str(tmp_path / "own.toml"), "--out", str(tmp_path / "audit"), home=tmp_path)
    assert code == 0, words
    with open_audit(tmp_path / "audit" / "audit.duckdb") as store:
        ((name, source),) = store.rows("select name, source from model where role = 'classifier'")
        assert (name, source.partition(" ")[0]) == ("mine", "onnx")
        ((images,),) = store.rows("select count(*) from prediction where classifier = 'mine'")
        assert images >= 48
    assert (tmp_path / "audit" / "report" / "index.html").is_file()


def test_a_bundle_that_is_missing_says_how_it_is_made(tmp_path: Path) -> None:
    path = shutil.copy(EXAMPLES[0], tmp_path)
    code, words = mothlight("audit", str(path), home=tmp_path)
    assert code == 2
    assert "make it with `mothlight export all` on these settings" in words


def test_wrong_options_of_a_bundle_are_one_sentence(tmp_path: Path) -> None:
    text = next(path for path in EXAMPLES if path.stem == "imagenet").read_text(encoding="utf-8")
    for wrong, sentence in (
        ("{ step = [1] }", "has no option `step`"),
        ("{ steps = 1 }", "`steps` can't be 1"),
    ):
        path = tmp_path / "wrong.toml"
        path.write_text(text.replace('{ steps = [1], decoder = "madebyollin/taesd" }', wrong), encoding="utf-8")
        code, words = mothlight("export", "all", str(path), "--dry-run", home=tmp_path)
        assert (code, words.count("\n")) == (2, 1)
        assert sentence in words


def as_the_hub_has_them(folder: Path) -> dict[str, Path]:
    """The preset's models: small ones of the same classes, with the files that lie beside them on the hub."""
    made = {
        "stabilityai/sd-turbo": tiny.stable_diffusion(folder / "sd-turbo"),
        "madebyollin/taesd": tiny.tiny_autoencoder(folder / "taesd"),
        "timm/resnet50.a1_in1k": tiny.timm_of_imagenet(folder / "resnet", "test_resnet"),
        "timm/convnext_tiny.fb_in1k": tiny.timm_of_imagenet(folder / "convnext", "test_convnext"),
        "timm/vit_base_patch16_224.augreg_in21k_ft_in1k": tiny.timm_of_imagenet(folder / "vit", "test_vit"),
        "google/siglip-base-patch16-224": tiny.siglip(folder / "siglip", sure=True),
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": tiny.open_clip_embedder(folder / "clip"),
        "Salesforce/blip-image-captioning-base": tiny.blip(folder / "blip"),
    }
    pipeline = made["stabilityai/sd-turbo"]
    (pipeline / "sd_turbo.safetensors").write_bytes(b"all of it again")
    for file in pipeline.rglob("*model.safetensors"):
        shutil.copyfile(file, file.with_name(f"{file.stem}.fp16.safetensors"))
    for one in made.values():
        (one / "pytorch_model.bin").write_bytes(b"\x80\x04 a pickle beside the safetensors")
    (made["laion/CLIP-ViT-B-32-laion2B-s34B-b79K"] / "model.safetensors").write_bytes(b"for another library")
    return made


@pytest.mark.slow
def test_the_imagenet_preset_from_its_hub_ids_to_a_report(tmp_path: Path) -> None:
    text = next(path for path in EXAMPLES if path.stem == "imagenet").read_text(encoding="utf-8")
    smaller = "max_images = 100\ndiscovery_images = 4\nwave_images = 4\nreserve_pairs = 2\nchunk_images = 4\n"
    text = text.replace("max_images = 100_000\n", smaller).replace("batch = 8", "batch = 4")
    (tmp_path / "imagenet.toml").write_text(text, encoding="utf-8")
    settings = str(tmp_path / "imagenet.toml")
    with serving(as_the_hub_has_them(tmp_path / "hub")) as hub:
        code, words = mothlight("export", "all", settings, home=tmp_path / "home", hub=hub.url)
    assert code == 0, words
    beside = ("pytorch_model.bin", "sd_turbo.safetensors", "model.fp16.safetensors")
    assert not set(beside) & set(hub.fetched)
    assert not any(name.endswith("fp16.safetensors") for name in hub.fetched)
    code, words = mothlight("audit", settings, "--out", str(tmp_path / "audit"), home=tmp_path / "home", offline=True)
    assert code == 0, words
    with open_audit(tmp_path / "audit") as store:
        assert store.rows("select count(*) from failed_item") == [(0,)]
        assert store.rows("select count(distinct classifier) from prediction") == [(3,)]
        names = [word.name for word in imagenet()]
        unknown = "select count(*) from prediction where predicted not in (select unnest($names))"
        ((strange,),) = store.rows(unknown, names=names)
        assert strange == 0
        ((passed,),) = store.rows("select sum(passed) from gate_pass")
        assert passed == 80
        assert store.rows("select count(*) from caption") == [(80,)]
    assert (tmp_path / "audit" / "report" / "index.html").is_file()
