"""The twelve objects, upright and facing right, in object coordinates."""

import math
import random
from collections.abc import Callable

import numpy as np

from mothlight.engine.world.pen import INK, Pen, dome, jitter, mix


def fly(pen: Pen, rng: random.Random) -> None:
    """Draw a fly."""
    body = jitter((78, 92, 98), rng)
    for x, foot in ((-0.15, -0.5), (0.1, -0.1), (0.2, 0.3), (0.32, 0.72)):
        pen.line([(x, 0.15), ((x + foot) / 2 + 0.05, 0.42), (foot, 0.85)], INK, 0.075)
    pen.ellipse(-0.38, 0.14, 0.52, 0.29, body, angle=-12)
    for x in (-0.65, -0.45, -0.25):
        pen.line([(x, -0.06), (x - 0.04, 0.38)], mix(body, INK, 0.6), 0.05)
    pen.ellipse(0.22, 0.02, 0.36, 0.33, mix(body, INK, 0.25))
    wing = jitter((214, 226, 236), rng)
    pen.ellipse(-0.42, -0.36, 0.62, 0.2, wing, angle=24)
    pen.line([(0.1, -0.16), (-0.85, -0.52)], mix(wing, INK, 0.4), 0.03)
    pen.ellipse(-0.52, -0.16, 0.58, 0.17, mix(wing, (255, 255, 255), 0.4), angle=8)
    pen.line([(0, -0.12), (-1, -0.2)], mix(wing, INK, 0.4), 0.03)
    pen.ellipse(0.64, 0.04, 0.23, 0.25, mix(body, INK, 0.4))
    pen.ellipse(0.69, -0.03, 0.19, 0.21, jitter((190, 40, 32), rng))
    pen.ellipse(0.72, -0.1, 0.06, 0.06, (250, 190, 180), None)
    pen.line([(0.72, 0.24), (0.84, 0.42)], INK, 0.07)


def bee(pen: Pen, rng: random.Random) -> None:
    """Draw a bee."""
    yellow = jitter((246, 200, 46), rng)
    wing = jitter((205, 228, 244), rng)
    pen.ellipse(-0.28, -0.52, 0.24, 0.46, wing, angle=-28)
    pen.ellipse(0.12, -0.54, 0.25, 0.46, mix(wing, (255, 255, 255), 0.4), angle=18)
    for x in (-0.2, 0.1, 0.35):
        pen.line([(x, 0.4), (x - 0.04, 0.62), (x + 0.06, 0.74)], INK, 0.07)
    pen.polygon([(-0.82, 0.02), (-1.0, 0.14), (-0.82, 0.26)], INK)
    pen.ellipse(-0.15, 0.13, 0.72, 0.44, yellow)
    for x0, x1 in ((-0.66, -0.48), (-0.3, -0.08), (0.1, 0.3)):
        chord = [(x, 0.44 * math.sqrt(max(0, 1 - (x + 0.15) ** 2 / 0.5184))) for x in (x0, (x0 + x1) / 2, x1)]
        pen.polygon([(x, 0.13 - h) for x, h in chord] + [(x, 0.13 + h) for x, h in chord[::-1]], (38, 30, 26), None)
    pen.ellipse(0.62, 0.08, 0.28, 0.29, (60, 46, 34))
    pen.ellipse(0.72, 0.02, 0.1, 0.13, (250, 250, 250), None)
    pen.ellipse(0.75, 0.04, 0.05, 0.08, INK, None)
    for x in (0.62, 0.78):
        pen.line([(x, -0.16), (x + 0.12, -0.44)], INK, 0.05)
        pen.ellipse(x + 0.12, -0.46, 0.05, 0.05, INK, None)


def ladybird(pen: Pen, rng: random.Random) -> None:
    """Draw a ladybird."""
    shell = jitter((222, 74, 36), rng)
    for x in (-0.5, -0.1, 0.3):
        pen.line([(x, 0.42), (x - 0.08, 0.66), (x + 0.04, 0.74)], INK, 0.09)
    pen.ellipse(0.72, 0.26, 0.28, 0.27, (36, 32, 34))
    pen.ellipse(0.82, 0.18, 0.09, 0.1, (246, 246, 240), None)
    pen.line([(0.78, 0.04), (0.96, -0.18)], INK, 0.06)
    pen.polygon(dome(-0.1, 0.44, 0.78, 1.0, 0.1), shell)
    pen.line([(0.18, -0.44), (0.0, 0), (-0.1, 0.5)], INK, 0.06)
    for x, y, r in ((-0.5, 0.12, 0.15), (-0.24, -0.26, 0.14), (0.36, 0.2, 0.15), (-0.32, 0.3, 0.1), (0.2, -0.14, 0.12)):
        pen.ellipse(x, y, r, r * 1.05, (34, 28, 28), None)
    pen.ellipse(-0.42, -0.18, 0.1, 0.06, mix(shell, (255, 255, 255), 0.6), None, angle=-40)


