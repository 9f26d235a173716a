"""How many planted bugs are found, over several seeds: `recall.py --generator renderer --seeds 1 2 3 4 5`.

Each seed is a whole audit by the command line, then its score. Last line: JSON with the medians.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
MOTHLIGHT = Path(sys.executable).with_name("mothlight")
KINDS = ("resnet", "mobilenet", "convnext")


def settings(folder: Path, generator: str, which: str) -> Path:
    """The built-in audit with another generator, or with the clean classifiers."""
    text = (ROOT / "engine" / "world" / "audit.toml").read_text()
    if generator == "renderer":
        text = text.replace('generator = "tinyworld:generator"', 'generator = "renderer"').replace("steps = 6\n", "")
    path = folder / "audit.toml"
    path.write_text(text.replace("planted-", f"{which}-"))
    return path


def run(path: Path, out: Path, seed: int, images: int, pairs: int) -> dict[str, Any]:
    """One audit and its score."""
    audit = [str(MOTHLIGHT), "audit", str(path), "--seed", str(seed), "--max-images", str(images), "--out", str(out)]
    subprocess.run(audit, check=True, capture_output=True)  # noqa: S603  # our own command
    score = [str(MOTHLIGHT), "score", str(out), "--pairs", str(pairs)]
    answer = subprocess.run(score, check=True, capture_output=True, text=True)  # noqa: S603  # our own command
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", choices=("renderer", "neural"), default="renderer")
    parser.add_argument("--which", choices=("planted", "clean"), default="planted")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--keep", type=Path, help="a folder in which the audits stay")
    arguments = parser.parse_args()
    shown = ("found", "confirmed", "false", "natural", "generator_specific", "hit1", "hit3", "images", "seconds")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = settings(folder, arguments.generator, arguments.which)
        for seed in arguments.seeds:
            out = folder / f"{arguments.generator}-{arguments.which}-{seed}"
            result = run(path, out, seed, arguments.images, arguments.pairs)
            rows.append({"seed": seed, **{key: result[key] for key in shown}})
            print(json.dumps(rows[-1]), flush=True)
            for finding in result["findings"]:
                if finding["kind"] == "false":
                    print("  false:", json.dumps(finding), flush=True)
    print(json.dumps({key: median(row[key] for row in rows) for key in shown}))


if __name__ == "__main__":
    main()
