"""Where models come from: folders, files, a hub; and what is refused, each with one sentence and its exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import load_bundle
from mothlight.exporters.export import export
from mothlight.exporters.options import Options
from mothlight.exporters.source import locate
from tests.exporters import tiny
from tests.exporters.hub import COMMIT, Hub, mothlight, serving

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
ID = "someone/small-vit"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tiny.transformers_classifier(tmp_path_factory.mktemp("hub") / "repository")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04 a pickle beside the safetensors")
    (folder / "model.fp16.safetensors").write_bytes(b"a second copy")
    with serving({ID: folder}) as one:
        yield one


def test_a_hub_id_is_fetched_pinned_and_then_there_without_a_network(hub: Hub, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    code, words = mothlight("export", "classifier", ID, "--out", str(out), "--dry-run", home=home, hub=hub.url)
    assert code == 0, words
    assert f"pinned to --revision {COMMIT}" in words
    assert "to fetch" in words
    assert "family: any image classifier of transformers" in words
    assert not {"model.safetensors", "pytorch_model.bin"} & set(hub.fetched)
    code, words = mothlight("export", "classifier", ID, "--out", str(out), home=home, hub=hub.url)
    assert code == 0, words
    assert {"model.safetensors"} <= set(hub.fetched)
    assert not {"pytorch_model.bin", "model.fp16.safetensors"} & set(hub.fetched)
    source = load_bundle(out).manifest.source
    assert (source.origin, source.revision) == (ID, COMMIT)
    before = len(hub.fetched)
    assert f"fetching {ID} at {COMMIT[:12]}" in words
    code, words = mothlight("models", "verify", str(out), home=home, offline=True)
    assert code == 0, words
    assert "comparisons in relative" in words
    assert len(hub.fetched) == before
    arguments = ("export", "classifier", "someone/else", "--out", str(out), "--replace")
    code, words = mothlight(*arguments, home=home, offline=True)
    assert (code, words.count("\n")) == (2, 1)
    assert "is not in the cache" in words


def test_what_the_hub_has_not_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    arguments = ("export", "classifier", "someone/else", "--out", str(tmp_path / "out"))
    code, words = mothlight(*arguments, home=tmp_path, hub=hub.url)
    assert (code, words.count("\n")) == (2, 1)
    assert words.startswith("mothlight: The hub does not give someone/else at main: ")
    assert "404" in words


def folder_with(folder: Path, **files: object) -> Path:
    folder.mkdir()
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


@pytest.mark.parametrize("role", ["generator", "classifier", "gate", "embedder", "captioner"])
@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"config__json": {"architectures": ["X"]}, "pytorch_model__bin": b"\x80"}, "has its weights only as a pickle"),
        ({"config__json": {"auto_map": {"AutoModel": "own.Model"}}, "model__safetensors": b""}, "no remote code"),
        ({"model_index__json": {"_class_name": ["own", "Pipeline"]}, "a__safetensors": b""}, "no remote code"),
        ({"config__json": b"{", "model__safetensors": b""}, "config.json is no JSON"),
        ({"notes__txt": b"nothing"}, "no library that mothlight knows saved it"),
        ({"config__json": {"architectures": ["LlamaForCausalLM"]}, "model__safetensors": b""}, "can't export as a"),
    ],
    ids=["pickle", "remote code", "own pipeline", "broken json", "no model", "another kind"],
)
def test_what_is_refused_is_one_sentence(role: str, files: dict[str, object], sentence: str, tmp_path: Path) -> None:
    source = folder_with(tmp_path / "source", **files)
    with pytest.raises(UserError, match=sentence) as caught:
        export(role, str(source), tmp_path / "out", Options())
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("weights.bin", "pickled weights, which can run code"),
        ("weights.ckpt", "pickled weights"),
        ("weights.zip", "is none of .safetensors"),
        ("nothing", "no file or folder nothing, and it is no hub id"),
    ],
)
def test_a_file_that_is_no_model_is_one_sentence(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for there in ("weights.bin", "weights.ckpt", "weights.zip"):
        (tmp_path / there).write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=sentence):
        locate(name)


def test_a_generator_is_no_single_file(tmp_path: Path) -> None:
    (tmp_path / "all.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="from_single_file, then save_pretrained"):
        export("generator", str(tmp_path / "all.safetensors"), tmp_path / "out", Options())


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no revisions"):
        locate(str(tmp_path), revision=COMMIT)


def test_a_safetensors_file_needs_its_architecture(tmp_path: Path) -> None:
    file = tiny.torchvision_classifier(tmp_path / "source")
    code, words = mothlight("export", "classifier", str(file), "--out", str(tmp_path / "out"), home=tmp_path)
    assert (code, "add --architecture timm/NAME" in words) == (2, True)
    wrong = ("--architecture", "torchvision/resnet18")
    code, words = mothlight("export", "classifier", str(file), "--out", str(tmp_path / "out"), *wrong, home=tmp_path)
    assert (code, "does not fit torchvision's resnet18" in words, words.count("\n")) == (2, True, 1)


def test_the_weights_of_a_pipeline_are_fetched_once(tmp_path: Path) -> None:
    """Many pipelines lie on the hub three times: in folders, in half precision, and as one file."""
    folder = tmp_path / "pipeline"
    for name in ("unet/a.safetensors", "unet/a.fp16.safetensors", "all.safetensors", "unet/config.json", "notes.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "model_index.json").write_text('{"_class_name": "X"}')
    with serving({ID: folder}) as hub:
        surroundings = {
            **os.environ,
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
        }
        code = "import sys; from mothlight.exporters.source import locate; print(locate(sys.argv[1]).files)"
        answer = subprocess.run(
            [sys.executable, "-P", "-c", code, ID], check=True, capture_output=True, text=True, env=surroundings
        )
    assert "unet/a.safetensors" in answer.stdout
    assert set(hub.fetched) == {"a.safetensors", "config.json", "model_index.json"}
