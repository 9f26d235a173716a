"""Drawing helpers: colours, and a pen that draws on a picture and on its mask at once."""

import math
import random
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

SIZE, SUPER = 64, 3
"""Pixels of a picture's side, and how many times finer it is drawn."""
CANVAS = SIZE * SUPER
Colour = tuple[int, int, int]
Point = tuple[float, float]

CIRCLE = np.array([(math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)])
INK: Colour = (28, 24, 26)


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The colour a share t of the way from a to b."""
    red, green, blue = (round(x + (y - x) * t) for x, y in zip(a, b, strict=True))
    return red, green, blue


def jitter(colour: tuple[float, float, float], rng: random.Random, amount: float = 14) -> Colour:
    """A colour near `colour`."""
    shift = rng.uniform(-amount, amount)
    red, green, blue = (int(min(255, max(0, c + shift + rng.uniform(-amount, amount) * 0.6))) for c in colour)
    return red, green, blue


class Pen:
    """Draws in object coordinates (x right, y down, about -1 to 1) on a picture and its mask."""

    def __init__(self, centre: Point, size: float, angle: float, *, mirror: bool, flip: bool) -> None:
        self.picture = Image.new("RGB", (CANVAS, CANVAS))
        self.mask = Image.new("L", (CANVAS, CANVAS))
        self.draw, self.mask_draw = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.mask)
        c, s = math.cos(angle), math.sin(angle)
        self.matrix = size * np.diag([-1.0 if mirror else 1.0, -1.0 if flip else 1.0]) @ np.array([[c, s], [-s, c]])
        self.centre, self.size = np.array(centre), size

    def place(self, points: ArrayLike) -> list[Point]:
        """Canvas coordinates of object coordinates."""
        moved = np.asarray(points, float) @ self.matrix + self.centre
        return [(float(x), float(y)) for x, y in moved.tolist()]

    def polygon(self, corners: ArrayLike, fill: Colour, outline: Colour | None = INK, width: int = 3) -> None:
        """A filled polygon with an outline."""
        points = self.place(corners)
        self.draw.polygon(points, fill=fill)
        self.mask_draw.polygon(points, fill=255)
        if outline is not None:
            points += points[:2]
            self.draw.line(points, fill=outline, width=width, joint="curve")
            self.mask_draw.line(points, fill=255, width=width, joint="curve")

    def ellipse(  # noqa: PLR0917  # the drawings call it 60 times, by position
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: Colour,
        outline: Colour | None = INK,
        angle: float = 0,
        width: int = 3,
    ) -> None:
        """An ellipse, turned by `angle` degrees."""
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        points = CIRCLE * [rx, ry] @ np.array([[c, s], [-s, c]]) + [x, y]
        self.polygon(points, fill, outline, width)

    def line(self, corners: ArrayLike, fill: Colour = INK, width: float = 0.06) -> None:
        """A line through points, `width` in object coordinates."""
        points, thick = self.place(corners), max(2, round(width * self.size))
        self.draw.line(points, fill=fill, width=thick, joint="curve")
        self.mask_draw.line(points, fill=255, width=thick, joint="curve")


def dome(x: float, y: float, rx: float, ry: float, low: float = 0.0) -> list[Point]:
    """The upper half of an ellipse with a slightly bulging base."""
    upper = [(x + rx * math.cos(a), y - ry * math.sin(a)) for a in np.linspace(0, math.pi, 18)]
    base = [(x - rx * math.cos(a), y + low * math.sin(a)) for a in np.linspace(0, math.pi, 8)]
    return upper + base[1:-1]


Pixels = NDArray[Any]
"""Floats, 0 to 1; single and double precision mix freely here."""
Layer = tuple[Pixels, Pixels]
"""A premultiplied picture (S, S, 3) and its mask (S, S, 1), both 0 to 1."""


def reduced(picture: Image.Image, mask: Image.Image) -> Layer:
    """A canvas at the size of a picture."""
    small = np.asarray(picture.reduce(SUPER), np.float32) / 255
    return small, np.asarray(mask.reduce(SUPER), np.float32)[..., None] / 255