def butterfly(pen: Pen, rng: random.Random) -> None:
    """Draw a butterfly."""
    wing = jitter(rng.choice([(240, 140, 50), (196, 132, 214), (244, 226, 180)]), rng)
    edge, spot = mix(wing, INK, 0.75), mix(wing, (255, 255, 255), 0.75)
    for s in (-1, 1):
        pen.polygon(
            [(s * 0.05, 0.0), (s * 0.5, 0.08), (s * 0.78, 0.34), (s * 0.7, 0.74), (s * 0.42, 0.86), (s * 0.15, 0.5)],
            edge,
        )
        pen.polygon(
            [(s * 0.08, 0.08), (s * 0.45, 0.16), (s * 0.62, 0.38), (s * 0.52, 0.66), (s * 0.2, 0.45)],
            mix(wing, INK, 0.12),
            None,
        )
        pen.polygon(
            [
                (s * 0.05, 0.1),
                (s * 0.2, -0.4),
                (s * 0.62, -0.88),
                (s * 0.96, -0.8),
                (s * 0.98, -0.35),
                (s * 0.7, 0.12),
                (s * 0.3, 0.2),
            ],
            edge,
        )
        pen.polygon(
            [
                (s * 0.1, 0.02),
                (s * 0.27, -0.36),
                (s * 0.62, -0.7),
                (s * 0.8, -0.62),
                (s * 0.8, -0.32),
                (s * 0.58, 0.02),
                (s * 0.28, 0.1),
            ],
            wing,
            None,
        )
        pen.ellipse(s * 0.62, -0.42, 0.11, 0.13, spot, None)
        pen.ellipse(s * 0.46, 0.44, 0.09, 0.1, spot, None)
        pen.line([(s * 0.04, -0.4), (s * 0.22, -0.86)], INK, 0.05)
    pen.ellipse(0, 0.1, 0.1, 0.56, (52, 40, 38))
    pen.ellipse(0, -0.44, 0.12, 0.13, (52, 40, 38))


def spider(pen: Pen, rng: random.Random) -> None:
    """Draw a spider."""
    body = jitter((104, 82, 66), rng)
    for s in (-1, 1):
        for root, knee, foot in (
            (-0.3, (0.5, -0.86), (0.74, -0.98)),
            (-0.18, (0.68, -0.46), (0.98, -0.36)),
            (-0.06, (0.68, -0.02), (0.98, 0.34)),
            (0.02, (0.52, 0.3), (0.74, 0.9)),
        ):
            pen.line([(s * 0.1, root), (s * knee[0], knee[1]), (s * foot[0], foot[1])], mix(body, INK, 0.65), 0.085)
    pen.ellipse(0, 0.36, 0.4, 0.46, body)
    pen.line([(0, 0.08), (0, 0.66)], mix(body, (255, 240, 210), 0.7), 0.07)
    pen.line([(-0.16, 0.3), (0.16, 0.3)], mix(body, (255, 240, 210), 0.7), 0.07)
    pen.ellipse(0, -0.24, 0.28, 0.27, mix(body, INK, 0.3))
    for s in (-1, 1):
        pen.ellipse(s * 0.11, -0.36, 0.085, 0.09, (250, 250, 245), None)
        pen.ellipse(s * 0.11, -0.38, 0.04, 0.045, INK, None)
        pen.line([(s * 0.08, -0.48), (s * 0.1, -0.62)], INK, 0.07)


def snail(pen: Pen, rng: random.Random) -> None:
    """Draw a snail."""
    flesh, shell = jitter((176, 164, 132), rng), jitter((178, 118, 66), rng)
    for x, tip in ((0.62, (0.58, -0.5)), (0.76, (0.92, -0.44))):
        pen.line([(x, 0.1), tip], mix(flesh, INK, 0.3), 0.07)
        pen.ellipse(tip[0], tip[1], 0.075, 0.075, INK, None)
    pen.polygon(
        [
            (-1.0, 0.72),
            (-0.55, 0.42),
            (0.2, 0.36),
            (0.46, 0.2),
            (0.54, -0.02),
            (0.74, -0.06),
            (0.88, 0.1),
            (0.84, 0.4),
            (0.66, 0.68),
            (0.5, 0.74),
        ],
        flesh,
    )
    pen.ellipse(-0.16, 0.0, 0.58, 0.58, shell)
    spiral = [
        (-0.16 + r * math.cos(a), 0.02 + r * math.sin(a))
        for a, r in zip(np.linspace(0.9, 13.2, 40), np.linspace(0.5, 0.06, 40), strict=True)
    ]
    pen.line(spiral, mix(shell, INK, 0.65), 0.085)
    pen.ellipse(-0.38, -0.34, 0.12, 0.07, mix(shell, (255, 255, 255), 0.6), None, angle=-35)
    pen.line([(0.74, 0.36), (0.84, 0.3)], INK, 0.05)


