"""The audit's first half as a competent person writes it in an afternoon: libraries, eager torch, one step at a time.

For each label: a diffusers pipeline makes the images, timm classifiers and the gate name them, open_clip embeds them,
a transformers BLIP captions what passes the gate and fails, and as many images of a label that pass everywhere, 48 at
least, as mothlight does; results go to a CSV and a NumPy file. Same weights, steps and threads as mothlight's built-in
audit. Prints one JSON line: images, seconds (models already loaded).
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from open_clip import create_model_from_pretrained
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from transformers import BlipForConditionalGeneration, BlipProcessor

from mothlight.engine.config import built_in_config, load_config
from mothlight.exporters.libraries import quiet

WEIGHTS = Path(__file__).parent / "tinyworld"
THRESHOLD = 0.4
PASSES = 48
"""Captioned of a label, at least."""


def load(threads: int) -> dict[str, Any]:
    """Every model, ready."""
    quiet()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        WEIGHTS / "generator", local_files_only=True, dtype=torch.float32
    )
    scheduler: Any = DPMSolverMultistepScheduler
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, solver_order=2)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae):  # a tenth faster, and a third
        part.to(memory_format=torch.channels_last)
    names = [f"classifier_planted_{kind}" for kind in ("resnet", "mobilenet", "convnext")]
    clip, preprocess = create_model_from_pretrained(f"local-dir:{WEIGHTS / 'clip'}")
    blip: Any = BlipForConditionalGeneration.from_pretrained(WEIGHTS / "captioner", local_files_only=True)
    return {
        "pipeline": pipeline,
        "classifiers": {name: classifier(name) for name in names},
        "gate": classifier("gate"),
        "clip": clip.eval(),
        "preprocess": preprocess,
        "blip": blip.eval(),
        "processor": BlipProcessor.from_pretrained(WEIGHTS / "captioner", local_files_only=True),
    }


def classifier(name: str) -> Any:
    """One timm model."""
    return timm.create_model(f"local-dir:{WEIGHTS / name}", pretrained=True).eval()


@torch.inference_mode()
def audit(models: dict[str, Any], labels: list[str], prompts: list[str], images: int, batch: int, steps: int) -> None:
    """All labels, one after the other."""
    gate_names = models["gate"].pretrained_cfg["label_names"]
    transforms = {
        name: create_transform(**resolve_data_config({}, model=net), is_training=False)
        for name, net in {**models["classifiers"], "gate": models["gate"]}.items()
    }
    rows, vectors = [], []
    for label, prompt in zip(labels, prompts, strict=True):
        failures = passes = 0
        for start in range(0, images, batch):
            count = min(batch, images - start)
            seeds = [torch.Generator().manual_seed(start + k) for k in range(count)]
            pictures = models["pipeline"](
                [prompt] * count, num_inference_steps=steps, guidance_scale=1.0, generator=seeds
            ).images
            said = {}
            for name, net in models["classifiers"].items():
                logits = net(torch.stack([transforms[name](picture) for picture in pictures]))
                said[name] = [net.pretrained_cfg["label_names"][k] for k in logits.argmax(1).tolist()]
            scores = models["gate"](torch.stack([transforms["gate"](p) for p in pictures])).softmax(1)
            passed = (scores[:, gate_names.index(label)] >= THRESHOLD).tolist()
            pixels = torch.stack([models["preprocess"](picture) for picture in pictures])
            vectors.append(models["clip"].encode_image(pixels, normalize=True).numpy())
            chosen = []
            for k in range(count):
                failed = any(said[name][k] != label for name in said)
                chosen.append(passed[k] and (failed or passes < max(failures, PASSES)))
                failures += chosen[k] and failed
                passes += chosen[k] and not failed
            captions = iter(caption(models, [picture for picture, ok in zip(pictures, chosen, strict=True) if ok]))
            rows += [
                [label, start + k, *(said[name][k] for name in said), passed[k], next(captions) if chosen[k] else ""]
                for k in range(count)
            ]
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "embeddings.npy", np.concatenate(vectors))
        with (Path(folder) / "results.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def caption(models: dict[str, Any], pictures: list[Any]) -> list[str]:
    """Greedy captions of some pictures."""
    if not pictures:
        return []
    inputs = models["processor"](images=pictures, return_tensors="pt")
    ids = models["blip"].generate(**inputs, max_length=56, num_beams=1)
    texts: list[str] = models["processor"].batch_decode(ids, skip_special_tokens=True)
    return texts


def main() -> None:
    """Load, run once to warm up, run and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48, help="of each label")
    parser.add_argument("--labels", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    config = load_config(built_in_config())
    labels = [label.name for label in config.labels[: arguments.labels]]
    prompts = [config.plain_prompt(label).text for label in config.labels[: arguments.labels]]
    models = load(arguments.threads)
    audit(models, labels[:1], prompts[:1], arguments.batch, arguments.batch, arguments.steps)
    start = time.perf_counter()
    audit(models, labels, prompts, arguments.images, arguments.batch, arguments.steps)
    seconds = time.perf_counter() - start
    print(json.dumps({"images": len(labels) * arguments.images, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
