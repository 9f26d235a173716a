"""What lies in front of an object: grass, a net, twigs, rain, falling snow; each variant is drawn once."""

import math
import random
from collections.abc import Callable
from functools import cache

from PIL import Image, ImageDraw

from mothlight.engine.world.grounds import blades
from mothlight.engine.world.pen import CANVAS, INK, Layer, jitter, mix, reduced


def front_grass(draw: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw front grass."""
    for _ in range(15):
        state = rng.getstate()
        blades(draw, rng, CANVAS, (36, 74), 1, [(120, 186, 70), (96, 164, 60)])
        rng.setstate(state)
        x, height, lean, w = rng.uniform(-10, CANVAS + 10), rng.uniform(36, 74), rng.uniform(-26, 26), rng.uniform(5, 9)
        base = CANVAS + 6
        mask.polygon(
            [
                (x - w, base),
                (x + lean * 0.4 - w * 0.7, base - height * 0.6),
                (x + lean, base - height),
                (x + lean * 0.4 + w * 0.7, base - height * 0.6),
                (x + w, base),
            ],
            255,
        )


def net(draw: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw net."""
    step, angle = rng.uniform(38, 48), rng.choice([0, 0.785]) + rng.uniform(-0.16, 0.16)
    rope = jitter(rng.choice([(240, 226, 180), (206, 226, 206), (230, 230, 236)]), rng)
    c, s, phase = math.cos(angle), math.sin(angle), rng.uniform(0, 6)

    def at(u: float, v: float) -> tuple[float, float]:
        u, v = u + 3 * math.sin(v / 25 + phase), v + 3 * math.sin(u / 25 + phase)
        return (CANVAS / 2 + u * c - v * s, CANVAS / 2 + u * s + v * c)

    span = range(-160, 180, 20)
    lines = []
    for k in range(-4, 5):
        lines += [[at(k * step, v) for v in span], [at(u, k * step) for u in span]]
    for width, tone in ((7, mix(rope, INK, 0.8)), (4, rope)):
        for points in lines:
            draw.line(points, tone, width)
            mask.line(points, 255, width)
    for i in range(-4, 5):
        for j in range(-4, 5):
            x, y = at(i * step, j * step)
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), rope)


def twigs(draw: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw twigs."""
    bark = jitter((98, 66, 42), rng)
    count = rng.randint(3, 4)
    for k in range(count):
        across = rng.random() < 0.35
        start = CANVAS * (k + 0.5) / count + rng.uniform(-14, 14)
        a, b = (-8.0, start), (CANVAS + 8.0, start + rng.uniform(-60, 60))
        if not across:
            a, b = (start, -8.0), (start + rng.uniform(-60, 60), CANVAS + 8.0)
        middle = ((a[0] + b[0]) / 2 + rng.uniform(-10, 10), (a[1] + b[1]) / 2 + rng.uniform(-10, 10))
        limbs = [([a, middle, b], rng.randint(8, 10))]
        for t in (0.3, 0.7):
            x, y = a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t
            limbs.append(([(x, y), (x + rng.choice([-1, 1]) * rng.uniform(20, 40), y - rng.uniform(18, 40))], 6))
        for points, width in limbs:
            for grow, tone in ((4, mix(bark, INK, 0.7)), (0, bark)):
                draw.line(points, tone, width + grow, joint="curve")
                mask.line(points, 255, width + grow, joint="curve")
            draw.line(
                [(x - width * 0.2, y - 1) for x, y in points], mix(bark, (240, 210, 170), 0.35), max(2, width // 4)
            )
        for points, _ in limbs[1:]:
            x, y = points[-1]
            box = (x - 9, y - 6, x + 9, y + 6)
            draw.ellipse(box, jitter((120, 150, 60), rng), INK)
            mask.ellipse(box, 255)


def rain(draw: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw rain."""
    lean = rng.uniform(-0.45, 0.45)
    for _ in range(46):
        x, y, length = rng.uniform(-20, CANVAS + 20), rng.uniform(-30, CANVAS), rng.uniform(24, 42)
        draw.line([(x, y), (x + lean * length, y + length)], (216, 232, 250), 3)
        mask.line([(x, y), (x + lean * length, y + length)], 225, 3)
    for _ in range(7):
        x, y = rng.uniform(0, CANVAS), rng.uniform(CANVAS * 0.6, CANVAS)
        for layer, tone in ((draw, (216, 232, 250)), (mask, 220)):
            layer.arc((x - 10, y - 4, x + 10, y + 4), 0, 360, tone, 2)


def flakes(draw: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw flakes."""
    for _ in range(36):
        x, y, r = rng.uniform(0, CANVAS), rng.uniform(0, CANVAS), rng.uniform(3.5, 8)
        draw.ellipse((x - r - 1, y - r - 1, x + r + 1, y + r + 1), (170, 186, 212))
        draw.ellipse((x - r, y - r, x + r, y + r), (255, 255, 255))
        mask.ellipse((x - r - 1, y - r - 1, x + r + 1, y + r + 1), 245)


PAINT: dict[str, Callable[[ImageDraw.ImageDraw, ImageDraw.ImageDraw, random.Random], None]] = {
    "front grass": front_grass,
    "a net": net,
    "twigs": twigs,
    "rain": rain,
    "falling snow": flakes,
}


@cache
def overlay(kind: str, variant: int) -> Layer:
    """A premultiplied picture and its mask."""
    picture, mask = Image.new("RGB", (CANVAS, CANVAS)), Image.new("L", (CANVAS, CANVAS))
    PAINT[kind](ImageDraw.Draw(picture), ImageDraw.Draw(mask), random.Random(str((kind, variant))))
    return reduced(picture, mask)