def crayfish(pen: Pen, rng: random.Random) -> None:
    """Draw a crayfish."""
    body = jitter((158, 122, 78), rng)
    dark, light = mix(body, INK, 0.4), mix(body, (255, 230, 200), 0.35)
    for s in (-1, 1):
        for y in (-0.1, 0.08, 0.24):
            pen.line([(s * 0.1, y), (s * 0.48, y + 0.1), (s * 0.62, y + 0.32)], dark, 0.07)
        pen.line([(s * 0.1, -0.5), (s * 0.34, -0.98)], dark, 0.045)
        pen.line([(s * 0.14, -0.2), (s * 0.5, -0.16), (s * 0.66, -0.42)], dark, 0.13)
        pen.polygon(
            [
                (s * 0.58, -0.4),
                (s * 0.48, -0.66),
                (s * 0.56, -0.98),
                (s * 0.68, -0.72),
                (s * 0.8, -0.94),
                (s * 0.92, -0.66),
                (s * 0.8, -0.38),
            ],
            body,
        )
        pen.polygon([(s * 0.06, 0.72), (s * 0.42, 0.72), (s * 0.4, 0.98), (s * 0.1, 0.95)], light)
    pen.polygon([(-0.1, 0.7), (0.1, 0.7), (0.14, 1.0), (-0.14, 1.0)], body)
    for y, r in ((0.64, 0.17), (0.48, 0.2), (0.32, 0.23)):
        pen.ellipse(0, y, r, 0.13, mix(body, light, 0.4))
    pen.ellipse(0, -0.12, 0.26, 0.44, body)
    pen.line([(0, -0.2), (0, 0.24)], dark, 0.04)
    for s in (-1, 1):
        pen.ellipse(s * 0.13, -0.46, 0.075, 0.075, INK, None)
        pen.ellipse(s * 0.14, -0.48, 0.03, 0.03, (250, 250, 250), None)


def goldfish(pen: Pen, rng: random.Random) -> None:
    """Draw a goldfish."""
    body = jitter((246, 132, 40), rng)
    fin, pale = mix(body, (255, 240, 200), 0.35), (252, 236, 210)
    sway = rng.uniform(-0.08, 0.08)
    pen.polygon(
        [
            (-0.42, 0.02),
            (-0.74, -0.44 + sway),
            (-1.0, -0.54 + sway),
            (-0.9, 0.0),
            (-1.0, 0.58 + sway),
            (-0.72, 0.46 + sway),
        ],
        fin,
    )
    pen.polygon([(-0.3, -0.36), (-0.16, -0.76), (0.28, -0.66), (0.38, -0.34)], fin)
    pen.polygon([(-0.06, 0.38), (-0.22, 0.72), (0.12, 0.62), (0.18, 0.4)], fin)
    pen.ellipse(0.16, 0.02, 0.7, 0.48, body)
    pen.ellipse(0.16, 0.27, 0.48, 0.16, pale, None)
    for x, y in ((-0.28, -0.08), (-0.06, -0.2), (-0.06, 0.06), (0.16, -0.08)):
        pen.line([(x, y - 0.1), (x + 0.1, y), (x, y + 0.1)], mix(body, INK, 0.35), 0.045)
    pen.line([(0.4, -0.32), (0.34, 0.0), (0.42, 0.3)], mix(body, INK, 0.45), 0.055)
    pen.ellipse(0.6, -0.1, 0.15, 0.16, (252, 252, 250))
    pen.ellipse(0.63, -0.09, 0.075, 0.085, INK, None)
    pen.line([(0.84, 0.12), (0.7, 0.18)], INK, 0.05)


def car(pen: Pen, rng: random.Random) -> None:
    """Draw a car."""
    body = jitter(rng.choice([(232, 232, 228), (120, 168, 112), (150, 158, 166)]), rng)
    glass = jitter((176, 214, 234), rng)
    pen.polygon([(-0.66, -0.06), (-0.46, -0.56), (0.3, -0.56), (0.62, -0.06)], body)
    pen.polygon([(-0.5, -0.08), (-0.36, -0.44), (-0.1, -0.44), (-0.1, -0.08)], glass, None)
    pen.polygon([(0.0, -0.08), (0.0, -0.44), (0.24, -0.44), (0.46, -0.08)], glass, None)
    pen.polygon(
        [(-1.0, 0.0), (-0.9, -0.1), (0.66, -0.1), (0.96, 0.06), (1.0, 0.36), (0.94, 0.42), (-0.94, 0.42), (-1.0, 0.32)],
        body,
    )
    pen.line([(-0.05, -0.08), (-0.05, 0.38)], mix(body, INK, 0.5), 0.045)
    pen.line([(-0.94, 0.2), (0.96, 0.2)], mix(body, INK, 0.35), 0.045)
    pen.ellipse(0.9, 0.1, 0.08, 0.09, (255, 244, 170), None)
    pen.ellipse(-0.94, 0.08, 0.05, 0.08, (220, 40, 40), None)
    for x in (-0.54, 0.54):
        pen.ellipse(x, 0.44, 0.27, 0.27, (34, 34, 38))
        pen.ellipse(x, 0.44, 0.13, 0.13, (196, 198, 204), None)


