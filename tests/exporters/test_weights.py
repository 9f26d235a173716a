"""Weights that do not fit are said, never replaced: in each library, and in each part of a pipeline."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from mothlight.engine.errors import UserError
from mothlight.exporters import captioner, classifier, embedder, generator
from mothlight.exporters.libraries import quiet
from mothlight.exporters.options import Options
from mothlight.exporters.source import Located, locate, require_whole
from tests.exporters import tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
quiet()
Tensors = dict[str, Any]
Change = Callable[[Tensors], Tensors]
Load = Callable[[Located], Any]


def prefixed(prefix: str) -> Change:
    return lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def without(part: str) -> Change:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def reshaped(name: str) -> Change:
    return lambda tensors: {**tensors, name: torch.zeros(4, *tensors[name].shape[1:])}


def extra(tensors: Tensors) -> Tensors:
    return {**tensors, "layers.7.weight": torch.zeros(3)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.transformers_classifier(folder / "transformers")
    tiny.clip(folder / "clip")
    tiny.timm_classifier(folder / "timm")
    tiny.torchvision_classifier(folder / "torchvision")
    tiny.open_clip_embedder(folder / "open_clip")
    tiny.stable_diffusion(folder / "pipeline")
    return folder


def loaded_classifier(found: Located) -> Any:
    return classifier.load(found, Options()).model


def loaded_torchvision(found: Located) -> Any:
    return classifier.load(found, Options(architecture="torchvision/mobilenet_v3_small")).model


def loaded_timm_file(found: Located) -> Any:
    return classifier.load(found, Options(architecture="timm/resnet10t")).model


def loaded_embedder(found: Located) -> Any:
    return embedder.load(found).image


def loaded_pipeline(found: Located) -> Any:
    return generator.load_pipeline(found, Options()).text_encoder


PLACES: dict[str, tuple[str, str, Load, str]] = {
    "transformers": ("transformers", "model.safetensors", loaded_classifier, "classifier.weight"),
    "clip": ("clip", "model.safetensors", loaded_embedder, "visual_projection.weight"),
    "timm": ("timm", "model.safetensors", loaded_classifier, "head.weight"),
    "torchvision": ("torchvision", "mobilenet.safetensors", loaded_torchvision, "classifier.0.weight"),
    "open_clip": ("open_clip", "open_clip_model.safetensors", loaded_embedder, "ln_final.weight"),
    "text_encoder": (
        "pipeline",
        "text_encoder/model.safetensors",
        loaded_pipeline,
        "text_model.final_layer_norm.weight",
    ),
    "unet": ("pipeline", "unet/diffusion_pytorch_model.safetensors", loaded_pipeline, "conv_in.weight"),
    "vae": ("pipeline", "vae/diffusion_pytorch_model.safetensors", loaded_pipeline, "decoder.conv_in.weight"),
}
"""What is loaded, the file of its weights, how, and one of them."""


def changed(models: Path, place: str, change: Change, to: Path) -> tuple[Located, Load]:
    folder, file, load, _ = PLACES[place]
    shutil.copytree(models / folder, to)
    save_file(change(load_file(to / file)), to / file, metadata={"format": "pt"})
    return locate(str(to / file if place == "torchvision" else to)), load


def weight_of(place: str, models: Path) -> str:
    folder, file, _, known = PLACES[place]
    names = load_file(models / folder / file)
    return known if known in names else next(name for name in names if name.endswith(known.split(".", 1)[-1]))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", ["missing", "left over", "shape"])
def test_a_weight_that_does_not_fit_is_one_sentence(place: str, fault: str, models: Path, tmp_path: Path) -> None:
    name = weight_of(place, models)
    change = {"missing": without(name), "left over": extra, "shape": reshaped(name)}[fault]
    found, load = changed(models, place, change, tmp_path / "changed")
    with pytest.raises(UserError) as caught:
        load(found)
    said = str(caught.value)
    assert name.rsplit(".", 2)[-2] in said or "layers.7.weight" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("place", "prefix"),
    [
        (place, prefix)
        for place in ("transformers", "clip", "timm", "torchvision", "text_encoder")
        for prefix in ("_orig_mod.", "module.", "module._orig_mod.", "model.")
        if (place, prefix) != ("timm", "model.")  # timm's own loader takes it for a layer's name, and refuses
    ],
)
def test_the_prefix_of_a_training_wrapper_is_taken_off(place: str, prefix: str, models: Path, tmp_path: Path) -> None:
    found, load = changed(models, place, prefixed(prefix), tmp_path / "changed")
    plain, _ = changed(models, place, dict, tmp_path / "plain")
    with torch.no_grad():
        ours, theirs = (dict(load(one).named_parameters()) for one in (found, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_head_of_another_size_is_not_left_out(models: Path, tmp_path: Path) -> None:
    """timm would drop the head and go on."""
    shutil.copytree(models / "timm", tmp_path / "timm")
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    config["model_args"]["num_classes"] = 7
    (tmp_path / "timm" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"3 classes.*make 7"):
        loaded_classifier(locate(str(tmp_path / "timm")))


def test_a_single_file_says_how_many_classes_there_are(tmp_path: Path) -> None:
    model = timm.create_model("resnet10t", num_classes=5)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    assert loaded_timm_file(locate(str(tmp_path / "mine.safetensors"))).num_classes == 5


def test_broken_downloads_are_said(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "transformers", tmp_path / "half")
    file = tmp_path / "half" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="the download broke off"):
        require_whole(locate(str(tmp_path / "half")))
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with pytest.raises(UserError, match="pointer of Git LFS"):
        require_whole(locate(str(tmp_path / "half")))
    file.write_bytes(b"")
    with pytest.raises(UserError, match="nothing readable"):
        require_whole(locate(str(tmp_path / "half")))


OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def as_in_2022(tensors: Tensors) -> Tensors:
    """An autoencoder's attention as diffusers first called it."""
    made = {}
    for name, tensor in tensors.items():
        renamed = name
        for new, old in OLD_NAMES.items():
            renamed = renamed.replace(new, old) if "attentions" in name else renamed
        made[renamed] = tensor
    return made


def with_buffers(tensors: Tensors) -> Tensors:
    """What old releases of transformers saved beside the weights."""
    return {**tensors, "text_model.embeddings.position_ids": torch.arange(16)[None]}


@pytest.mark.parametrize(
    ("place", "change"), [("vae", as_in_2022), ("text_encoder", with_buffers), ("clip", with_buffers)]
)
def test_what_older_releases_saved_still_fits(place: str, change: Change, models: Path, tmp_path: Path) -> None:
    found, load = changed(models, place, change, tmp_path / "changed")
    assert load(found) is not None


def test_an_old_captioner_without_its_pooler_still_fits(tmp_path: Path) -> None:
    """Its decoder's masks lie beside the weights, and the pooler that nothing uses is missing."""
    folder = tiny.vit_gpt_2(tmp_path / "source")
    file = folder / "model.safetensors"
    weights = {name: one for name, one in load_file(file).items() if "encoder.pooler" not in name}
    for name in ("attn.bias", "attn.masked_bias", "crossattention.bias"):
        weights[f"decoder.transformer.h.0.{name}"] = torch.ones(1)
    save_file(weights, file, metadata={"format": "pt"})
    assert captioner.load(locate(str(folder))).end_id == 0
