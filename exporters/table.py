"""The families of models as a table, for exporters/README.md: `python -m mothlight.exporters.table`."""

from mothlight.exporters import captioner, classifier, embedder, generator, preprocess
from mothlight.exporters.classifiers import onnx_file
from mothlight.exporters.families import FAMILIES, Family

RESIZE = f"resize {preprocess.GREY_LEVELS:g} grey levels"
BOUNDS = {
    "generator": (
        f"{generator.TOLERANCE:g}; images {generator.GREY_LEVELS:g} grey level; whole pipeline {generator.PSNR:g} dB"
    ),
    "classifier": f"{classifier.TOLERANCE:g}; {RESIZE}",
    "embedder": f"{embedder.TOLERANCE:g}; {RESIZE}",
    "captioner": f"{captioner.TOLERANCE:g}; {RESIZE}; captions the same",
}
SPECIAL = {
    "onnx": f"{onnx_file.TOLERANCE:g} on the same pixels; pixels {onnx_file.GREY_LEVELS:g} grey levels",
    "caption": "the same answer twice",
}


def row(family: Family) -> str:
    """One line of Markdown."""
    bound = SPECIAL.get(family.backend or family.library, BOUNDS[family.role])
    graphs = ", ".join(family.graphs) or f"nothing: {family.library} runs it"
    kinds = "" if family.kinds == ("*",) else " " + ", ".join(f"`{kind}`" for kind in family.kinds)
    cells = (family.role, family.name, f"{family.library}{kinds}", graphs, bound, "yes")
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """All of it."""
    head = ("role", "family", "library and class", "exported as", "verified to", "audited end to end")
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(row(family) for family in FAMILIES)])


if __name__ == "__main__":
    print(table())  # noqa: T201  # what it is run for
