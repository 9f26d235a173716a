"""A TOML for an ONNX file, filled from the file itself; what it can't say is marked."""

import json
from pathlib import Path

from mothlight.engine.errors import UserError
from mothlight.exporters.classifiers.onnx_file import own_names
from mothlight.exporters.onnx_files.description import read_toml
from mothlight.exporters.onnx_files.file import MAPS, OnnxFile, described, dims, read_onnx
from mothlight.exporters.onnx_files.trial import FLOATS, path_of
from mothlight.exporters.publish import DTYPES, readable

IMAGENET = 1000
UNKNOWN = "# ? "
"""How a line begins that the file does not settle."""
FORMATS = {"Bgr8": "BGR", "Rgb8": "RGB", "Gray8": "grey", "Bgra8": "BGRA", "Rgba8": "RGBA"}
"""ONNX's image metadata, as our channels."""


def draft(path: Path) -> str:
    """The description that a file suggests, as TOML.

    Raises:
        UserError: there is no such file, or it is no classifier of images.
    """
    file = read_onnx(path)
    told = {entry.key: entry.value for entry in file.model.metadata_props}
    lines = [f"# {path.name}: {described(file.given)}"]
    lines += [f"# {said}" for said in file.mended]
    lines.append(f"model = {json.dumps(path.name)}")
    lines += _input(file, told)
    lines += _output(file)
    lines += _labels(file)
    return "\n".join(lines) + "\n"


def _input(file: OnnxFile, told: dict[str, str]) -> list[str]:
    shape = dims(file.given)
    image = shape if shape is None or len(shape) == 3 else shape[1:]
    lines = []
    layout, count, height, width = "NCHW", 3, None, None
    if image is not None and len(image) == 3:
        if image[2] in (1, 3, 4) and image[0] not in (1, 3, 4):
            layout = "NHWC"
        count_, height, width = image if layout == "NCHW" else (image[2], image[0], image[1])
        count = count_ or 3
    if height is None or width is None:
        height, width = _known_size(told)
    if height is None or width is None:
        lines.append(f"size = 224{UNKNOWN:>6}the file takes images of any size, and does not say of which it was made")
    else:
        lines.append(f"size = {height if height == width else [height, width]}")
    if layout != "NCHW":
        lines.append(f'layout = "{layout}"')
    channels = FORMATS.get(told.get("Image.BitmapPixelFormat", ""), {1: "grey", 4: "RGBA"}.get(count, "RGB"))
    sure = "Image.BitmapPixelFormat" in told or channels == "grey"
    lines.append(f'channels = "{channels}"' + ("" if sure else f"  {UNKNOWN}or {channels.replace('RGB', 'BGR')}"))
    whole = file.given.type.tensor_type.elem_type not in FLOATS
    nominal = told.get("Image.NominalPixelRange", "")
    ultralytics = "Ultralytics" in told.get("author", "") + told.get("description", "")
    if whole or "0_255" in nominal:
        lines.append('range = "0-255"')
    else:
        sure = "0_1" in nominal or ultralytics
        lines.append('range = "0-1"' + ("" if sure else f'  {UNKNOWN}or "0-255"'))
    if whole or ultralytics:
        lines.append("mean = 0\nstd = 1")
    elif count == 3:
        lines.append(f"mean = [0.485, 0.456, 0.406]  {UNKNOWN}ImageNet's; what was it trained with?")
        lines.append(f"std = [0.229, 0.224, 0.225]  {UNKNOWN}as above")
    else:
        lines.append(f"mean = 0  {UNKNOWN}what was it trained with?\nstd = 1  {UNKNOWN}as above")
    other = "" if ultralytics else f'  {UNKNOWN}or "squash", "letterbox"; `edge` if it is resized to more and cropped'
    lines.append(f'resize = "shortest"{other}')
    return lines


def _known_size(told: dict[str, str]) -> tuple[int | None, int | None]:
    """Of an exporter's metadata, as Ultralytics writes it: `imgsz` = [224, 224]."""
    try:
        sides = json.loads(told.get("imgsz", ""))
        height, width = sides if isinstance(sides, list) else (sides, sides)
        return int(height), int(width)
    except (ValueError, TypeError):
        return None, None


def _output(file: OnnxFile) -> list[str]:
    kinds = (*DTYPES, *FLOATS)
    numeric = [value for value in file.outputs.values() if value.type.tensor_type.elem_type in kinds]
    floats = [value for value in numeric if value.type.tensor_type.elem_type in FLOATS] or numeric
    before = [node.input[0] for node in file.model.graph.node if node.op_type in MAPS]
    if not floats and not before:
        raise UserError(f"{file.path} gives no numbers: {', '.join(described(one) for one in file.outputs.values())}.")
    name = floats[0].name if floats else before[0]
    lines = []
    if len(file.outputs) > 1 or not floats:
        others = ", ".join(described(value) for value in file.outputs.values())
        mark = "" if len(floats) == 1 or not floats else f"  {UNKNOWN}of {others}"
        lines.append(f"output = {json.dumps(name)}{mark}")
    node = file.last_node(name)
    if node in ("Softmax", "Sigmoid", "HardSigmoid"):
        lines.append(f'activation = "none"  # its last node is a {node}')
    elif _numbers(file, name) == 1:
        lines.append('activation = "sigmoid"  # one number: two labels')
    else:
        lines.append(f'activation = "softmax"  {UNKNOWN}or "sigmoid", where a label does not exclude another')
    return lines


def _numbers(file: OnnxFile, name: str) -> int | None:
    """How many numbers an image gives, where the file says so."""
    shape = dims(file.outputs[name]) if name in file.outputs else None
    return shape[-1] if shape else None


def _labels(file: OnnxFile) -> list[str]:
    if names := own_names(file):
        return [f"labels = {json.dumps(list(names), ensure_ascii=False)}"]
    numeric = [name for name, value in file.outputs.items() if value.type.tensor_type.elem_type in FLOATS]
    count = _numbers(file, numeric[0]) if numeric else None
    if count == IMAGENET:
        return [f'labels = "imagenet"  {UNKNOWN}it has 1,000 outputs, and ImageNet has 1,000 classes']
    if count == IMAGENET + 1:
        return [
            f'labels = "imagenet"  {UNKNOWN}it has 1,001 outputs, and ImageNet has 1,000 classes',
            f'background = "first"  {UNKNOWN}or "last"',
        ]
    several = "the file does not say how many" if count is None else f"{2 if count == 1 else count} of them"
    return [f'labels_file = "labels.txt"  {UNKNOWN}one label per line, JSON or CSV: {several}']


def plan_onnx(path: Path) -> list[str]:
    """What the export of a description would read.

    Raises:
        UserError: the TOML or the file is not what it should be.
    """
    if path.suffix == ".onnx":
        file = read_onnx(path)
        return [f"{path}: {described(file.given)}; it needs a description: --write drafts one"]
    told = read_toml(path)
    file = read_onnx(path_of(path, told))
    outputs = ", ".join(described(value) for value in file.outputs.values())
    return [
        f"{path}: describes {file.path} ({readable(file.path.stat().st_size)}), read from this disk",
        f"input: {described(file.given)}; images become {' × '.join(str(one) for one in told.shape)}",
        f"outputs: {outputs}",
        *(f"note: {said}" for said in file.mended),
    ]
