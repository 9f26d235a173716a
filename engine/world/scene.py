"""Labelled scenes with known attributes, and the grammar of their captions.

Each attribute of a scene is drawn from its own random stream, so that a scene with one attribute changed keeps
everything else: that is what makes two prompts a pair.
"""

import random
import re
from dataclasses import dataclass

LABELS = {
    "fly": "insect",
    "bee": "insect",
    "ladybird": "insect",
    "butterfly": "insect",
    "spider": "arachnid",
    "snail": "mollusc",
    "crayfish": "crustacean",
    "goldfish": "fish",
    "car": "vehicle",
    "boat": "vehicle",
    "apple": "food",
    "mushroom": "food",
}
"""Label → hypernym."""
PLACES = [
    "on a flower",
    "on a leaf",
    "on a plate",
    "on the sand",
    "on stones",
    "in the grass",
    "on wood",
    "on the snow",
]
ATTRIBUTES = {
    "place": {place: (1 / 8, f"it is {place}.") for place in PLACES},
    "light": {"day": (0.6, "it is day."), "dusk": (0.2, "it is dusk."), "night": (0.2, "it is night.")},
    "weather": {
        "clear": (0.55, "the air is clear."),
        "rain": (0.15, "it is raining."),
        "fog": (0.15, "it is foggy."),
        "falling snow": (0.15, "it is snowing."),
    },
    "front": {
        "nothing": (0.7, "nothing is in front of it."),
        "a net": (0.15, "it is in a net."),
        "twigs": (0.15, "it is behind twigs."),
    },
    "colour": {
        "usual": (0.55, "it has its usual colour."),
        "red": (0.15, "it is red."),
        "blue": (0.15, "it is blue."),
        "golden": (0.15, "it is golden."),
    },
    "count": {"one": (0.8, "it is alone."), "two": (0.2, "there are two of them.")},
    "pose": {"upright": (0.7, "it is upright."), "upside down": (0.3, "it is upside down.")},
}
"""Attribute → value → (prior, sentence)."""

SENTENCES = {sentence: (name, value) for name, values in ATTRIBUTES.items() for value, (_, sentence) in values.items()}
"""Sentence → (attribute, value)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A label, a value for each attribute, and the key of everything else that is random in the picture."""

    label: str
    key: str
    place: str
    light: str
    weather: str
    front: str
    colour: str
    count: str
    pose: str


def sample_scene(seed: object, label: str, index: int, fixed: dict[str, str] | None = None) -> Scene:
    """Attributes drawn from their priors, except the fixed ones."""
    key = f"{seed}/{label}/{index}"
    drawn = {
        name: random.Random(f"{key}/{name}").choices(list(values), [prior for prior, _ in values.values()])[0]
        for name, values in ATTRIBUTES.items()
    }
    return Scene(label=label, key=key, **{**drawn, **(fixed or {})})


WORDINGS = {
    "place": {
        "on a flower": r"flowers?|blossoms?|petals?",
        "on a leaf": r"leaf|leaves|foliage",
        "on a plate": r"plates?|dish|saucer",
        "on the sand": r"sand|sandy|beach",
        "on stones": r"stones?|pebbles?|rocks?",
        "in the grass": r"grass|grassy|lawn",
        "on wood": r"wood|wooden|planks?",
        "on the snow": r"snow|snowy|snow-covered",
    },
    "light": {
        "day": r"day|daylight|daytime",
        "dusk": r"dusk|sunset|twilight",
        "night": r"night|nighttime|dark|darkness",
    },
    "weather": {
        "rain": r"rain|rainy|raining|rainfall",
        "fog": r"fog|foggy|mist|misty",
        "falling snow": r"snowing|snowfall|snowflakes|snowstorm",
    },
    "front": {"a net": r"nets?|netting|mesh", "twigs": r"twigs?|branches|sticks"},
    "colour": {"red": r"red|crimson", "blue": r"blue|bluish", "golden": r"golden|gold-coloured"},
    "count": {"two": r"two|pair|couple"},
    "pose": {"upside down": r"upside|inverted|overturned"},
}
"""Attribute → value → other words for it, as people say them."""


def mentioned(text: str) -> dict[str, str]:
    """The attribute values that a text names, in the grammar's sentences or in other words."""
    found = {name: value for sentence, (name, value) in SENTENCES.items() if sentence in text}
    rest = text.casefold()
    for sentence in SENTENCES:
        rest = rest.replace(sentence, "")
    for name, values in WORDINGS.items():
        for value, words in values.items():
            if name not in found and re.search(rf"(?<![\w-])(?:{words})(?![\w-])", rest):
                found[name] = value
    return found
