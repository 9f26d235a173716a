"""The eight places, each drawn in 24 variants, and the blades of grass that stand in front."""

import math
import random
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mothlight.engine.world.pen import CIRCLE, INK, SIZE, SUPER, Colour, Pixels, jitter, mix

MARGIN, VARIANTS = 16, 24
GROUND = SIZE + MARGIN
"""Pixels of a ground's side: a picture is a window on it."""


def flower(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: flower."""
    draw.rectangle((0, 0, n, n), jitter((66, 116, 58), rng))
    for _ in range(14):
        x, y, r = rng.uniform(0, n), rng.uniform(0, n), rng.uniform(14, 36)
        draw.ellipse((x - r, y - r, x + r, y + r), jitter((74, 128, 62), rng, 22))
    petal = jitter(rng.choice([(244, 150, 190), (250, 236, 244), (186, 130, 226), (250, 120, 130)]), rng)
    count, turn, centre = (
        rng.randint(7, 10),
        rng.uniform(0, 1),
        (n / 2 + rng.uniform(-10, 10), n / 2 + rng.uniform(-10, 10)),
    )
    for k in range(count):
        a = 2 * math.pi * (k + turn) / count
        for length, wide, tone in ((0.56, 1.0, 0), (0.46, 0.72, 0.22)):
            points = []
            for px, py in CIRCLE:
                u, v = (px + 1) / 2 * n * length, py * n * 0.17 * wide * (0.55 + 0.45 * (px + 1) / 2)
                points.append(
                    (centre[0] + u * math.cos(a) - v * math.sin(a), centre[1] + u * math.sin(a) + v * math.cos(a))
                )
            draw.polygon(
                points,
                mix(mix(petal, (130, 50, 110), 0.22), mix(petal, (255, 255, 255), 0.35), tone / 0.22 if tone else 0),
            )
    r = n * 0.13
    draw.ellipse((centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r), jitter((236, 186, 60), rng))


def leaf(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: leaf."""
    draw.rectangle((0, 0, n, n), jitter((44, 66, 40), rng, 8))
    leaf, tilt = jitter((96, 168, 64), rng), rng.uniform(-0.5, 0.5)
    c, s = math.cos(tilt), math.sin(tilt)

    def at(u: float, v: float) -> tuple[float, float]:
        return (n / 2 + (u * c - v * s) * n * 0.5, n / 2 + (u * s + v * c) * n * 0.5)

    top = [(u, -0.86 * (1 - u * u) ** 0.7) for u in np.linspace(-1, 1, 20)]
    draw.polygon([at(*p) for p in top] + [at(u, -v) for u, v in top[::-1]], leaf, mix(leaf, (20, 50, 20), 0.6))
    vein = mix(leaf, (236, 250, 190), 0.6)
    for u in np.linspace(-0.75, 0.65, 7):
        h = 0.8 * (1 - (u + 0.2) ** 2) ** 0.7 if abs(u + 0.2) < 1 else 0
        for side in (-1, 1):
            draw.line([at(u, 0), at(min(0.95, u + 0.25), side * h * 0.85)], mix(leaf, vein, 0.75), 3)
    draw.line([at(-1.1, 0), at(0.98, 0)], vein, 7)


def plate(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: plate."""
    cloth = jitter(rng.choice([(176, 74, 70), (92, 122, 160), (108, 128, 96)]), rng)
    draw.rectangle((0, 0, n, n), cloth)
    step = rng.randint(26, 34)
    for k in range(0, n, step * 2):
        draw.rectangle((k, 0, k + step, n), mix(cloth, (255, 255, 255), 0.25))
    for k in range(0, n, step * 2):
        draw.line([(0, k), (n, k)], mix(cloth, (255, 255, 255), 0.5), 5)
    x, y, r = n / 2 + rng.uniform(-8, 8), n / 2 + rng.uniform(-8, 8), n * rng.uniform(0.43, 0.47)
    plate, rim = (
        jitter((240, 240, 238), rng, 6),
        jitter(rng.choice([(60, 92, 160), (150, 150, 156), (190, 140, 60)]), rng),
    )
    draw.ellipse((x - r + 4, y - r + 8, x + r + 4, y + r + 8), mix(cloth, INK, 0.55))
    for radius, tone in (
        (1, plate),
        (0.95, rim),
        (0.9, plate),
        (0.7, mix(plate, (120, 125, 140), 0.35)),
        (0.68, mix(plate, (255, 255, 255), 0.5)),
    ):
        q = r * radius
        draw.ellipse((x - q, y - q, x + q, y + q), tone)


def sand(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: sand."""
    sand = jitter((222, 192, 138), rng, 10)
    draw.rectangle((0, 0, n, n), sand)
    phase, tilt = rng.uniform(0, 6), rng.uniform(-0.2, 0.2)
    for y in range(-20, n + 20, 22):
        for shift, tone in ((0, mix(sand, (150, 112, 64), 0.5)), (8, mix(sand, (255, 242, 206), 0.6))):
            wave = [(x, y + shift + 6 * math.sin(x / 26 + phase + y) + tilt * x) for x in range(0, n + 12, 12)]
            draw.line(wave, tone, 7, joint="curve")
    for _ in range(22):
        cx, cy, r = rng.uniform(0, n), rng.uniform(0, n), rng.uniform(2.5, 5)
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), mix(sand, rng.choice([(110, 80, 50), (255, 250, 230)]), 0.6))


