"""Model folders as strangers bring them: heads, labels, guidance, samplers, LoRAs, half precision, missing parts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mothlight.engine.errors import BundleError, UserError
from mothlight.exporters import classifier
from mothlight.exporters.export import prepare
from mothlight.exporters.generator import load_pipeline, require_prompts
from mothlight.exporters.libraries import quiet
from mothlight.exporters.options import Options
from mothlight.exporters.publish import Prepared
from mothlight.exporters.source import locate, one_copy, require_whole, variant_of
from mothlight.exporters.tokenizers import TextInput
from tests.exporters import tiny
from tests.exporters.tiny import diffusers, transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
quiet()


def edited(file: Path, **changes: Any) -> None:
    """A JSON file with other values; None takes a key out."""
    told = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("pipeline") / "source")


@pytest.fixture
def copied(pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline, tmp_path / "copied"))


def generator(source: Path, **options: Any) -> Prepared:
    return prepare("generator", str(source), "made", Options(**{"steps": (1,), **options}))


def scores_of(prepared: Prepared) -> tuple[torch.Tensor, torch.Tensor]:
    """The graph's scores of two random images, by label, and the model's logits."""
    (graph,) = prepared.graphs
    inputs = graph.make_inputs(2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        best, indices, _ = graph.module(*inputs.values())
        matrices = [value for name, value in inputs.items() if name not in ("images", "index")]
        module: Any = graph.module
        logits = module.model(module.preprocess(inputs["images"], *matrices))
    return torch.zeros_like(best).scatter(1, indices, best), logits


def test_a_classifier_of_several_labels_gets_a_sigmoid(tmp_path: Path) -> None:
    source = tiny.transformers_classifier(tmp_path / "source")
    edited(source / "config.json", problem_type="multi_label_classification")
    scores, logits = scores_of(prepare("gate", str(source), "made", Options()))
    torch.testing.assert_close(scores, torch.sigmoid(logits))


def test_one_number_is_two_labels(tmp_path: Path) -> None:
    source = tiny.transformers_classifier(tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][:1].clone()
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    edited(source / "config.json", id2label={"0": "fly"}, label2id={"fly": 0}, num_labels=None)
    prepared = prepare("classifier", str(source), "made", Options())
    assert prepared.manifest.labels == ("not fly", "fly")
    scores, logits = scores_of(prepared)
    torch.testing.assert_close(scores[:, 1:], torch.sigmoid(logits))
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(2))
    (tmp_path / "two.txt").write_text("bee\nfly\n")
    named = prepare("classifier", str(source), "made", Options(labels=str(tmp_path / "two.txt")))
    assert named.manifest.labels == ("bee", "fly")
    edited(source / "config.json", problem_type="regression")
    with pytest.raises(UserError, match="trained for regression"):
        prepare("classifier", str(source), "made", Options())


@pytest.mark.parametrize(
    ("named", "labels"),
    [
        ({"1": "fly", "2": "bee", "3": "car"}, ("fly", "bee", "car")),
        ({"0": 5, "1": 6, "2": 7}, ("5", "6", "7")),
        ({"2": "car", "0": "fly", "1": "bee"}, ("fly", "bee", "car")),
        ({"0": "fly", "2": "bee", "7": "car"}, "id2label"),
        ({"0": "fly", "1": "fly", "2": "car"}, "`fly` twice"),
    ],
)
def test_labels_by_number(named: dict[str, Any], labels: tuple[str, ...] | str, tmp_path: Path) -> None:
    source = tiny.transformers_classifier(tmp_path / "source")
    edited(source / "config.json", id2label=named, label2id=None)
    if isinstance(labels, tuple):
        assert prepare("classifier", str(source), "made", Options()).manifest.labels == labels
        return
    with pytest.raises(UserError, match=labels):
        prepare("classifier", str(source), "made", Options())


@pytest.mark.parametrize(
    "named", [{"0": "fly", "1": "bee", "2": "car"}, {"2": "car", "0": "fly", "1": "bee"}, ["fly", "bee", "car"]]
)
def test_timms_label_names_may_be_a_dictionary(named: Any, tmp_path: Path) -> None:
    source = tiny.timm_classifier(tmp_path / "source")
    edited(source / "config.json", label_names=named)
    assert prepare("classifier", str(source), "made", Options()).manifest.labels == ("fly", "bee", "car")


def test_a_model_without_classes_is_one_sentence(tmp_path: Path) -> None:
    source = tiny.timm_classifier(tmp_path / "source")
    weights = {name: one for name, one in load_file(source / "model.safetensors").items() if "head" not in name}
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    arguments = {**json.loads((source / "config.json").read_text())["model_args"], "num_classes": 0}
    edited(source / "config.json", num_classes=0, label_names=None, model_args=arguments)
    with pytest.raises(UserError, match="has no classifier"):
        prepare("classifier", str(source), "made", Options())


def test_a_head_with_a_teacher_is_the_mean_of_both(tmp_path: Path) -> None:
    tiny.transformers_classifier(tmp_path / "source", "DeiTConfig", "DeiTForImageClassificationWithTeacher")
    loaded = classifier.load(locate(str(tmp_path / "source")), Options())
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        both = loaded.model.model(pixel_values=pixels)  # type: ignore[operator]  # a module
        wanted = (both.cls_logits + both.distillation_logits) / 2
        torch.testing.assert_close(loaded.model(pixels), wanted)


def test_timm_inside_transformers(tmp_path: Path) -> None:
    config = transformers.TimmWrapperConfig(
        architecture="resnet10t",
        num_labels=3,
        pretrained_cfg={"input_size": [3, 64, 64], "crop_pct": 0.9, "interpolation": "bicubic"},
        id2label=dict(enumerate(tiny.LABELS)),
    )
    tiny.seeded(lambda: transformers.TimmWrapperForImageClassification(config)).save_pretrained(tmp_path / "source")
    loaded = classifier.load(locate(str(tmp_path / "source")), Options())
    assert loaded.names == tiny.LABELS
    assert loaded.preprocess.compare(loaded.transform).difference <= 1
    noise = np.random.default_rng(1).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    assert loaded.transform(Image.fromarray(noise)).shape == (3, 64, 64)


# generators


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_guidance_scale_up_to_one_is_none(scale: float, pipeline: Path) -> None:
    prepared = generator(pipeline, guidance=scale)
    assert prepared.manifest.guidance is None
    names = set(prepared.graphs[1].make_inputs(1, torch.Generator()))
    assert not {"guidance", "negative_embedding"} & names


def test_a_distilled_model_leaves_guidance_unused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tiny.flux_2_klein(tmp_path / "source")
    with caplog.at_level("WARNING", "mothlight.export"):
        assert generator(source, size=tiny.SIZE, guidance=4.0).manifest.guidance is None
    assert "--guidance is left unused" in caplog.text


def test_a_prompt_that_does_nothing_is_noticed() -> None:
    rng = np.random.default_rng(1)
    change = rng.normal(0, 5, (3, 8, 8, 3))
    require_prompts("same", change, change + rng.normal(0, 0.4, change.shape))
    with pytest.raises(BundleError, match="does not act as in the library"):
        require_prompts("none", change, np.zeros_like(change))


def test_a_word_of_several_vectors_becomes_their_tokens(copied: Path) -> None:
    made = diffusers.StableDiffusionPipeline.from_pretrained(copied)
    made.tokenizer.add_tokens(["<cat>", "<cat>_1", "<cat>_2"])
    made.text_encoder.resize_token_embeddings(len(made.tokenizer))
    made.save_pretrained(copied)
    (spec,) = generator(copied).manifest.tokenizers
    assert spec.expansions == (("<cat>", "<cat> <cat>_1 <cat>_2"),)
    text = "a <cat> on grass"
    wanted = made.tokenizer(made.maybe_convert_prompt(text, made.tokenizer)).input_ids
    assert TextInput(spec, made.tokenizer, 16).encode([text])[0][: len(wanted)] == wanted


def test_an_autoencoder_with_a_mean_and_spread_per_channel(tmp_path: Path) -> None:
    source = tiny.stable_diffusion_xl(tmp_path / "source")
    means, stds = [0.3, -0.2, 0.1, 0.5], [1.5, 0.7, 2.0, 1.1]
    edited(source / "vae" / "config.json", latents_mean=means, latents_std=stds)
    decode = generator(source).graphs[2].module
    latent = torch.randn(1, 4, 16, 16)
    inside = latent * torch.tensor(stds).reshape(1, 4, 1, 1) / 0.13025 + torch.tensor(means).reshape(1, 4, 1, 1)
    with torch.no_grad():
        pixels = decode.vae.decode(inside, return_dict=False)[0]  # type: ignore[operator, union-attr]  # the library's
        wanted = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).mul(255).round().to(torch.uint8)
        assert (decode(latent).int() - wanted.int()).abs().max() <= 1


def test_a_lora_whose_layers_the_model_lacks_is_refused(pipeline: Path, tmp_path: Path) -> None:
    file = tiny.lora(tmp_path / "lora.safetensors", pipeline)
    weights = load_file(file)
    more = {name.replace("down_blocks.1", "down_blocks.9"): one.clone() for name, one in weights.items()}
    save_file({**weights, **more}, file)
    with pytest.raises(UserError, match="have a place there"):
        generator(pipeline, lora=str(file))


def test_a_lora_of_kohya_does_what_one_of_diffusers_does(pipeline: Path, tmp_path: Path) -> None:
    file = tiny.lora(tmp_path / "lora.safetensors", pipeline)
    renamed = {}
    for name, weight in load_file(file).items():
        layer, _, half = name.removeprefix("unet.").rpartition(".lora_")
        place = f"lora_unet_{layer.replace('.', '_')}"
        renamed[f"{place}.lora_{'down' if half.startswith('A') else 'up'}.weight"] = weight
        renamed[f"{place}.alpha"] = torch.tensor(2.0)
    save_file(renamed, tmp_path / "kohya.safetensors")
    plain, ours, theirs = (
        dict(load_pipeline(locate(str(pipeline)), Options(lora=lora, lora_scale=0.7)).unet.named_parameters())
        for lora in (None, str(file), str(tmp_path / "kohya.safetensors"))
    )
    moved = [name for name in plain if not torch.equal(plain[name], ours[name])]
    assert moved
    for name in plain:
        torch.testing.assert_close(ours[name], theirs[name])


@pytest.mark.parametrize(
    "scheduler", ["PNDMScheduler", "UniPCMultistepScheduler", "TCDScheduler", "HeunDiscreteScheduler", "DPMSolverSDE"]
)
def test_a_scheduler_that_cannot_be_a_table_names_one_that_can(scheduler: str, copied: Path) -> None:
    kind = scheduler if scheduler.endswith("Scheduler") else f"{scheduler}Scheduler"
    edited(copied / "model_index.json", scheduler=["diffusers", kind])
    edited(copied / "scheduler" / "scheduler_config.json", _class_name=kind)
    with pytest.raises(UserError, match=r"use --sampler dpm\+\+2m") as caught:
        generator(copied, steps=(3,))
    assert "\n" not in str(caught.value)
    assert generator(copied, steps=(3,), sampler="dpm++2m").manifest.samplers


def no_text_encoder(folder: Path) -> None:
    edited(folder / "model_index.json", text_encoder=[None, None])


def no_length(folder: Path) -> None:
    edited(folder / "tokenizer" / "tokenizer_config.json", model_max_length=None)


def no_unet(folder: Path) -> None:
    shutil.rmtree(folder / "unet")


def unknown_class(folder: Path) -> None:
    edited(folder / "model_index.json", unet=["diffusers", "UNetOfTomorrow"])


def contradiction(folder: Path) -> None:
    edited(folder / "unet" / "config.json", cross_attention_dim=24)


def nonsense(folder: Path) -> None:
    edited(folder / "unet" / "config.json", block_out_channels="many")


def pointer(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_text_encoder, "has no text_encoder"),
        (no_length, "model_max_length"),
        (no_unet, "has no folder unet"),
        (unknown_class, "UNetOfTomorrow, which diffusers"),
        (contradiction, "weights do not fit"),
        (nonsense, "unet can't be loaded by diffusers"),
        (pointer, "pointer of Git LFS"),
    ],
)
def test_a_broken_pipeline_is_one_sentence(change: Callable[[Path], None], said: str, copied: Path) -> None:
    change(copied)
    with pytest.raises(UserError, match=said) as caught:
        generator(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "step"), [(36, 8), (33, 2), (4, 8)])
def test_a_size_that_does_not_fit_says_of_what_it_is_a_multiple(size: int, step: int, pipeline: Path) -> None:
    with pytest.raises(UserError, match=f"a multiple of {step}, not {size}"):
        generator(pipeline, size=size)


def test_a_negative_prompt_where_none_is_taken(tmp_path: Path) -> None:
    source = tiny.flux(tmp_path / "source")
    with pytest.raises(UserError, match="leave --negative-prompt out"):
        generator(source, size=tiny.SIZE, negative_prompt="dark")


def test_stable_diffusion_3_without_its_t5(tmp_path: Path) -> None:
    source = tiny.stable_diffusion_3(tmp_path / "source")
    edited(source / "model_index.json", text_encoder_3=[None, None], tokenizer_3=[None, None])
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(source / part)
    prepared = generator(source)
    assert [spec.ids for spec in prepared.manifest.tokenizers] == ["ids", "ids_2"]
    with torch.no_grad():
        inputs = prepared.graphs[0].make_inputs(1, torch.Generator().manual_seed(1))
        embedding, _ = prepared.graphs[0].module(*inputs.values())
    assert embedding.shape[-1] == 48
    assert (embedding[:, 16:] == 0).all()


# files


def test_weights_in_half_precision_alone_are_used(copied: Path, pipeline: Path) -> None:
    made = diffusers.StableDiffusionPipeline.from_pretrained(pipeline).to(torch.float16)
    shutil.rmtree(copied)
    made.save_pretrained(copied, variant="fp16")
    assert not list(copied.rglob("*model.safetensors"))
    assert generator(copied).manifest.latent == generator(pipeline).manifest.latent


def test_shards_of_half_precision_are_used(tmp_path: Path) -> None:
    plain = tiny.transformers_classifier(tmp_path / "plain")
    model = transformers.ViTForImageClassification.from_pretrained(plain)
    source = Path(shutil.copytree(plain, tmp_path / "source"))
    (source / "model.safetensors").unlink()
    model.half().save_pretrained(source, variant="fp16", max_shard_size="20KB")
    found = locate(str(source))
    assert sum(name.endswith(".safetensors") for name, _ in found.files) > 1
    require_whole(found)
    assert prepare("classifier", str(source), "made", Options()).manifest.labels == tiny.LABELS


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("model.safetensors", "model.fp16.safetensors"), ("model.safetensors",)),
        (("model.fp16.safetensors", "model.bf16.safetensors"), ("model.fp16.safetensors",)),
        (("model.safetensors", "model-00001-of-00002.safetensors"), ("model.safetensors",)),
        (
            ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"),
            ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"),
        ),
        (("model.safetensors", "open_clip_model.safetensors"), ("open_clip_model.safetensors",)),
        (
            (
                "model_index.json",
                "all.safetensors",
                "unet/a.fp16.safetensors",
                "vae/a.safetensors",
                "vae/a.fp16.safetensors",
            ),
            ("model_index.json", "unet/a.fp16.safetensors", "vae/a.safetensors"),
        ),
    ],
)
def test_of_each_weight_one_copy_counts(names: tuple[str, ...], kept: tuple[str, ...]) -> None:
    files = one_copy(tuple((name, 1) for name in names))
    assert tuple(name for name, _ in files) == kept
    assert (variant_of(files) == {"variant": "fp16"}) == any(".fp16" in name and "/" not in name for name in kept)
