"""The renderer: a scene as 64 × 64 pixels, and a generator of images from prompts in the grammar's words."""

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mothlight.engine.records import Prompt
from mothlight.engine.world.grounds import MARGIN, VARIANTS, ground
from mothlight.engine.world.objects import DRAW
from mothlight.engine.world.overlays import overlay
from mothlight.engine.world.pen import CANVAS, SIZE, Layer, Pen, Pixels, jitter, reduced
from mothlight.engine.world.scene import Scene, mentioned, sample_scene

RAMPS = {
    "red": ((70, 4, 8), (214, 34, 34), (255, 170, 160)),
    "blue": ((8, 14, 84), (44, 88, 224), (170, 206, 255)),
    "golden": ((104, 64, 6), (232, 178, 36), (255, 248, 190)),
}
"""Colour → what the luminances 0, 1/2 and 1 of the body become."""
Y, X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / (SIZE - 1)
VIGNETTE = 1 - 0.5 * ((X - 0.5) ** 2 + (Y - 0.5) ** 2)[..., None]


def render(scene: Scene) -> NDArray[np.uint8]:
    """The scene as (64, 64, 3) uint8."""
    streams = {
        part: random.Random(f"{scene.key}/draw {part}") for part in ("place", "object", "light", "weather", "front")
    }
    image = _place(scene, streams["place"])
    image = _objects(image, scene, streams["object"])
    if scene.place == "in the grass":
        image = _over(image, overlay("front grass", streams["place"].randrange(VARIANTS)))
    image = _front(image, scene, streams["front"])
    image, level = _light(image, scene, streams["light"])
    image = _weather(image, scene, level, streams["weather"])
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


class Renderer:
    """The renderer as a generator: a sentence of the prompt fixes its attribute, the index keeps everything else."""

    size = (SIZE, SIZE)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Nothing to do."""

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """(len(indices), 64, 64, 3) uint8; words that it does not know change nothing."""
        fixed = mentioned(prompt.text)
        return np.stack([render(sample_scene(self.seed, prompt.label, index, fixed)) for index in indices])


def _place(scene: Scene, rng: random.Random) -> Pixels:
    base = ground(scene.place, rng.randrange(VARIANTS))
    x, y = rng.randrange(MARGIN + 1), rng.randrange(MARGIN + 1)
    image = base[y : y + SIZE, x : x + SIZE]
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return image * _row(*(rng.uniform(0.92, 1.06) for _ in range(3))) * np.float32(rng.uniform(0.9, 1.06))


def _objects(image: Pixels, scene: Scene, rng: random.Random) -> Pixels:
    rng.random(), rng.uniform(0, 1)  # two draws that no picture uses any more; the weights were trained with them
    if scene.count == "one":
        spots = [(rng.uniform(-7, 7), rng.uniform(-7, 7), rng.uniform(72, 86))]
    else:
        dx, dy = rng.uniform(43, 48), rng.choice([-1, 1]) * rng.uniform(8, 34)
        spots = [(-dx, -dy, rng.uniform(46, 54)), (dx, dy, rng.uniform(46, 54))]
    for dx, dy, size in spots:
        angle = rng.uniform(-0.28, 0.28)
        mirror = rng.random() < 0.5
        pen = Pen((CANVAS / 2 + dx, CANVAS / 2 + dy), size, angle, mirror=mirror, flip=scene.pose == "upside down")
        DRAW[scene.label](pen, rng)
        picture, mask = reduced(pen.picture, pen.mask)
        soft = _blurred(mask, 2)
        if scene.colour != "usual":
            picture = _tint(picture, mask, scene.colour, rng)
        slope = (_shifted(soft, 0, 2) - _shifted(soft, 0, -2)) + 0.5 * (_shifted(soft, 2, 0) - _shifted(soft, -2, 0))
        image = _over(image * (1 - 0.5 * _shifted(soft, 1, 3)), (picture * (1 - 0.38 * slope), mask))
    return image


def _front(image: Pixels, scene: Scene, rng: random.Random) -> Pixels:
    if scene.front == "nothing":
        return image
    picture, mask = _maybe_mirrored(overlay(scene.front, rng.randrange(96)), rng)
    return _over(image * (1 - 0.35 * _shifted(mask, 1, 1)), (picture, mask))


def _light(image: Pixels, scene: Scene, rng: random.Random) -> tuple[Pixels, Pixels]:
    """The lit picture, and the level of the light by channel."""
    if scene.light == "dusk":
        level = _row(1.0, 0.72, 0.54) * rng.uniform(0.88, 1)
        image = image * (level * (1.1 - 0.35 * Y[..., None])) + _row(0.16, 0.04, 0.05) * (1 - Y[..., None])
    elif scene.light == "night":
        level = _row(0.36, 0.43, 0.68) * rng.uniform(0.88, 1.1)
        image = image * level * VIGNETTE + _row(0.0, 0.006, 0.03)
    else:
        level = _row(1, 1, 1)
    return image, level


def _weather(image: Pixels, scene: Scene, level: Pixels, rng: random.Random) -> Pixels:
    glow = level * 0.45 + 0.55 if scene.light != "night" else level * 0.7 + 0.2
    if scene.weather == "fog":
        base = rng.uniform(0.5, 0.62)
        wave = np.sin(X * rng.uniform(2, 5) + Y * rng.uniform(3, 6) + rng.uniform(0, 6))[..., None]
        thick = base + 0.16 * wave
        return image * (1 - thick) + _row(0.84, 0.86, 0.88) * glow * thick
    if scene.weather in ("rain", "falling snow"):
        picture, mask = _maybe_mirrored(overlay(scene.weather, rng.randrange(96)), rng)
        if scene.weather == "rain":
            image = image * _row(0.8, 0.84, 0.9)
        return image * (1 - mask) + picture * glow * 0.9
    return image


def _row(*values: float) -> Pixels:
    return np.array(values, np.float32)


def _over(image: Pixels, layer: Layer) -> Pixels:
    picture, mask = layer
    return image * (1 - mask) + picture


def _maybe_mirrored(layer: Layer, rng: random.Random) -> Layer:
    picture, mask = layer
    return (picture[:, ::-1], mask[:, ::-1]) if rng.random() < 0.5 else layer


def _blurred(mask: Pixels, radius: int) -> Pixels:
    image = Image.fromarray((mask[..., 0] * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(radius))
    return np.asarray(image.filter(ImageFilter.BoxBlur(radius)), np.float32)[..., None] / 255


def _shifted(array: Pixels, dx: int, dy: int) -> Pixels:
    return np.roll(array, (dy, dx), (0, 1))


def _tint(picture: Pixels, mask: Pixels, colour: str, rng: random.Random) -> Pixels:
    """The picture in another colour, its lights and shadows kept."""
    grey = picture @ _row(0.3, 0.59, 0.11)
    mean = grey.sum() / max(1e-3, mask.sum())
    level = np.clip(grey / np.maximum(mask[..., 0], 1e-3) * (0.5 / max(mean, 0.12)) ** 0.8, 0, 1)
    ramp = np.array([jitter(c, rng, 8) for c in RAMPS[colour]], np.float32) / 255
    painted = np.stack([np.interp(level, (0, 0.5, 1), ramp[:, k]) for k in range(3)], -1) * mask
    return (0.9 * painted + 0.1 * picture).astype(np.float32)