def stones(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: stones."""
    draw.rectangle((0, 0, n, n), (62, 60, 60))
    for row, y in enumerate(range(0, n + 40, 38)):
        for x in range(-20, n + 40, 46):
            cx, cy = x + 23 * (row % 2) + rng.uniform(-7, 7), y + rng.uniform(-6, 6)
            rx, ry = rng.uniform(19, 27), rng.uniform(15, 22)
            g = rng.uniform(112, 184)
            stone = jitter((g, g - 2, g - 6), rng, 8)
            draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), mix(stone, INK, 0.42))
            draw.ellipse((cx - rx + 2, cy - ry, cx + rx - 4, cy + ry - 7), stone)
            draw.ellipse(
                (cx - rx * 0.6, cy - ry * 0.75, cx + rx * 0.1, cy - ry * 0.2), mix(stone, (255, 255, 255), 0.35)
            )


def blades(
    draw: ImageDraw.ImageDraw,
    rng: random.Random,
    n: int,
    heights: tuple[float, float],
    count: int,
    tones: Sequence[Colour],
) -> None:
    """Draw blades of grass that grow from the lower edge."""
    for _ in range(count):
        x, height, lean, w = rng.uniform(-10, n + 10), rng.uniform(*heights), rng.uniform(-26, 26), rng.uniform(5, 9)
        base = n + 6
        draw.polygon(
            [
                (x - w, base),
                (x + lean * 0.4 - w * 0.7, base - height * 0.6),
                (x + lean, base - height),
                (x + lean * 0.4 + w * 0.7, base - height * 0.6),
                (x + w, base),
            ],
            jitter(rng.choice(tones), rng),
        )


def grass(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: grass."""
    draw.rectangle((0, 0, n, n), jitter((58, 104, 44), rng, 10))
    for reach, tones in (
        (1.25, [(64, 118, 46), (52, 98, 42)]),
        (0.9, [(86, 150, 56), (70, 130, 50)]),
        (0.55, [(112, 178, 66), (92, 158, 58)]),
    ):
        blades(draw, rng, n, (n * reach * 0.7, n * reach), 34, tones)


def wood(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: wood."""
    wood, turn = jitter((170, 118, 70), rng), rng.random() < 0.5
    size = rng.randint(48, 62)

    def flip(point: tuple[float, float]) -> tuple[float, float]:
        return (point[1], point[0]) if turn else point

    for start in range(-rng.randint(0, 30), n, size):
        plank = jitter(wood, rng, 18)
        box = [flip((0, start)), flip((n, start + size))]
        draw.rectangle((*box[0], *box[1]), plank)
        for _ in range(4):
            y, phase = start + rng.uniform(8, size - 8), rng.uniform(0, 6)
            draw.line(
                [flip((x, y + 3 * math.sin(x / 30 + phase))) for x in range(0, n + 15, 15)],
                mix(plank, (80, 46, 22), 0.42),
                3,
            )
        if rng.random() < 0.6:
            x, y = rng.uniform(0, n), start + size / 2
            corner = [flip((x - 11, y - 8)), flip((x + 11, y + 8))]
            draw.ellipse(
                (
                    min(corner[0][0], corner[1][0]),
                    min(corner[0][1], corner[1][1]),
                    max(corner[0][0], corner[1][0]),
                    max(corner[0][1], corner[1][1]),
                ),
                mix(plank, (70, 40, 20), 0.7),
            )
        draw.line([flip((0, start)), flip((n, start))], (66, 40, 24), 6)


def snow(draw: ImageDraw.ImageDraw, rng: random.Random, n: int) -> None:
    """Draw the place: snow."""
    draw.rectangle((0, 0, n, n), jitter((226, 234, 246), rng, 5))
    for k in range(7):
        x, y, rx, ry = rng.uniform(0, n), n * k / 6 + rng.uniform(-12, 12), rng.uniform(50, 110), rng.uniform(20, 36)
        draw.ellipse((x - rx, y - ry + 8, x + rx, y + ry + 8), (176, 196, 226))
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), rng.choice([(240, 244, 252), (248, 250, 254), (232, 240, 250)]))
    for _ in range(10):
        x, y = rng.uniform(0, n), rng.uniform(0, n)
        draw.line([(x - 5, y), (x + 5, y)], (255, 255, 255), 3)
        draw.line([(x, y - 5), (x, y + 5)], (255, 255, 255), 3)


GROUNDS: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, int], None]] = {
    "on a flower": flower,
    "on a leaf": leaf,
    "on a plate": plate,
    "on the sand": sand,
    "on stones": stones,
    "in the grass": grass,
    "on wood": wood,
    "on the snow": snow,
}
"""Place → how it is drawn."""


@cache
def ground(place: str, variant: int) -> Pixels:
    """One variant of a place, (GROUND, GROUND, 3), 0 to 1; drawn once."""
    image = Image.new("RGB", (GROUND * SUPER, GROUND * SUPER))
    GROUNDS[place](ImageDraw.Draw(image), random.Random(f"{place}/{variant}"), GROUND * SUPER)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1.6)).reduce(SUPER), np.float32) / 255
