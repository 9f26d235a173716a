"""What an ONNX file does not say of itself: the TOML beside it."""

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mothlight.engine.errors import UserError
from mothlight.engine.models.resize import Filter, Level, Resize, Side, pair
from mothlight.exporters.libraries import reason

Channels = Literal["RGB", "BGR", "RGBA", "BGRA", "grey"]
COUNT: dict[Channels, int] = {"RGB": 3, "BGR": 3, "RGBA": 4, "BGRA": 4, "grey": 1}
Activation = Literal["softmax", "sigmoid", "none"]
PADDING = 114
"""The grey that Ultralytics pads a letterbox with."""


class OnnxClassifier(BaseModel):
    """What the graph itself does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """The ONNX file, relative to this TOML."""
    size: Side = Field()
    """Of its input in pixels: one number, or [height, width]."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    resize: Literal["shortest", "squash", "letterbox", "none"] = "shortest"
    """`shortest`: the image just covers `edge` and the middle is cut out; `squash`: it becomes `size` whatever its
    shape; `letterbox`: it just fits, and `fill` is put around; `none`: the middle is cut out of it as it is."""
    edge: Side | None = None
    """Without it, `size`."""
    filter: Filter = "bilinear"
    antialias: bool = True
    """As Pillow resizes; without, as OpenCV, TensorFlow and torch do by default."""
    fill: Level = PADDING
    """The grey level around a letterbox."""
    range: Literal["0-1", "0-255"] = "0-1"
    """Of the pixels before `mean` and `std` are applied."""
    channels: Channels = "RGB"
    mean: tuple[float, ...] = (0.0,)
    """One number, or one for each channel."""
    std: tuple[float, ...] = (1.0,)
    output: str | None = None
    """The tensor that holds a number per label; needed only where there are several."""
    background: Literal["first", "last"] | None = None
    """Where the output has one number more than there are labels: which of them stands for none."""
    activation: Activation | None = None
    """What makes scores of that output; `none` where the graph does it itself. Without it, by its last node."""
    labels: tuple[str, ...] | Literal["imagenet"] | None = None
    labels_file: str | None = None
    """One label per line, or JSON, or a CSV; relative to this TOML."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        count = COUNT[self.channels]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, count):
                msg = f"`{name}` has {len(values)} numbers; {self.channels} has {count} channels"
                raise ValueError(msg)
        if any(value == 0 for value in self.std):
            msg = "`std` can't be 0"
            raise ValueError(msg)
        if min(*pair(self.size), *pair(self.edge or self.size)) < 1:
            msg = "`size` and `edge` are at least 1"
            raise ValueError(msg)
        if not self.antialias and self.filter not in ("nearest", "bilinear", "bicubic"):
            msg = f"the filter {self.filter} needs `antialias`"
            raise ValueError(msg)
        return self

    @property
    def geometry(self) -> Resize:
        """How an image becomes the input's size."""
        return Resize(
            size=self.size,
            edge=self.edge or self.size,
            mode=self.resize,
            filter=self.filter,
            rounding=True,
            antialias=self.antialias,
            order="pillow" if self.antialias else "horizontal",
            fill=self.fill if self.resize == "letterbox" else 0,
        )

    @property
    def means(self) -> tuple[float, ...]:
        """One for each channel."""
        return self.mean * COUNT[self.channels] if len(self.mean) == 1 else self.mean

    @property
    def stds(self) -> tuple[float, ...]:
        """One for each channel."""
        return self.std * COUNT[self.channels] if len(self.std) == 1 else self.std

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image as the file takes it."""
        count = COUNT[self.channels]
        height, width = pair(self.size)
        return (count, height, width) if self.layout == "NCHW" else (height, width, count)


def read_toml(path: Path) -> OnnxClassifier:
    """The description of an ONNX classifier.

    Raises:
        UserError: it can't be read, or a key is missing, unknown or out of range.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return OnnxClassifier.model_validate(_with_tuples(told))
    except ValidationError as error:
        faults = error.errors()
        first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        place = str(first["loc"][0]) if first["loc"] else "the file"
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing" and place == "size":
            said = "Field required: the pixels of its input, as `size = 224` or `size = [height, width]`"
        known = f" Known keys: {', '.join(OnnxClassifier.model_fields)}." if first["type"] == "extra_forbidden" else ""
        raise UserError(f"{path}: `{place}`: {said}.{known}") from error
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {reason(error)}") from error


def _with_tuples(told: dict[str, object]) -> dict[str, object]:
    """TOML's lists as tuples, and a single mean or std as one of one."""
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    for key in ("mean", "std"):
        if isinstance(made.get(key), int | float):
            made[key] = (made[key],)
    return made
