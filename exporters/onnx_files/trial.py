"""An ONNX file tried on plain, coloured and noisy pictures: what it gives, and whether its description can be right."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto
from PIL import Image

from mothlight.engine.errors import UserError
from mothlight.engine.models.resize import PILLOW, pair
from mothlight.engine.models.runner import OrtRunner, Parts, infer_once
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.onnx_files.description import COUNT, Activation, OnnxClassifier
from mothlight.exporters.onnx_files.file import OnnxFile, at_hand, described, dims
from mothlight.exporters.onnx_files.graphs import activated
from mothlight.exporters.publish import log

SAME = 1e-3
"""How far apart, relative to the largest, answers to an image in two batches may be."""
SAME_SCORE = 5e-4
"""The same for scores: half of what a bundle's may be from the file's."""
DIFFERENT = 1e-6
"""Below it, relative to the largest, answers to different pictures count as one."""
SURE = 0.9999
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
COLOURS = ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (230, 200, 30))


@dataclass(frozen=True)
class Trial:
    """What a file was seen to do."""

    numbers: int
    """That it gives for an image."""
    alone: bool
    """Whether it must be asked image by image."""
    activation: Activation


def pictures(told: OnnxClassifier) -> list[NDArray[np.uint8]]:
    """Plain colours, two halves, and noise, fine and coarse, as large as the file's input."""
    height, width = pair(told.size)
    rng = np.random.default_rng(20_260_101)
    made = [np.full((height, width, 3), colour, np.uint8) for colour in COLOURS]
    halves = np.zeros((height, width, 3), np.uint8)
    halves[:, width // 2 :] = (200, 120, 40)
    coarse = rng.integers(0, 256, (max(height // 8, 1), max(width // 8, 1), 3), dtype=np.uint8)
    fine = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    grown = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return [*made, halves, grown, fine]


def by_pillow(told: OnnxClassifier, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the file is given of an image, by Pillow and NumPy: as its input has it, without the batch."""
    resize = told.geometry
    picture = Image.fromarray(image)
    if told.channels == "grey":
        picture = picture.convert("L")
    high, wide = resize.sides(*image.shape[:2])
    if told.antialias:
        small = np.asarray(picture.resize((wide, high), Image.Resampling(PILLOW[resize.filter])), np.float64)
    else:
        small = _interpolated(told, np.asarray(picture, np.float64))
    x = _middle(small[..., None] if small.ndim == 2 else small, pair(told.size), float(told.fill), told)
    if told.channels in ("BGR", "BGRA"):
        x = x[..., ::-1]
    if COUNT[told.channels] == 4:
        x = np.concatenate([x, np.full((*x.shape[:2], 1), 255.0)], axis=-1)
    x = (x / (255.0 if told.range == "0-1" else 1.0) - np.array(told.means)) / np.array(told.stds)
    return x if told.layout == "NHWC" else x.transpose(2, 0, 1)


def _interpolated(told: OnnxClassifier, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without antialiasing Pillow can't: the two matrices, in double precision, before the crop."""
    resize = told.geometry
    high, wide = resize.sides(*pixels.shape[:2])
    whole = resize.model_copy(update={"size": (high, wide), "edge": (high, wide), "mode": "squash"})
    matrices = whole.matrices(*pixels.shape[:2])
    spread = np.einsum("rh,hw...->rw...", matrices["rows"].astype(np.float64), pixels)
    return np.clip(np.floor(np.einsum("cw,rw...->rc...", matrices["columns"], spread) + 0.5), 0, 255)


def _middle(x: NDArray[np.float64], size: tuple[int, int], fill: float, told: OnnxClassifier) -> NDArray[np.float64]:
    level = fill if told.resize == "letterbox" else 0.0
    for axis, wanted in enumerate(size):
        short = wanted - x.shape[axis]
        if short > 0:
            around = [(0, 0)] * 3
            around[axis] = (short // 2, short - short // 2)
            x = np.pad(x, around, constant_values=level)
        else:
            start = round(-short / 2)
            x = np.take(x, range(start, start + wanted), axis=axis)
    return x


def as_input(file: OnnxFile, values: NDArray[np.float64]) -> NDArray[Any]:
    """A batch of values as the file's input takes them: its kind of numbers, flat where it is flat."""
    given = file.given
    dtype = DTYPE[given.type.tensor_type.elem_type]
    shape = dims(given)
    flat = values.reshape(len(values), -1) if shape is not None and len(shape) == 2 else values
    return (flat if np.issubdtype(dtype, np.floating) else np.rint(flat)).astype(dtype)


DTYPE: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}


def require_shape(told: OnnxClassifier, file: OnnxFile) -> None:
    """The file's own input against what the description makes.

    Raises:
        UserError: they differ; the message has both, and the likely setting.
    """
    shape = dims(file.given)
    if shape is None:
        return
    if len(shape) not in (2, 4):
        raise UserError(f"{file.path} takes {described(file.given)}, which is no batch of images, flat or not.")
    wanted = told.shape if len(shape) == 4 else (int(np.prod(told.shape)),)
    own = shape[1:]
    if all(one is None or one == other for one, other in zip(own, wanted, strict=True)):
        return
    raise UserError(
        f"{file.path} takes images of {_sides(own)}, and the description makes {_sides(wanted)} "
        f"({told.layout}, {told.channels}, size {told.size}){_likely(told, own)}."
    )


def _likely(told: OnnxClassifier, own: tuple[int | None, ...]) -> str:
    if len(own) != 3:
        return ""
    channels_last = own[2] in (1, 3, 4) and own[0] not in (1, 3, 4)
    channels_first = own[0] in (1, 3, 4) and own[2] not in (1, 3, 4)
    layout = "NHWC" if channels_last else "NCHW" if channels_first else told.layout
    count, height, width = own if layout == "NCHW" else (own[2], own[0], own[1])
    said = []
    if layout != told.layout:
        said.append(f'layout = "{layout}"')
    if count is not None and count != COUNT[told.channels]:
        said.append({1: 'channels = "grey"', 3: 'channels = "RGB"', 4: 'channels = "RGBA"'}.get(count, ""))
    if height and width and (height, width) != pair(told.size):
        said.append(f"size = {height if height == width else [height, width]}")
    return f": likely {', '.join(one for one in said if one)}" if any(said) else ""


def _sides(shape: tuple[int | None, ...]) -> str:
    return " × ".join("any" if one is None else str(one) for one in shape)


def require_range(told: OnnxClassifier, file: OnnxFile) -> None:
    """Range, mean and standard deviation against each other and against the input's kind of numbers.

    Raises:
        UserError: they can't be meant so; the message has the likely setting.
    """
    kind = file.given.type.tensor_type.elem_type
    most = 1.0 if told.range == "0-1" else 255.0
    if kind not in FLOATS and min(most / abs(std) for std in told.stds) < 64:
        raise UserError(
            f"{file.path} takes whole numbers ({described(file.given)}), and the description makes values that differ "
            f"by {most / max(abs(std) for std in told.stds):g} at most, so most of an image is lost: likely range = "
            f'"0-255".'
        )
    if told.range == "0-1" and (max(told.means) > 1.0 or max(told.stds) > 2.0):
        raise UserError(
            f"{file.path}: a mean of {max(told.means):g} and a std of {max(told.stds):g} are those of pixels from 0 to "
            f'255, and range is "0-1": likely range = "0-255".'
        )
    if told.range == "0-255" and 0 < max(told.means) < 1.0 and max(told.stds) < 1.0:
        raise UserError(
            f"{file.path}: a mean of {max(told.means):g} and a std of {max(told.stds):g} are those of pixels from 0 to "
            f'1, and range is "0-255": likely range = "0-1".'
        )


def try_out(told: OnnxClassifier, file: OnnxFile, output: ValueInfoProto, labels: int) -> Trial:
    """Run a file on `pictures`, alone and together.

    Raises:
        UserError: it does not run, gives another number of numbers than there are labels, or its description can't
            be right.
    """
    shape = dims(file.given)
    fixed = None if shape is None else shape[0]
    with at_hand(file.model) as path:
        runner = OrtRunner(path, outputs=[output.name])
        values = as_input(file, np.stack([by_pillow(told, image) for image in pictures(told)]))
        name = file.given.name
        with library_errors(f"{file.path} does not run on images of {_sides(told.shape)}"):
            each = infer_once(Parts(runner, fixed or 1, alone=True), {name: values})[output.name]
        each = each.reshape(len(values), -1).astype(np.float64)
        together = _together(runner, {name: values}, fixed, output.name)
    _require_count(told, file, output, each.shape[1], labels)
    if not np.isfinite(each).all():  # the comparison of the bundle will say it
        return Trial(each.shape[1], alone=False, activation=told.activation or "none")
    spread = float(np.abs(each - each[0]).max())
    if spread <= DIFFERENT * max(float(np.abs(each).max()), 1e-12):
        raise UserError(
            f"{file.path} gives the same numbers for black, white, coloured and noisy pictures: it is a constant, or "
            f"`range`, `mean`, `std` or `output` ({output.name}) is wrong."
        )
    activation = _activation(told, file, output, each)
    _warn_if_sure(told, file, each, activation)
    alone = together is None or not _agrees(together.reshape(len(together), -1), each, activation)
    if alone and fixed != 1:
        log.info("%s: its answers depend on the other images of a batch, so each image runs alone", file.path)
    return Trial(each.shape[1], alone, activation)


def _together(
    runner: OrtRunner, given: dict[str, NDArray[Any]], fixed: int | None, output: str
) -> NDArray[np.float64] | None:
    """What a file gives for several images at once; None where it does not take them."""
    try:
        got = runner.infer(**given) if fixed is None else infer_once(Parts(runner, fixed), given)
    except Exception:  # noqa: BLE001  # whatever it is, each image was seen to run alone
        return None
    return np.asarray(got[output], dtype=np.float64)


def _agrees(together: NDArray[np.float64], each: NDArray[np.float64], activation: Activation) -> bool:
    """Whether a batch gives what its images give alone, before and after the activation."""
    if together.shape != each.shape or not np.isfinite(together).all():
        return False
    scores = np.abs(activated(together, activation) - activated(each, activation)).max()
    return bool(np.abs(together - each).max() <= SAME * np.abs(each).max() and scores <= SAME_SCORE)


def _require_count(told: OnnxClassifier, file: OnnxFile, output: ValueInfoProto, numbers: int, labels: int) -> None:
    said = f"{file.path} gives {numbers:,} numbers an image ({described(output)}), and there are {labels:,} labels"
    if numbers == 1 and labels == 2:
        return
    if numbers == 1:
        raise UserError(f"{said}: one number has two labels, that of 0 first.".replace("1 numbers", "1 number"))
    if numbers == labels + 1 and told.background is None:
        raise UserError(f'{said}: if one of the numbers stands for none of them, add background = "first" (or "last").')
    if numbers != labels + (told.background is not None):
        also = "" if told.background is None else f', and with background = "{told.background}" one number more is due'
        raise UserError(f"{said}{also}.")


def _activation(told: OnnxClassifier, file: OnnxFile, output: ValueInfoProto, each: NDArray[np.float64]) -> Activation:
    """What was told, if it can be so; else what the file's last node or its numbers say."""
    node = file.last_node(output.name)
    inside = bool((each >= -SAME).all() and (each <= 1 + SAME).all())
    shares = each.shape[1] > 1 and inside and bool(np.abs(each.sum(axis=1) - 1).max() < 1e-2)
    done = shares or node in ("Softmax", "Sigmoid", "HardSigmoid")
    one = each.shape[1] == 1
    if told.activation is None:
        return "none" if done else "sigmoid" if one else "softmax"
    if told.activation == "softmax" and one:
        raise UserError(
            f'{file.path} gives one number, of which a softmax makes 1 always: likely activation = "sigmoid".'
        )
    if told.activation != "none" and done and inside:
        what = "its numbers are shares already" if shares else f"it ends in a {node}"
        raise UserError(f'{file.path}: {what}, and activation is "{told.activation}": likely activation = "none".')
    if told.activation == "none" and not inside:
        raise UserError(
            f"{file.path}: its numbers run from {each.min():.3g} to {each.max():.3g}, which are no scores, and "
            f'activation is "none": likely activation = "{"sigmoid" if one else "softmax"}".'
        )
    return told.activation


def _warn_if_sure(told: OnnxClassifier, file: OnnxFile, each: NDArray[np.float64], activation: Activation) -> None:
    scores = activated(each, activation)
    if scores.shape[1] > 1 and (scores.argmax(axis=1) == scores[0].argmax()).all() and scores.max(axis=1).min() > SURE:
        log.warning(
            '%s: it is sure of one and the same label for every plain, coloured and noisy picture; is range = "%s" '
            "right, and mean and std?",
            file.path,
            told.range,
        )


def path_of(toml: Path, told: OnnxClassifier) -> Path:
    """The ONNX file of a description."""
    return toml.parent / told.model
