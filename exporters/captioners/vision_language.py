"""A vision-language model of transformers (Qwen-VL class) as captioner: the library itself runs it, from the bundle."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Backend, Bundle, Check, Manifest
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.options import Options
from mothlight.exporters.publish import Prepared
from mothlight.exporters.source import WANTED, Located, require_whole, stated
from mothlight.exporters.weights import loaded_whole

QUESTION = (
    "Describe this image in short plain sentences: what is seen, how it looks, where it is, what surrounds it, "
    "and the kind of picture."
)
MAX_TOKENS = 96
FOLDER = "library"


def prepare_vision_language(found: Located, name: str, options: Options) -> Prepared:
    """The model's own files, to be copied into the bundle as they are."""
    require_whole(found)

    def fill(work: Path) -> None:
        for file, _ in found.files:
            if any(Path(file).match(pattern) for pattern in WANTED):
                (work / FOLDER / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found.folder / file, work / FOLDER / file)

    kind = str(found.json("config.json")["architectures"][0])
    return Prepared(
        Manifest(
            role="captioner",
            name=name,
            backend=Backend(
                library="transformers",
                part="caption",
                folder=FOLDER,
                options={"question": options.question or QUESTION, "max_tokens": str(MAX_TOKENS)},
            ),
            source=stated(found, "transformers", transformers.__version__, kind, options),
        ),
        fill=fill,
        check=_check,
    )


def _check(bundle: Bundle) -> list[Check]:
    """It runs at all, and says the same of the same image twice."""
    runner = VisionLanguage(bundle)
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    first, second = (runner.infer(images=image)["texts"][0] for _ in range(2))
    if first != second:
        raise BundleError(f"{bundle.manifest.name} says {second!r} of an image of which it said {first!r} before.")
    return [Check(graph="caption", output="texts", batch=1, difference=0.0, tolerance=0.0, unit="absolute")]


class VisionLanguage:
    """The library's model behind `infer`: images (B, H, W, 3) uint8 → texts (B,)."""

    def __init__(self, bundle: Bundle) -> None:
        """Load it.

        Raises:
            UserError: the library can't, or its weights are not this model's.
        """
        backend = bundle.manifest.backend
        if backend is None:
            raise BundleError(f"The bundle {bundle.folder} has no part for a library.")
        folder = bundle.folder / backend.folder
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype: Any = "auto" if device == "cuda" else torch.float32
        where, kind = f"The bundle {bundle.folder}", transformers.AutoModelForImageTextToText
        with library_errors(f"{where} can't be loaded by transformers"):
            self.processor = transformers.AutoProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            model = loaded_whole(where, kind, folder, dtype=dtype, trust_remote_code=False)
        self.model = model.to(device).eval()
        self.question = backend.options.get("question", QUESTION)
        self.max_tokens = int(backend.options.get("max_tokens", MAX_TOKENS))

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Greedy answers, one image at a time: a padded batch would change them."""
        texts = np.empty(len(inputs["images"]), dtype=object)
        for row, image in enumerate(inputs["images"]):
            texts[row] = self._answer(Image.fromarray(image))
        return {"texts": texts}

    def _answer(self, image: Image.Image) -> str:
        content = [{"type": "image", "image": image}, {"type": "text", "text": self.question}]
        given = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.inference_mode():
            ids = self.model.generate(**given, max_new_tokens=self.max_tokens, do_sample=False, num_beams=1)
        answer: str = self.processor.batch_decode(ids[:, given["input_ids"].shape[1] :], skip_special_tokens=True)[0]
        return " ".join(answer.split())
