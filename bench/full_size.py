"""Exports models of full size with random weights: what time, disk and memory each takes (`make full-size`).

SD-Turbo whole (its UNet, text encoder and autoencoder have the true sizes; images of 256 pixels keep the comparison
short), ResNet-50 and CLIP ViT-B/32. Each is saved by its own library, then exported and verified by `mothlight export`
in a process of its own, whose peak memory is measured; then each graph is compiled by TensorRT for RTX, without a GPU.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from mothlight.engine.device import spec
from mothlight.engine.models import tensorrt
from mothlight.engine.models.bundle import load_bundle

LIMIT = 20 * 2**30
"""Bytes of memory that no export may pass."""
diffusers: Any = import_module("diffusers")
transformers: Any = import_module("transformers")


def clip_tokenizer(folder: Path, length: int = 77) -> Any:
    """A small vocabulary in the place of CLIP's: the ids' range costs nothing but the embedding's rows, which stay."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=ends, initial_alphabet=alphabet))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{ends[0]} $A {ends[1]}", special_tokens=[(end, tokenizer.token_to_id(end)) for end in ends]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=ends[0],
        eos_token=ends[1],
        unk_token=ends[1],
        pad_token=ends[1],
        model_max_length=length,
    )
    fast.save_pretrained(folder)
    return fast


def sd_turbo(folder: Path) -> list[str]:
    """Stable Diffusion 2.1's sizes, as SD-Turbo has them."""
    tokenizer = clip_tokenizer(folder / "tokenizer")
    text = transformers.CLIPTextConfig(
        vocab_size=49408,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=23,
        num_attention_heads=16,
        hidden_act="gelu",
        projection_dim=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=1024,
        attention_head_dim=[5, 10, 20, 20],
        use_linear_projection=True,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 256, 512, 512],
        layers_per_block=2,
        sample_size=768,
    )
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing"
    )
    diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return ["generator", str(folder), "--steps", "1", "--size", "256"]


def resnet_50(folder: Path) -> list[str]:
    """Timm's ResNet-50."""
    import timm
    from timm.models import save_for_hf

    model = timm.create_model("resnet50", pretrained=False)
    save_for_hf(model, str(folder), {"pretrained_cfg": model.pretrained_cfg}, safe_serialization=True)
    return ["classifier", str(folder)]


def vit_b_32(folder: Path) -> list[str]:
    """open_clip's ViT-B/32."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    clip_tokenizer(folder)
    config = open_clip.get_model_config("ViT-B-32")
    config["text_cfg"]["hf_tokenizer_name"] = "tokenizer"
    model = open_clip.CLIP(**config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic"}
    stated = {"model_cfg": config, "preprocess_cfg": {**preprocess, "resize_mode": "shortest"}}
    (folder / "open_clip_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return ["embedder", str(folder)]


MODELS: dict[str, Callable[[Path], list[str]]] = {
    "SD-Turbo": sd_turbo,
    "ResNet-50": resnet_50,
    "CLIP ViT-B/32": vit_b_32,
}


def measured(words: list[str], out: Path) -> tuple[float, int, int]:
    """Seconds, peak bytes of memory and bytes of the bundle of one export."""
    command = [str(Path(sys.executable).with_name("mothlight")), "export", *words, "--out", str(out)]
    start = perf_counter()
    with subprocess.Popen(command) as process:  # noqa: S603  # our own command
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}.")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return perf_counter() - start, usage.ru_maxrss * 1024, size


def compiled(bundle: Path, graph: str) -> dict[str, float]:
    """Compile one graph with TensorRT for RTX, for a batch of 8; in a process of its own, for its memory's sake."""
    command = [sys.executable, __file__, "--compile", str(bundle), graph]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # this very script
    made: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return made


def compile_one(folder: str, graph: str) -> None:
    """What `compiled` runs."""
    bundle, library = load_bundle(folder), tensorrt.find()
    if library is None:
        sys.exit("TensorRT is not installed.")
    side = bundle.manifest.image_size if isinstance(bundle.manifest.image_size, int) else 224
    shapes = {
        one.name: spec([dim if isinstance(dim, int) else 8 if dim == "batch" else side for dim in one.shape], one.dtype)
        for one in bundle.manifest.graphs[graph].inputs
    }
    start = perf_counter()
    built = library.build(bundle.graph_path(graph), dict.fromkeys(("min", "opt", "max"), shapes))
    seconds = perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "memory": memory, "bytes": len(built.engine)}))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=MODELS, action="append")
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16"], default="fp32")
    parser.add_argument("--size", type=int, default=256, help="of SD-Turbo's images")
    parser.add_argument("--compile", nargs=2, metavar=("BUNDLE", "GRAPH"), help="only compile a graph of a bundle")
    arguments = parser.parse_args()
    if arguments.compile:
        compile_one(*arguments.compile)
        return
    rows, engines = [], []
    for name in arguments.only or MODELS:
        folder = Path(tempfile.mkdtemp(prefix="mothlight-full-"))
        try:
            torch.manual_seed(1)
            words = [*MODELS[name](folder / "source"), "--precision", arguments.precision]
            words = [str(arguments.size) if word == "256" else word for word in words]
            parameters = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 4
            seconds, memory, size = measured(words, folder / "bundle")
            rows.append((name, parameters, seconds, memory, size))
            for graph, told in load_bundle(folder / "bundle").manifest.graphs.items():
                engines.append((name, graph, told.precision, compiled(folder / "bundle", graph)))
                print(engines[-1], flush=True)
        finally:
            shutil.rmtree(folder)
    print("| model | million parameters | minutes | peak memory GiB | bundle GB | bytes of memory per parameter |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, parameters, seconds, memory, size in rows:
        print(
            f"| {name} | {parameters / 1e6:,.0f} | {seconds / 60:.1f} | {memory / 2**30:.1f} | {size / 1e9:.2f} "
            f"| {memory / parameters:.0f} |"
        )
    print("| model | graph | precision | seconds to compile | peak memory GiB | engine MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, graph, precision, made in engines:
        print(
            f"| {name} | {graph} | {precision} | {made['seconds']:.0f} | {made['memory'] / 2**30:.1f} "
            f"| {made['bytes'] / 1e6:,.0f} |"
        )
    if over := [name for name, _, _, memory, _ in rows if memory > LIMIT]:
        sys.exit(f"More than {LIMIT / 2**30:.0f} GiB: {', '.join(over)}.")


if __name__ == "__main__":
    main()
