"""One command for one GPU: SD-Turbo, three classifiers, an embedder and a gate of true size. Last line: JSON.

Weights are random, sizes are true: SD-Turbo (one step, 512²) with its own decoder and with a tiny one, ResNet-50,
ConvNeXt-T and ViT-B/16 of timm, CLIP ViT-B/32, a SigLIP-B/16 gate. For each engine that is there: S0, the libraries in
eager torch; S1, our engines one stage after the other; P, the pipeline; and P with one thing taken away. Without a GPU
it prints `"ran": false` and exits 0.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothlight.engine import cuda
from mothlight.engine.batch import Batch, batches
from mothlight.engine.cli_export import inductor
from mothlight.engine.config import AuditConfig, EngineName
from mothlight.engine.cuda import Cuda
from mothlight.engine.device import Buffer, Spec, Stream, of_array
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.executor.writer import Writer
from mothlight.engine.host import HostNow
from mothlight.engine.making import judging_stages
from mothlight.engine.models import tensorrt
from mothlight.engine.models.cache import EngineCache
from mothlight.engine.models.engines import Engines, survey
from mothlight.engine.models.tensorrt import Compiler
from mothlight.engine.opening import Models, load_models, open_database
from mothlight.engine.records import Chunk
from mothlight.engine.stages.encode import EncodeStage
from mothlight.engine.stages.generate import DiffusionStage

GFLOP = {"encode_text": 45.0, "denoise": 804.0, "full": 2515.0, "tiny": 141.0, "judging": 8.2 + 9.0 + 35.0 + 8.8 + 35.0}
"""Of an image at 512², counted; text once per prompt."""
LABELS = ["goldfish", "tench", "hen", "ostrich"]
CHUNK = 256


class OneStream(Cuda):
    """Everything in one stream."""

    def stream(self, name: str) -> Stream:
        """See `Device`."""
        return self._streams[0] if getattr(self, "_streams", None) else super().stream(name)


class Pageable(Cuda):
    """Copies from and to memory that the driver does not know."""

    def pinned(self, name: str, spec: Spec) -> Buffer:
        """See `Device`."""
        return of_array(name, np.zeros(spec.shape, spec.dtype))


class Inline(Cuda):
    """Judging, encoding and writing in the thread that tells the device what to do."""

    def worker(self, name: str) -> Stream:
        """See `Device`."""
        made = HostNow()
        made.name = name
        return made


ABLATIONS: dict[str, type[Cuda]] = {"one stream": OneStream, "pageable copies": Pageable, "encoding inline": Inline}


def make_bundles(folder: Path, precision: str) -> None:
    """Save every model with its library and export it, unless that was done before."""
    from full_size import resnet_50, sd_turbo, vit_b_32

    makers: dict[str, Callable[[Path], list[str]]] = {
        "turbo-full": lambda source: [*sd_turbo(source)[:4], "--size", "512"],
        "turbo-tiny": lambda source: [*sd_turbo(source)[:4], "--size", "512", "--decoder", str(tiny_decoder(folder))],
        "resnet50": lambda source: labelled(resnet_50(source), folder),
        "convnext": lambda source: labelled(timm_model("convnext_tiny", source), folder),
        "vit": lambda source: labelled(timm_model("vit_base_patch16_224", source), folder),
        "clip": vit_b_32,
        "gate": lambda source: ["gate", str(siglip(source))],
    }
    for name, make in makers.items():
        if (folder / name).is_dir():
            continue
        words = make(folder / f"{name}-source")
        command = [str(Path(sys.executable).with_name("mothlight")), "export", *words, "--out", str(folder / name)]
        subprocess.run([*command, "--precision", precision], check=True)  # noqa: S603  # our own command


def labelled(words: list[str], folder: Path) -> list[str]:
    """With ImageNet's names."""
    from mothlight.engine.vocabulary import imagenet

    path = folder / "labels.txt"
    path.write_text("\n".join(word.name for word in imagenet()))
    return [*words, "--labels", str(path)]


def timm_model(kind: str, folder: Path) -> list[str]:
    """A model of timm, saved."""
    import timm
    from timm.models import save_for_hf

    model = timm.create_model(kind, pretrained=False)
    save_for_hf(model, str(folder), {"pretrained_cfg": model.pretrained_cfg}, safe_serialization=True)
    return ["classifier", str(folder)]


def tiny_decoder(folder: Path) -> Path:
    """TAESD's sizes."""
    import diffusers

    out = folder / "taesd"
    if not out.is_dir():
        kind: Any = diffusers.AutoencoderTiny
        kind().save_pretrained(out)
    return out