def boat(pen: Pen, rng: random.Random) -> None:
    """Draw a boat."""
    hull, sail = jitter((142, 88, 52), rng), jitter((246, 242, 230), rng, 8)
    pen.line([(0.02, 0.3), (0.02, -0.98)], (92, 66, 44), 0.08)
    pen.polygon([(0.1, 0.22), (0.1, -0.92), (0.82, 0.22)], sail)
    pen.polygon([(-0.08, 0.22), (-0.08, -0.72), (-0.66, 0.22)], mix(sail, (160, 170, 186), 0.25))
    pen.line([(0.12, -0.1), (0.56, -0.1)], mix(sail, INK, 0.3), 0.04)
    pen.polygon([(-0.98, 0.32), (0.98, 0.32), (0.66, 0.84), (-0.62, 0.84)], hull)
    pen.line([(-0.86, 0.5), (0.86, 0.5)], mix(hull, (255, 240, 210), 0.6), 0.07)
    for x in (-0.36, 0, 0.36):
        pen.ellipse(x, 0.66, 0.07, 0.07, mix(hull, (255, 250, 230), 0.75), INK, width=2)


def apple(pen: Pen, rng: random.Random) -> None:
    """Draw an apple."""
    skin = jitter((142, 190, 62), rng)
    pen.line([(0, -0.5), (0.06, -0.74), (0.16, -0.94)], (92, 62, 40), 0.1)
    pen.polygon([(0.1, -0.68), (0.3, -0.94), (0.7, -0.92), (0.56, -0.68), (0.3, -0.58)], (62, 128, 52))
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False) - math.pi / 2
    radius = 0.8 - 0.24 * np.exp(-((np.abs((angle + math.pi / 2 + math.pi) % (2 * math.pi) - math.pi) / 0.35) ** 2))
    radius -= 0.08 * np.exp(-((np.abs((angle - math.pi / 2 + math.pi) % (2 * math.pi) - math.pi) / 0.25) ** 2))
    pen.polygon(np.stack([radius * np.cos(angle) * 1.06, radius * np.sin(angle) * 0.98 + 0.16], 1), skin)
    pen.ellipse(-0.36, -0.16, 0.13, 0.24, mix(skin, (255, 255, 255), 0.65), None, angle=28)
    pen.ellipse(0.3, 0.5, 0.3, 0.12, mix(skin, INK, 0.2), None, angle=-28)


def mushroom(pen: Pen, rng: random.Random) -> None:
    """Draw a mushroom."""
    cap, stem = jitter((158, 102, 66), rng), jitter((238, 226, 200), rng)
    pen.polygon([(-0.2, 0.0), (0.2, 0.0), (0.26, 0.6), (0.38, 0.92), (-0.38, 0.92), (-0.26, 0.6)], stem)
    pen.polygon([(-0.24, 0.2), (0.24, 0.2), (0.34, 0.4), (-0.34, 0.4)], mix(stem, (255, 255, 255), 0.5), width=2)
    pen.polygon(dome(0, 0.04, 0.96, 0.96, 0.16), cap)
    pen.ellipse(0, 0.08, 0.7, 0.1, mix(stem, INK, 0.25), None)
    for x, y, rx, ry in (
        (-0.5, -0.3, 0.15, 0.15),
        (0.02, -0.62, 0.17, 0.13),
        (0.5, -0.34, 0.15, 0.16),
        (0.02, -0.2, 0.15, 0.14),
    ):
        pen.ellipse(x, y, rx, ry, mix(cap, (255, 250, 235), 0.85), None)


DRAW: dict[str, Callable[[Pen, random.Random], None]] = {
    "fly": fly,
    "bee": bee,
    "ladybird": ladybird,
    "butterfly": butterfly,
    "spider": spider,
    "snail": snail,
    "crayfish": crayfish,
    "goldfish": goldfish,
    "car": car,
    "boat": boat,
    "apple": apple,
    "mushroom": mushroom,
}
"""Label → how it is drawn."""