def siglip(folder: Path) -> Path:
    """SigLIP base, patches of 16, images of 224."""
    import transformers
    from full_size import clip_tokenizer

    vision = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    config = transformers.SiglipConfig(
        text_config={**vision, "vocab_size": 32000, "max_position_embeddings": 64, "projection_size": 768},
        vision_config={**vision, "image_size": 224, "patch_size": 16},
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    processor = transformers.SiglipImageProcessor(size={"height": 224, "width": 224})
    transformers.SiglipProcessor(processor, clip_tokenizer(folder, 64)).save_pretrained(folder)
    return folder


def config_of(folder: Path, decoder: str, batch: int) -> AuditConfig:
    """An audit of these bundles."""
    settings = {
        "labels": LABELS,
        "vocabulary": "imagenet",
        "generator": str(folder / f"turbo-{decoder}"),
        "classifiers": [str(folder / name) for name in ("resnet50", "convnext", "vit")],
        "gate": str(folder / "gate"),
        "embedder": str(folder / "clip"),
        "captioner": "tinyworld:captioner",
        "discovery_images": CHUNK,
        "chunk_images": CHUNK,
        "batch": batch,
    }
    return AuditConfig.model_validate(settings)


def engines_of(name: EngineName, device: Cuda) -> Engines:
    """One engine for all roles."""
    library, compiler = tensorrt.find(), None
    if library is not None and name == "tensorrt":
        compiler = Compiler(library, device, device.target(), EngineCache())
    return Engines(device, dict.fromkeys(("generator", "classifier", "gate", "embedder"), name), compiler, inductor())


@contextmanager
def pipeline_of(config: AuditConfig, models: Models, engines: Engines, threads: int) -> Iterator[Pipeline]:
    """The audit's own stages."""
    assert models.generator is not None  # noqa: S101  # the settings name one
    generate = DiffusionStage(models.generator, seed=1, engines=engines)
    stages = [generate, *judging_stages(config, models, engines)]
    generate.prepare([config.plain_prompt(label) for label in config.labels])
    with Pipeline(
        engines.device, stages, config.batch, keep=[EncodeStage()], keepers=threads, without=["images"]
    ) as made:
        yield made


def rate(
    config: AuditConfig,
    models: Models,
    engines: Engines,
    images: int,
    *,
    threads: int,
    in_order: bool = False,
    trace: Path | None = None,
) -> float:
    """Images a second, everything stored; the first chunk warms up."""
    events: list[dict[str, Any]] = []

    def watch(stage: str, batch: Batch, start: float, end: float) -> None:
        args = {"prompt": batch.chunk.prompt.text, "first": batch.indices[0]}
        events.append(
            {
                "name": stage,
                "ph": "X",
                "ts": start * 1e6,
                "dur": (end - start) * 1e6,
                "pid": 0,
                "tid": stage,
                "args": args,
            }
        )

    chunks = [
        Chunk(config.plain_prompt(config.labels[k % len(LABELS)]), k * CHUNK, CHUNK, 0)
        for k in range(1 + images // CHUNK)
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(Path(folder) / "audit.duckdb", config, models, Path()) as store,
        pipeline_of(config, models, engines, threads) as pipeline,
    ):
        writer = Writer(store, 1, [(one.manifest.name, one.manifest.labels) for one in models.classifiers])
        run = pipeline.run_in_order if in_order else pipeline.run
        run(batches(chunks[0], config.batch), writer)
        start = time.perf_counter()
        run((batch for chunk in chunks[1:] for batch in batches(chunk, config.batch)), writer, watch if trace else None)
        writer.flush()
        seconds = time.perf_counter() - start
    if trace is not None:
        trace.write_text(json.dumps({"traceEvents": events}))
    return CHUNK * (len(chunks) - 1) / seconds


def seed_rate(folder: Path, decoder: str, images: int, batch: int) -> float:
    """S0: diffusers, timm and open_clip in eager torch, bfloat16, channels last, one step after the other."""
    import diffusers
    import timm
    import torch

    kind: Any = diffusers.StableDiffusionPipeline
    pipe = kind.from_pretrained(folder / "turbo-full-source", dtype=torch.bfloat16).to("cuda")
    if decoder == "tiny":
        pipe.vae = diffusers.AutoencoderTiny.from_pretrained(folder / "taesd", dtype=torch.bfloat16).to("cuda")
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)
    nets = [
        timm.create_model(one, pretrained=False).cuda().bfloat16().eval()
        for one in (
            "resnet50",
            "convnext_tiny",
            "vit_base_patch16_224",
            "vit_base_patch32_clip_224",
            "vit_base_patch16_siglip_224",
        )
    ]

    def once(count: int) -> None:
        made = pipe(["a photo of a hen"] * count, num_inference_steps=1, guidance_scale=0.0, output_type="pt").images
        small = torch.nn.functional.interpolate(made, size=(224, 224), mode="bilinear", antialias=True).bfloat16()
        for net in nets:
            net(small).float().cpu()
        (made * 255).round().byte().cpu()

    with torch.inference_mode():
        once(batch)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(max(images // batch, 1)):
            once(batch)
        torch.cuda.synchronize()
    seconds: float = time.perf_counter() - start
    return batch * max(images // batch, 1) / seconds


def bf16_rate() -> float:
    """TFLOP/s of a dense product in bfloat16, measured; 0 where there is no torch to measure it with."""
    try:
        import torch
    except ImportError:
        return 0.0
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    times = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ a
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(2 * 8192**3 / (median(times) / 1000) / 1e12)


def parity(config: AuditConfig, models: Models, engines: Engines, threads: int) -> float:
    """The worst PSNR of a few images on the GPU against the same on the CPU, in dB; bundles in float32 only."""
    (batch,) = batches(Chunk(config.plain_prompt(config.labels[0]), 0, config.batch, 0), config.batch)
    made: list[NDArray[np.uint8]] = []
    for some in (engines, Engines()):
        with pipeline_of(config, models, some, threads) as pipeline:
            made.append(pipeline.once(batch).arrays["images"])
    error = (made[0].astype(float) - made[1]).reshape(config.batch, -1)
    return float((10 * np.log10(255**2 / np.maximum((error**2).mean(axis=1), 1e-3))).min())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, default=Path("build/gpu"), help="made here, and used again")
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16"], default="bf16")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--decoder", choices=["tiny", "full"], action="append")
    arguments = parser.parse_args()
    if (reason := cuda.missing()) is not None:
        print(f"no GPU here: {reason}")
        print(json.dumps({"ran": False, "reason": reason}))
        return
    arguments.bundles.mkdir(parents=True, exist_ok=True)
    make_bundles(arguments.bundles, arguments.precision)
    probe = Cuda()
    there = [one.engine for one in survey(probe, None, inductor=inductor() is not None) if not one.missing]
    result: dict[str, Any] = {"ran": True, "gpu": probe.model, **probe.target(), "precision": arguments.precision}
    probe.close()
    result["bf16_tflops"] = round(bf16_rate(), 1)
    for decoder in arguments.decoder or ["tiny", "full"]:
        for engine in there:
            result[f"{engine}, {decoder} decoder"] = measure(arguments, decoder, engine, result["bf16_tflops"])
    print(json.dumps(result))


def measure(arguments: argparse.Namespace, decoder: str, engine: EngineName, tflops: float) -> dict[str, Any]:
    """All arms of one engine, in turn."""
    config = config_of(arguments.bundles, decoder, arguments.batch)
    models = load_models(config, Path())
    rates: dict[str, list[float]] = {}

    def arm(name: str, one: float) -> None:
        rates.setdefault(name, []).append(one)
        print(f"{engine}, {decoder}: {name} {one:.1f} images/s", flush=True)

    given = {"threads": arguments.threads}
    for number in range(arguments.rounds):
        arm("S0", seed_rate(arguments.bundles, decoder, arguments.images, arguments.batch))
        arm("S1", rate(config, models, engines_of(engine, Cuda()), arguments.images, **given, in_order=True))
        trace = arguments.bundles / f"{engine}-{decoder}.trace.json" if number == 0 else None
        arm("P", rate(config, models, engines_of(engine, Cuda()), arguments.images, **given, trace=trace))
    for name, kind in ABLATIONS.items():
        arm(name, rate(config, models, engines_of(engine, kind()), arguments.images // 4, **given))
    if engine == "tensorrt":
        graphs = engines_of(engine, Cuda(graphs=True))
        arm("CUDA graphs", rate(config, models, graphs, arguments.images // 4, **given))
    single = config_of(arguments.bundles, decoder, 1)
    arm("batch 1", rate(single, models, engines_of(engine, Cuda()), CHUNK, **given))
    made: dict[str, Any] = {name: round(median(values), 1) for name, values in rates.items()}
    made["ratio"] = round(made["P"] / made["S0"], 2)
    if tflops:
        per_image = (GFLOP["denoise"] + GFLOP[decoder] + GFLOP["judging"]) / 1000
        made["share_of_bf16_rate"] = round(made["P"] * per_image / tflops, 3)
    if arguments.precision == "fp32":
        made["parity_db"] = round(parity(config, models, engines_of(engine, Cuda()), arguments.threads), 1)
    return made


if __name__ == "__main__":
    main()
